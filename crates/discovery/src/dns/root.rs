//! The signed root of a list: which trees it has now, and a number that only grows.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tercet_enode::{KeyError, PublicKey, SecretKey, Signature, keccak256};

use super::label::{EntryHash, HashError};

/// What every root begins with.
pub(super) const ROOT_PREFIX: &str = "enrtree-root:v1";
const SIGNATURE_SIZE: usize = 65;

/// A list's root. Parsing does not check the signature: the text does not say whose it is, see [`verify`](Self::verify).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeRoot {
    content: RootContent,
    signature: [u8; SIGNATURE_SIZE],
}

/// What the signature is over.
#[derive(Clone, PartialEq, Eq, Debug)]
struct RootContent {
    nodes: EntryHash,
    links: EntryHash,
    seq: u64,
}

/// Why a text is not a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// It does not begin as one.
    #[error("a root begins with \"{ROOT_PREFIX} \"")]
    Prefix,
    /// A field is not there, not in its place, or something is between or after the fields.
    #[error(
        "field {0} of the root is missing or not in its place (e=, l=, seq=, sig=, one space between)"
    )]
    Field(&'static str),
    /// One of the two hashes is none.
    #[error("field {field} of the root: {source}")]
    Hash {
        /// `e` or `l`.
        field: &'static str,
        /// What is wrong with it.
        source: HashError,
    },
    /// The number is not a plain 64-bit decimal.
    #[error("field seq of the root is not a decimal number below 2^64")]
    Seq,
    /// The signature is not 65 bytes of base64.
    #[error("field sig of the root is not 65 bytes in URL-safe base64 without padding")]
    Signature,
}

impl TreeRoot {
    /// The root of the trees `nodes` and `links`, signed.
    #[must_use]
    pub fn sign(nodes: EntryHash, links: EntryHash, seq: u64, key: &SecretKey) -> Self {
        let content = RootContent { nodes, links, seq };
        let digest = keccak256(content.to_string().as_bytes());
        let signature = *key.sign_recoverable(&digest).as_bytes();
        Self { content, signature }
    }

    /// The same root under a signature made elsewhere; whether it holds is for [`verify`](Self::verify) to say.
    #[must_use]
    pub fn with_signature(
        nodes: EntryHash,
        links: EntryHash,
        seq: u64,
        signature: [u8; 65],
    ) -> Self {
        let content = RootContent { nodes, links, seq };
        Self { content, signature }
    }

    /// Checks that `key` signed this. The 65th byte says nothing that the key does not, and is not looked at.
    ///
    /// # Errors
    /// [`KeyError::SignatureMismatch`].
    pub fn verify(&self, key: &PublicKey) -> Result<(), KeyError> {
        let digest = keccak256(self.content.to_string().as_bytes());
        let compact = self
            .signature
            .first_chunk()
            .ok_or(KeyError::SignatureMismatch)?;
        key.verify(&digest, &Signature::from_bytes(compact))
    }

    /// The hash of the tree of nodes.
    #[must_use]
    pub const fn nodes(&self) -> &EntryHash {
        &self.content.nodes
    }

    /// The hash of the tree of links.
    #[must_use]
    pub const fn links(&self) -> &EntryHash {
        &self.content.links
    }

    /// The number, which grows with every change of the list.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.content.seq
    }

    /// The signature's text, as it is in the record.
    #[must_use]
    pub fn signature_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.signature)
    }
}

/// The 65 bytes of a signature's text.
///
/// # Errors
/// [`RootError::Signature`].
pub fn parse_signature(text: &str) -> Result<[u8; 65], RootError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| RootError::Signature)?;
    bytes.try_into().map_err(|_| RootError::Signature)
}

impl FromStr for TreeRoot {
    type Err = RootError;

    fn from_str(text: &str) -> Result<Self, RootError> {
        let rest = text
            .strip_prefix(ROOT_PREFIX)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(RootError::Prefix)?;
        let mut fields = rest.split(' ');
        let mut field = |name: &'static str| {
            let field = fields.next().and_then(|field| field.strip_prefix(name));
            let value = field.and_then(|field| field.strip_prefix('='));
            value.ok_or(RootError::Field(name))
        };
        let hash = |field, text: &str| {
            text.parse()
                .map_err(|source| RootError::Hash { field, source })
        };
        let nodes = hash("e", field("e")?)?;
        let links = hash("l", field("l")?)?;
        let seq = number(field("seq")?)?;
        let signature = parse_signature(field("sig")?)?;
        if fields.next().is_some() {
            return Err(RootError::Field("sig"));
        }
        Ok(Self::with_signature(nodes, links, seq, signature))
    }
}

/// A number in the one form that is signed: no sign, no leading zeros.
fn number(text: &str) -> Result<u64, RootError> {
    let number: u64 = text.parse().map_err(|_| RootError::Seq)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(RootError::Seq)
    }
}

impl fmt::Display for RootContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, links, seq } = self;
        write!(f, "{ROOT_PREFIX} e={nodes} l={links} seq={seq}")
    }
}

impl fmt::Display for TreeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sig={}", self.content, self.signature_text())
    }
}
