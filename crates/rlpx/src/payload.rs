//! The body of an outgoing message, compressed at most once however many peers it goes to. Compression does not depend
//! on the peer, encryption does: so a broadcast shares the former and repeats only the latter.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::snappy;

/// An encoded message body without its id. Cheap to clone; all clones share the bytes and their compressed form, which
/// is made when the first peer with snappy needs it.
///
/// ```
/// use tercet_rlpx::Payload;
/// let payload = Payload::new(vec![0xc0; 1000].into());
/// let same = payload.clone();
/// assert_eq!(payload.len(), 1000);
/// assert_eq!(payload.compressed().as_ptr(), same.compressed().as_ptr());
/// ```
#[derive(Clone)]
pub struct Payload(Arc<Forms>);

struct Forms {
    raw: Bytes,
    compressed: OnceLock<Bytes>,
}

impl Payload {
    /// A payload of the given bytes, usually RLP.
    #[must_use]
    pub fn new(raw: Bytes) -> Self {
        Self(Arc::new(Forms {
            raw,
            compressed: OnceLock::new(),
        }))
    }

    /// The RLP of an empty list: the body of Ping and Pong.
    #[must_use]
    pub fn empty_list() -> Self {
        Self::new(Bytes::from_static(&[0xc0]))
    }

    /// Length before compression, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.raw.len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.raw.is_empty()
    }

    /// The bytes before compression.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.0.raw
    }

    /// The bytes in snappy's block format; the first call compresses.
    #[must_use]
    pub fn compressed(&self) -> &Bytes {
        self.0
            .compressed
            .get_or_init(|| snappy::compress(&self.0.raw))
    }
}

impl From<Vec<u8>> for Payload {
    fn from(raw: Vec<u8>) -> Self {
        Self::new(raw.into())
    }
}

impl From<Bytes> for Payload {
    fn from(raw: Bytes) -> Self {
        Self::new(raw)
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
