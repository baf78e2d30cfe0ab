//! Against a time server on loopback whose clock is shifted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::*;

/// SNTP counts from 1900.
const TO_1900: u64 = 2_208_988_800;

/// What the server does with one question.
#[derive(Clone, Copy)]
enum Answer {
    /// Says what its clock shows, this many seconds ahead of ours.
    Ahead(i64),
    /// Says nothing.
    Silence,
    /// Says that it has no time itself.
    Unsynchronized,
    /// Answers a question nobody asked.
    Forged,
    Garbage,
}

struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A server that gives these answers, the last one for ever.
#[allow(clippy::disallowed_methods)] // a server has a clock and a task
async fn serve(listen: &str, answers: Vec<Answer>) -> Server {
    let socket = UdpSocket::bind(listen).await.unwrap();
    let address = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        let mut request = [0; 128];
        loop {
            let (len, from) = socket.recv_from(&mut request).await.unwrap();
            assert_eq!((len, request[0] & 7), (48, 3), "a client's question");
            let n = count.fetch_add(1, Ordering::Relaxed);
            let mut reply = [0_u8; 48];
            // No leap second, version 4, server; stratum 2.
            (reply[0], reply[1]) = (0b00_100_100, 2);
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            let now = since.unwrap();
            let seconds = now.as_secs() + TO_1900;
            let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
            reply[24..32].copy_from_slice(&request[40..48]);
            let shift = match answers[n.min(answers.len() - 1)] {
                Answer::Ahead(shift) => shift,
                Answer::Silence => continue,
                Answer::Unsynchronized => {
                    reply[1] = 16;
                    0
                }
                Answer::Forged => {
                    reply[30] ^= 1;
                    0
                }
                Answer::Garbage => {
                    socket.send_to(b"time", from).await.unwrap();
                    continue;
                }
            };
            let seconds = seconds.wrapping_add_signed(shift);
            let time = (seconds << 32) | fraction;
            reply[32..40].copy_from_slice(&time.to_be_bytes());
            reply[40..48].copy_from_slice(&time.to_be_bytes());
            socket.send_to(&reply, from).await.unwrap();
        }
    });
    Server {
        address,
        asked,
        task,
    }
}

/// Holds by the arithmetic: an answer within [`ANSWER_TIMEOUT`] is off by at most half of it.
fn is_about(drift: Drift, seconds: i64) -> bool {
    let half = i64::try_from(ANSWER_TIMEOUT.as_millis() / 2).unwrap();
    (drift.millis - seconds * 1000).abs() <= half
}

#[tokio::test]
async fn the_clock_is_compared_with_the_servers() {
    for (shift, wrong) in [(0, false), (3600, true), (-3600, true), (7, false)] {
        let server = serve("127.0.0.1:0", vec![Answer::Ahead(shift)]).await;
        let name = server.address.to_string();
        let drift = measure(&name, ANSWER_TIMEOUT).await.unwrap();
        assert!(is_about(drift, shift), "{drift:?} for {shift} s");
        assert_eq!(drift.is_wrong(), wrong);
        assert_eq!(server.asked.load(Ordering::Relaxed), SAMPLES);
        drift.report(&name);
    }
}

#[tokio::test]
async fn the_highest_and_the_lowest_answer_are_left_out() {
    let day = 86_400;
    let answers = [60, day, 60, -day, 60].map(Answer::Ahead).to_vec();
    let server = serve("127.0.0.1:0", answers).await;
    let drift = measure(&server.address.to_string(), ANSWER_TIMEOUT).await;
    assert!(is_about(drift.unwrap(), 60));
}

#[tokio::test]
async fn some_answers_may_be_missing_or_wrong() {
    let good = Answer::Ahead(60);
    let answers = vec![good, Answer::Garbage, good, Answer::Forged, good];
    let server = serve("127.0.0.1:0", answers).await;
    let drift = measure(&server.address.to_string(), ANSWER_TIMEOUT).await;
    assert!(is_about(drift.unwrap(), 60));
    let answers = vec![good, good, Answer::Unsynchronized];
    let server = serve("127.0.0.1:0", answers).await;
    let error = measure(&server.address.to_string(), ANSWER_TIMEOUT).await;
    assert!(matches!(error, Err(ClockError::Answers { answers: 2, .. })));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let server = serve("127.0.0.1:0", vec![Answer::Silence]).await;
    let error = measure(&server.address.to_string(), Duration::from_millis(1)).await;
    assert!(matches!(error, Err(ClockError::Answers { answers: 0, .. })));
}

#[tokio::test]
async fn names_are_resolved_with_and_without_a_port() {
    for (name, expected) in [
        ("127.0.0.1", "127.0.0.1:123"),
        ("127.0.0.1:7", "127.0.0.1:7"),
        ("::1", "[::1]:123"),
        ("[::1]", "[::1]:123"),
        ("[::1]:7", "[::1]:7"),
    ] {
        let found = resolve(name, ANSWER_TIMEOUT).await.unwrap();
        assert_eq!(found, expected.parse().unwrap(), "{name}");
    }
    let nowhere = resolve("no\0name", ANSWER_TIMEOUT).await;
    assert!(matches!(nowhere, Err(ClockError::Unresolved(_))));
}

#[tokio::test]
async fn a_server_of_the_other_family_is_asked_too() {
    let server = serve("[::1]:0", vec![Answer::Ahead(60)]).await;
    let drift = measure(&server.address.to_string(), ANSWER_TIMEOUT).await;
    assert!(is_about(drift.unwrap(), 60));
}

#[test]
fn checks_are_ten_minutes_apart_and_only_of_a_configured_server() {
    let start = MonoTime::from_secs(5);
    assert_eq!(ClockCheck::new(None).on_suspicion(start), None);
    let mut check = ClockCheck::new(Some("time.example".into()));
    assert_eq!(check.on_suspicion(start), Some("time.example"));
    let early = start + (CHECK_INTERVAL - Duration::from_nanos(1));
    assert_eq!(check.on_suspicion(early), None);
    assert!(check.on_suspicion(start + CHECK_INTERVAL).is_some());
}

#[test]
fn ten_seconds_are_still_right() {
    for (millis, wrong) in [(10_000, false), (10_001, true), (-10_001, true)] {
        assert_eq!(Drift { millis }.is_wrong(), wrong);
    }
}
