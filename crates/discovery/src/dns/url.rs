//! Where a list is and who signs it: `enrtree://KEY@DOMAIN`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use tercet_enode::PublicKey;

use super::label::BASE32;

const SCHEME: &str = "enrtree://";
/// Base32 of a 33-byte key: ⌈33 · 8 / 5⌉ characters.
const KEY_CHARS: usize = 53;
/// A DNS name has 253 characters at most, and the longest label of an entry (52 and a dot) goes before it.
const MAX_DOMAIN: usize = 253 - 53;
/// RFC 1035.
const MAX_LABEL: usize = 63;

/// The name of a zone that holds a list: letters, digits, `-` and `_` in labels of at most 63 characters, at most 200 in
/// all. Kept in lower case, because DNS does not tell them apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

/// A text that is no usable name of a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a domain is labels of 1 to {MAX_LABEL} letters, digits, - and _ with dots between them, {MAX_DOMAIN} characters at most"
)]
pub struct DomainError;

impl Domain {
    /// The name without a dot at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    /// A dot at the end is accepted and left out.
    fn from_str(text: &str) -> Result<Self, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &str| (1..=MAX_LABEL).contains(&label.len());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.len() > MAX_DOMAIN
            || !text
                .split('.')
                .all(|label| fits(label) && label.bytes().all(plain))
        {
            return Err(DomainError);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of nodes in DNS: the key that signs it and the zone that holds it.
///
/// ```
/// use tercet_discovery::dns::TreeUrl;
/// let url = "enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@morenodes.example.org";
/// let list: TreeUrl = url.parse()?;
/// assert_eq!(list.domain().as_str(), "morenodes.example.org");
/// assert_eq!(list.to_string(), url);
/// # Ok::<(), tercet_discovery::dns::TreeUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeUrl {
    domain: Domain,
    key: PublicKey,
}

/// Why a text does not name a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeUrlError {
    /// Another scheme.
    #[error("the URL of a list begins with \"{SCHEME}\"")]
    Scheme,
    /// No `@`, so no key before it.
    #[error("the URL of a list has its public key and an @ before the domain")]
    NoKey,
    /// What is before the `@` is no key.
    #[error("what is before the @ is not a public key: 33 bytes, compressed, in upper-case base32")]
    Key,
    /// What is after the `@` is no domain.
    #[error(transparent)]
    Domain(#[from] DomainError),
}

impl TreeUrl {
    /// The list that `key` signs in `domain`.
    #[must_use]
    pub const fn new(key: PublicKey, domain: Domain) -> Self {
        Self { domain, key }
    }

    /// The key that signs the list.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The zone that holds it.
    #[must_use]
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl FromStr for TreeUrl {
    type Err = TreeUrlError;

    fn from_str(text: &str) -> Result<Self, TreeUrlError> {
        let rest = text.strip_prefix(SCHEME).ok_or(TreeUrlError::Scheme)?;
        let (key, domain) = rest.split_once('@').ok_or(TreeUrlError::NoKey)?;
        if key.len() != KEY_CHARS {
            return Err(TreeUrlError::Key);
        }
        let key = BASE32
            .decode(key.as_bytes())
            .map_err(|_| TreeUrlError::Key)?;
        let key = PublicKey::from_compressed(&key).map_err(|_| TreeUrlError::Key)?;
        Ok(Self::new(key, domain.parse()?))
    }
}

impl fmt::Display for TreeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = BASE32.encode(&self.key.to_compressed());
        write!(f, "{SCHEME}{key}@{}", self.domain)
    }
}

impl fmt::Debug for TreeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
