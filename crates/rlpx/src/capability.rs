//! Capabilities: the sub-protocols two nodes have in common, and the range of message ids each of them gets.

use std::fmt;
use std::str::FromStr;

/// The first message id of the first shared capability; 0x00 to 0x0f belong to the base protocol.
pub const FIRST_OFFSET: u64 = 0x10;

/// Longest name of a capability in bytes.
const MAX_NAME: usize = 8;

/// A capability's name: 1 to 8 printable ASCII characters. Compares bytewise and with case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
// Filled up with zeros, which no name contains: so comparing the arrays compares the names.
pub struct CapabilityName([u8; MAX_NAME]);

/// A sub-protocol and its version, as in `eth/69`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    /// Name.
    pub name: CapabilityName,
    /// Version.
    pub version: u32,
}

/// Why a text or bytes are not a capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// The name has no character or more than 8.
    #[error("a capability name of {found} bytes, 1 to {MAX_NAME} are possible")]
    NameLength {
        /// Bytes found.
        found: usize,
    },
    /// The name has something else than printable ASCII characters, or a `/`.
    #[error(
        "a capability name takes printable ASCII characters without '/', not the byte 0x{found:02x}"
    )]
    NameCharacter {
        /// The first such byte.
        found: u8,
    },
    /// The text is not `name/version`.
    #[error("a capability is written name/version, as in eth/69")]
    Version,
}

impl CapabilityName {
    /// A name from its bytes.
    ///
    /// # Errors
    /// [`CapabilityError`] unless they are 1 to 8 printable ASCII characters other than `/`.
    pub fn new(name: &[u8]) -> Result<Self, CapabilityError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(CapabilityError::NameLength { found: name.len() });
        }
        if let Some(found) = name
            .iter()
            .find(|byte| !byte.is_ascii_graphic() || **byte == b'/')
        {
            return Err(CapabilityError::NameCharacter { found: *found });
        }
        let mut bytes = [0; MAX_NAME];
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = *from;
        }
        Ok(Self(bytes))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(MAX_NAME);
        // Made of ASCII characters only, so this never falls back.
        self.0
            .get(..length)
            .and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }
}

impl Capability {
    /// A capability from its name and version.
    ///
    /// # Errors
    /// [`CapabilityError`] if the name is not possible.
    pub fn new(name: &str, version: u32) -> Result<Self, CapabilityError> {
        Ok(Self {
            name: CapabilityName::new(name.as_bytes())?,
            version,
        })
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, CapabilityError> {
        let (name, version) = text.split_once('/').ok_or(CapabilityError::Version)?;
        Self::new(name, version.parse().map_err(|_| CapabilityError::Version)?)
    }
}

impl fmt::Display for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CapabilityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.version)
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_1_to_8_printable_characters() {
        assert_eq!(
            "eth/69".parse::<Capability>().unwrap().to_string(),
            "eth/69"
        );
        assert_eq!(
            CapabilityName::new(b"12345678").unwrap().as_str(),
            "12345678"
        );
        for (name, error) in [
            ("", CapabilityError::NameLength { found: 0 }),
            ("123456789", CapabilityError::NameLength { found: 9 }),
            ("e h", CapabilityError::NameCharacter { found: b' ' }),
            ("e\0h", CapabilityError::NameCharacter { found: 0 }),
            ("e/h", CapabilityError::NameCharacter { found: b'/' }),
        ] {
            assert_eq!(CapabilityName::new(name.as_bytes()), Err(error));
        }
        for text in ["eth", "eth/", "eth/x", "eth/4294967296"] {
            assert_eq!(
                text.parse::<Capability>(),
                Err(CapabilityError::Version),
                "{text}"
            );
        }
    }

    #[test]
    fn order_is_bytewise_by_name_then_by_version() {
        let of = |text: &str| text.parse::<Capability>().unwrap();
        let mut list = [
            of("snap/1"),
            of("eth/69"),
            of("ethx/1"),
            of("Eth/70"),
            of("eth/68"),
        ];
        list.sort();
        assert_eq!(
            list.map(|c| c.to_string()),
            ["Eth/70", "eth/68", "eth/69", "ethx/1", "snap/1"]
        );
    }
}
