//! Conversion to and from the `enr` crate's records, for programs that already use it. Both crates read the text form and
//! check the signature, so neither has to trust the other.

use enr::{Enr, EnrKey};

use super::{NodeRecord, ParseRecordError};

/// The `enr` crate refused a record this crate holds valid: it needs an entry in a form of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the enr crate does not accept this record")]
pub struct EnrError;

impl<K: EnrKey> TryFrom<&Enr<K>> for NodeRecord {
    type Error = ParseRecordError;

    fn try_from(record: &Enr<K>) -> Result<Self, ParseRecordError> {
        record.to_base64().parse()
    }
}

impl<K: EnrKey> TryFrom<&NodeRecord> for Enr<K> {
    type Error = EnrError;

    fn try_from(record: &NodeRecord) -> Result<Self, EnrError> {
        record.to_string().parse().map_err(|_: String| EnrError)
    }
}
