//! Live against go-ethereum's `p2p` package: discv4 bonds and lookups both ways over both families, RLPx
//! Hello both ways, a sub-protocol of our own with snappy, the Status of eth/69, and
//! our whole node on eth/69: headers it serves, a transaction it spreads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is a driver"
)]

use std::sync::Arc;

use alloy_eips::BlockHashOrNumber;
use bytes::Bytes;
use serde_json::{Value, json};
use tercet_enode::{Endpoint, EnodeUrl, keccak256};
use tercet_eth_peer::wire::{
    BlockRange, EthVersion, GetBlockHeaders, MessageId, RawReply, Status, Status69,
};
use tercet_eth_peer::{ChainBackend, DevAccount};
use tercet_nodedb::NodeDb;
use tercet_rlpx::{Authenticated, FIRST_OFFSET, Hello, RlpxStream, accept, connect};
use tercet_server::{
    Capability, DisconnectReason, DropReason, NodeAddress, Payload, Peer, Protocol, ProtocolFuture,
    ProtocolIo, ProtocolSender, Server, ServerConfig, ServerEvent,
};
use tercet_tests::{Child, EthNode, LIMIT, LiveChain, any_port, go_peer, key, node};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

mod discovery;

/// Each test over each family.
macro_rules! over_each_family {
    (@family $family:ident, $on:ident: $($test:ident),+) => {
        mod $family {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::discovery::$test(tercet_tests::Loopback::$on).await;
            })+
        }
    };
    ($($test:ident),+ $(,)?) => {
        over_each_family!(@family ipv4, V4: $($test),+);
        over_each_family!(@family ipv6, V6: $($test),+);
    };
}

