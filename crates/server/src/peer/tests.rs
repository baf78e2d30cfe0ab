//! One connection's machine in virtual time.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tercet_machine::check::{self, START, Step, contract};
use tercet_machine::{Machine, Now};
use tercet_rlpx::{Capability, DisconnectReason, SharedCapabilities, p2p};

use super::core::{Close, Fault, PeerCore, PeerInput, PeerOutput, PeerTimeouts};
use crate::event::DropReason;
use crate::limits::Timeouts;
use crate::peers::penalty::Rule;

fn timeouts() -> PeerTimeouts {
    let Timeouts {
        ping,
        idle,
        write,
        inbox,
        ..
    } = Timeouts::default();
    PeerTimeouts {
        ping,
        idle,
        write,
        inbox,
    }
}

fn shared() -> SharedCapabilities {
    let offered = ["alpha", "beta"].map(|name| (Capability::new(name, 1).unwrap(), 8));
    SharedCapabilities::match_capabilities(&offered, &offered.map(|(capability, _)| capability))
}

fn alpha() -> Capability {
    Capability::new("alpha", 1).unwrap()
}

struct Line {
    core: PeerCore,
    now: Now,
}

impl Line {
    fn new() -> Self {
        Self {
            core: PeerCore::new(START, timeouts(), shared()),
            now: START,
        }
    }

    fn outputs(&mut self) -> Vec<PeerOutput> {
        std::iter::from_fn(|| self.core.poll()).collect()
    }

    fn input(&mut self, input: PeerInput) -> Vec<PeerOutput> {
        self.core.handle(self.now, input);
        self.outputs()
    }

    fn message(&mut self, id: u64, payload: &'static [u8]) -> Vec<PeerOutput> {
        self.input(PeerInput::Message {
            id,
            payload: Bytes::from_static(payload),
        })
    }

    /// Seconds after the start, with what came out; until a time.
    fn until(&mut self, second: u64) -> Vec<(u64, PeerOutput)> {
        let end = START.after(Duration::from_secs(second));
        let mut seen = Vec::new();
        while let Some(at) = self.core.deadline().filter(|at| *at <= end.mono) {
            self.now = self.now.after(at - self.now.mono);
            self.core.handle_timeout(self.now);
            let outputs = self.outputs();
            let at = (self.now.mono - START.mono).as_secs();
            seen.extend(outputs.into_iter().map(|output| (at, output)));
        }
        self.now = end;
        seen
    }
}

fn closed(outputs: &[PeerOutput]) -> Option<Close> {
    outputs.iter().find_map(|output| match output {
        PeerOutput::Close(close) => Some(close.clone()),
        _ => None,
    })
}

#[test]
fn pings_every_15_seconds_and_gives_up_after_30_of_silence() {
    let mut line = Line::new();
    assert_eq!(line.until(15), [(15, PeerOutput::Ping)]);
    line.message(p2p::PONG, b"\xc0");
    assert_eq!(line.until(30), [(30, PeerOutput::Ping)]);
    let (reason, tell) = (DropReason::ReadTimeout, Some(DisconnectReason::ReadTimeout));
    let close = Close {
        reason,
        tell,
        rule: None,
    };
    assert_eq!(line.until(1000), [(45, PeerOutput::Close(close))]);
    assert_eq!(line.core.deadline(), None);
    assert!(
        line.message(p2p::PING, b"\xc0").is_empty(),
        "nothing comes after the end"
    );
}

#[test]
fn messages_go_where_their_id_says() {
    let mut line = Line::new();
    assert_eq!(line.message(p2p::PING, b"\xc0"), [PeerOutput::Pong]);
    for ignored in [p2p::HELLO, p2p::PONG, 0x04, 0x0f] {
        assert!(line.message(ignored, b"\xc0").is_empty(), "{ignored:#x}");
    }
    for (id, protocol, relative) in [(0x10, 0, 0), (0x17, 0, 7), (0x18, 1, 0), (0x1f, 1, 7)] {
        let payload = Bytes::from_static(b"x");
        let deliver = PeerOutput::Deliver {
            protocol,
            id: relative,
            payload,
        };
        assert_eq!(line.message(id, b"x"), [deliver], "{id:#x}");
    }
    let close = closed(&line.message(0x20, b"")).unwrap();
    assert_eq!(close.reason, DropReason::Violation(Rule::UnknownMessage));
    assert_eq!(close.tell, Some(DisconnectReason::ProtocolError));
    assert_eq!(close.rule, Some(Rule::UnknownMessage));
}

#[test]
fn a_disconnect_in_any_encoding_ends_without_an_answer() {
    for (body, reason) in [
        (
            &b"\xc1\x04"[..],
            DropReason::Remote(DisconnectReason::TooManyPeers),
        ),
        (b"\x08", DropReason::Remote(DisconnectReason::Quitting)),
        (b"", DropReason::Remote(DisconnectReason::Requested)),
        (b"\xc2\xff", DropReason::Closed),
    ] {
        let close = closed(&Line::new().message(p2p::DISCONNECT, body)).unwrap();
        assert_eq!(
            close,
            Close {
                reason,
                tell: None,
                rule: None
            },
            "{body:?}"
        );
    }
}

