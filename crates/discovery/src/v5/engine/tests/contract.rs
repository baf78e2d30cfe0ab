//! The engine with its table held to the contract of machines, under whatever comes.

use proptest::prelude::*;
use tercet_machine::Machine;
use tercet_machine::check::{self, Limits, Step};

use super::*;

/// The engine with its table as a machine.
struct Alone(Bench);

#[derive(Clone, Debug)]
enum Event {
    Ask(u64, Question),
    Session(u64, u64, bool, bool),
    Message(u64, u64, Message),
    /// A response that quotes the last request.
    Reply(u64, Response),
}

#[derive(PartialEq, Debug)]
enum Out {
    Send(V5Send),
    Report(Report),
}

impl Machine for Alone {
    type Input = Event;
    type Output = Out;

    fn handle(&mut self, now: Now, event: Event) {
        let Bench {
            engine,
            table,
            now: at,
        } = &mut self.0;
        *at = now;
        match event {
            Event::Ask(n, question) => {
                let _ = engine.ask(now, &node(n), question, Asker::Lookup(LookupId(n)));
            }
            Event::Session(n, from, inbound, with) => {
                let record = with.then(|| record(n));
                engine.handle_session(table, address(from), id(n), record, inbound);
            }
            Event::Message(n, from, message) => {
                let _ = engine.handle_message(now, table, address(from), id(n), message);
            }
            Event::Reply(n, response) => {
                let known = engine.requests.any_of(id(n)).unwrap_or_default();
                let message = Message::Response(known, response);
                let _ = engine.handle_message(now, table, address(n), id(n), message);
            }
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        self.0.engine.handle_timeout(now);
    }

    fn deadline(&self) -> Option<MonoTime> {
        self.0.engine.deadline()
    }

    fn poll(&mut self) -> Option<Out> {
        let engine = &mut self.0.engine;
        let send = engine.poll_send().map(Out::Send);
        send.or_else(|| engine.poll_report().map(Out::Report))
    }
}

fn questions() -> impl Strategy<Value = Question> {
    prop_oneof![
        Just(Question::Ping),
        Just(Question::Record),
        (0u64..50).prop_map(|n| Question::Find(Target::from(key(n).public_key()))),
        proptest::collection::vec(0u64..300, 0..8)
            .prop_map(|d| Question::Distances(Distances::new(d))),
        Just(Question::Talk {
            protocol: Bytes::new(),
            payload: Bytes::new()
        }),
    ]
}

fn responses() -> impl Strategy<Value = Response> {
    prop_oneof![
        any::<u64>().prop_map(pong),
        (any::<u64>(), proptest::collection::vec(0u64..20, 0..20))
            .prop_map(|(total, n)| nodes(total, n.into_iter().map(record))),
        (0u64..4, proptest::collection::vec(0u64..20, 0..4))
            .prop_map(|(total, n)| nodes(total, n.into_iter().map(record))),
        Just(Response::Talk {
            payload: Bytes::new()
        }),
    ]
}

fn requests() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<u64>().prop_map(|enr_seq| Request::Ping { enr_seq }),
        proptest::collection::vec(0u64..300, 0..20).prop_map(|d| Request::FindNode {
            distances: Distances::new(d)
        }),
        Just(Request::Talk {
            protocol: Bytes::new(),
            payload: Bytes::new()
        }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step<Event>>> {
    let ids = proptest::collection::vec(any::<u8>(), 0..=8)
        .prop_map(|bytes| RequestId::new(&bytes).unwrap());
    let message = (
        0u64..20,
        0u64..20,
        ids,
        requests(),
        responses(),
        any::<bool>(),
    )
        .prop_map(|(n, from, id, request, response, asks)| {
            let message = if asks {
                Message::Request(id, request)
            } else {
                Message::Response(id, response)
            };
            Event::Message(n, from, message)
        });
    let event = prop_oneof![
        (0u64..20, questions()).prop_map(|(n, question)| Event::Ask(n, question)),
        (0u64..20, 0u64..20, any::<bool>(), any::<bool>())
            .prop_map(|(n, from, inbound, with)| Event::Session(n, from, inbound, with)),
        message,
        (0u64..20, responses()).prop_map(|(n, response)| Event::Reply(n, response)),
    ];
    let step = prop_oneof![
        4 => event.prop_map(Step::Input),
        1 => (0u64..1000).prop_map(|ms| Step::Advance(Duration::from_millis(ms))),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_contract_holds_for_whatever_comes(steps in steps()) {
        let make = || Alone(Bench::new().live(1..15));
        check::contract(make, &steps, Limits::default()).unwrap();
    }
}
