//! An independent client for the live tests: a discv5 node of the `discv5` crate on a loopback port. It speaks the line
//! protocol that `peer` describes. A program of its own, as the crate keeps its bans in a static.
//!
//! usage: `discv5_peer CONFIG`, one JSON object: `key`, 64 hex digits; `listen`, an address or one of each family, with port 0
//! for any; `bootnodes`, records as text
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a program for tests: it fails by panicking"
)]

use std::error::Error;
use std::fmt::Debug;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use discv5::kbucket::NodeStatus;
use discv5::{ConfigBuilder, Discv5, Enr, Event, ListenConfig, NodeContact, TalkRequest};
use enr::{CombinedKey, NodeId};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// Long, so that a busy machine is no reason to fail.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the table is looked at by `await`: the crate says that a node is in, not that it answered.
const TABLE_INTERVAL: Duration = Duration::from_millis(20);

/// Lines of standard input that wait to be run.
const MAX_CALLS: usize = 64;

#[derive(Deserialize)]
struct Config {
    key: String,
    listen: Vec<SocketAddr>,
    #[serde(default)]
    bootnodes: Vec<String>,
}

#[derive(Deserialize)]
struct Call {
    call: u64,
    #[serde(flatten)]
    command: Command,
}

#[derive(Deserialize)]
#[serde(tag = "cmd", rename_all = "lowercase")]
enum Command {
    #[serde(rename = "self")]
    Own,
    Set {
        name: String,
        value: String,
    },
    Table,
    Await {
        target: String,
        seq: u64,
    },
    Lookup {
        target: String,
    },
    Add {
        node: String,
    },
    Ping {
        node: String,
    },
    FindNode {
        node: String,
        distances: Vec<u64>,
    },
    Talk {
        node: String,
        protocol: String,
        payload: String,
    },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = std::env::args().nth(1).ok_or("usage: discv5_peer CONFIG")?;
    let discv5 = Arc::new(start(&serde_json::from_str(&config)?).await?);
    let mut events = discv5.event_stream().await.map_err(shown)?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::TalkRequest(request) = event {
                answer_talk(request);
            }
        }
    });
    say(json!({"event": "up", "enr": discv5.local_enr().to_base64()}));
    let mut calls = read_calls();
    while let Some(Call { call, command }) = calls.recv().await {
        let discv5 = Arc::clone(&discv5);
        // Each in its own task: a lookup must not hold up a ping.
        tokio::spawn(async move {
            say(match run(&discv5, command).await {
                Ok(mut answer) => {
                    answer["event"] = "done".into();
                    answer["call"] = call.into();
                    answer
                }
                Err(error) => {
                    json!({"event": "failed", "call": call, "message": error.to_string()})
                }
            });
        });
    }
    Ok(())
}

async fn start(settings: &Config) -> Result<Discv5, Box<dyn Error>> {
    let mut record = Enr::builder();
    let (mut ipv4, mut ipv6) = (None, None);
    for &addr in &settings.listen {
        let socket = UdpSocket::bind(addr).await?;
        let port = socket.local_addr()?.port();
        match addr {
            SocketAddr::V4(addr) => record.ip4(*addr.ip()).udp4(port),
            SocketAddr::V6(addr) => record.ip6(*addr.ip()).udp6(port),
        };
        let of_family = if addr.is_ipv4() { &mut ipv4 } else { &mut ipv6 };
        *of_family = Some(Arc::new(socket));
    }
    let mut secret = hex::decode(&settings.key)?;
    let key = CombinedKey::secp256k1_from_bytes(&mut secret)?;
    let record = record.build(&key)?;
    let config = ConfigBuilder::new(ListenConfig::FromSockets { ipv4, ipv6 })
        .request_timeout(REPLY_TIMEOUT)
        .build();
    let mut discv5 = Discv5::new(record, key, config)?;
    discv5.start().await.map_err(shown)?;
    for bootnode in &settings.bootnodes {
        discv5.add_enr(bootnode.parse()?)?;
    }
    Ok(discv5)
}

fn read_calls() -> mpsc::Receiver<Call> {
    let (sender, receiver) = mpsc::channel(MAX_CALLS);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let call =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            if sender.blocking_send(call).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Says who asked, and what. A request that is dropped is answered with nothing.
fn answer_talk(request: TalkRequest) {
    if request.protocol() != b"tercet" {
        return;
    }
    let from = request.node_id().raw();
    say(
        json!({"event": "talked", "from": hex::encode(from), "payload": hex::encode(request.body())}),
    );
    let answer = [&from, request.body()].concat();
    if let Err(error) = request.respond(answer) {
        say(json!({"event": "error", "where": "talk", "message": format!("{error:?}")}));
    }
}

async fn run(discv5: &Discv5, command: Command) -> Result<Value, Box<dyn Error + Send + Sync>> {
    match command {
        Command::Own => Ok(json!({"enr": discv5.local_enr().to_base64()})),
        Command::Set { name, value } => {
            discv5.enr_insert(&name, &hex::decode(value)?.as_slice())?;
            Ok(json!({"enr": discv5.local_enr().to_base64()}))
        }
        Command::Table => Ok(json!({"nodes": table(discv5)})),
        Command::Await { target, seq } => {
            let fits = |(id, record, status): (NodeId, Enr, NodeStatus)| {
                hex::encode(id.raw()) == target && status.is_connected() && record.seq() >= seq
            };
            while !discv5.table_entries().into_iter().any(fits) {
                tokio::time::sleep(TABLE_INTERVAL).await;
            }
            Ok(json!({}))
        }
        Command::Lookup { target } => {
            let target: [u8; 32] = hex::decode(target)?.as_slice().try_into()?;
            let found = discv5.find_node(NodeId::new(&target)).await;
            Ok(records(&found.map_err(shown)?))
        }
        Command::Add { node } => {
            discv5.add_enr(node.parse()?)?;
            Ok(json!({}))
        }
        Command::Ping { node } => {
            let pong = discv5.send_ping(node.parse()?).await.map_err(shown)?;
            Ok(json!({"seq": pong.enr_seq, "ip": pong.ip, "port": pong.port}))
        }
        Command::FindNode { node, distances } => {
            let asked = discv5.find_node_designated_peer(node.parse()?, distances);
            Ok(records(&asked.await.map_err(shown)?))
        }
        Command::Talk {
            node,
            protocol,
            payload,
        } => {
            let node: Enr = node.parse()?;
            let contact = NodeContact::try_from_enr(node, discv5.ip_mode()).map_err(shown)?;
            let asked = discv5.talk_req(contact, protocol.into_bytes(), hex::decode(payload)?);
            Ok(json!({"payload": hex::encode(asked.await.map_err(shown)?)}))
        }
    }
}

fn table(discv5: &Discv5) -> Vec<Value> {
    let entries = discv5.table_entries().into_iter();
    let entry = |id: NodeId, live| json!({"id": hex::encode(id.raw()), "live": live});
    entries
        .map(|(id, _, status)| entry(id, status.is_connected()))
        .collect()
}

fn records(found: &[Enr]) -> Value {
    let texts: Vec<_> = found.iter().map(Enr::to_base64).collect();
    let ids: Vec<_> = found
        .iter()
        .map(|record| hex::encode(record.node_id().raw()))
        .collect();
    json!({"nodes": texts, "ids": ids})
}

/// The crate's errors are none that can be passed on.
fn shown(error: impl Debug) -> String {
    format!("{error:?}")
}

/// Prints one event; tests read them in order.
fn say(event: Value) {
    // Only a closed standard output can fail this, and then nobody reads it.
    let _ = writeln!(std::io::stdout().lock(), "{event}");
}
