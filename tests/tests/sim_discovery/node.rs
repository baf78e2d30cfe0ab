//! The machines of the network: nodes as they are meant to be, and those that lie. A node is the core of both protocols and
//! what stands between it and its socket, without a codec.

use std::net::SocketAddr;

use tercet_discovery::v4::{Message, PacketHash};
use tercet_discovery::{CoreInput, CoreOutput, DiscoveryCore, Protocols};
use tercet_enode::{NodeRecord, PublicKey};
use tercet_machine::{Machine, MonoTime, Now, Outputs};

use crate::liar::Liar;
use crate::packet::Datagram;
use crate::sessions::Sessions;

/// Small, as is [`Output`]: each is moved a dozen times on its way.
pub(crate) enum Input {
    Datagram {
        from: SocketAddr,
        packet: Box<Datagram>,
    },
    Core(Box<CoreInput>),
}

pub(crate) enum Output {
    Datagram {
        to: SocketAddr,
        packet: Box<Datagram>,
    },
    Core(Box<CoreOutput>),
}

/// A member of the network.
pub(crate) enum Member {
    Honest(Box<Honest>),
    Liar(Box<Liar>),
}

impl Member {
    /// The core; liars have none.
    pub(crate) fn core(&self) -> Option<&DiscoveryCore> {
        match self {
            Self::Honest(node) => Some(&node.core),
            Self::Liar(_) => None,
        }
    }
}

impl Machine for Member {
    type Input = Input;
    type Output = Output;

    fn handle(&mut self, now: Now, input: Input) {
        match self {
            Self::Honest(node) => node.handle(now, input),
            Self::Liar(liar) => liar.handle(now, input),
        }
    }

    fn handle_timeout(&mut self, now: Now) {
        match self {
            Self::Honest(node) => {
                node.core.handle_timeout(now);
                node.drain(now);
            }
            Self::Liar(liar) => liar.handle_timeout(now),
        }
    }

    fn deadline(&self) -> Option<MonoTime> {
        match self {
            Self::Honest(node) => node.core.deadline(),
            Self::Liar(liar) => liar.deadline(),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        match self {
            Self::Honest(node) => node.out.pop(),
            Self::Liar(liar) => liar.poll(),
        }
    }
}

/// The wire format of a node: which packets it can read, and what becomes of its messages.
pub(crate) struct Codec {
    pub(crate) protocols: Protocols,
    key: PublicKey,
    pub(crate) record: NodeRecord,
    pub(crate) sessions: Sessions,
    /// Makes packet hashes unique: the node's number and how many it has made.
    index: u64,
    hashes: u64,
}

impl Codec {
    pub(crate) fn new(index: u64, record: NodeRecord, protocols: Protocols) -> Self {
        Self {
            protocols,
            key: record.public_key(),
            record,
            sessions: Sessions::default(),
            index,
            hashes: 0,
        }
    }

    /// What a datagram holds for the machine, and what goes back at once.
    pub(crate) fn read(
        &mut self,
        from: SocketAddr,
        packet: Datagram,
    ) -> (Vec<Datagram>, Vec<CoreInput>) {
        if !self.speaks(&packet) {
            return (Vec::new(), Vec::new());
        }
        match packet {
            Datagram::V4 { key, hash, message } => {
                (Vec::new(), vec![v4_packet(from, key, hash, message)])
            }
            packet => {
                let outcome = self.sessions.receive(&self.record, from, packet);
                (outcome.packets, outcome.inputs)
            }
        }
    }

    fn speaks(&self, packet: &Datagram) -> bool {
        let spoken = if packet.is_v4() {
            Protocols::V4
        } else {
            Protocols::V5
        };
        !self.protocols.and(spoken).is_empty()
    }

    /// A discv4 message as a datagram, and its hash.
    pub(crate) fn write_v4(&mut self, message: Message) -> (PacketHash, Datagram) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&self.index.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.hashes.to_be_bytes());
        self.hashes += 1;
        let (key, hash) = (self.key, PacketHash::new(bytes));
        (hash, Datagram::V4 { key, hash, message })
    }
}

fn v4_packet(from: SocketAddr, key: PublicKey, hash: PacketHash, message: Message) -> CoreInput {
    CoreInput::V4Packet {
        from,
        key,
        hash,
        message,
    }
}

/// A node that does what it should.
pub(crate) struct Honest {
    pub(crate) core: DiscoveryCore,
    codec: Codec,
    /// Datagrams pass the core's first check, as a driver's do.
    limited: bool,
    out: Outputs<Output>,
}

impl Honest {
    pub(crate) fn new(core: DiscoveryCore, codec: Codec, limited: bool) -> Self {
        Self {
            core,
            codec,
            limited,
            out: Outputs::new(),
        }
    }

    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Core(input) => self.core.handle(now, *input),
            Input::Datagram { from, packet } => {
                if self.limited && self.core.admit(now, from).is_err() {
                    return;
                }
                match *packet {
                    // Most are of this kind, and need no lists.
                    Datagram::V4 { key, hash, message }
                        if self.codec.protocols.and(Protocols::V4) == Protocols::V4 =>
                    {
                        self.core.handle(now, v4_packet(from, key, hash, message));
                    }
                    packet => self.read(now, from, packet),
                }
            }
        }
        self.drain(now);
    }

    fn read(&mut self, now: Now, from: SocketAddr, packet: Datagram) {
        let (packets, inputs) = self.codec.read(from, packet);
        for packet in packets {
            self.send(from, packet);
        }
        for input in inputs {
            self.core.handle(now, input);
            self.drain(now);
        }
    }

    fn send(&mut self, to: SocketAddr, packet: Datagram) {
        let packet = Box::new(packet);
        self.out.push(Output::Datagram { to, packet });
    }

    fn drain(&mut self, now: Now) {
        while let Some(output) = self.core.poll() {
            match output {
                CoreOutput::V4Send { to, message, token } => {
                    let (hash, packet) = self.codec.write_v4(message);
                    if let Some(token) = token {
                        self.core.handle(now, CoreInput::V4Sent { token, hash });
                    }
                    self.send(to, packet);
                }
                CoreOutput::V5Send { to, node, message } => {
                    let own = self.codec.record.id();
                    let packet = self.codec.sessions.send(now.mono, own, to, node, message);
                    if let Some(packet) = packet {
                        self.send(to, packet);
                    }
                }
                output => self.out.push(Output::Core(Box::new(output))),
            }
        }
    }
}
