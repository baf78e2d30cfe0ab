//! The discv5 session machine alone on a socket, moved by the test datagram by datagram: what is between it and another
//! client is only the wire.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::BytesMut;
use tercet_discovery::v5::{
    Message, Request, RequestId, Response, SessionInput, SessionOutput, Sessions, SessionsConfig,
    V5Peer, WireMessage, pack_nodes,
};
use tercet_enode::{NodeId, NodeRecord, RecordBuilder, SecretKey};
use tercet_machine::{Machine, MonoTime, Now, UnixTime};
use tercet_tests::{LIMIT, Loopback};

/// Larger than any datagram of the protocol.
const BUFFER: usize = 2048;

/// A node of ours without a table.
pub(crate) struct Wire {
    socket: UdpSocket,
    key: SecretKey,
    pub(crate) record: NodeRecord,
    sessions: Sessions,
    began: Instant,
    machines: u64,
    /// Records of others, as a table would know them.
    pub(crate) known: HashMap<NodeId, NodeRecord>,
    /// What FINDNODE with other distances than 0 is answered with.
    pub(crate) told: Vec<NodeRecord>,
    /// Requests answered.
    pub(crate) asked: Vec<Request>,
    /// Handshakes completed: with whom, and whether the other side began.
    pub(crate) established: Vec<(NodeId, bool)>,
    responses: Vec<(RequestId, Response)>,
}

impl Wire {
    pub(crate) fn new(key: SecretKey, on: Loopback) -> Self {
        let socket = UdpSocket::bind(&on.any_port()[..]).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let record = at(socket.local_addr().unwrap()).seq(1).sign(&key).unwrap();
        Self {
            sessions: machine(0, &key, &record),
            socket,
            key,
            record,
            began: Instant::now(),
            machines: 1,
            known: HashMap::new(),
            told: Vec::new(),
            asked: Vec::new(),
            established: Vec::new(),
            responses: Vec::new(),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Forgets all sessions, as a restart does.
    pub(crate) fn forget_sessions(&mut self) {
        self.sessions = machine(self.machines, &self.key, &self.record);
        self.machines += 1;
    }

    /// Changes the record.
    pub(crate) fn set(&mut self, name: &str, rlp: &[u8]) {
        let record = self.record.to_builder().seq(self.record.seq() + 1);
        let record = record.insert_raw(name.as_bytes(), rlp);
        self.record = record.sign(&self.key).unwrap();
        let record = self.record.clone();
        self.handle(SessionInput::LocalRecord(record));
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, to: &NodeRecord, id: RequestId, request: Request) {
        let peer = V5Peer {
            id: to.id(),
            key: Some(to.public_key()),
        };
        let message = Message::Request(id, request);
        self.handle(SessionInput::Send {
            to: to.endpoint().unwrap().udp_addr(),
            peer,
            message,
        });
    }

    /// Sends a request and takes in datagrams until the response is whole: several for NODES.
    pub(crate) fn ask(&mut self, to: &NodeRecord, id: &[u8], request: Request) -> Vec<Response> {
        let id = RequestId::new(id).unwrap();
        self.send(to, id, request);
        self.responses(id)
    }

    /// Takes in datagrams until the response to `id` is whole.
    pub(crate) fn responses(&mut self, id: RequestId) -> Vec<Response> {
        loop {
            let of_this = |(to, _): &&(RequestId, Response)| *to == id;
            let heard: Vec<_> = self.responses.iter().filter(of_this).collect();
            let total = match heard.first() {
                Some((_, Response::Nodes { total, .. })) => usize::try_from(*total).unwrap(),
                Some(_) => 1,
                None => usize::MAX,
            };
            if heard.len() >= total {
                let heard = heard.into_iter().map(|(_, one)| one.clone()).collect();
                self.responses.retain(|(to, _)| *to != id);
                return heard;
            }
            self.step();
        }
    }

    /// Takes in datagrams until `done`.
    pub(crate) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.step();
        }
    }

