//! Identities that are neither let in nor dialed for a while. Only what an
//! authenticated peer did leads here, so nobody can have another one banned.

use std::time::Duration;

use tercet_enode::NodeId;
use tercet_machine::{ExpiringMap, KeyedState, MonoTime};

/// Bans at once: 1024 × about 150 bytes. When it is full the ban that ends
/// first ends now.
pub(crate) const MAX_BANS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bans {
    until: ExpiringMap<NodeId, MonoTime>,
}

impl Bans {
    pub(crate) fn new(hasher: KeyedState) -> Self {
        Self {
            until: ExpiringMap::new(MAX_BANS, hasher),
        }
    }

    /// Bans an identity; a longer ban that is already there stays.
    pub(crate) fn ban(&mut self, now: MonoTime, id: NodeId, duration: Duration) {
        let until = now + duration;
        if self
            .until
            .get(now, &id)
            .is_none_or(|former| *former < until)
        {
            self.until.insert(id, until, until);
        }
    }

    pub(crate) fn contains(&self, now: MonoTime, id: &NodeId) -> bool {
        self.until.get(now, id).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tercet_machine::MachineRng;

    fn id(n: u32) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        NodeId::new(bytes)
    }

    fn bans() -> Bans {
        Bans::new(KeyedState::new(&mut MachineRng::from_seed([5; 32])))
    }

    #[test]
    fn a_ban_ends_and_a_shorter_one_does_not_cut_it() {
        let mut bans = bans();
        bans.ban(MonoTime::ZERO, id(1), Duration::from_secs(300));
        bans.ban(MonoTime::ZERO, id(1), Duration::from_secs(5));
        assert!(bans.contains(MonoTime::from_secs(299), &id(1)));
        assert!(!bans.contains(MonoTime::from_secs(300), &id(1)));
        assert!(!bans.contains(MonoTime::ZERO, &id(2)));
    }

    #[test]
    fn the_bound_is_reached_and_held() {
        let mut bans = bans();
        for n in 0..2 * MAX_BANS as u32 {
            bans.ban(
                MonoTime::from_secs(u64::from(n)),
                id(n),
                Duration::from_secs(1_000_000),
            );
        }
        assert_eq!(bans.until.len(), MAX_BANS);
        let now = MonoTime::from_secs(2 * MAX_BANS as u64);
        assert!(!bans.contains(now, &id(0)), "the first to end made room");
        assert!(bans.contains(now, &id(2 * MAX_BANS as u32 - 1)));
    }
}
