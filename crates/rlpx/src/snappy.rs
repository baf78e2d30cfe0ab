//! Snappy's block format (EIP-706) with its length header checked before anything is allocated.

use bytes::Bytes;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

/// Most bytes one byte of a compressed block can stand for, as a fraction: a copy of 64 bytes takes 3. Literals and
/// the other copies expand less.
const MAX_EXPANSION: (usize, usize) = (64, 3);

/// Why a compressed payload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnappyError {
    /// The length in the header is above the limit of that message.
    #[error("a payload of {len} bytes, the limit is {limit}")]
    TooLarge {
        /// Length after decompression, as the header states it.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The length in the header cannot be reached with the bytes that follow.
    #[error("{compressed} compressed bytes cannot become {len}")]
    Expansion {
        /// Length of the compressed block.
        compressed: usize,
        /// Length after decompression, as the header states it.
        len: usize,
    },
    /// The block is malformed.
    #[error("malformed snappy block: {0}")]
    Malformed(#[from] snap::Error),
}

/// Compresses `raw`, whose length the caller has limited to below 2^32.
pub(crate) fn compress(raw: &[u8]) -> Bytes {
    let mut block = vec![0; max_compress_len(raw.len())];
    // Fails only for more input than 2^32 − 1 bytes or less room than was just made.
    let len = Encoder::new().compress(raw, &mut block).unwrap_or(0);
    block.truncate(len);
    // A payload may wait in many queues for long: the slack of the worst case must not wait with it.
    block.shrink_to_fit();
    block.into()
}

/// Decompresses `block` if that yields at most `limit` bytes.
pub(crate) fn decompress(block: &[u8], limit: usize) -> Result<Bytes, SnappyError> {
    let len = decompress_len(block)?;
    if len > limit {
        return Err(SnappyError::TooLarge { len, limit });
    }
    let (bytes, per) = MAX_EXPANSION;
    if len.saturating_mul(per) > block.len().saturating_mul(bytes) {
        return Err(SnappyError::Expansion {
            compressed: block.len(),
            len,
        });
    }
    let mut raw = vec![0; len];
    Decoder::new().decompress(block, &mut raw)?;
    Ok(raw.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_list_compresses_as_eip_706_shows_it() {
        assert_eq!(compress(&[0xc0])[..], [0x01, 0x00, 0xc0]);
        assert_eq!(compress(&[])[..], [0x00]);
        assert!(decompress(&[0x00], 0).unwrap().is_empty());
    }

    #[test]
    fn the_best_possible_compression_is_within_the_expansion_limit() {
        let raw = vec![7; 1 << 20];
        assert_eq!(decompress(&compress(&raw), raw.len()).unwrap(), raw);
    }

    #[test]
    fn a_length_above_the_limit_or_out_of_reach_allocates_nothing() {
        // Varint of 2^24: above a limit of 2^24 − 1.
        let block = [0x80, 0x80, 0x80, 0x08, 0x00];
        assert_eq!(
            decompress(&block, (1 << 24) - 1),
            Err(SnappyError::TooLarge {
                len: 1 << 24,
                limit: (1 << 24) - 1
            })
        );
        // Within the limit, but 5 bytes cannot become 16 MiB.
        assert_eq!(
            decompress(&block, 1 << 24),
            Err(SnappyError::Expansion {
                compressed: 5,
                len: 1 << 24
            })
        );
    }

    proptest! {
        #[test]
        fn whatever_is_compressed_comes_back(raw in prop::collection::vec(any::<u8>(), 0..4096), run in 0usize..4096) {
            let mut raw = raw;
            raw.resize(raw.len() + run, 0);
            prop_assert_eq!(decompress(&compress(&raw), raw.len()).unwrap(), raw);
        }

        #[test]
        fn decompression_is_total_and_within_its_limit(block in prop::collection::vec(any::<u8>(), 0..512), limit in 0usize..2048) {
            if let Ok(raw) = decompress(&block, limit) {
                prop_assert!(raw.len() <= limit);
            }
        }
    }
}
