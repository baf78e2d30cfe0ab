//! Every way a command fails, and the exit code each one means: decided here and nowhere else.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;

use crate::cmd::node::options::OptionsFileError;
use crate::keyfile::KeyFileError;

/// The command was understood and failed: nobody answered, a port was taken, transactions did not arrive.
pub(crate) const EXIT_FAILED: u8 = 1;
/// The input was wrong: usage, a node address, a record, a key, an options file.
pub(crate) const EXIT_BAD_INPUT: u8 = 2;
/// Stopped by Ctrl-C before there was a result: 128 + SIGINT, as shells count.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// Why a command ended without success.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum CliError {
    /// A typed key is none.
    #[error("--nodekeyhex")]
    KeyText(#[source] tercet_enode::ParseKeyError),
    /// A key file is unusable.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A command that needs a key got none.
    #[error("no key given: name a key file or use --nodekeyhex")]
    NoKey,
    /// An options file is unusable.
    #[error(transparent)]
    OptionsFile(#[from] OptionsFileError),
    /// A record cannot be made of what was given.
    #[error("no record can be made of this")]
    Record(#[source] tercet_enode::RecordError),
    /// Two addresses of one family for one record.
    #[error("--ip: a record holds at most one IPv4 and one IPv6 address")]
    TwoAddresses,
    /// The named node says nothing about where it is.
    #[error("the node has no IP address: use a record or URL that names one")]
    NoEndpoint,
    /// The named node takes no TCP connections.
    #[error("the node has no TCP port: it answers discovery only")]
    NoTcpPort,
    /// A DNS name led nowhere.
    #[error("cannot look up {name}")]
    Lookup { name: String, source: io::Error },
    /// The TCP connection was not made.
    #[error("cannot connect to {address}")]
    Connect {
        address: SocketAddr,
        source: io::Error,
    },
    /// Time was up.
    #[error("{address} did not answer within {}", humantime::format_duration(*.limit))]
    Timeout {
        address: SocketAddr,
        limit: Duration,
    },
    /// The runtime did not start.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    /// A result is not representable as JSON.
    #[error("cannot print the result as JSON")]
    Json(#[source] serde_json::Error),
    /// stdout is gone.
    #[error("cannot write to stdout")]
    Stdout(#[source] io::Error),
    /// Ctrl-C before there was a result.
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    fn exit_code(&self) -> u8 {
        match self {
            Self::KeyText(_)
            | Self::NoKey
            | Self::KeyFile(
                KeyFileError::Read { .. }
                | KeyFileError::Content { .. }
                | KeyFileError::Exists { .. },
            )
            | Self::OptionsFile(_)
            | Self::Record(_)
            | Self::TwoAddresses
            | Self::NoEndpoint
            | Self::NoTcpPort => EXIT_BAD_INPUT,
            Self::Interrupted => EXIT_INTERRUPTED,
            // The reader has what it wanted.
            Self::Stdout(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            _ => EXIT_FAILED,
        }
    }

    /// Says on stderr, in one line, what went wrong, and gives the exit code for it.
    pub(crate) fn report(&self) -> ExitCode {
        let code = self.exit_code();
        if code != 0 {
            // With stderr closed the exit code has to do.
            let _closed = writeln!(io::stderr(), "error: {}", chain(self));
        }
        ExitCode::from(code)
    }
}

/// The error and its causes in one line; a cause that its parent already quotes is not said twice.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_in_one_line() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no\nsuch file");
        let error = CliError::KeyFile(KeyFileError::Read {
            path: PathBuf::from("k"),
            source,
        });
        assert_eq!(chain(&error), "cannot read the key file k: no such file");
        assert_eq!(error.exit_code(), EXIT_BAD_INPUT);
        assert_eq!(
            CliError::Stdout(io::ErrorKind::BrokenPipe.into()).exit_code(),
            0
        );
        assert_eq!(
            CliError::Stdout(io::ErrorKind::StorageFull.into()).exit_code(),
            EXIT_FAILED
        );
    }
}
