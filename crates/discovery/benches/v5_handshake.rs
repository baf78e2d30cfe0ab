//! discv5 handshakes through both sides' machines, from the WHOAREYOU to the session, against the curve operations nobody can do
//! without: the initiator's ephemeral key, key agreement and signature, the responder's key agreement and check of the
//! signature. And what an ordinary packet costs over a session that is there.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod common;

use std::hint::black_box;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use common::{NOW, is_measured, quarter, time};
use criterion::Criterion;
use secp256k1::ecdh::shared_secret_point;
use secp256k1::{Message as Digest, SECP256K1};
use tercet_discovery::v5::{
    Distances, Message, Opened, Request, RequestId, SessionInput, SessionOutput, Sessions,
    SessionsConfig, V5Peer, pack_nodes,
};
use tercet_enode::{NodeRecord, SecretKey};
use tercet_machine::{Machine, MachineRng};

/// The curve's time must be at least this part of ours.
const REQUIRED: f64 = 0.85;
const ROUNDS: usize = 2000;

struct Side {
    key: SecretKey,
    record: NodeRecord,
    addr: SocketAddr,
    machine: Sessions,
}

impl Side {
    fn new(n: u8) -> Self {
        let key = SecretKey::generate(&mut MachineRng::from_seed([n; 32]));
        let record = NodeRecord::builder()
            .seq(1)
            .ip([20, 0, 0, n].into())
            .udp(30303)
            .tcp(30303)
            .sign(&key)
            .unwrap();
        let config = SessionsConfig::new([n; 32]);
        Self {
            machine: Sessions::new(config, key.clone(), record.clone()),
            addr: SocketAddr::new([10, 0, 0, n].into(), 30303),
            key,
            record,
        }
    }

    fn request(&mut self, to: &Self, request: Request) -> Bytes {
        let peer = V5Peer {
            id: to.key.node_id(),
            key: Some(to.key.public_key()),
        };
        let message = Message::Request(RequestId::new(&[1; 8]).unwrap(), request);
        let to = to.addr;
        self.machine
            .handle(NOW, SessionInput::Send { to, peer, message });
        self.sent().unwrap()
    }

    /// Takes a datagram in, says what is known of its sender, and gives out the first answer.
    fn take(&mut self, from: &Self, datagram: &[u8], known: bool) -> Option<Bytes> {
        let opened = self.machine.open(NOW, from.addr, BytesMut::from(datagram));
        if let Opened::Verify(job) = opened {
            self.machine.complete(NOW, job.run());
        }
        let mut sent = None;
        while let Some(output) = self.machine.poll() {
            match output {
                SessionOutput::Unknown {
                    from: addr,
                    id,
                    nonce,
                } => {
                    let known = known.then(|| from.record.clone());
                    let from = addr;
                    self.machine.handle(
                        NOW,
                        SessionInput::Challenge {
                            from,
                            id,
                            nonce,
                            known,
                        },
                    );
                }
                SessionOutput::Send { datagram, .. } => sent = sent.or(Some(datagram)),
                _ => {}
            }
        }
        sent
    }

    fn sent(&mut self) -> Option<Bytes> {
        let mut sent = None;
        while let Some(output) = self.machine.poll() {
            if let SessionOutput::Send { datagram, .. } = output {
                sent = sent.or(Some(datagram));
            }
        }
        sent
    }
}

const PING: Request = Request::Ping { enr_seq: 1 };

/// Two machines up to the WHOAREYOU; the handshake is what follows. The responder knows the initiator's record, so that no
/// record is sent and checked.
fn before_handshake() -> (Side, Side, Bytes) {
    let (mut a, mut b) = (Side::new(1), Side::new(2));
    let random = a.request(&b, PING);
    let whoareyou = b.take(&a, &random, true).unwrap();
    (a, b, whoareyou)
}

fn handshake(a: &mut Side, b: &mut Side, whoareyou: &[u8]) {
    let packet = a.take(b, whoareyou, true).unwrap();
    b.take(a, &packet, true);
    debug_assert_eq!(b.machine.len(), 1);
}

