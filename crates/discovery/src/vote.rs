//! Where others say this node is: statements of proven nodes, counted by subnet until one address has a clear majority.
//! Whether that address can be reached is left to [`crate::reach`], whether it is published to [`crate::local`].
//!
//! A statement costs nothing to make, so the count is arranged for what an attacker has too little of:
//!
//! - *Round trips.* The caller hands in only statements of nodes whose endpoint is proven. Spoofed sources have no voice (in
//!   geth ten of them suffice, as a PING's `to` counts at once).
//! - *Networks.* A /24 or /64 has one voice however many hosts it has; its newest statement replaces the one before. A /48
//!   has at most [`MAX_PER_SITE`] voices, an IPv4 /16 or IPv6 /32 (what a provider is given) at most
//!   [`MAX_PER_PROVIDER`]. So somebody with one /24 has one voice of the ten needed, whether alone or among others.
//!   Somebody with 100 subnets has 100 voices only if they lie in 25 different /16s; if they are in one, he has four.
//! - *Scope.* A host on the Internet can tell of a global address only, one in the private network of a private address,
//!   one on this machine of loopback. Each scope is counted apart: neighbours do not drown the Internet, nor it them.
//! - *Time.* A voice lasts [`VOICE_LIFE`].
//!
//! An address wins with more than half of the voices, if it has more than twice as many as any other one. Where two stand against
//! each other that is two thirds; but liars who do not agree among themselves are no reason to say nothing.
//!
//! An attacker who has more than twice as many scattered networks among our answering contacts as everybody else together
//! does win the count; where everybody else names something else each, as behind a NAT that maps each contact anew, more than half
//! are enough. He gains a wrong address in our record, found out by the test of reachability, and no more: who
//! we talk to does not depend on it.
//!
//! Work a statement: one lookup each in a few maps, and a look at all addresses named only while one has more than half and less than
//! two thirds. What has run out is taken from the old end, a bounded number
//! of voices that each were paid for when they came. Memory: at most [`MAX_VOICES`] voices a ballot, six ballots, about
//! 200 bytes a voice with its counters: 300 KiB at the very most.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_enode::{AddressClass, canonical_ip};
use tercet_machine::{BoundedLru, KeyedMap, KeyedState, MachineRng, MonoTime, Subnet};

/// Fewest voices an address needs (geth's `iptrackMinStatements`).
pub(crate) const MIN_VOICES: usize = 10;

/// How long a statement counts (geth's `iptrackWindow`).
pub(crate) const VOICE_LIFE: Duration = Duration::from_secs(5 * 60);

/// Most voices in one ballot; the oldest leaves first. An honest node hears some 20 to 100 networks in five minutes.
pub(crate) const MAX_VOICES: usize = 256;

/// Most voices of one IPv6 /48.
pub(crate) const MAX_PER_SITE: u32 = 2;

/// Most voices of one IPv4 /16 or IPv6 /32: fewer than half of [`MIN_VOICES`].
pub(crate) const MAX_PER_PROVIDER: u32 = 4;

/// A family of addresses. Each has its own endpoint in the record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(ip: IpAddr) -> Self {
        if canonical_ip(ip).is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// How far an address reaches. Ordered: an address that reaches further is preferred.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Scope {
    Machine,
    Lan,
    Internet,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Machine, Self::Lan, Self::Internet];

    /// `None` for addresses at which nobody can be met, or (carrier NAT) nobody but strangers of the same carrier, or (IPv6
    /// link-local) only by who knows the interface, which no record can name.
    pub(crate) fn of(ip: IpAddr) -> Option<Self> {
        let needs_interface =
            |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        match AddressClass::of(ip) {
            AddressClass::Lan if needs_interface(ip) => None,
            AddressClass::Loopback => Some(Self::Machine),
            AddressClass::Lan => Some(Self::Lan),
            AddressClass::Global => Some(Self::Internet),
            AddressClass::Unspecified
            | AddressClass::Cgnat
            | AddressClass::SpecialUse
            | AddressClass::Multicast => None,
        }
    }
}

