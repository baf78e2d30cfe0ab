//! Live against @ethereumjs/devp2p: the discv4 tables hold each other, RLPx in both
//! directions, the Status of eth/68, and our whole node on eth/68: a header it
//! serves, a transaction it spreads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is a driver"
)]

use serde_json::{Value, json};
use tercet_enode::{Endpoint, EnodeUrl, SecretKey};
use tercet_eth_peer::wire::{EthVersion, MessageId, Status, Status68};
use tercet_eth_peer::{ChainBackend, DevAccount};
use tercet_rlpx::{
    Authenticated, Capability, DisconnectReason, FIRST_OFFSET, Hello, Payload, RlpxStream, accept,
    connect, p2p,
};
use tercet_server::NodeAddress;
use tercet_tests::{Child, EthNode, LiveChain, discovery, js_peer, key, node, until_live};
use tokio::net::{TcpListener, TcpStream};

async fn hello(io: Authenticated<TcpStream>, key: &SecretKey) -> RlpxStream<TcpStream> {
    let eth = Capability::new("eth", 68).unwrap();
    let hello = Hello::new("tercet-tests", vec![eth], key.public_key());
    io.hello(hello).await.unwrap()
}

fn status(chain: &dyn ChainBackend) -> Status68 {
    Status68 {
        version: 68,
        network_id: chain.network_id(),
        total_difficulty: chain.total_difficulty(),
        head: chain.head().hash,
        genesis: chain.genesis_hash(),
        fork_id: chain.forks().fork_id(chain.head().fork_point()),
    }
}

/// Both sides agree on Status and the remote's own reading of ours is right.
async fn agree(stream: &mut RlpxStream<TcpStream>, js: &mut Child, chain: &LiveChain) -> Value {
    assert!(stream.snappy());
    assert!(
        stream
            .remote_hello()
            .client_id
            .starts_with("ethereumjs-devp2p")
    );
    let seen = js.event("hello");
    assert_eq!(seen["client"], "tercet-tests");
    assert_eq!(seen["capabilities"], json!(["eth/68"]));

    let ours = status(&*chain.backend);
    let message = stream.read().await.unwrap();
    assert_eq!(message.id, FIRST_OFFSET);
    let theirs = Status::decode(EthVersion::Eth68, &message.payload).unwrap();
    // The other side computed its fork id from the genesis file alone.
    assert_eq!(theirs, Status::Eth68(ours));

    let payload = Payload::from(Status::Eth68(ours).encode());
    stream.queue(FIRST_OFFSET, &payload).unwrap();
    stream.flush().await.unwrap();
    assert_seen(&js.event("status"), &ours);
    seen["id"].clone()
}

/// What the other side read is what `ours` says.
fn assert_seen(agreed: &Value, ours: &Status68) {
    assert_eq!(agreed["networkId"], integer(ours.network_id));
    assert_eq!(agreed["genesisHash"], json!(ours.genesis));
    assert_eq!(agreed["bestHash"], json!(ours.head));
    assert_eq!(agreed["forkId"][0], hexed(&ours.fork_id.hash.0));
    assert_eq!(agreed["forkId"][1], integer(ours.fork_id.next));
}

/// An integer as the other side prints it: its bytes without leading zeros.
fn integer(value: u64) -> String {
    let zeros = value.leading_zeros() / u8::BITS;
    hexed(&value.to_be_bytes()[zeros as usize..])
}