/// Two machines with a session.
fn connected() -> (Side, Side) {
    let (mut a, mut b, whoareyou) = before_handshake();
    handshake(&mut a, &mut b, &whoareyou);
    assert_eq!((a.machine.len(), b.machine.len()), (1, 1));
    (a, b)
}

struct Curve {
    local: secp256k1::SecretKey,
    remote: secp256k1::SecretKey,
    digest: Digest,
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("discv5/handshake", |b| {
        b.iter_batched(
            before_handshake,
            |(mut a, mut b, whoareyou)| {
                handshake(&mut a, &mut b, &whoareyou);
                (a, b)
            },
            criterion::BatchSize::SmallInput,
        );
    });
    let (mut a, mut b) = connected();
    let find = Request::FindNode {
        distances: Distances::new([256, 255, 254]),
    };
    criterion.bench_function("discv5/seal_request", |bench| {
        bench.iter(|| a.request(&b, PING));
    });
    let request = a.request(&b, find);
    criterion.bench_function("discv5/open_request", |bench| {
        bench.iter(|| b.take(&a, &request, true));
    });
    let records: Vec<_> = (10..18).map(|n| Side::new(n).record).collect();
    let nodes = pack_nodes(RequestId::new(&[1; 8]).unwrap(), records);
    assert_eq!(nodes.len(), 1);
    let peer = V5Peer {
        id: a.key.node_id(),
        key: None,
    };
    criterion.bench_function("discv5/seal_nodes_of_8", |bench| {
        bench.iter(|| {
            let (to, message) = (a.addr, nodes[0].clone());
            b.machine
                .handle(NOW, SessionInput::Send { to, peer, message });
            b.sent()
        });
    });
    criterion.final_summary();

    // Without this flag `cargo test` asks only whether the benchmark runs.
    if !is_measured() {
        return;
    }
    report();
}

/// In turn, so that a slow moment of the machine meets both; the quicker quarter, because an interruption says nothing about
/// either.
fn report() {
    let curve = Curve {
        local: secp256k1::SecretKey::from_byte_array([3; 32]).unwrap(),
        remote: secp256k1::SecretKey::from_byte_array([4; 32]).unwrap(),
        digest: Digest::from_digest([7; 32]),
    };
    let remote = curve.remote.public_key(SECP256K1);
    let local = curve.local.public_key(SECP256K1);
    let (mut first, mut second, mut limit_first, mut limit_second) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (mut a, mut b, whoareyou) = before_handshake();
        let mut packet = None;
        first.push(time(|| packet = a.take(&b, &whoareyou, true)));
        let packet = packet.unwrap();
        second.push(time(|| drop(black_box(b.take(&a, &packet, true)))));
        assert_eq!(b.machine.len(), 1);
        let mut fresh = [5; 32];
        fresh[..8].copy_from_slice(&(round as u64).to_be_bytes());
        // The remote's key is there already, as it is for the machine.
        let mut made = None;
        limit_first.push(time(|| {
            let ephemeral = secp256k1::SecretKey::from_byte_array(fresh).unwrap();
            let public = ephemeral.public_key(SECP256K1);
            black_box(shared_secret_point(black_box(&remote), &ephemeral));
            made = Some((
                public,
                SECP256K1.sign_ecdsa(black_box(curve.digest), &curve.local),
            ));
        }));
        let (public, signature) = made.unwrap();
        let compressed = public.serialize();
        limit_second.push(time(|| {
            let public = secp256k1::PublicKey::from_byte_array_compressed(compressed).unwrap();
            SECP256K1
                .verify_ecdsa(black_box(curve.digest), &signature, &local)
                .unwrap();
            black_box(shared_secret_point(&public, &curve.remote));
        }));
    }
    let [first, second, limit_first, limit_second] =
        [first, second, limit_first, limit_second].map(quarter);
    let (ours, limit) = (first + second, limit_first + limit_second);
    let ratio = limit.as_secs_f64() / ours.as_secs_f64();
    println!(
        "discv5: initiator {first:?} (curve {limit_first:?}), responder {second:?} (curve {limit_second:?})"
    );
    println!(
        "discv5: handshake of both sides {ours:?}, {:.0} a second, its curve operations {limit:?}: ratio {ratio:.3} (required {REQUIRED})",
        1.0 / ours.as_secs_f64()
    );
}
