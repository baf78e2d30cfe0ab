//! Node keys as files: 64 hex digits, readable by their owner only, as geth keeps them. A key is never overwritten and never
//! appears in a message.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;
use tercet_enode::{ParseKeyError, SecretKey};
use thiserror::Error;

/// A node key file could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum KeyFileError {
    /// Reading failed.
    #[error("cannot read the key file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The file holds something other than a key.
    #[error("{} holds no node key", path.display())]
    Content {
        path: PathBuf,
        source: ParseKeyError,
    },
    /// There is a file already; a lost node key cannot be had back.
    #[error("{} exists already and stays as it is: choose another name or move it away", path.display())]
    Exists { path: PathBuf },
    /// Writing failed.
    #[error("cannot write the key file {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// A secret as typed: kept out of every `Debug` output and of clap's error messages, which echo what was typed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct KeyText(String);

impl From<String> for KeyText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyText(..)")
    }
}

impl KeyText {
    /// The key these 64 hex digits stand for.
    pub(crate) fn parse(&self) -> Result<SecretKey, ParseKeyError> {
        self.0.trim().parse()
    }
}

/// Where a command takes its node key from, with geth's two flags.
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// File with the node key: 64 hex digits
    #[arg(long, value_name = "FILE", conflicts_with = "nodekeyhex")]
    pub(crate) nodekey: Option<PathBuf>,
    /// The node key itself: 64 hex digits (other users of this machine may see it)
    #[arg(long, value_name = "HEX")]
    pub(crate) nodekeyhex: Option<KeyText>,
}

impl KeyArgs {
    /// The chosen key, or `None` when neither flag is there.
    pub(crate) fn load(&self) -> Result<Option<SecretKey>, crate::error::CliError> {
        match (&self.nodekeyhex, &self.nodekey) {
            (Some(text), _) => Ok(Some(text.parse().map_err(crate::error::CliError::KeyText)?)),
            (None, Some(path)) => Ok(Some(read(path)?)),
            (None, None) => Ok(None),
        }
    }
}

/// Reads the key in `path`.
pub(crate) fn read(path: &Path) -> Result<SecretKey, KeyFileError> {
    let text = fs::read_to_string(path).map_err(|source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    })?;
    KeyText(text)
        .parse()
        .map_err(|source| KeyFileError::Content {
            path: path.to_owned(),
            source,
        })
}

/// Writes `key` to a new file `path`, mode 0600. The file appears complete or not at all.
pub(crate) fn create(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    let failed = |source| KeyFileError::Write {
        path: path.to_owned(),
        source,
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Temporary files are made readable by their owner only.
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    writeln!(file, "{}", hex::encode(key.to_bytes().as_slice()))
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_file) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            Err(KeyFileError::Exists {
                path: path.to_owned(),
            })
        }
        Err(error) => Err(failed(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodekey");
        let key = crate::cmd::new_key();
        create(&path, &key).unwrap();
        assert_eq!(read(&path).unwrap().node_id(), key.node_id());
        assert_eq!(fs::read_to_string(&path).unwrap().trim().len(), 64);
        assert!(matches!(
            create(&path, &crate::cmd::new_key()),
            Err(KeyFileError::Exists { .. })
        ));
        assert_eq!(read(&path).unwrap().node_id(), key.node_id());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        // Nothing else stays in the folder.
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_files_are_no_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        assert!(matches!(read(&path), Err(KeyFileError::Read { .. })));
        for content in ["", "12", &"0".repeat(64), &"g".repeat(64)] {
            fs::write(&path, content).unwrap();
            assert!(
                matches!(read(&path), Err(KeyFileError::Content { .. })),
                "{content}"
            );
        }
        assert_eq!(format!("{:?}", KeyText("secret".to_owned())), "KeyText(..)");
    }
}
