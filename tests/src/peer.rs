//! The independent discv5 clients of the live tests as one type: go-ethereum, @chainsafe/discv5 and the `discv5` crate,
//! each a program that speaks the same JSON lines. How they are built is `interop`'s business.
//!
//! The programs under `interop/` and `src/bin/discv5_peer.rs` take their configuration as an argument and print `up`, with
//! their record in the field `enr`, when they listen. Then each line of standard input is a call, and the end of it ends
//! the program:
//!
//! | `cmd` | fields | answer |
//! |---|---|---|
//! | `self` | | `enr`: its record |
//! | `set` | `name`, `value`: hex digits | its record with a byte string as a further entry |
//! | `add` | `node` | puts a record into its table |
//! | `table` | | `nodes`: `id` and `live`, whether the node answered |
//! | `await` | `target`: a node id; `seq` | comes when the node is live in the table with a record as new as that |
//! | `ping` | `node` | `seq`, `ip`, `port` of the PONG |
//! | `findnode` | `node`, `distances` | `nodes`: records |
//! | `talk` | `node`, `protocol`, `payload` | `payload` |
//! | `lookup` | `target`: a node id | `nodes`: records, `ids` |
//!
//! The Go program speaks discv4 too: there calls say `over` which protocol, and a lookup's target is a public key.
//!
//! A call has a number, `call`, that its answer repeats: the event `done`, or `failed` with a `message`. The programs
//! answer the talk protocol `tercet` with the id of who asks and what they sent, print that as `talked`, and answer no other.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use serde_json::{Value, json};
use tercet_discovery::Protocol;
use tercet_enode::{Node, NodeId, NodeRecord, SecretKey};

use crate::child::Child;
use crate::interop::{go_program, js_program, rust_program, skip};
use crate::node::has;

/// An independent implementation of discv5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// go-ethereum's `p2p/discover`, discv5 alone.
    Go,
    /// The same with discv4 beside it on one socket.
    GoBoth,
    /// The same with discv4 alone: it has no use for calls that are discv5's.
    GoV4,
    /// @chainsafe/discv5.
    Js,
    /// The `discv5` crate.
    Rust,
}

/// A running client, with a key and an address that it keeps when it is started again.
#[derive(Debug)]
pub struct Peer {
    client: Client,
    config: Value,
    child: Child,
    calls: u64,
    record: NodeRecord,
}

impl Peer {
    /// Starts a client on one address, or on an IPv4 and an IPv6 one if it can. Its table begins with `bootnodes`. `None`: a
    /// reason was printed and the test skips.
    ///
    /// # Panics
    /// Under `TERCET_INTEROP=required` where the client cannot be had, and where [`has`] does.
    pub fn start(
        client: Client,
        listen: &[SocketAddr],
        key: &SecretKey,
        bootnodes: &[NodeRecord],
    ) -> Option<Self> {
        if !has(listen) {
            return None;
        }
        let bootnodes: Vec<_> = bootnodes.iter().map(ToString::to_string).collect();
        let config = json!({
            "key": hex::encode(key.to_bytes()),
            "listen": listen,
            "protocols": client.protocols(),
            "bootnodes": bootnodes,
        });
        let program = match client.program() {
            Ok(program) => program,
            Err(reason) => return skip(&reason),
        };
        let (child, record) = launch(client, program, &config);
        Some(Self {
            client,
            config,
            child,
            calls: 0,
            record,
        })
    }

    /// Kills the program and starts it again with its key and where it listens: all its sessions are gone, and its table.
    ///
    /// # Panics
    /// When it does not come back.
    pub fn restart(&mut self) {
        self.child.kill();
        let endpoints = self.record.endpoints();
        let listen: Vec<_> = endpoints.map(|endpoint| endpoint.udp_addr()).collect();
        self.config["listen"] = json!(listen);
        let program = self.client.program().expect("it ran before");
        (self.child, self.record) = launch(self.client, program, &self.config);
    }

    /// Which client it is.
    pub fn client(&self) -> Client {
        self.client
    }

    /// Its record, as it last said.
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Its node id.
    pub fn id(&self) -> NodeId {
        self.record.id()
    }

    /// The node of its record.
    pub fn node(&self) -> Node {
        Node::from_record(self.record.clone()).expect("a record with an address")
    }

    /// Where it listens; its IPv4 address if it has two.
    pub fn addr(&self) -> SocketAddr {
        self.node().endpoint().udp_addr()
    }

    /// Asks for something without waiting. [`result`](Self::result) waits for what this returns.
    pub fn begin(&mut self, mut call: Value) -> u64 {
        self.calls += 1;
        call["call"] = self.calls.into();
        self.child.send(&call);
        self.calls
    }

