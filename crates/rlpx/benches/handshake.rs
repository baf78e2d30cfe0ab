//! The whole RLPx handshake, both sides, against the elliptic-curve operations it cannot do without.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod ratio;

use std::hint::black_box;

use criterion::Criterion;
use rand::SeedableRng;
use rand::rngs::StdRng;
use ratio::Ratio;
use secp256k1::ecdh::shared_secret_point;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use tercet_rlpx::{Initiator, Responder};

/// Allowed: our time ÷ time of the curve operations.
const LIMIT: f64 = 1.15;
const ROUNDS: usize = 1000;

struct Curve {
    secret: SecretKey,
    remote: PublicKey,
}

impl Curve {
    /// Each side: static and ephemeral agreement, one ECIES message sealed and one opened make 4 agreements and 2 new
    /// keys. The initiator signs once, the responder recovers once.
    fn both_sides(&self) {
        for _ in 0..2 {
            for _ in 0..4 {
                black_box(shared_secret_point(
                    black_box(&self.remote),
                    black_box(&self.secret),
                ));
            }
            for _ in 0..2 {
                black_box(black_box(&self.secret).public_key(SECP256K1));
            }
        }
        let digest = Message::from_digest(black_box([7; 32]));
        let signature = SECP256K1.sign_ecdsa_recoverable(digest, &self.secret);
        black_box(SECP256K1.recover_ecdsa(digest, &signature).unwrap());
    }
}

fn main() {
    let mut rng = StdRng::seed_from_u64(1);
    let dialler = tercet_enode::SecretKey::generate(&mut rng);
    let listener = tercet_enode::SecretKey::generate(&mut rng);
    let mut handshake = move || {
        let initiator = Initiator::new(&dialler, listener.public_key(), &mut rng).unwrap();
        let responder = Responder::open(&listener, initiator.auth()).unwrap();
        let (session, ack) = responder.accept(&mut rng);
        black_box((initiator.finish(&ack).unwrap(), session));
    };
    let secret = SecretKey::from_byte_array([3; 32]).unwrap();
    let remote = SecretKey::from_byte_array([5; 32])
        .unwrap()
        .public_key(SECP256K1);
    let curve = Curve { secret, remote };

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("handshake/both_sides", |b| b.iter(&mut handshake));
    criterion.bench_function("handshake/curve_operations", |b| {
        b.iter(|| curve.both_sides());
    });
    criterion.final_summary();

    // Without this flag `cargo test` asks only whether the benchmark runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let ratio = Ratio::measure(
        ROUNDS,
        || (),
        |()| handshake(),
        || (),
        |()| curve.both_sides(),
    );
    let (ours, limit) = ratio.times();
    println!(
        "handshake: both sides {ours:?}, its curve operations {limit:?}: ratio {:.3} (allowed {LIMIT})",
        1.0 / ratio.speed()
    );
}
