//! Which peers get the transactions of a sender whole: the ⌈√n⌉ with the lowest
//! keyed hash of (we, peer, sender). All transactions of one sender take the
//! same peers, so they arrive in nonce order, and nobody without the key can
//! place itself on a sender's way.

use alloy_primitives::Address;
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use tercet_enode::NodeId;

#[derive(Clone)]
pub(super) struct DirectChoice {
    /// Keyed, and fed with our own id.
    start: SipHasher24,
}

impl DirectChoice {
    pub(super) fn new(key: [u8; 16], local: NodeId) -> Self {
        let mut start = SipHasher24::new_with_key(&key);
        start.write(local.as_bytes());
        DirectChoice { start }
    }

    /// The chosen among `peers`, sorted. Linear in their number.
    pub(super) fn choose(
        &self,
        peers: impl ExactSizeIterator<Item = NodeId>,
        sender: &Address,
    ) -> Vec<NodeId> {
        let count = square_root_up(peers.len());
        let mut scored: Vec<(u64, NodeId)> = peers
            .map(|peer| (self.score(&peer, sender), peer))
            .collect();
        if count < scored.len() {
            scored.select_nth_unstable(count);
            scored.truncate(count);
        }
        let mut chosen: Vec<NodeId> = scored.into_iter().map(|(_, peer)| peer).collect();
        chosen.sort_unstable();
        chosen
    }

    fn score(&self, peer: &NodeId, sender: &Address) -> u64 {
        let mut hasher = self.start;
        hasher.write(peer.as_bytes());
        hasher.write(sender.as_slice());
        hasher.finish()
    }
}

/// ⌈√n⌉.
fn square_root_up(n: usize) -> usize {
    let root = n.isqrt();
    if root * root == n { root } else { root + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tercet_machine::MachineRng;

    fn peers(count: usize) -> Vec<NodeId> {
        let mut rng = MachineRng::from_seed([3; 32]);
        (0..count).map(|_| NodeId::random(&mut rng)).collect()
    }

    #[test]
    fn square_roots() {
        let expected = [
            (0, 0),
            (1, 1),
            (2, 2),
            (4, 2),
            (5, 3),
            (9, 3),
            (10, 4),
            (50, 8),
        ];
        for (n, root) in expected {
            assert_eq!(square_root_up(n), root, "{n}");
        }
    }

    proptest! {
        /// The number is right, the choice does not depend on the order of the
        /// peers, and a set of more peers chooses no peer of the smaller set
        /// that was not chosen there.
        #[test]
        fn stable_per_sender(count in 1usize..60, key: [u8; 16], sender: [u8; 20]) {
            let sender = Address::from(sender);
            let peers = peers(count + 1);
            let choice = DirectChoice::new(key, peers[count]);
            let chosen = choice.choose(peers[..count].iter().copied(), &sender);
            prop_assert_eq!(chosen.len(), square_root_up(count));
            let reversed = peers[..count].iter().rev().copied();
            prop_assert_eq!(&choice.choose(reversed, &sender), &chosen);
            let fewer = choice.choose(peers[..count - 1].iter().copied(), &sender);
            prop_assert!(
                chosen.iter().filter(|id| !fewer.contains(id)).count() <= 1 + chosen.len() - fewer.len()
            );
        }
    }

    #[test]
    fn senders_spread_over_peers() {
        let peers = peers(16);
        let choice = DirectChoice::new([9; 16], peers[0]);
        let mut used = std::collections::BTreeSet::new();
        for n in 0..50u8 {
            used.extend(choice.choose(peers.iter().copied(), &Address::repeat_byte(n)));
        }
        assert_eq!(used.len(), 16);
    }
}
