//! Fixed-length hexadecimal text: the one place that turns digits into bytes and says where they are wrong.
//! What the bytes mean is left to the types that call it.

/// Why a fixed-length hexadecimal text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HexError {
    /// The text does not have the length its type needs.
    #[error("{found} characters where {expected} hexadecimal digits are needed")]
    Length {
        /// Digits needed.
        expected: usize,
        /// Characters given.
        found: usize,
    },
    /// A character is not one of `0-9a-fA-F`.
    #[error("character {} ({found:?}) is not a hexadecimal digit", .at + 1)]
    Character {
        /// Index of the character, counted in characters from 0.
        at: usize,
        /// The character found there.
        found: char,
    },
}

/// Decodes exactly `2 * N` hexadecimal digits, either case, no prefix.
pub(crate) fn decode<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    if let Some((at, found)) = text
        .chars()
        .enumerate()
        .find(|(_, c)| !c.is_ascii_hexdigit())
    {
        return Err(HexError::Character { at, found });
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| HexError::Length {
        expected: 2 * N,
        found: text.len(),
    })?;
    Ok(bytes)
}