#[test]
fn a_ping_flood_is_answered_in_part_and_ends_at_a_hundred_points() {
    let mut line = Line::new();
    let mut outputs = Vec::new();
    for _ in 0..104 {
        outputs.extend(line.message(p2p::PING, b"\xc0"));
    }
    let pongs = outputs
        .iter()
        .filter(|output| **output == PeerOutput::Pong)
        .count();
    assert_eq!((pongs, closed(&outputs)), (5, None));
    let close = closed(&line.message(p2p::PING, b"\xc0")).unwrap();
    assert_eq!(close.reason, DropReason::Violation(Rule::PingFlood));
}

#[test]
fn a_full_inbox_has_ten_seconds_and_silence_does_not_count_meanwhile() {
    let mut line = Line::new();
    line.until(25);
    line.message(0x10, b"x");
    line.input(PeerInput::InboxFull { protocol: 0 });
    let seen = line.until(34);
    assert_eq!(seen, [(30, PeerOutput::Ping)], "pings go on");
    line.input(PeerInput::InboxFree);
    let seen = line.until(63);
    assert_eq!(seen.len(), 2, "30 s of silence count from then: {seen:?}");
    line.message(0x10, b"x");
    line.input(PeerInput::InboxFull { protocol: 0 });
    let seen = line.until(1000);
    let (at, last) = seen.last().unwrap().clone();
    let (reason, tell) = (
        DropReason::InboxStalled(alpha()),
        DisconnectReason::SubprotocolError,
    );
    assert_eq!(
        (at, last),
        (
            73,
            PeerOutput::Close(Close {
                reason,
                tell: Some(tell),
                rule: None
            })
        )
    );
}

#[test]
fn bytes_that_are_not_taken_for_20_seconds_end_the_connection() {
    let mut line = Line::new();
    line.input(PeerInput::Queued(100));
    line.until(10);
    line.message(p2p::PONG, b"\xc0");
    line.input(PeerInput::Written(60));
    let seen = line.until(1000);
    let close = Close {
        reason: DropReason::WriteTimeout,
        tell: None,
        rule: None,
    };
    assert_eq!(seen.last(), Some(&(20, PeerOutput::Close(close))));
}

#[test]
fn every_other_end_is_told_as_it_should_be() {
    let breach = Err((DisconnectReason::SubprotocolError, Fault::Breach));
    let useless = Err((DisconnectReason::UselessPeer, Fault::None));
    let protocol = |reason| DropReason::Protocol {
        capability: alpha(),
        reason,
    };
    let (requested, useless_peer) = (DisconnectReason::Requested, DisconnectReason::UselessPeer);
    let sub = DisconnectReason::SubprotocolError;
    for (input, reason, tell, rule) in [
        (
            PeerInput::ProtocolEnded {
                protocol: 0,
                result: Ok(()),
            },
            protocol(requested),
            Some(requested),
            None,
        ),
        (
            PeerInput::ProtocolEnded {
                protocol: 0,
                result: useless,
            },
            protocol(useless_peer),
            Some(useless_peer),
            None,
        ),
        (
            PeerInput::ProtocolEnded {
                protocol: 0,
                result: breach,
            },
            protocol(sub),
            Some(sub),
            Some(Rule::SubprotocolBreach),
        ),
        (
            PeerInput::Disconnect(DisconnectReason::Quitting),
            DropReason::Local(DisconnectReason::Quitting),
            Some(DisconnectReason::Quitting),
            None,
        ),
        (PeerInput::Closed, DropReason::Closed, None, None),
        (
            PeerInput::Failed(io::ErrorKind::ConnectionReset),
            DropReason::Io(io::ErrorKind::ConnectionReset),
            None,
            None,
        ),
        (
            PeerInput::Broken(Rule::InvalidFrame),
            DropReason::Violation(Rule::InvalidFrame),
            None,
            Some(Rule::InvalidFrame),
        ),
        (
            PeerInput::Broken(Rule::InvalidMessage),
            DropReason::Violation(Rule::InvalidMessage),
            Some(DisconnectReason::ProtocolError),
            Some(Rule::InvalidMessage),
        ),
    ] {
        let close = closed(&Line::new().input(input.clone())).unwrap();
        assert_eq!(close, Close { reason, tell, rule }, "{input:?}");
    }
}

fn inputs() -> impl Strategy<Value = PeerInput> {
    prop_oneof![
        (0u64..0x22, prop::collection::vec(any::<u8>(), 0..4)).prop_map(|(id, bytes)| {
            PeerInput::Message {
                id,
                payload: bytes.into(),
            }
        }),
        (0usize..3).prop_map(|protocol| PeerInput::InboxFull { protocol }),
        Just(PeerInput::InboxFree),
        any::<usize>().prop_map(PeerInput::Queued),
        any::<usize>().prop_map(PeerInput::Written),
        (0usize..3).prop_map(|protocol| PeerInput::ProtocolEnded {
            protocol,
            result: Ok(())
        }),
    ]
}

proptest! {
    #[test]
    fn the_machine_keeps_the_contract_under_any_inputs(
        steps in prop::collection::vec(
            prop_oneof![
                4 => inputs().prop_map(Step::Input),
                1 => (0u64..20_000).prop_map(|ms| Step::Advance(Duration::from_millis(ms))),
            ],
            0..200,
        ),
    ) {
        let make = || PeerCore::new(START, timeouts(), shared());
        // A dropped ping and the end it brings.
        let limits = check::Limits { queued: 2, ..check::Limits::default() };
        contract(make, &steps, limits).unwrap();
    }
}
