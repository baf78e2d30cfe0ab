//! A strict walk over the items of one RLP list. The `rlp` crate's own iterator ends silently at a malformed item and
//! may run past the end of the list into trailing bytes; handshake packets carry padding there, so neither will do.

use rlp::{DecoderError, PayloadInfo, Rlp};

/// The items of a list, each checked to lie inside it.
#[derive(Clone, Copy)]
pub(crate) struct Items<'a>(&'a [u8]);

impl<'a> Items<'a> {
    /// Opens the list at the start of `data`. Bytes after the list are ignored (EIP-8).
    pub(crate) fn open(data: &'a [u8]) -> Result<Self, DecoderError> {
        // Every RLP list starts with a byte from 0xc0 up.
        if data.first().is_none_or(|first| *first < 0xc0) {
            return Err(DecoderError::RlpExpectedToBeList);
        }
        let info = PayloadInfo::from(data)?;
        let end = info
            .header_len
            .checked_add(info.value_len)
            .ok_or(DecoderError::RlpIsTooShort)?;
        data.get(info.header_len..end)
            .map(Self)
            .ok_or(DecoderError::RlpIsTooShort)
    }

    /// The next item, which must exist.
    pub(crate) fn required(&mut self) -> Result<Rlp<'a>, DecoderError> {
        self.next()
            .unwrap_or(Err(DecoderError::RlpIncorrectListLen))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Result<Rlp<'a>, DecoderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let split = PayloadInfo::from(self.0).and_then(|info| {
            let end = info.header_len.checked_add(info.value_len);
            end.and_then(|end| self.0.split_at_checked(end))
                .ok_or(DecoderError::RlpIsTooShort)
        });
        Some(match split {
            Ok((item, rest)) => {
                self.0 = rest;
                Ok(Rlp::new(item))
            }
            Err(error) => {
                self.0 = &[];
                Err(error)
            }
        })
    }
}

/// The bytes of an item that must be a string; the `rlp` crate's `data` gives those of a list as well.
pub(crate) fn string<'a>(item: &Rlp<'a>) -> Result<&'a [u8], DecoderError> {
    if item.is_list() {
        return Err(DecoderError::RlpExpectedToBeData);
    }
    item.data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_are_not_items() {
        // [1] followed by 0x02.
        let mut items = Items::open(&[0xc1, 0x01, 0x02]).unwrap();
        assert_eq!(items.required().unwrap().as_val::<u8>(), Ok(1));
        assert_eq!(
            items.required().unwrap_err(),
            DecoderError::RlpIncorrectListLen
        );
    }

    #[test]
    fn an_item_that_runs_past_its_list_is_an_error() {
        let mut items = Items::open(&[0xc2, 0x83, 0x01, 0x02, 0x03]).unwrap();
        assert_eq!(
            items.next().unwrap().unwrap_err(),
            DecoderError::RlpIsTooShort
        );
        assert!(items.next().is_none(), "an error ends the walk");
    }

    #[test]
    fn a_list_is_no_string() {
        assert_eq!(string(&Rlp::new(&[0x82, 1, 2])), Ok(&[1, 2][..]));
        assert_eq!(
            string(&Rlp::new(&[0xc1, 1])),
            Err(DecoderError::RlpExpectedToBeData)
        );
    }

    #[test]
    fn what_is_not_a_whole_list_does_not_open() {
        for data in [
            &[][..],
            &[0x80],
            &[0xc2, 0x01],
            &[0xf8],
            &[0xff; 9],
            &[0xf8, 0x01, 0x01],
        ] {
            assert!(Items::open(data).is_err(), "{data:02x?}");
        }
    }
}