over_each_family!(
    it_bonds_with_us_and_reads_our_record,
    we_bond_with_it_and_read_its_record,
    our_lookup_finds_through_it_whom_it_knows,
    its_lookup_finds_through_us_whom_we_know,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_one_family_is_told_of_the_other() {
    discovery::who_has_one_family_is_told_of_the_other().await;
}

/// echo/1, as the Go program has it: message 0 asks, message 1 brings the same back.
struct Echo {
    running: mpsc::Sender<ProtocolSender>,
    replies: mpsc::Sender<Bytes>,
}

impl Protocol for Echo {
    fn capability(&self) -> Capability {
        Capability::new("echo", 1).unwrap()
    }

    fn length(&self) -> u64 {
        2
    }

    fn run(self: Arc<Self>, _peer: Peer, mut io: ProtocolIo) -> ProtocolFuture {
        Box::pin(async move {
            self.running.send(io.sender().clone()).await.unwrap();
            while let Some(message) = io.recv().await {
                let payload = Bytes::copy_from_slice(&message.payload);
                if message.id == 1 {
                    self.replies.send(payload).await.unwrap();
                } else if io.sender().send(1, Payload::new(payload)).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }
}

struct EchoServer {
    server: Server,
    events: broadcast::Receiver<ServerEvent>,
    running: mpsc::Receiver<ProtocolSender>,
    replies: mpsc::Receiver<Bytes>,
}

async fn echo_server(seed: u8) -> EchoServer {
    let (running_tx, running) = mpsc::channel(4);
    let (replies_tx, replies) = mpsc::channel(4);
    let echo = Arc::new(Echo {
        running: running_tx,
        replies: replies_tx,
    });
    let config = ServerConfig::builder(key(seed))
        .listen(any_port())
        .client_id("tercet-tests");
    let db = NodeDb::memory().unwrap();
    let server = Server::start(config.build().unwrap(), vec![echo], db)
        .await
        .unwrap();
    let events = server.subscribe();
    EchoServer {
        server,
        events,
        running,
        replies,
    }
}

impl EchoServer {
    async fn event<T>(&mut self, wanted: impl Fn(ServerEvent) -> Option<T>) -> T {
        timeout(LIMIT, async {
            loop {
                if let Some(found) = wanted(self.events.recv().await.unwrap()) {
                    return found;
                }
            }
        })
        .await
        .expect("the event comes")
    }

    /// Both sides know each other's Hello, and echo in both directions: bytes that
    /// snappy shrinks and bytes that it cannot, small and near the largest frame.
    async fn converse(&mut self, go: &mut Child, inbound: bool) {
        let info = self
            .event(|event| match event {
                ServerEvent::PeerAdded { info } => Some(info),
                _ => None,
            })
            .await;
        assert!(info.client_id.starts_with("tercet-interop-go"), "{info:?}");
        let seen = go.event("hello");
        assert_eq!(seen["client"], "tercet-tests");
        assert_eq!(seen["inbound"], !inbound);
        assert_eq!(seen["capabilities"], json!(["echo/1"]));

        let id = seen["id"].clone();
        for (size, random) in [(0, false), (1, false), (70_000, true), (4_000_000, false)] {
            go.send(&json!({"cmd": "echo", "id": id, "size": size, "random": random}));
            let sent = go.event_where("echo", |echo| echo["step"] == "sent");
            let back = go.event_where("echo", |echo| echo["step"] == "answered");
            assert_eq!(
                (&back["size"], &back["hash"]),
                (&json!(size), &sent["hash"])
            );
        }
        let sender = timeout(LIMIT, self.running.recv()).await.unwrap().unwrap();
        for payload in [vec![0xc0], b"tercet".repeat(100_000), noise(70_000)] {
            let payload = Bytes::from(payload);
            sender.send(0, Payload::new(payload.clone())).await.unwrap();
            let hash = format!("0x{}", hex::encode(keccak256(&payload)));
            go.event_where("echo", |echo| {
                echo["step"] == "asked" && echo["hash"] == hash
            });
            let reply = timeout(LIMIT, self.replies.recv()).await.unwrap();
            assert_eq!(reply, Some(payload));
        }
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let blocks = (0..len.div_ceil(32)).flat_map(|block| keccak256(&block.to_be_bytes()));
    blocks.take(len).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_dials_us_and_both_echo() {
    let Some((mut go, _)) = go_peer("go", &json!({})) else {
        return;
    };
    let mut ours = echo_server(6).await;
    go.send(&json!({"cmd": "connect", "enode": ours.server.enode().to_string()}));
    ours.converse(&mut go, true).await;

    ours.server.shutdown().await;
    let dropped = go.event("dropped");
    assert_eq!(dropped["reason"], "client quitting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_it_and_both_echo() {
    let Some((mut go, up)) = go_peer("go", &json!({})) else {
        return;
    };
    let mut ours = echo_server(7).await;
    let address: NodeAddress = up["enode"].as_str().unwrap().parse().unwrap();
    ours.server.add_peer(address).await.unwrap();
    ours.converse(&mut go, false).await;

    let id = ours.server.local_node().id();
    go.send(&json!({"cmd": "disconnect", "id": id.to_string()}));
    let reason = ours
        .event(|event| match event {
            ServerEvent::PeerDropped { reason, .. } => Some(reason),
            _ => None,
        })
        .await;
    let remote = |reason| DropReason::Remote(reason);
    let expected = [
        remote(DisconnectReason::Quitting),
        remote(DisconnectReason::Requested),
    ];
    assert!(expected.contains(&reason), "{reason:?}");
    ours.server.shutdown().await;
}

fn status(chain: &dyn ChainBackend) -> Status69 {
    let head = chain.head();
    Status69 {
        version: 69,
        network_id: chain.network_id(),
        genesis: chain.genesis_hash(),
        fork_id: chain.forks().fork_id(head.fork_point()),
        range: BlockRange {
            earliest: chain.earliest(),
            latest: head.number,
            latest_hash: head.hash,
        },
    }
}

/// Says Hello and exchanges the Status of eth/69; it has judged ours by its own
/// reading of the chain when it reports it.
async fn agree(
    io: Authenticated<TcpStream>,
    seed: u8,
    go: &mut Child,
    chain: &dyn ChainBackend,
) -> (RlpxStream<TcpStream>, Value) {
    let eth = Capability::new("eth", 69).unwrap();
    let hello = Hello::new("tercet-tests", vec![eth], key(seed).public_key());
    let mut stream = io.hello(hello).await.unwrap();
    let ours = Status::Eth69(status(chain));
    stream
        .queue(FIRST_OFFSET, &Payload::from(ours.encode()))
        .unwrap();
    stream.flush().await.unwrap();
    let message = timeout(LIMIT, stream.read()).await.unwrap().unwrap();
    assert_eq!(message.id, FIRST_OFFSET);
    let theirs = Status::decode(EthVersion::Eth69, &message.payload).unwrap();
    // Its hashes and its fork id are its own work.
    assert_eq!(theirs, ours);
    let seen = go.event("status");
    assert_eq!(seen["version"], 69);
    assert_eq!(seen["latest"], chain.head().number);
    (stream, seen["id"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_dials_us_and_agrees_on_status() {
    let chain = LiveChain::made_up();
    let Some((mut go, _)) = go_peer("go", &json!({"Eth": chain.go_config()})) else {
        return;
    };
    let listener = TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::new(address.ip(), address.port(), address.port());
    let url = EnodeUrl::new(key(8).public_key(), &endpoint).to_string();
    go.send(&json!({"cmd": "connect", "enode": url}));
    let (io, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let io = accept(io, &key(8)).await.unwrap();
    let (stream, _) = agree(io, 8, &mut go, &*chain.backend).await;
    stream.disconnect(DisconnectReason::Quitting).await.unwrap();
    assert_eq!(go.event("dropped")["reason"], "client quitting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_it_and_it_takes_headers_of_600_blocks() {
    let Some(chain) = LiveChain::real() else {
        return;
    };
    let Some((mut go, up)) = go_peer("go", &json!({"Eth": chain.go_config()})) else {
        return;
    };
    let go_node = node(&up["enode"]);
    let io = TcpStream::connect(go_node.endpoint().tcp_addr().unwrap())
        .await
        .unwrap();
    let io = connect(io, &key(9), go_node.public_key()).await.unwrap();
    let (mut stream, id) = agree(io, 9, &mut go, &*chain.backend).await;

    go.send(&json!({"cmd": "headers", "id": id, "from": 590, "count": 8}));
    let asked = timeout(LIMIT, stream.read()).await.unwrap().unwrap();
    assert_eq!(asked.id, FIRST_OFFSET + MessageId::GetBlockHeaders.id());
    let request = GetBlockHeaders::decode(&asked.payload).unwrap();
    assert_eq!(
        (request.start, request.limit),
        (BlockHashOrNumber::Number(590), 8)
    );
    let hashes: Vec<_> = (590..598)
        .map(|number| chain.backend.canonical_hash(number).unwrap())
        .collect();
    let headers: Vec<_> = hashes
        .iter()
        .map(|hash| chain.backend.header_rlp(*hash).unwrap())
        .collect();
    let reply = Payload::from(RawReply::encode(request.request_id, &headers));
    stream
        .queue(FIRST_OFFSET + MessageId::BlockHeaders.id(), &reply)
        .unwrap();
    stream.flush().await.unwrap();
    // It hashes what it decodes.
    assert_eq!(go.event("headers")["hashes"], json!(hashes));
}

/// Our whole node and the peer agree on eth/69. Returns our id as the peer knows it.
async fn node_agrees(
    ours: &mut EthNode,
    go: &mut Child,
    chain: &dyn ChainBackend,
    inbound: bool,
) -> Value {
    let (info, version, theirs) = ours.agreed().await;
    assert!(info.client_id.starts_with("tercet-interop-go"), "{info:?}");
    assert_eq!((info.inbound(), info.static_node), (inbound, !inbound));
    assert_eq!(version, EthVersion::Eth69);
    let status = status(chain);
    assert_eq!(theirs, Status::Eth69(status));
    let id = json!(ours.server.local_node().id().to_string());
    let seen = json!({
        "event": "status",
        "id": id,
        "version": 69,
        "networkId": status.network_id,
        "genesis": status.genesis,
        "forkHash": format!("0x{}", hex::encode(status.fork_id.hash.0)),
        "forkNext": status.fork_id.next,
        "earliest": status.range.earliest,
        "latest": status.range.latest,
        "latestHash": status.range.latest_hash,
    });
    assert_eq!(go.event("status"), seen);
    id
}

/// The peer takes our genesis header and a transaction that is submitted to us.
async fn node_serves_and_spreads(ours: &EthNode, go: &mut Child, chain: &LiveChain, id: &Value) {
    go.send(&json!({"cmd": "headers", "id": id, "from": 0, "count": 1}));
    // It hashes what it decodes.
    assert_eq!(
        go.event("headers")["hashes"],
        json!([chain.backend.genesis_hash()])
    );
    let mut account = DevAccount::new(key(12), 0);
    let tx = ours.transfer(&mut account).await;
    let seen = go.event("transactions");
    assert_eq!(seen["hashes"], json!([tx.hash()]));
    assert_eq!(seen["senders"], json!([account.address()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_dials_our_node_and_takes_a_header_and_a_transaction() {
    let chain = LiveChain::made_up();
    let Some((mut go, _)) = go_peer("go", &json!({"Eth": chain.go_config()})) else {
        return;
    };
    let mut ours = EthNode::start(key(10), &chain).await;
    go.send(&json!({"cmd": "connect", "enode": ours.server.enode().to_string()}));
    let id = node_agrees(&mut ours, &mut go, &*chain.backend, true).await;
    node_serves_and_spreads(&ours, &mut go, &chain, &id).await;
    ours.shutdown().await;
    assert_eq!(go.event("dropped")["reason"], "client quitting");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_node_dials_it_and_it_takes_a_header_and_a_transaction() {
    let chain = LiveChain::made_up();
    let Some((mut go, up)) = go_peer("go", &json!({"Eth": chain.go_config()})) else {
        return;
    };
    let mut ours = EthNode::start(key(11), &chain).await;
    let address: NodeAddress = up["enode"].as_str().unwrap().parse().unwrap();
    ours.server.add_peer(address).await.unwrap();
    let id = node_agrees(&mut ours, &mut go, &*chain.backend, false).await;
    node_serves_and_spreads(&ours, &mut go, &chain, &id).await;
    ours.shutdown().await;
    assert_eq!(go.event("dropped")["reason"], "client quitting");
}
