//! Tells discv5 packets from discv4 ones on the socket both share, in constant time: one AES block,
//! whatever the datagram's length, and no Keccak over a packet that is not discv4's. Whether it is a good packet of its
//! protocol is for that protocol's codec.

use aes::Aes128;
use cipher::{Array, BlockCipherEncrypt, KeyInit};
use tercet_enode::NodeId;

use crate::engine::Protocol;

/// Bytes of the masking IV in front of a discv5 packet.
const MASKING_IV: usize = 16;

/// What an unmasked discv5 header begins with. The version behind it is not looked at: a packet of a later one is discv5's to
/// refuse, and no reason to hash it as discv4.
const PROTOCOL_ID: &[u8; 6] = b"discv5";

/// Shortest discv5 packet: `16 masking IV + 23 static header + 24 authdata`, a WHOAREYOU.
const MIN_V5_PACKET: usize = MASKING_IV + 23 + 24;

/// Knows this node's id, which masks the headers of discv5 packets sent to it.
#[derive(Clone, Debug)]
pub(crate) struct Demux {
    mask: Aes128,
}

impl Demux {
    pub(crate) fn new(local: &NodeId) -> Self {
        let mut key = Array::default();
        for (to, from) in key.iter_mut().zip(local.as_ref()) {
            *to = *from;
        }
        Self {
            mask: Aes128::new(&key),
        }
    }

    /// The protocol whose packet `datagram` can be. A discv4 packet begins with a Keccak-256 hash, so that it passes for
    /// discv5's with a probability of `2^-48`; its sender would have to try that many signatures to be misunderstood.
    pub(crate) fn protocol(&self, datagram: &[u8]) -> Protocol {
        let Some((iv, masked)) = datagram.split_first_chunk::<MASKING_IV>() else {
            return Protocol::V4;
        };
        if datagram.len() < MIN_V5_PACKET {
            return Protocol::V4;
        }
        // The first block of AES-CTR's stream is the IV's own encryption.
        let mut stream = Array::from(*iv);
        self.mask.encrypt_block(&mut stream);
        let matches = masked
            .iter()
            .zip(&stream)
            .zip(PROTOCOL_ID)
            .all(|((masked, stream), expected)| masked ^ stream == *expected);
        if matches { Protocol::V5 } else { Protocol::V4 }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use cipher::{KeyIvInit, StreamCipher};
    use proptest::prelude::*;
    use tercet_enode::SecretKey;
    use tercet_machine::MachineRng;

    use super::*;
    use crate::v4::codec::{self, UnverifiedPacket};
    use crate::v4::{FindNode, Message, WireTarget};

    /// A packet's bytes with the header masked for `to`, as the specification says it: one CTR stream over the header.
    fn v5_packet(to: &NodeId, iv: [u8; 16], version: u16, rest: &[u8]) -> Vec<u8> {
        let mut header = PROTOCOL_ID.to_vec();
        header.extend_from_slice(&version.to_be_bytes());
        header.extend_from_slice(rest);
        let key: [u8; 16] = to.as_ref()[..16].try_into().unwrap();
        ctr::Ctr128BE::<Aes128>::new(&key.into(), &iv.into()).apply_keystream(&mut header);
        [iv.as_slice(), &header].concat()
    }

    proptest! {
        #[test]
        fn a_discv5_packet_for_this_node_is_discv5s(
            local: [u8; 32], iv: [u8; 16], version: u16, rest in proptest::collection::vec(any::<u8>(), 39..1257),
        ) {
            let local = NodeId::from(local);
            let packet = v5_packet(&local, iv, version, &rest);
            prop_assert_eq!(Demux::new(&local).protocol(&packet), Protocol::V5);
            // For anybody else it is noise.
            let other = NodeId::from(std::array::from_fn(|at| local.as_ref()[at] ^ 1));
            prop_assert_eq!(Demux::new(&other).protocol(&packet), Protocol::V4);
        }

        #[test]
        fn a_discv4_packet_is_discv4s(local: [u8; 32], seed: [u8; 32], target: [u8; 32], expiration: u64) {
            let mut rng = MachineRng::from_seed(seed);
            let key = SecretKey::generate(&mut rng);
            let target = WireTarget::from(SecretKey::generate(&mut MachineRng::from_seed(target)).public_key());
            let (packet, _): (Bytes, _) = codec::encode(&key, &Message::FindNode(FindNode { target, expiration }));
            prop_assert!(UnverifiedPacket::parse(&packet).is_ok());
            prop_assert_eq!(Demux::new(&NodeId::from(local)).protocol(&packet), Protocol::V4);
        }

        #[test]
        fn whatever_arrives_has_a_protocol(datagram in proptest::collection::vec(any::<u8>(), 0..1300)) {
            Demux::new(&NodeId::from([7; 32])).protocol(&datagram);
        }
    }

    #[test]
    fn a_packet_too_short_for_discv5_is_not_its() {
        let local = NodeId::from([7; 32]);
        let packet = v5_packet(&local, [1; 16], 1, &[0; 39]);
        assert_eq!(packet.len(), MIN_V5_PACKET);
        let demux = Demux::new(&local);
        assert_eq!(demux.protocol(&packet), Protocol::V5);
        for len in 0..packet.len() {
            assert_eq!(demux.protocol(&packet[..len]), Protocol::V4, "{len}");
        }
    }

    /// Each of the 48 bits counts: one wrong bit and it is no discv5 packet.
    #[test]
    fn every_bit_of_the_protocol_id_counts() {
        let local = NodeId::from([7; 32]);
        let packet = v5_packet(&local, [1; 16], 1, &[0; 60]);
        for bit in 0..48 {
            let mut packet = packet.clone();
            packet[MASKING_IV + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Demux::new(&local).protocol(&packet), Protocol::V4, "{bit}");
        }
    }
}
