//! One error enum for each operation a user of the server calls.

#[cfg(feature = "tokio")]
use std::io;
#[cfg(feature = "tokio")]
use std::net::SocketAddr;

#[cfg(feature = "tokio")]
use tercet_enode::RecordError;

/// A configuration that cannot work.
#[cfg(feature = "tokio")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The dial ratio divides the slots, so it must be at least 1.
    #[error("dial ratio 0: use 1 or more, or turn dialing off")]
    ZeroDialRatio,
    /// Without a pending slot no connection can ever be set up.
    #[error("max pending 0: at least 1 is needed to set up a connection")]
    ZeroMaxPending,
    /// The client id would not leave room for the capabilities in a 2 KiB Hello.
    #[error("client id of {0} bytes: at most 256")]
    ClientIdTooLong(usize),
    /// A peer would be dropped as silent before it is pinged.
    #[error("the idle timeout must be longer than the ping interval")]
    IdleNotAbovePing,
    /// A time limit of zero would end everything at once.
    #[error("the {0} limit is zero")]
    ZeroTimeout(&'static str),
    /// More static or trusted nodes than are kept.
    #[error("more than {limit} {set} nodes")]
    TooManyNodes {
        /// Which set.
        set: &'static str,
        /// How many are kept.
        limit: usize,
    },
}

/// Why the server could not start.
#[cfg(feature = "tokio")]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another program listens on the TCP address.
    #[error(
        "TCP address {0} is already in use: stop the program that listens there or choose another port"
    )]
    TcpInUse(SocketAddr),
    /// The TCP address cannot be bound for another cause.
    #[error("cannot listen on TCP address {addr}: {source}")]
    Tcp {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Discovery did not start; its error names the UDP address.
    #[error(transparent)]
    Discovery(#[from] tercet_discovery::StartError),
    /// The node's record could not be given the TCP port.
    #[error("the node's own record cannot be given the TCP port")]
    Announce(#[from] tercet_discovery::EntryError),
    /// The node's own record could not be made.
    #[error("the node's own record cannot be made: {0}")]
    Record(#[from] RecordError),
    /// Client id and capabilities together do not fit into a Hello.
    #[error(
        "the Hello message would have {size} bytes, 2048 at most: use fewer protocols or a shorter client id"
    )]
    HelloTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// The system has no randomness to give.
    #[error("the system gives no randomness")]
    NoRandomness,
    /// Two protocols have the same name and version.
    #[error("two protocols announce {0}")]
    DuplicateProtocol(tercet_rlpx::Capability),
}

/// Why a command to the server was not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// 64 commands are waiting already.
    #[error("the server is busy: 64 commands are waiting")]
    Busy,
    /// The server has shut down.
    #[error("the server has shut down")]
    Closed,
    /// The node is this one.
    #[error("that is this node itself")]
    Itself,
    /// The node's address is outside the allowed networks.
    #[error("the node's address is outside the allowed networks")]
    NotAllowed,
    /// The set is full.
    #[error("the set of static or trusted nodes is full")]
    Full,
    /// No such peer or node.
    #[error("no such node")]
    Unknown,
}
