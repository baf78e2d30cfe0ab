//! Whether a datagram is an answer, told without changing anything: what a flood in somebody's name cannot imitate.

use std::net::SocketAddr;

use tercet_machine::Now;

use super::{PeerKey, Sessions};
use crate::v5::codec::is_response;
use crate::v5::packet::{Kind, MAX_PACKET, parse};

impl Sessions {
    /// Whether a datagram shows what only somebody on the path between this node and `from` can know: a WHOAREYOU the nonce of
    /// a packet that was sent there, a response the keys of a session with its sender there.
    ///
    /// Works on a copy, so that a datagram that passes is decrypted twice: only those beyond the rate come here.
    #[must_use]
    pub(crate) fn proves(&self, now: Now, from: SocketAddr, datagram: &[u8]) -> bool {
        let mut copy = [0; MAX_PACKET];
        let Some(copy) = copy.get_mut(..datagram.len()) else {
            return false;
        };
        copy.copy_from_slice(datagram);
        let Ok(packet) = parse(&self.mask, copy) else {
            return false;
        };
        match packet.kind {
            Kind::WhoAreYou(_) => self.outboxes.names(packet.nonce, from),
            Kind::Ordinary { src } => {
                let peer = PeerKey {
                    id: src,
                    addr: from,
                };
                let session = self.sessions.peek(&peer);
                session
                    .and_then(|s| s.peek(now.mono, packet.nonce, packet.head, packet.message))
                    .is_some_and(is_response)
            }
            // Its signature would have to be checked; and it is a request.
            Kind::Handshake(_) => false,
        }
    }
}
