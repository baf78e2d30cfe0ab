//! What the node database reads from disk: a disk can return anything.

use tercet_nodedb::{contact_again, row_again};

/// Statistics of a node by address.
pub fn nodedb_row(data: &[u8]) -> bool {
    settles(data, row_again)
}

/// A contact with its record.
pub fn nodedb_contact(data: &[u8]) -> bool {
    settles(data, contact_again)
}

/// What was read is written in a form that is read and written as the same again.
fn settles(data: &[u8], again: fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    let Some(written) = again(data) else {
        return false;
    };
    assert_eq!(again(&written), Some(written));
    true
}
