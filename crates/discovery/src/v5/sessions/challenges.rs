//! WHOAREYOUs that wait for their handshake. A challenge costs a stranger one packet with a made-up address, so there is room
//! for a bounded number, in all and per subnet; it is found by its key alone; and nothing but a handshake that holds, or the
//! end of its second, takes it out.

use std::net::IpAddr;
use std::time::Duration;

use tercet_enode::{AddressClass, NodeRecord};
use tercet_machine::{ExpiringMap, KeyedState, MachineRng, MonoTime, SubnetLimit, SubnetQuota};

use super::PeerKey;
use crate::v5::packet::CHALLENGE_DATA;

/// How long a challenge can be met and is repeated as it was (`discv5-theory.md`, "Handshake": one second).
pub const CHALLENGE_LIFETIME: Duration = Duration::from_secs(1);

/// Most challenges at a time, about 500 bytes each: 4 MB. When there are more, the oldest goes: a flood of 100,000 strangers a second still leaves an
/// honest handshake 80 ms, where refusing newcomers would leave it nothing.
pub const MAX_CHALLENGES: usize = 8192;

/// Most challenges at a time to one IPv4 /24, to one IPv6 /64, and to one IPv6 /48. Loopback and LAN addresses are exempt.
pub const MAX_SUBNET_CHALLENGES: SubnetQuota = SubnetQuota {
    v4: 64,
    v6: 64,
    v6_wide: 128,
};

/// Handshakes that one challenge pays for. Forged ones cost a signature check each (some 30 µs), so that a challenge can
/// never cost more than a quarter of a millisecond; and until these are used up, they do not keep the true one out.
pub const MAX_TRIES: u8 = 8;

/// A WHOAREYOU that was sent.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    /// The packet, unmasked: what the handshake is bound to.
    pub(super) data: [u8; CHALLENGE_DATA],
    /// The record of the other side, as far as it is known.
    pub(super) known: Option<NodeRecord>,
    /// Its place in the order of this machine's challenges and handshakes.
    order: u64,
    tries: u8,
}

#[derive(Debug)]
pub(super) struct Challenges {
    open: ExpiringMap<PeerKey, Challenge>,
    subnets: SubnetLimit,
}

impl Challenges {
    pub(super) fn new(rng: &mut MachineRng) -> Self {
        Self {
            open: ExpiringMap::new(MAX_CHALLENGES, KeyedState::new(rng)),
            subnets: SubnetLimit::new(MAX_SUBNET_CHALLENGES, KeyedState::new(rng)),
        }
    }

    pub(super) fn get(&self, now: MonoTime, key: &PeerKey) -> Option<&Challenge> {
        self.open.get(now, key)
    }

    /// Whether another challenge may be sent to `ip`.
    pub(super) fn has_room(&self, ip: IpAddr) -> bool {
        is_exempt(ip) || self.subnets.has_room(ip)
    }

    /// Keeps a challenge for its second; returns whether an older one had to go. `has_room` was asked before.
    pub(super) fn insert(
        &mut self,
        now: MonoTime,
        key: PeerKey,
        data: [u8; CHALLENGE_DATA],
        known: Option<NodeRecord>,
        order: u64,
    ) -> bool {
        let challenge = Challenge {
            data,
            known,
            order,
            tries: 0,
        };
        if !is_exempt(key.addr.ip()) {
            self.subnets.insert(key.addr.ip());
        }
        let gone = self.open.insert(key, challenge, now + CHALLENGE_LIFETIME);
        if let Some((key, _)) = &gone {
            self.release(key);
        }
        gone.is_some()
    }

    /// The challenge, if it pays for another handshake; `Err` if it does not.
    pub(super) fn try_once(
        &mut self,
        now: MonoTime,
        key: &PeerKey,
    ) -> Option<Result<&Challenge, ()>> {
        let challenge = self.open.get_mut(now, key)?;
        if challenge.tries >= MAX_TRIES {
            return Some(Err(()));
        }
        challenge.tries += 1;
        Some(Ok(challenge))
    }

    /// Takes out the challenge that was met and returns its `order`; `None` if it is gone or another stands in its place.
    pub(super) fn met(
        &mut self,
        now: MonoTime,
        key: &PeerKey,
        data: &[u8; CHALLENGE_DATA],
    ) -> Option<u64> {
        self.open.get(now, key).filter(|open| open.data == *data)?;
        let met = self.open.remove(key)?;
        self.release(key);
        Some(met.order)
    }

    pub(super) fn expire(&mut self, now: MonoTime) {
        while let Some((key, _)) = self.open.pop_expired(now) {
            self.release(&key);
        }
    }

    pub(super) fn deadline(&self) -> Option<MonoTime> {
        self.open.deadline()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    #[cfg(test)]
    pub(super) fn is_clean(&self) -> bool {
        self.open.is_empty() && self.subnets.is_empty()
    }

    fn release(&mut self, key: &PeerKey) {
        if !is_exempt(key.addr.ip()) {
            self.subnets.remove(key.addr.ip());
        }
    }
}

fn is_exempt(ip: IpAddr) -> bool {
    AddressClass::of(ip).is_lan()
}