    /// How a call ended: the event's fields, or what went wrong.
    ///
    /// # Panics
    /// When nothing is heard of it within [`LIMIT`](crate::LIMIT).
    pub fn result(&mut self, call: u64) -> Result<Value, String> {
        self.child.wait_for("the end of a call", |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            if event["call"] != call {
                return None;
            }
            match event["event"].as_str()? {
                "done" => Some(Ok(event)),
                "failed" => Some(Err(event["message"].to_string())),
                _ => None,
            }
        })
    }

    /// A call and its end.
    pub fn call(&mut self, call: Value) -> Result<Value, String> {
        let call = self.begin(call);
        self.result(call)
    }

    /// Pings over discv5: the sequence number and the address in the PONG.
    pub fn ping(&mut self, node: &NodeRecord) -> Result<(u64, SocketAddr), String> {
        let pong = self.call(ping(node))?;
        Ok(read_pong(&pong))
    }

    /// Asks a node for those it knows at `distances`.
    pub fn find_node(
        &mut self,
        node: &NodeRecord,
        distances: &[u16],
    ) -> Result<Vec<NodeRecord>, String> {
        let found = self.call(find_node(node, distances))?;
        Ok(read_records(&found))
    }

    /// Sends a TALKREQ and returns the response.
    pub fn talk(
        &mut self,
        node: &NodeRecord,
        protocol: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, String> {
        let answer = self.call(talk(node, protocol, payload))?;
        Ok(read_payload(&answer))
    }

    /// Looks up a node in the network.
    ///
    /// # Panics
    /// When the client refuses.
    pub fn lookup(&mut self, node: &NodeRecord, over: Protocol) -> Vec<NodeId> {
        let target = match over {
            Protocol::V4 => hex::encode(node.public_key().to_bytes()),
            Protocol::V5 => node.id().to_string(),
        };
        let found = self.call(json!({"cmd": "lookup", "target": target, "over": named(over)}));
        let found = found.expect("a lookup always ends");
        let ids = found["ids"].as_array().unwrap().iter();
        ids.map(|id| id.as_str().unwrap().parse().unwrap())
            .collect()
    }

    /// Whether it speaks a protocol.
    pub fn speaks(&self, protocol: Protocol) -> bool {
        self.client.protocols().contains(&named(protocol))
    }

    /// Waits until its table holds the node with this record or a newer one, and the node has answered it.
    ///
    /// # Panics
    /// After [`LIMIT`](crate::LIMIT).
    pub fn await_live(&mut self, node: &NodeRecord, over: Protocol) {
        // go-ethereum's discv4 does not follow records in its table.
        let seq = match over {
            Protocol::V4 => 0,
            Protocol::V5 => node.seq(),
        };
        let target = node.id().to_string();
        let wanted = json!({"cmd": "await", "target": target, "seq": seq, "over": named(over)});
        self.call(wanted).expect("it can only come true");
    }

    /// Puts a node into its table.
    ///
    /// # Panics
    /// When the client refuses.
    pub fn add(&mut self, node: &NodeRecord) {
        self.call(json!({"cmd": "add", "node": node.to_string()}))
            .expect("room for a node");
    }

    /// Gives its record a further entry and returns it.
    ///
    /// # Panics
    /// When the client refuses.
    pub fn set(&mut self, name: &str, value: &[u8]) -> NodeRecord {
        let changed = json!({"cmd": "set", "name": name, "value": hex::encode(value)});
        let answer = self.call(changed).expect("its own record");
        self.record = read_record(&answer["enr"]);
        self.record.clone()
    }
}

impl Client {
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::GoBoth => &["v4", "v5"],
            Self::GoV4 => &["v4"],
            Self::Go | Self::Js | Self::Rust => &["v5"],
        }
    }

    fn program(self) -> Result<Command, String> {
        match self {
            Self::Go | Self::GoBoth | Self::GoV4 => go_program(),
            Self::Js => js_program("discovery.mjs"),
            Self::Rust => rust_program("discv5_peer"),
        }
    }
}

fn named(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::V4 => "v4",
        Protocol::V5 => "v5",
    }
}

fn launch(client: Client, mut program: Command, config: &Value) -> (Child, NodeRecord) {
    let config = match client {
        Client::Go | Client::GoBoth | Client::GoV4 => json!({"Discovery": config}),
        Client::Js | Client::Rust => config.clone(),
    };
    let mut child = Child::spawn(&format!("{client:?}"), program.arg(config.to_string()));
    let record = read_record(&child.event("up")["enr"]);
    (child, record)
}

/// The call that pings `node`.
pub fn ping(node: &NodeRecord) -> Value {
    json!({"cmd": "ping", "node": node.to_string()})
}

/// The call that asks `node` for those it knows at `distances`.
pub fn find_node(node: &NodeRecord, distances: &[u16]) -> Value {
    json!({"cmd": "findnode", "node": node.to_string(), "distances": distances})
}

/// The call that sends `node` a TALKREQ.
pub fn talk(node: &NodeRecord, protocol: &str, payload: &[u8]) -> Value {
    let payload = hex::encode(payload);
    json!({"cmd": "talk", "node": node.to_string(), "protocol": protocol, "payload": payload})
}

/// What came of [`ping`].
pub fn read_pong(done: &Value) -> (u64, SocketAddr) {
    let ip: IpAddr = done["ip"].as_str().unwrap().parse().unwrap();
    let port = done["port"].as_u64().unwrap().try_into().unwrap();
    (done["seq"].as_u64().unwrap(), SocketAddr::new(ip, port))
}

/// What came of [`find_node`] or a lookup, its records verified.
pub fn read_records(done: &Value) -> Vec<NodeRecord> {
    let records = done["nodes"].as_array().unwrap().iter();
    records.map(read_record).collect()
}

/// What came of [`talk`].
pub fn read_payload(done: &Value) -> Vec<u8> {
    hex::decode(done["payload"].as_str().unwrap()).unwrap()
}

fn read_record(text: &Value) -> NodeRecord {
    text.as_str().expect("a record").parse().expect("a record")
}
