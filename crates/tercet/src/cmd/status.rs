//! `tercet status`: connects as far as eth goes without a chain, to the Status of the other side.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use tercet_enode::NodeAddress;
use tercet_eth_peer::wire::{EthVersion, MessageId, Status};
use tercet_rlpx::{
    DisconnectReason, Message, Payload, RlpxStream, SETUP_TIMEOUT, SharedCapabilities, p2p,
};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::hello;
use crate::error::CliError;
use crate::output::{Fields, Output};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet status enode://KEY@127.0.0.1:30303
  tercet status --json enr:-IS4...")]
pub(crate) struct StatusArgs {
    /// The node: an enode URL or an ENR
    #[arg(value_name = "NODE")]
    node: NodeAddress,
}

#[derive(Debug, Serialize)]
struct StatusReport {
    id: String,
    address: SocketAddr,
    client: String,
    eth: u32,
    network_id: u64,
    genesis: String,
    fork_hash: String,
    fork_next: u64,
    head_hash: String,
    /// The range of blocks, from eth/69.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latest: Option<u64>,
    /// Up to eth/68.
    #[serde(skip_serializing_if = "Option::is_none")]
    total_difficulty: Option<String>,
}

pub(crate) async fn run(args: StatusArgs, output: Output) -> Result<(), CliError> {
    let node = super::contact(&args.node).await?;
    let address = super::tcp_address(&node)?;
    let mut stream = hello::dial(&node).await?;
    let client = stream.remote_hello().client_id.clone();
    let received = timeout(SETUP_TIMEOUT, first_status(&mut stream, address)).await;
    hello::leave(stream).await;
    let (version, status) = received.map_err(|_| CliError::Timeout {
        address,
        limit: SETUP_TIMEOUT,
    })??;
    let report = StatusReport {
        id: node.id().to_string(),
        address,
        client,
        eth: version.number(),
        network_id: status.network_id(),
        genesis: status.genesis().to_string(),
        fork_hash: hex::encode(status.fork_id().hash.0),
        fork_next: status.fork_id().next,
        head_hash: status.head_hash().to_string(),
        earliest: status.range().map(|range| range.earliest),
        latest: status.range().map(|range| range.latest),
        total_difficulty: match &status {
            Status::Eth68(status) => Some(status.total_difficulty.to_string()),
            _ => None,
        },
    };
    output.print(&report, StatusReport::text)
}

impl StatusReport {
    fn text(&self) -> String {
        let fork = match self.fork_next {
            0 => format!("{}, no next fork known", self.fork_hash),
            next => format!("{}, next fork at {next}", self.fork_hash),
        };
        let range = self.earliest.zip(self.latest);
        Fields::default()
            .add("client", &self.client)
            .add("protocol", format!("eth/{}", self.eth))
            .add("network id", self.network_id)
            .add("genesis", &self.genesis)
            .add("fork id", fork)
            .add_some(
                "blocks",
                range.map(|(earliest, latest)| format!("{earliest} to {latest}")),
            )
            .add("head", &self.head_hash)
            .add_some("total difficulty", self.total_difficulty.as_ref())
            .add("node id", &self.id)
            .add("address", self.address)
            .render()
    }
}

/// Reads until the Status of the highest shared version of eth. Nodes send theirs without waiting for ours.
pub(super) async fn first_status(
    stream: &mut RlpxStream<TcpStream>,
    address: SocketAddr,
) -> Result<(EthVersion, Status), CliError> {
    let offered: Vec<_> = EthVersion::ALL
        .into_iter()
        .filter_map(|version| Some((hello::capability(version)?, version.length())))
        .collect();
    let shared =
        SharedCapabilities::match_capabilities(&offered, &stream.remote_hello().capabilities);
    let version = EthVersion::ALL.into_iter().find(|version| {
        let wanted = hello::capability(*version);
        shared
            .iter()
            .any(|shared| Some(&shared.capability) == wanted.as_ref())
    });
    let Some(version) = version else {
        return Err(CliError::NoEth { address });
    };
    loop {
        let message = stream
            .read()
            .await
            .map_err(|source| CliError::Stream { address, source })?;
        if let Some(status) = status_in(stream, &shared, version, address, &message)? {
            return Ok((version, status));
        }
        stream
            .flush()
            .await
            .map_err(|source| CliError::Stream { address, source })?;
    }
}

/// The Status, when this message is it; the base protocol's messages are handled on the way.
fn status_in(
    stream: &mut RlpxStream<TcpStream>,
    shared: &SharedCapabilities,
    version: EthVersion,
    address: SocketAddr,
    message: &Message,
) -> Result<Option<Status>, CliError> {
    match (message.id, shared.locate(message.id)) {
        (p2p::DISCONNECT, _) => match DisconnectReason::decode(&message.payload) {
            Ok(reason) => Err(CliError::Disconnected { address, reason }),
            Err(source) => Err(CliError::Disconnect { address, source }),
        },
        (p2p::PING, _) => {
            let pong = stream.queue(p2p::PONG, &Payload::empty_list());
            pong.map(|()| None)
                .map_err(|source| CliError::Queue { address, source })
        }
        (_, Some((_, id))) if id == MessageId::Status.id() => {
            let status = Status::decode(version, &message.payload);
            status
                .map(Some)
                .map_err(|source| CliError::Status { address, source })
        }
        (_, Some((_, id))) => Err(CliError::NotStatus { address, id }),
        (_, None) => Ok(None),
    }
}
