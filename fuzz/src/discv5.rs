//! discv5 packets, messages and sessions.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tercet_discovery::v5::packet::{Draft, MAX_PACKET, MIN_PACKET, Mask, parse};
use tercet_discovery::v5::{
    MAX_CHALLENGES, MAX_QUEUED, Message, Request, RequestId, Response, SessionInput, SessionOutput,
    Sessions, SessionsConfig, V5Peer, WireMessage,
};
use tercet_enode::NodeRecord;
use tercet_machine::{Machine, MonoTime, Now, UnixTime};

use crate::input::{Script, keys};

/// Nothing one input makes the machine put out may be more than this: what waits for one node, and a handshake.
const MAX_OUTPUTS: usize = 64;

/// A packet with its header in the clear, so that every byte of it is one the input chooses.
pub fn discv5_packet(data: &[u8]) -> bool {
    let mask = Mask::new(&keys()[0].node_id());
    let _ = parse(&mask, &mut data.to_vec());
    let mut datagram = data.to_vec();
    mask.apply(&mut datagram);
    let Ok(packet) = parse(&mask, &mut datagram) else {
        return false;
    };
    assert!((MIN_PACKET..=MAX_PACKET).contains(&data.len()));
    assert_eq!(packet.head, &data[..packet.head.len()]);
    let (iv, _) = data.split_first_chunk::<16>().unwrap();
    let again = Draft::new(iv, packet.nonce, &packet.kind);
    // Up to the version, of which later ones are read as ours.
    assert_eq!(again.head().len(), packet.head.len());
    assert_eq!(again.head()[24..], packet.head[24..]);
    true
}

/// A decrypted message.
pub fn discv5_message(data: &[u8]) -> bool {
    let Ok(message) = WireMessage::decode(data) else {
        return false;
    };
    let mut again = BytesMut::new();
    message.encode(&mut again);
    assert_eq!(again.len(), message.encoded_len());
    assert_eq!(WireMessage::decode(&again).as_ref(), Ok(&message));
    true
}

/// Two machines and a wire in between that loses, repeats, reorders and changes.
struct Wire {
    now: Now,
    machines: [Sessions; 2],
    flying: Vec<(usize, Bytes)>,
    understood: bool,
}

fn address(who: usize) -> SocketAddr {
    SocketAddr::new([20, 0, 0, who as u8 + 1].into(), 30_303)
}

fn machine(who: usize, restarts: u8) -> Sessions {
    let key = &keys()[who];
    let record = NodeRecord::builder().seq(1).sign(key).unwrap();
    let seed = [who as u8 + 2 * restarts; 32];
    Sessions::new(SessionsConfig::new(seed), key.clone(), record)
}

/// Operations on two machines that talk to each other.
pub fn discv5_session(data: &[u8]) -> bool {
    let mut script = Script::new(data);
    let mut wire = Wire {
        now: Now {
            mono: MonoTime::ZERO,
            unix: UnixTime::from_secs(1_700_000_000),
        },
        machines: [machine(0, 0), machine(1, 0)],
        flying: Vec::new(),
        understood: false,
    };
    let mut restarts = 0;
    while !script.is_empty() {
        let who = script.below(2);
        match script.below(9) {
            0 | 1 => wire.ask(who, script.byte()),
            choice @ 2..=5 if !wire.flying.is_empty() => {
                let at = script.below(wire.flying.len());
                let (to, mut datagram) = wire.flying.swap_remove(at);
                match choice {
                    2 => wire.flying.push((to, datagram.clone())),
                    3 if script.byte() & 3 == 0 => {
                        let mut changed = datagram.to_vec();
                        let at = script.below(changed.len().min(256));
                        changed[at] ^= script.byte();
                        datagram = changed.into();
                    }
                    _ => {}
                }
                wire.deliver(to, &datagram);
            }
            6 => {
                let len = script.below(200);
                let mut datagram = script.take(len).to_vec();
                Mask::new(&keys()[who].node_id()).apply(&mut datagram);
                wire.deliver(who, &datagram);
            }
            7 => wire.wait(Duration::from_millis(u64::from(script.byte()) * 10)),
            8 if script.byte() & 7 == 0 => {
                restarts += 1;
                wire.machines[who] = machine(who, restarts % 100);
            }
            _ => drop(wire.flying.pop()),
        }
        wire.flying.truncate(64);
    }
    wire.understood
}

impl Wire {
    fn ask(&mut self, who: usize, id: u8) {
        let other = &keys()[1 - who];
        let peer = V5Peer {
            id: other.node_id(),
            key: Some(other.public_key()),
        };
        let id = RequestId::new(&[id]).unwrap();
        let message = Message::Request(id, Request::Ping { enr_seq: 1 });
        let to = address(1 - who);
        self.machines[who].handle(self.now, SessionInput::Send { to, peer, message });
        self.drain(who);
    }

    fn deliver(&mut self, to: usize, datagram: &[u8]) {
        let from = address(1 - to);
        let datagram = BytesMut::from(datagram);
        self.machines[to].handle(self.now, SessionInput::Datagram { from, datagram });
        self.drain(to);
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        for who in 0..2 {
            self.machines[who].handle_timeout(self.now);
            let deadline = self.machines[who].deadline();
            assert!(deadline.is_none_or(|at| at > self.now.mono));
            self.drain(who);
        }
    }

    fn drain(&mut self, who: usize) {
        let mut outputs = 0;
        while let Some(output) = self.machines[who].poll() {
            outputs += 1;
            assert!(outputs <= MAX_OUTPUTS);
            match output {
                SessionOutput::Send { to, datagram } => {
                    assert!((MIN_PACKET..=MAX_PACKET).contains(&datagram.len()));
                    assert_eq!(to, address(1 - who));
                    self.flying.push((1 - who, datagram));
                }
                SessionOutput::Message { from, id, message } => {
                    assert_eq!(id, keys()[1 - who].node_id(), "nobody else holds keys");
                    self.understood = true;
                    self.answer(who, from, id, &message);
                }
                SessionOutput::Established { id, .. } => {
                    assert_eq!(id, keys()[1 - who].node_id());
                }
                SessionOutput::Unknown { from, id, nonce } => {
                    let known = None;
                    let challenge = SessionInput::Challenge {
                        from,
                        id,
                        nonce,
                        known,
                    };
                    self.machines[who].handle(self.now, challenge);
                }
            }
        }
        assert!(self.machines[who].challenges() <= MAX_CHALLENGES);
        assert!(self.machines[who].queued() <= MAX_QUEUED);
        assert!(self.machines[who].len() <= 1);
    }

    fn answer(
        &mut self,
        who: usize,
        to: SocketAddr,
        id: tercet_enode::NodeId,
        message: &WireMessage,
    ) {
        if let Message::Request(request, _) = message {
            let peer = V5Peer { id, key: None };
            let payload = Bytes::new();
            let message = Message::Response(*request, Response::Talk { payload });
            self.machines[who].handle(self.now, SessionInput::Send { to, peer, message });
        }
    }
}
