//! Every way a command fails, and the exit code each one means: decided here and nowhere else.

use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tercet_discovery::dns::DnsStartError;
use tercet_rlpx::{
    DisconnectError, DisconnectReason, HandshakeError, HelloError, QueueError, StreamError,
};
use thiserror::Error;

use crate::cmd::devnet::{DevnetChainError, Lacks};
use crate::cmd::dns::DnsError;
use crate::cmd::node::options::OptionsFileError;
use crate::crawl::CrawlError;
use crate::crawl::store::StoreError;
use crate::descriptors::DescriptorError;
use crate::keyfile::KeyFileError;
use crate::nodeset::NodeSetError;

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
    /// A node set is unusable.
    #[error(transparent)]
    NodeSet(#[from] NodeSetError),
    /// A crawl without a beginning.
    #[error(
        "nobody to ask: give --bootnodes NODE,... or --network NAME, or a node set to go on from"
    )]
    NobodyToAsk,
    /// None of the nodes to begin with answered.
    #[error("{}", nobody_answered(*nodes))]
    NobodyAnswered { nodes: usize },
    /// None of them can be asked: over discv5 alone for want of a record, or else of an address of a kind there is a socket for.
    #[error("{}", nobody_reachable(*nodes, *over_v5))]
    NobodyReachable { nodes: usize, over_v5: bool },
    /// A file of nodes would have been emptied.
    #[error("{} the filters, so {} is left as it was", nobody_passes(*nodes), path.display())]
    NobodyPasses { nodes: usize, path: PathBuf },
    /// A crawl did not start or broke off.
    #[error(transparent)]
    Crawl(#[from] CrawlError),
    /// The database of crawls is unusable.
    #[error(transparent)]
    CrawlStore(#[from] StoreError),
    /// A list of nodes in DNS.
    #[error(transparent)]
    Dns(#[from] Box<DnsError>),
    /// A record cannot be made of what was given.
    #[error("no record can be made of this")]
    Record(#[source] tercet_enode::RecordError),
    /// Two addresses of one family for one record.
    #[error("--ip: a record holds at most one IPv4 and one IPv6 address")]
    TwoAddresses,
    /// The named node says nothing about where it is.
    #[error("the node has no IP address: use a record or URL that names one")]
    NoEndpoint,
    /// The named node takes no part in discovery.
    #[error("the node has no UDP port: it takes no part in discovery")]
    NoUdpPort,
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
    /// The encrypted handshake failed.
    #[error("{address}")]
    Handshake {
        address: SocketAddr,
        source: HandshakeError,
    },
    /// The exchange of Hellos failed.
    #[error("{address}")]
    Hello {
        address: SocketAddr,
        source: HelloError,
    },
    /// An established connection failed.
    #[error("{address}")]
    Stream {
        address: SocketAddr,
        source: StreamError,
    },
    /// Nothing more can be sent on a connection.
    #[error("{address}")]
    Queue {
        address: SocketAddr,
        source: QueueError,
    },
    /// The remote ended the connection.
    #[error("{address} disconnected: {reason}")]
    Disconnected {
        address: SocketAddr,
        reason: DisconnectReason,
    },
    /// The remote ended the connection, with a message that says nothing.
    #[error("{address} disconnected")]
    Disconnect {
        address: SocketAddr,
        source: DisconnectError,
    },
    /// No version of eth in common.
    #[error("{address} speaks neither eth/69 nor eth/68")]
    NoEth { address: SocketAddr },
    /// Another message of eth came first.
    #[error("{address} sent eth message 0x{id:02x} before its Status")]
    NotStatus { address: SocketAddr, id: u64 },
    /// The Status is malformed.
    #[error("{address} sent a malformed Status")]
    Status {
        address: SocketAddr,
        source: tercet_eth_peer::wire::DecodeError,
    },
    /// The discovery settings cannot be used.
    #[error("discovery")]
    DiscoveryConfig(#[source] tercet_discovery::ConfigError),
    /// Discovery did not start.
    #[error(transparent)]
    Discovery(tercet_discovery::StartError),
    /// A node was asked over discovery in vain.
    #[error("{address}")]
    Asked {
        address: SocketAddr,
        source: tercet_discovery::RequestError,
    },
    /// A search that nobody can be asked in.
    #[error(
        "nobody to ask: give --bootnodes NODE,... or --network NAME, or a --nodedb that knows nodes"
    )]
    NoStart,
    /// A node id is no use to discv4.
    #[error("discv4 is asked for public keys, not for node ids: name the node's public key")]
    IdOverV4,
    /// A lookup could not be made.
    #[error("the lookup failed")]
    LookupFailed(#[source] tercet_discovery::RequestError),
    /// Nobody knows the node.
    #[error("nobody who was asked knows where {id} is")]
    NotFound { id: tercet_enode::NodeId },
    /// The lists of nodes in DNS cannot be followed.
    #[error("--discovery.dns")]
    DnsStart(#[source] tercet_discovery::dns::DnsStartError),
    /// A source of nodes was not taken.
    #[error("--discovery.dns")]
    Source(#[source] tercet_server::SourceError),
    /// The server settings cannot be used.
    #[error("settings")]
    ServerConfig(#[source] tercet_server::ConfigError),
    /// The server did not start.
    #[error(transparent)]
    Server(tercet_server::StartError),
    /// The eth protocol did not start.
    #[error(transparent)]
    Eth(tercet_eth_peer::EthStartError),
    /// The node database cannot be used.
    #[error(transparent)]
    Database(tercet_nodedb::OpenError),
    /// The node database failed at the end.
    #[error(transparent)]
    Store(tercet_nodedb::StoreError),
    /// The folder holds no chain.
    #[error(transparent)]
    Chain(tercet_eth_peer::ChainError),
    /// No chain is built in for a network.
    #[error(
        "no chain is built in for network {id} (1 mainnet, 11155111 sepolia, 560048 hoodi, 17000 holesky): give one with --chain DIR"
    )]
    UnknownNetwork { id: u64 },
    /// There is no home folder.
    #[error("there is no home folder: give --datadir")]
    NoHome,
    /// The datadir cannot be made.
    #[error("cannot use the folder {}", path.display())]
    Datadir { path: PathBuf, source: io::Error },
    /// There is no chain for a devnet.
    #[error(transparent)]
    DevnetChain(DevnetChainError),
    /// A transaction was refused at the node it was injected at.
    #[error("a transaction was refused at the node it was injected at")]
    Submit(#[source] tercet_eth_peer::SubmitError),
    /// Too few files may be open.
    #[error(transparent)]
    Descriptors(#[from] DescriptorError),
    /// The time of a devnet was up.
    #[error("not complete after {}: {lacks}", humantime::format_duration(*.limit))]
    DevnetIncomplete { limit: Duration, lacks: Lacks },
    /// A temporary folder failed.
    #[error("temporary folder")]
    TempDir(#[source] io::Error),
    /// A task of this program ended by a defect.
    #[error("a task of this program failed")]
    Task(#[source] tokio::task::JoinError),
    /// Signals cannot be listened to.
    #[error("cannot listen for Ctrl-C")]
    Signals(#[source] io::Error),
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
            | Self::NobodyToAsk
            | Self::NoStart
            | Self::IdOverV4
            | Self::DnsStart(DnsStartError::TooManyLists { .. })
            | Self::NodeSet(
                NodeSetError::Read { .. }
                | NodeSetError::Json { .. }
                | NodeSetError::Id { .. }
                | NodeSetError::OtherNode { .. },
            )
            | Self::Record(_)
            | Self::TwoAddresses
            | Self::NoEndpoint
            | Self::NoUdpPort
            | Self::NoTcpPort
            | Self::DiscoveryConfig(_)
            | Self::ServerConfig(_)
            | Self::Chain(_)
            | Self::DevnetChain(_)
            | Self::UnknownNetwork { .. }
            | Self::NoHome
            | Self::Datadir { .. } => EXIT_BAD_INPUT,
            Self::Dns(error) if error.is_bad_input() => EXIT_BAD_INPUT,
            Self::CrawlStore(error) if error.is_bad_input() => EXIT_BAD_INPUT,
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

fn nobody_answered(nodes: usize) -> String {
    match nodes {
        1 => "the one node to begin with has not answered".to_owned(),
        _ => format!("none of the {nodes} nodes to begin with answered"),
    }
}

fn nobody_reachable(nodes: usize, over_v5: bool) -> String {
    let who = match nodes {
        1 => "the one node to begin with has no".to_owned(),
        _ => format!("none of the {nodes} nodes to begin with has an"),
    };
    let address = "address that can be reached from here";
    if over_v5 {
        format!("{who} ENR with an {address}: discv5 needs one")
    } else {
        format!("{who} {address}")
    }
}

fn nobody_passes(nodes: usize) -> String {
    match nodes {
        1 => "the one node does not pass".to_owned(),
        _ => format!("none of the {nodes} nodes passes"),
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