/// Why a statement was not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ignored {
    /// Voter and address are of different families: what it says is not of the socket we asked it from.
    Family,
    /// The voter cannot know such an address, or nobody can have it.
    Scope,
    /// No node has this port.
    Port,
    /// The voter's site or provider has all its voices.
    Crowded,
}

/// The statements of the last [`VOICE_LIFE`], by family and scope.
#[derive(Debug)]
pub(crate) struct Votes {
    min_voices: usize,
    ballots: [[Ballot; 3]; 2],
}

impl Votes {
    /// No statements yet; `min_voices` of 0 counts as 1.
    pub(crate) fn new(min_voices: usize, rng: &mut MachineRng) -> Self {
        let mut ballot = || Ballot::new(KeyedState::new(rng));
        let mut three = || [ballot(), ballot(), ballot()];
        Self {
            min_voices: min_voices.max(1),
            ballots: [three(), three()],
        }
    }

    /// Counts the statement of a proven node.
    pub(crate) fn add(
        &mut self,
        now: MonoTime,
        voter: IpAddr,
        seen_as: SocketAddr,
    ) -> Result<(), Ignored> {
        let voter = canonical_ip(voter);
        let seen_as = SocketAddr::new(canonical_ip(seen_as.ip()), seen_as.port());
        let family = Family::of(voter);
        if family != Family::of(seen_as.ip()) {
            return Err(Ignored::Family);
        }
        if seen_as.port() == 0 {
            return Err(Ignored::Port);
        }
        let scope = Scope::of(seen_as.ip()).ok_or(Ignored::Scope)?;
        if Scope::of(voter) != Some(scope) {
            return Err(Ignored::Scope);
        }
        let ballot = self.ballot_mut(family, scope);
        ballot.expire(now);
        ballot.add(now, voter, scope, seen_as)
    }

    /// The address of this family that at least the fewest voices name, more than half of all, and more than twice as many as any
    /// other, of the furthest scope that has one.
    pub(crate) fn winner(&mut self, now: MonoTime, family: Family) -> Option<SocketAddr> {
        let min_voices = self.min_voices;
        Scope::ALL.into_iter().rev().find_map(|scope| {
            let ballot = self.ballot_mut(family, scope);
            ballot.expire(now);
            ballot.winner(min_voices)
        })
    }

    fn ballot_mut(&mut self, family: Family, scope: Scope) -> &mut Ballot {
        let [v4, v6] = &mut self.ballots;
        let [machine, lan, internet] = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        match scope {
            Scope::Machine => machine,
            Scope::Lan => lan,
            Scope::Internet => internet,
        }
    }

    #[cfg(test)]
    fn voices(&self) -> usize {
        let ballots = self.ballots.iter().flatten();
        ballots.map(|ballot| ballot.voices.len()).sum()
    }
}

/// Who has one voice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Voter {
    /// Of the Internet: the subnet.
    Subnet(Subnet),
    /// In a private network, where subnets say nothing: the host. Its owner is responsible for who is in it.
    Host(IpAddr),
}

/// What several voters' subnets lie in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Region {
    Site(Subnet),
    V4([u8; 2]),
    V6([u8; 4]),
}