    /// Takes in datagrams for as long as `work` lasts.
    pub(crate) fn serve<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (done, addr) = (AtomicBool::new(false), self.addr());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    self.step();
                }
            });
            let result = work();
            done.store(true, Ordering::SeqCst);
            // No packet of any protocol, to end the last wait.
            let waker = UdpSocket::bind((addr.ip(), 0)).unwrap();
            waker.send_to(&[], addr).unwrap();
            result
        })
    }

    /// Waits for a datagram and leaves it unread.
    pub(crate) fn wait(&self) {
        self.socket
            .peek_from(&mut [0; BUFFER])
            .expect("a datagram in time");
    }

    /// Takes in one datagram.
    pub(crate) fn step(&mut self) {
        let mut buffer = [0; BUFFER];
        let received = self.socket.recv_from(&mut buffer);
        let (len, from) = received.unwrap_or_else(|error| {
            panic!("nothing came ({error}): {:?}", self.sessions.counters())
        });
        let datagram = BytesMut::from(&buffer[..len]);
        self.handle(SessionInput::Datagram { from, datagram });
    }

    fn handle(&mut self, input: SessionInput) {
        let now = self.now();
        self.sessions.handle(now, input);
        while let Some(output) = self.sessions.poll() {
            match output {
                SessionOutput::Send { to, datagram } => {
                    self.socket.send_to(&datagram, to).unwrap();
                }
                SessionOutput::Message { from, id, message } => self.hear(from, id, message),
                SessionOutput::Established {
                    id,
                    record,
                    inbound,
                    ..
                } => {
                    self.established.push((id, inbound));
                    self.known.extend(record.map(|record| (id, record)));
                }
                SessionOutput::Unknown { from, id, nonce } => {
                    let known = self.known.get(&id).cloned();
                    let input = SessionInput::Challenge {
                        from,
                        id,
                        nonce,
                        known,
                    };
                    self.sessions.handle(now, input);
                }
            }
        }
    }

    fn hear(&mut self, from: SocketAddr, id: NodeId, message: WireMessage) {
        let (request_id, request) = match message {
            Message::Response(to, response) => {
                self.responses.push((to, verified(response)));
                return;
            }
            Message::Request(request_id, request) => (request_id, request),
        };
        let answers = self.answer(from, request_id, &request);
        self.asked.push(request);
        for message in answers {
            let peer = V5Peer { id, key: None };
            let to = from;
            let now = self.now();
            self.sessions
                .handle(now, SessionInput::Send { to, peer, message });
        }
    }

    fn answer(&self, from: SocketAddr, id: RequestId, request: &Request) -> Vec<Message> {
        match request {
            Request::Ping { .. } => vec![Message::Response(
                id,
                Response::Pong {
                    enr_seq: self.record.seq(),
                    recipient: from,
                },
            )],
            Request::FindNode { distances } if distances.as_slice() == [0] => {
                pack_nodes(id, [self.record.clone()])
            }
            Request::FindNode { .. } => pack_nodes(id, self.told.iter().cloned()),
            Request::Talk { payload, .. } => vec![Message::Response(
                id,
                Response::Talk {
                    payload: payload.clone(),
                },
            )],
        }
    }

    fn now(&self) -> Now {
        let nanos = u64::try_from(self.began.elapsed().as_nanos()).unwrap();
        Now {
            mono: MonoTime::from_nanos(nanos),
            unix: UnixTime::default(),
        }
    }
}

/// A record of a node at this address. Of the clients only go-ethereum reads a port for an IPv6 address from `udp`.
pub(crate) fn at(addr: SocketAddr) -> RecordBuilder {
    let record = NodeRecord::builder().ip(addr.ip());
    if addr.is_ipv4() {
        record.udp(addr.port())
    } else {
        record.udp6(addr.port())
    }
}

/// Each with other randomness: nothing may be drawn twice under one key.
fn machine(number: u64, key: &SecretKey, record: &NodeRecord) -> Sessions {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let config = SessionsConfig::new(seed);
    Sessions::new(config, key.clone(), record.clone())
}

fn verified(response: Response<tercet_enode::UnverifiedRecord>) -> Response {
    match response {
        Response::Pong { enr_seq, recipient } => Response::Pong { enr_seq, recipient },
        Response::Talk { payload } => Response::Talk { payload },
        Response::Nodes { total, records } => Response::Nodes {
            total,
            records: records
                .into_iter()
                .map(|record| record.verify().unwrap())
                .collect(),
        },
    }
}