fn hexed(bytes: &[u8]) -> String {
    format!("0x{}", hex::encode(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_dials_us_and_agrees_on_status() {
    let chain = LiveChain::made_up();
    let Some((mut js, _)) = js_peer("js", &chain.js_config("cancun")) else {
        return;
    };
    let key = key(1);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = Endpoint::new(address.ip(), address.port(), address.port());
    let url = EnodeUrl::new(key.public_key(), &endpoint).to_string();
    js.send(&json!({"cmd": "connect", "enode": url}));

    let (io, _) = listener.accept().await.unwrap();
    let mut stream = hello(accept(io, &key).await.unwrap(), &key).await;
    agree(&mut stream, &mut js, &chain).await;

    stream.disconnect(DisconnectReason::Quitting).await.unwrap();
    let gone = js.event("disconnected");
    assert_eq!((&gone["reason"], &gone["byUs"]), (&json!(8), &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_dial_it_and_agree_on_status_of_600_blocks() {
    let Some(chain) = LiveChain::real() else {
        return;
    };
    let Some((mut js, up)) = js_peer("js", &chain.js_config("prague")) else {
        return;
    };
    let url: EnodeUrl = up["enode"].as_str().unwrap().parse().unwrap();
    let address = url.endpoint().unwrap().tcp_addr().unwrap();
    let key = key(2);
    let io = TcpStream::connect(address).await.unwrap();
    let io = connect(io, &key, url.public_key()).await.unwrap();
    let mut stream = hello(io, &key).await;
    let id = agree(&mut stream, &mut js, &chain).await;

    js.send(&json!({"cmd": "disconnect", "id": id}));
    let last = stream.read().await.unwrap();
    assert_eq!(last.id, p2p::DISCONNECT);
    // It sends the bare integer.
    let reason = DisconnectReason::decode(&last.payload);
    assert_eq!(reason, Ok(DisconnectReason::Quitting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_hold_each_other_whoever_begins() {
    let chain = LiveChain::made_up();
    let config = chain.js_config("cancun");
    let Some((mut caller, caller_up)) = js_peer("js that calls", &config) else {
        return;
    };
    let Some((mut called, called_up)) = js_peer("js that is called", &config) else {
        return;
    };
    let (caller_node, called_node) = (node(&caller_up["enode"]), node(&called_up["enode"]));
    let ours = discovery(&key(3), vec![called_node.clone()]).await;
    let our_key = hex::encode(ours.local_node().public_key().to_bytes());
    let url = ours.local_node().enode_url().to_string();
    caller.send(&json!({"cmd": "bootstrap", "enode": url}));

    for (js, node) in [(&mut caller, &caller_node), (&mut called, &called_node)] {
        let added = js.event_where("added", |peer| peer["id"] == our_key);
        assert_eq!(added["udp"], ours.local_addr().port());
        until_live(&ours, node.id()).await;
        js.send(&json!({"cmd": "table"}));
        let table = js.event("table")["nodes"].clone();
        assert!(
            table
                .as_array()
                .unwrap()
                .iter()
                .any(|peer| peer["id"] == our_key)
        );
    }
    // It answers what it is asked, too.
    let found = ours.lookup(caller_node.public_key()).await.unwrap();
    assert!(found.iter().any(|node| node.id() == caller_node.id()));
    ours.shutdown().await;
}

/// Our whole node and the peer agree on eth/68. Returns our id as the peer knows it.
async fn node_agrees(
    ours: &mut EthNode,
    js: &mut Child,
    chain: &dyn ChainBackend,
    inbound: bool,
) -> Value {
    let (info, version, theirs) = ours.agreed().await;
    assert!(info.client_id.starts_with("ethereumjs-devp2p"), "{info:?}");
    assert_eq!((info.inbound(), info.static_node), (inbound, !inbound));
    assert_eq!(version, EthVersion::Eth68);
    let status = status(chain);
    assert_eq!(theirs, Status::Eth68(status));
    let hello = js.event("hello");
    assert_eq!(hello["client"], "tercet-tests");
    // It knows no eth/69, which we offer too.
    assert_eq!(hello["capabilities"], json!(["eth/68", "eth/69"]));
    assert_eq!(hello["shared"], json!([68]));
    assert_seen(&js.event("status"), &status);
    hello["id"].clone()
}

/// The peer takes our genesis header and a transaction that is submitted to us.
async fn node_serves_and_spreads(ours: &EthNode, js: &mut Child, chain: &LiveChain, id: &Value) {
    // Request 7: from block 0, at most 1, skip none, not in reverse.
    let request = json!(["0x07", ["0x", "0x01", "0x", "0x"]]);
    let code = MessageId::GetBlockHeaders.id();
    js.send(&json!({"cmd": "send", "id": id, "code": code, "payload": request}));
    let reply = js.event_where("message", |message| {
        message["code"] == MessageId::BlockHeaders.id()
    });
    let header = chain.backend.header_rlp(chain.backend.genesis_hash());
    let fields: Vec<Vec<u8>> = rlp::Rlp::new(&header.unwrap()).as_list().unwrap();
    let fields: Vec<_> = fields.iter().map(|field| hexed(field)).collect();
    assert_eq!(reply["payload"], json!(["0x07", [fields]]));

    let tx = ours.transfer(&mut DevAccount::new(key(6), 0)).await;
    let sent = js.event_where("message", |message| {
        message["code"] == MessageId::Transactions.id()
    });
    let envelope = rlp::Rlp::new(tx.item()).data().unwrap();
    assert_eq!(sent["payload"], json!([hexed(envelope)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_dials_our_node_and_takes_a_header_and_a_transaction() {
    let chain = LiveChain::made_up();
    let Some((mut js, _)) = js_peer("js", &chain.js_config("cancun")) else {
        return;
    };
    let mut ours = EthNode::start(key(4), &chain).await;
    js.send(&json!({"cmd": "connect", "enode": ours.server.enode().to_string()}));
    let id = node_agrees(&mut ours, &mut js, &*chain.backend, true).await;
    node_serves_and_spreads(&ours, &mut js, &chain, &id).await;
    ours.shutdown().await;
    let gone = js.event("disconnected");
    assert_eq!((&gone["reason"], &gone["byUs"]), (&json!(8), &json!(false)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_node_dials_it_and_it_takes_a_header_and_a_transaction() {
    let chain = LiveChain::made_up();
    let Some((mut js, up)) = js_peer("js", &chain.js_config("cancun")) else {
        return;
    };
    let mut ours = EthNode::start(key(5), &chain).await;
    let address: NodeAddress = up["enode"].as_str().unwrap().parse().unwrap();
    ours.server.add_peer(address).await.unwrap();
    let id = node_agrees(&mut ours, &mut js, &*chain.backend, false).await;
    node_serves_and_spreads(&ours, &mut js, &chain, &id).await;
    ours.shutdown().await;
    let gone = js.event("disconnected");
    assert_eq!((&gone["reason"], &gone["byUs"]), (&json!(8), &json!(false)));
}
