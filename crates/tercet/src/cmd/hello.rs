//! `tercet hello`: the RLPx handshake and the exchange of Hellos, then goodbye.

use std::net::SocketAddr;

use clap::Args;
use serde::Serialize;
use tercet_enode::{Node, NodeAddress};
use tercet_eth_peer::wire::EthVersion;
use tercet_rlpx::{Capability, DisconnectReason, Hello, RlpxStream, SETUP_TIMEOUT};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::CliError;
use crate::output::{Fields, Output};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet hello enode://KEY@127.0.0.1:30303
  tercet hello --json enr:-IS4...")]
pub(crate) struct HelloArgs {
    /// The node: an enode URL or an ENR
    #[arg(value_name = "NODE")]
    node: NodeAddress,
}

#[derive(Debug, Serialize)]
struct HelloReport {
    id: String,
    address: SocketAddr,
    client: String,
    p2p_version: u64,
    capabilities: Vec<String>,
    listen_port: u16,
}

pub(crate) async fn run(args: HelloArgs, output: Output) -> Result<(), CliError> {
    let node = super::contact(&args.node).await?;
    let stream = dial(&node).await?;
    let hello = stream.remote_hello();
    let report = HelloReport {
        id: node.id().to_string(),
        address: super::tcp_address(&node)?,
        client: hello.client_id.clone(),
        p2p_version: hello.p2p_version,
        capabilities: hello
            .capabilities
            .iter()
            .map(Capability::to_string)
            .collect(),
        listen_port: hello.listen_port,
    };
    leave(stream).await;
    output.print(&report, |report| {
        Fields::default()
            .add("client", &report.client)
            .add("capabilities", report.capabilities.join(" "))
            .add("p2p version", report.p2p_version)
            .add("listen port", report.listen_port)
            .add("node id", &report.id)
            .add("address", report.address)
            .render()
    })
}

/// A connection on which both Hellos have passed. It offers eth, so that a node has no cause to call it useless.
pub(super) async fn dial(node: &Node) -> Result<RlpxStream<TcpStream>, CliError> {
    let address = super::tcp_address(node)?;
    let Ok(connected) = timeout(SETUP_TIMEOUT, TcpStream::connect(address)).await else {
        return Err(CliError::Timeout {
            address,
            limit: SETUP_TIMEOUT,
        });
    };
    let socket = connected.map_err(|source| CliError::Connect { address, source })?;
    let key = super::new_key();
    let authenticated = tercet_rlpx::connect(socket, &key, node.public_key())
        .await
        .map_err(|source| CliError::Handshake { address, source })?;
    let offered = EthVersion::ALL.into_iter().filter_map(capability).collect();
    let hello = Hello::new(&super::client_id(None), offered, key.public_key());
    authenticated
        .hello(hello)
        .await
        .map_err(|source| CliError::Hello { address, source })
}

/// A version of eth as RLPx names it. (The name is a possible one, so there always is a capability.)
pub(super) fn capability(version: EthVersion) -> Option<Capability> {
    Capability::new("eth", version.number()).ok()
}

/// Says goodbye; a remote that has left by itself is no failure.
pub(super) async fn leave(stream: RlpxStream<TcpStream>) {
    if let Err(error) = stream.disconnect(DisconnectReason::Requested).await {
        tracing::debug!(%error, "the goodbye did not get through");
    }
}
