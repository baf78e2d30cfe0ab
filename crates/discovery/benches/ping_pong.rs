//! From a ping's datagram to the pong's, through every check and the machine, against the two curve operations nobody can
//! do without: recovering the sender's key and signing the answer.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod common;

use std::hint::black_box;
use std::net::SocketAddr;

use bytes::Bytes;
use common::{NOW, is_measured, quarter, time};
use criterion::Criterion;
use secp256k1::ecdsa::RecoverableSignature;
use secp256k1::{Message as Digest, SECP256K1};
use tercet_discovery::v4::codec::{self, UnverifiedPacket};
use tercet_discovery::v4::{Message, Ping, Pong, WireEndpoint};
use tercet_discovery::{CoreConfig, CoreInput, CoreOutput, DiscoveryCore};
use tercet_enode::{NodeRecord, SecretKey};
use tercet_machine::{Machine, MachineRng};

/// The limit's time must be at least this part of ours.
const REQUIRED: f64 = 0.85;
const ROUNDS: usize = 3000;

struct Node {
    key: SecretKey,
    core: DiscoveryCore,
    sender: SocketAddr,
    ping: Bytes,
}

impl Node {
    /// A node that has bonded with the sender of `ping`.
    fn new() -> Self {
        let mut rng = MachineRng::from_seed([1; 32]);
        let (key, remote) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
        let record = NodeRecord::builder()
            .seq(1)
            .ip([20, 0, 0, 1].into())
            .udp(30303)
            .sign(&key)
            .unwrap();
        let mut core = DiscoveryCore::new(CoreConfig::new([2; 32]), record, NOW);
        // Its first refresh, over before it has begun.
        core.handle_timeout(NOW);
        core.handle(NOW, CoreInput::Seeds(Vec::new()));
        while core.poll().is_some() {}
        // On the LAN, so that thousands of pings a second are not throttled.
        let sender: SocketAddr = "10.0.0.2:30303".parse().unwrap();
        let expiration = NOW.unix.as_secs() + 20;
        let from = WireEndpoint::new(sender.ip(), sender.port(), 30303);
        let ping = Ping {
            from,
            to: WireEndpoint::default(),
            expiration,
            enr_seq: None,
        };
        let (ping, _) = codec::encode(&remote, &Message::Ping(ping));
        let mut node = Self {
            key,
            core,
            sender,
            ping,
        };
        let (_, ping_hash) = node.answer().into_iter().next_back().unwrap();
        let pong = Pong {
            to: WireEndpoint::default(),
            ping_hash,
            expiration,
            enr_seq: None,
        };
        let (pong, _) = codec::encode(&remote, &Message::Pong(pong));
        node.handle(&pong);
        assert_eq!(node.core.table().live_len(), 1);
        assert_eq!(node.answer().len(), 1, "a pong and nothing else");
        node
    }

    fn answer(&mut self) -> Vec<(Bytes, tercet_discovery::v4::PacketHash)> {
        let ping = self.ping.clone();
        self.handle(&ping)
    }

    /// What the driver does with a datagram.
    fn handle(&mut self, datagram: &[u8]) -> Vec<(Bytes, tercet_discovery::v4::PacketHash)> {
        self.core.admit(NOW, self.sender).unwrap();
        let packet = UnverifiedPacket::parse(datagram).unwrap();
        self.core.screen(NOW, self.sender.ip(), &packet).unwrap();
        let packet = packet.verify().unwrap();
        let from = self.sender;
        self.core.handle(
            NOW,
            CoreInput::V4Packet {
                from,
                key: packet.key,
                hash: packet.hash,
                message: packet.message,
            },
        );
        let mut sent = Vec::new();
        while let Some(output) = self.core.poll() {
            if let CoreOutput::V4Send { message, token, .. } = output {
                let (datagram, hash) = codec::encode(&self.key, &message);
                if let Some(token) = token {
                    self.core.handle(NOW, CoreInput::V4Sent { token, hash });
                }
                sent.push((datagram, hash));
            }
        }
        sent
    }
}

struct Curve {
    secret: secp256k1::SecretKey,
    digest: Digest,
    signature: RecoverableSignature,
}

impl Curve {
    fn new() -> Self {
        let secret = secp256k1::SecretKey::from_byte_array([3; 32]).unwrap();
        let digest = Digest::from_digest([7; 32]);
        let signature = SECP256K1.sign_ecdsa_recoverable(digest, &secret);
        Self {
            secret,
            digest,
            signature,
        }
    }

    fn recover_and_sign(&self) {
        black_box(
            SECP256K1
                .recover_ecdsa(black_box(self.digest), &self.signature)
                .unwrap(),
        );
        black_box(SECP256K1.sign_ecdsa_recoverable(black_box(self.digest), &self.secret));
    }
}

fn main() {
    let mut node = Node::new();
    let curve = Curve::new();
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("discv4/ping_to_pong", |b| {
        b.iter(|| node.answer());
    });
    criterion.bench_function("discv4/recover_and_sign", |b| {
        b.iter(|| curve.recover_and_sign());
    });
    criterion.final_summary();

    // Without this flag `cargo test` asks only whether the benchmark runs.
    if !is_measured() {
        return;
    }
    // In turn, so that a slow moment of the machine meets both; the quicker quarter, because an interruption says nothing
    // about either.
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(time(|| drop(black_box(node.answer()))));
        limit.push(time(|| curve.recover_and_sign()));
    }
    let (ours, limit) = (quarter(ours), quarter(limit));
    let ratio = limit.as_secs_f64() / ours.as_secs_f64();
    println!(
        "discv4: ping to pong {ours:?}, recover and sign {limit:?}: ratio {ratio:.3} (required {REQUIRED})"
    );
}
