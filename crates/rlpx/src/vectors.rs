//! The published and computed vectors, for the tests of this crate.

use serde_json::Value;

pub(crate) fn vectors() -> Value {
    serde_json::from_str(include_str!("../tests/vectors/rlpx.json")).unwrap()
}

/// The bytes of a hexadecimal string in the vectors.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn secret(value: &Value) -> tercet_enode::SecretKey {
    tercet_enode::SecretKey::from_bytes(&array(value)).unwrap()
}

pub(crate) fn public(value: &Value) -> tercet_enode::PublicKey {
    tercet_enode::PublicKey::from_bytes(&array(value)).unwrap()
}
