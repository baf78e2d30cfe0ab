//! Why discovery does not start. Errors of single requests are beside what they belong to.

use std::io;
use std::net::SocketAddr;

use tercet_nodedb::StoreError;

use crate::config::ConfigError;
use crate::local::EntryError;
use crate::v5::TalkRegisterError;

/// Why [`Discovery::start`](crate::Discovery::start) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The UDP port cannot be had.
    #[error("cannot listen on UDP {addr}: {}", reason(source))]
    Bind {
        /// The address asked for.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system starts no more threads.
    #[error("no thread for signature checks or for sending")]
    Threads(#[source] io::Error),
    /// The system gave no randomness.
    #[error("the system has no randomness")]
    Randomness(#[source] rand::rngs::SysError),
    /// An entry of the record cannot be.
    #[error("the node's record cannot be made")]
    Record(#[source] EntryError),
    /// The database cannot be read.
    #[error("the node database cannot be read")]
    Database(#[source] StoreError),
}

/// Why a handler of talk requests was not registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TalkError {
    /// The protocol is taken, or there are too many.
    #[error(transparent)]
    Refused(#[from] TalkRegisterError),
    /// discv5 is switched off.
    #[error("discv5 is switched off")]
    Unsupported,
    /// Too many requests are under way; try again later.
    #[error("too many requests are under way")]
    Busy,
    /// Discovery has been shut down.
    #[error("discovery has been shut down")]
    Closed,
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use by another program; choose another one".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "no permission for this port; choose one above 1023".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}