impl Region {
    /// The regions of a voter and the voices each may have.
    fn of(ip: IpAddr) -> [Option<(Self, u32)>; 2] {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, ..] = ip.octets();
                [Some((Self::V4([a, b]), MAX_PER_PROVIDER)), None]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.octets();
                [
                    Some((Self::Site(Subnet::wide(ip)), MAX_PER_SITE)),
                    Some((Self::V6([a, b, c, d]), MAX_PER_PROVIDER)),
                ]
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Voice {
    seen_as: SocketAddr,
    at: MonoTime,
    /// The address to take the voice out of its regions with.
    voter: IpAddr,
}

/// The voices of one family and scope.
#[derive(Debug)]
struct Ballot {
    /// All live equally long, so that the least recently renewed is the first to end.
    voices: BoundedLru<Voter, Voice>,
    /// Voices for each address; none is 0.
    tally: KeyedMap<SocketAddr, u32>,
    /// Voices of each region; none is 0. Empty for hosts.
    regions: KeyedMap<Region, u32>,
    /// The only address that can have a majority: the one with most voices when it was last named. One that comes to a
    /// majority because voices for others run out is found at the next voice for it.
    leader: Option<SocketAddr>,
}

impl Ballot {
    fn new(state: KeyedState) -> Self {
        Self {
            voices: BoundedLru::new(MAX_VOICES, state),
            tally: KeyedMap::with_hasher(state),
            regions: KeyedMap::with_hasher(state),
            leader: None,
        }
    }

    fn add(
        &mut self,
        now: MonoTime,
        ip: IpAddr,
        scope: Scope,
        seen_as: SocketAddr,
    ) -> Result<(), Ignored> {
        let voter = match scope {
            Scope::Internet => Voter::Subnet(Subnet::of(ip)),
            Scope::Machine | Scope::Lan => Voter::Host(ip),
        };
        if let Some(voice) = self.voices.get_mut(&voter) {
            let before = std::mem::replace(&mut voice.seen_as, seen_as);
            voice.at = now;
            if before != seen_as {
                decrement(&mut self.tally, &before);
                *self.tally.entry(seen_as).or_default() += 1;
            }
        } else {
            let crowded = |(region, most): (Region, u32)| {
                self.regions
                    .get(&region)
                    .is_some_and(|count| *count >= most)
            };
            if scope == Scope::Internet && Region::of(ip).into_iter().flatten().any(crowded) {
                return Err(Ignored::Crowded);
            }
            let voice = Voice {
                seen_as,
                at: now,
                voter: ip,
            };
            if let Some((gone, voice)) = self.voices.insert(voter, voice) {
                self.forget(gone, voice);
            }
            *self.tally.entry(seen_as).or_default() += 1;
            if scope == Scope::Internet {
                for (region, _) in Region::of(ip).into_iter().flatten() {
                    *self.regions.entry(region).or_default() += 1;
                }
            }
        }
        let count = |address: SocketAddr| self.tally.get(&address).copied();
        if self
            .leader
            .is_none_or(|leader| count(seen_as) >= count(leader))
        {
            self.leader = Some(seen_as);
        }
        Ok(())
    }

    fn expire(&mut self, now: MonoTime) {
        while let Some((_, voice)) = self.voices.oldest()
            && voice.at + VOICE_LIFE <= now
        {
            if let Some((voter, voice)) = self.voices.pop_oldest() {
                self.forget(voter, voice);
            }
        }
    }

    fn forget(&mut self, voter: Voter, voice: Voice) {
        decrement(&mut self.tally, &voice.seen_as);
        if matches!(voter, Voter::Subnet(_)) {
            for (region, _) in Region::of(voice.voter).into_iter().flatten() {
                decrement(&mut self.regions, &region);
            }
        }
    }

    fn winner(&self, min_voices: usize) -> Option<SocketAddr> {
        let leader = self.leader?;
        let votes = *self.tally.get(&leader)?;
        let (count, all) = (
            usize::try_from(votes).unwrap_or(usize::MAX),
            self.voices.len(),
        );
        // With two thirds no other can have half as many.
        let clear = count * 3 > all * 2 || (count * 2 > all && self.leads(leader, votes));
        (count >= min_voices && clear).then_some(leader)
    }

    fn leads(&self, leader: SocketAddr, votes: u32) -> bool {
        let mut others = self.tally.iter().filter(|(named, _)| **named != leader);
        others.all(|(_, count)| count.saturating_mul(2) < votes)
    }
}

fn decrement<K: std::hash::Hash + Eq>(counts: &mut KeyedMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
