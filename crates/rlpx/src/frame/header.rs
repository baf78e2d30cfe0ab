//! The plaintext of a frame's header and the message id at the start of its body.

use super::BLOCK;

/// Longest frame body: the size field has 24 bits, 2^24 − 1 = 16,777,215 bytes.
pub const MAX_FRAME: usize = (1 << 24) - 1;

/// What follows the size: the list `[0, 0]` of a protocol and context id nobody uses, then zeros. Ignored on receipt.
const CONSTANT: [u8; 3] = [0xc2, 0x80, 0x80];

/// A header for a body of `size` bytes; the caller has checked that it fits in 24 bits.
pub(super) fn encode(size: u32) -> [u8; BLOCK] {
    let [_, high, middle, low] = size.to_be_bytes();
    let [a, b, c] = CONSTANT;
    [high, middle, low, a, b, c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
}

/// The body size in a header.
pub(super) fn size(header: &[u8; BLOCK]) -> usize {
    let [high, middle, low, ..] = *header;
    u32::from_be_bytes([0, high, middle, low]) as usize
}

/// The canonical RLP of a message id: its bytes and how many of the nine are used.
pub(super) fn encode_id(id: u64) -> ([u8; 9], usize) {
    let mut out = [0; 9];
    let [first, rest @ ..] = &mut out;
    if id == 0 {
        *first = 0x80;
        return (out, 1);
    }
    let length = (u64::BITS - id.leading_zeros()).div_ceil(8) as usize;
    let shifted = (id << (u64::BITS as usize - 8 * length)).to_be_bytes();
    if id < 0x80 {
        [*first] = [shifted[0]];
        return (out, 1);
    }
    // A string of `length` bytes, at most 8, so its header is one byte.
    *first = 0x80 + length as u8;
    *rest = shifted;
    (out, 1 + length)
}

/// Splits a body into its message id and payload. `None` unless the id is canonical RLP of an integer of 64 bits.
pub(super) fn split_id(body: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = body.split_first()?;
    match *first {
        // Zero is the empty string; the byte 0 is an integer with a leading zero.
        0 => None,
        id @ 1..0x80 => Some((u64::from(id), rest)),
        0x80 => Some((0, rest)),
        prefix @ 0x81..=0x88 => {
            let (digits, rest) = rest.split_at_checked(usize::from(prefix - 0x80))?;
            let canonical = match digits {
                [single] => *single >= 0x80,
                [leading, ..] => *leading != 0,
                [] => false,
            };
            let id = digits
                .iter()
                .fold(0, |id, digit| id << 8 | u64::from(*digit));
            canonical.then_some((id, rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_at_the_borders_of_their_lengths() {
        for (id, bytes) in [
            (0, &[0x80][..]),
            (1, &[1]),
            (0x7f, &[0x7f]),
            (0x80, &[0x81, 0x80]),
            (0xff, &[0x81, 0xff]),
            (0x100, &[0x82, 1, 0]),
            (u64::MAX, &[0x88, 255, 255, 255, 255, 255, 255, 255, 255]),
        ] {
            let (encoded, length) = encode_id(id);
            assert_eq!(&encoded[..length], bytes);
            assert_eq!(split_id(bytes), Some((id, &[][..])));
        }
    }

    #[test]
    fn ids_that_are_not_canonical_are_refused() {
        for body in [
            &[][..],
            &[0x00],
            &[0x81],
            &[0x81, 0x7f],
            &[0x82, 0x00, 0x80],
            &[0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            &[0xc0],
            &[0xb8, 1],
        ] {
            assert_eq!(split_id(body), None, "{body:02x?}");
        }
    }

    proptest! {
        #[test]
        fn ids_round_trip(id: u64, payload: [u8; 5]) {
            let (encoded, length) = encode_id(id);
            let mut body = encoded[..length].to_vec();
            body.extend(payload);
            prop_assert_eq!(split_id(&body), Some((id, &payload[..])));
            // There is one encoding only: what decodes is what would have been encoded.
            prop_assert_eq!(length, body.len() - payload.len());
        }

        #[test]
        fn sizes_round_trip(bytes in 0u32..=MAX_FRAME as u32) {
            prop_assert_eq!(size(&encode(bytes)), bytes as usize);
        }
    }
}
