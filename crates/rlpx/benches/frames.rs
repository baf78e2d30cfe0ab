//! Sealing and opening of frames against AES-256-CTR and Keccak-256 alone over the same bytes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs
)] // a benchmark: it reads the clock, and a failure is to stop it

mod ratio;

use std::hint::black_box;

use bytes::{BufMut, Bytes, BytesMut};
use cipher::{KeyIvInit, StreamCipher};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use rand::SeedableRng;
use rand::rngs::StdRng;
use ratio::Ratio;
use tercet_enode::{Keccak256, SecretKey};
use tercet_rlpx::{FrameReader, FrameWriter, Initiator, Payload, Responder};

/// Payload sizes; the requirement is on the second.
const SIZES: [usize; 3] = [1 << 10, 16 << 10, 1 << 20];
const REQUIRED: f64 = 0.90;
/// Bytes sealed or opened in one measurement.
const BATCH: usize = 256 << 10;
const ROUNDS: usize = 300;

/// The two directions of the ends of a connection after Hello, payloads not compressed.
fn connection() -> (FrameWriter, FrameReader) {
    let mut rng = StdRng::seed_from_u64(1);
    let (a, b) = (SecretKey::generate(&mut rng), SecretKey::generate(&mut rng));
    let initiator = Initiator::new(&a, b.public_key(), &mut rng).unwrap();
    let (b, ack) = Responder::open(&b, initiator.auth())
        .unwrap()
        .accept(&mut rng);
    let a = initiator.finish(&ack).unwrap();
    let mut reader = FrameReader::new(b.ingress, BytesMut::new());
    reader.start_messages(false);
    (FrameWriter::new(a.egress), reader)
}

/// What no implementation can do without: one pass of the cipher and one of the hash.
struct Primitives {
    cipher: ctr::Ctr64BE<aes::Aes256>,
    hash: Keccak256,
}

impl Primitives {
    fn new() -> Self {
        let cipher = ctr::Ctr64BE::new(&[1; 32].into(), &[0; 16].into());
        Self {
            cipher,
            hash: Keccak256::new(),
        }
    }

    fn seal(&mut self, bytes: &mut [u8]) {
        self.cipher.apply_keystream(bytes);
        self.hash.update(bytes);
    }

    fn open(&mut self, bytes: &mut [u8]) {
        self.hash.update(bytes);
        self.cipher.apply_keystream(bytes);
    }
}

fn seal(writer: &mut FrameWriter, payload: &Payload) {
    writer.queue(0x10, payload).unwrap();
    black_box(writer.pending());
    writer.sent(usize::MAX);
}

/// Gives the reader `wire` as a socket would and takes the messages out.
fn open(reader: &mut FrameReader, mut wire: &[u8]) {
    while !wire.is_empty() {
        let mut buffer = reader.buffer();
        let (now, later) = wire.split_at(wire.len().min(buffer.remaining_mut()));
        buffer.put_slice(now);
        wire = later;
        while let Some(message) = reader.decode().unwrap() {
            black_box(message);
        }
    }
}

fn sealed(writer: &mut FrameWriter, payload: &Payload, count: usize) -> Bytes {
    let mut wire = Vec::new();
    for _ in 0..count {
        writer.queue(0x10, payload).unwrap();
        wire.extend_from_slice(writer.pending());
        writer.sent(usize::MAX);
    }
    wire.into()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("frames");
    for size in SIZES {
        let payload = Payload::from(vec![0x5a; size]);
        let (mut writer, mut reader) = connection();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("open", size), |b| {
            b.iter_batched(
                || sealed(&mut writer, &payload, 1),
                |wire| open(&mut reader, &wire),
                BatchSize::NumIterations(1),
            );
        });
        let (mut writer, _) = connection();
        group.bench_function(BenchmarkId::new("seal", size), |b| {
            b.iter(|| seal(&mut writer, &payload));
        });
        let (mut primitives, mut bytes) = (Primitives::new(), vec![0x5a; size]);
        group.bench_function(BenchmarkId::new("aes_and_keccak", size), |b| {
            b.iter(|| primitives.seal(black_box(&mut bytes)));
        });
    }
    group.finish();
    criterion.final_summary();

    // Without this flag `cargo test` asks only whether the benchmark runs.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    for size in SIZES {
        let count = (BATCH / size).max(1);
        let payload = Payload::from(vec![0x5a; size]);
        let (mut writer, _) = connection();
        let (mut primitives, mut bytes) = (Primitives::new(), vec![0x5a; size]);
        let ratio = Ratio::measure(
            ROUNDS,
            || (),
            |()| (0..count).for_each(|_| seal(&mut writer, &payload)),
            || (),
            |()| (0..count).for_each(|_| primitives.seal(black_box(&mut bytes))),
        );
        report("seal", size, count, &ratio);

        let (mut writer, mut reader) = connection();
        let mut primitives = Primitives::new();
        let ratio = Ratio::measure(
            ROUNDS,
            || sealed(&mut writer, &payload, count),
            |wire| open(&mut reader, &wire),
            || vec![0x5a; size * count],
            |mut bytes| {
                for chunk in bytes.chunks_mut(size) {
                    primitives.open(black_box(chunk));
                }
            },
        );
        report("open", size, count, &ratio);
    }
}

fn report(what: &str, size: usize, count: usize, ratio: &Ratio) {
    let (ours, limit) = ratio.times();
    let rate = (size * count) as f64 / ours.as_secs_f64() / 1e6;
    let required = if size == SIZES[1] {
        format!(" (required {REQUIRED:.2})")
    } else {
        String::new()
    };
    println!(
        "frames: {what} {:>4} KiB {:?} ({rate:.0} MB/s), AES-256-CTR and Keccak-256 alone {:?}: ratio {:.3}{required}",
        size / 1024,
        ours / count as u32,
        limit / count as u32,
        ratio.speed()
    );
}
