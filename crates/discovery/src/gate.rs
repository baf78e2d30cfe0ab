//! The first check of a datagram, by its source alone: the permitted networks, and how much each network may send.
//!
//! ```text
//!              ┌ asked of within the last seconds, and within its own allowance ──────────────▶ in
//!  source ─────┤
//!              └ its IPv6 /48 within the site's allowance ── its /24 or /64 within its own ───▶ in
//!
//!  refused, but asked of within the last seconds, and the datagram proves to be an answer ───▶ in
//! ```
//!
//! A source costs nothing to forge, so a flood in somebody's name uses up his network's allowance. That must not cost this node
//! the answers it waits for: an address it has asked something of has an allowance of its own, which only somebody who guesses
//! both address and port can take from. A /48 is looked at before its /64s, or one site would fill the places of 4096 of them.
//!
//! And who guesses them, or knows whom this node asks, still cannot say what an answer says. So beyond all rates a datagram from an
//! asked address comes in that shows, before anything dear is done with it, what nobody off the path between the two knows:
//!
//! | datagram | what it has to show | work at most |
//! |---|---|---|
//! | discv5 WHOAREYOU | the nonce of a packet sent to that address | unmasking, one lookup |
//! | discv5 response | that it decrypts under the session with its source there | unmasking, AES-GCM twice: 2 µs for the longest |
//! | discv4 Pong, ENRResponse | the hash of the request | three RLP headers, the contacts with that host |
//! | discv4 Neighbors | nothing it could: who signed it costs a key recovery, so [`KEY_RATE`] of them are tried | 30 µs each |
//! | discv4 Ping, as long as that of a node there is waited for | as Neighbors | as Neighbors |
//!
//! Ids and addresses are public, so a source id in a header proves nothing. Other requests are never let in so, whoever sends them: they
//! cost answers. And what is let in so is an answer to a question under way or is dropped by the first check behind this one. A
//! discv4 node answers nothing but a ping before its own ping was answered, so that one ping is as good as an answer; of an address in whose
//! name a flood comes, none but the awaited is answered (see [`Gate::is_flooded`]).

use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tercet_enode::{AddressClass, canonical_ip};
use tercet_machine::{
    BoundedLru, KeyedState, MachineRng, MonoTime, Now, Quota, RateLimiter, Subnet, TokenBucket,
};

use crate::core::Refused;
use crate::policy::Policy;

/// Packets a second one network (IPv4 /24, IPv6 /64) may send for long. A node in the middle of lookups
/// exchanges about five with each of its peers.
pub const SOURCE_RATE: u32 = 20;

/// Packets one network may send at once.
pub const SOURCE_BURST: u32 = 200;

/// Networks whose rate is kept, and as many IPv6 sites, about 64 bytes each; see [`RateLimiter`] for what happens beyond.
const MAX_SOURCES: usize = 4096;

/// What one IPv6 /48 may send, in allowances of a /64: as many as a table takes nodes of one /48 in a bucket.
const SITE: u32 = 4;

/// How long an address keeps its own allowance after it was asked something: longer than any answer is waited for, which is
/// some reply timeouts of at most a second where nobody set them otherwise.
const ASKED_LIFETIME: Duration = Duration::from_secs(5);

/// Packets a second an address asked something of may send for long, as much as its whole network otherwise.
const ASKED_RATE: u32 = SOURCE_RATE;

/// Packets it may send at once: the answer to a question for many distances is up to 86 packets.
const ASKED_BURST: u32 = 100;

/// Addresses with an allowance of their own, about 180 bytes each; the one not asked or heard for longest goes. Strangers make
/// this node ask by pinging it, 256 at a time, each for half a second: 2560 in five seconds. Those whose time is over make room for the
/// next that is asked.
const MAX_ASKED: usize = 4096;

/// Key recoveries a second beyond all rates that are tried on Neighbors packets from one address, and how many at once. The
/// true one comes within the 500 ms it is waited for: a forger has to send more than 2,000 packets a second in the name of that
/// address to keep it out for certain.
pub(crate) const KEY_RATE: u32 = 2000;
pub(crate) const KEY_BURST: u32 = 1000;

/// How long only awaited pings are answered after one was tried beyond the rate of its address: much longer than a job takes.
const FLOODED: Duration = Duration::from_secs(1);

/// The same from all addresses: at 30 µs each, less than a third of a core whatever is forged.
const ALL_KEYS_RATE: u32 = 10_000;
const ALL_KEYS_BURST: u32 = 5000;

#[derive(Debug)]
struct Allowance {
    until: MonoTime,
    bucket: TokenBucket,
    keys: TokenBucket,
    /// Until when only awaited pings are answered.
    flooded: MonoTime,
}

/// An address that hashes as one number and a port, whatever its family: the hasher runs for every question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Address(SocketAddr);

impl Hash for Address {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0.ip() {
            IpAddr::V4(ip) => {
                let port = u64::from(self.0.port());
                state.write_u64(u64::from(ip.to_bits()) << 16 | port);
            }
            IpAddr::V6(ip) => {
                state.write_u128(ip.to_bits());
                state.write_u16(self.0.port());
            }
        }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Gate {
    policy: Policy,
    asked: BoundedLru<Address, Allowance>,
    keys: TokenBucket,
    sites: RateLimiter<Subnet>,
    networks: RateLimiter<Subnet>,
}

impl Gate {
    pub(crate) fn new(policy: Policy, rng: &mut MachineRng) -> Self {
        Self {
            policy,
            asked: BoundedLru::new(MAX_ASKED, KeyedState::new(rng)),
            keys: TokenBucket::new(Quota::per_second(ALL_KEYS_RATE, ALL_KEYS_BURST)),
            sites: RateLimiter::new(
                Quota::per_second(SITE * SOURCE_RATE, SITE * SOURCE_BURST),
                MAX_SOURCES,
            ),
            networks: RateLimiter::new(Quota::per_second(SOURCE_RATE, SOURCE_BURST), MAX_SOURCES),
        }
    }

    /// Whether to look at a datagram from this source. Loopback and LAN addresses have no limit.
    pub(crate) fn admit(&mut self, now: Now, from: SocketAddr) -> Result<(), Refused> {
        let from = SocketAddr::new(canonical_ip(from.ip()), from.port());
        let ip = from.ip();
        if !self.policy.permits(ip) {
            return Err(Refused::Restricted);
        }
        if AddressClass::of(ip).is_lan() || self.is_awaited(now.mono, from) {
            return Ok(());
        }
        let site = ip.is_ipv4() || self.sites.check(now.mono, &Subnet::wide(ip));
        if site && self.networks.check(now.mono, &Subnet::of(ip)) {
            Ok(())
        } else {
            Err(Refused::Rate)
        }
    }

    /// Something is asked of `to`.
    pub(crate) fn on_asked(&mut self, now: Now, to: SocketAddr) {
        if AddressClass::of(to.ip()).is_lan() {
            return;
        }
        let until = now.mono + ASKED_LIFETIME;
        if let Some(allowance) = self.asked.get_mut(&Address(to)) {
            allowance.until = until;
        } else {
            let allowance = Allowance {
                until,
                bucket: TokenBucket::new(Quota::per_second(ASKED_RATE, ASKED_BURST)),
                keys: TokenBucket::new(Quota::per_second(KEY_RATE, KEY_BURST)),
                flooded: now.mono,
            };
            self.forget_those_asked_long_ago(now.mono);
            self.asked.insert(Address(to), allowance);
        }
    }

    /// An allowance that is over is as good as a new one, as both of its buckets have filled up since; but for one in whose name a flood
    /// still comes, and that is heard and so not among the oldest.
    fn forget_those_asked_long_ago(&mut self, now: MonoTime) {
        while let Some((_, oldest)) = self.asked.oldest()
            && oldest.until <= now
        {
            self.asked.pop_oldest();
        }
    }

    /// Whether something was asked of this address within the last seconds, so that it is worth looking at what it sends
    /// beyond its rate.
    pub(crate) fn is_asked(&self, now: MonoTime, from: SocketAddr) -> bool {
        self.asked
            .peek(&Address(from))
            .is_some_and(|allowance| allowance.until > now)
    }

    /// Whether to recover the key of a datagram from an asked address beyond its rate.
    pub(crate) fn try_key(&mut self, now: MonoTime, from: SocketAddr) -> bool {
        self.asked
            .get_mut(&Address(from))
            .is_some_and(|allowance| allowance.keys.check(now))
            && self.keys.check(now)
    }

    /// As [`try_key`](Self::try_key), of a ping.
    pub(crate) fn try_ping(&mut self, now: MonoTime, from: SocketAddr) -> bool {
        let tried = self.try_key(now, from);
        if tried && let Some(allowance) = self.asked.get_mut(&Address(from)) {
            allowance.flooded = now + FLOODED;
        }
        tried
    }

    /// Whether a ping from this address was tried lately beyond its rate: whose it is was not known then.
    pub(crate) fn is_flooded(&self, now: MonoTime, from: SocketAddr) -> bool {
        self.asked
            .peek(&Address(from))
            .is_some_and(|allowance| allowance.flooded > now)
    }

    fn is_awaited(&mut self, now: MonoTime, from: SocketAddr) -> bool {
        self.asked
            .get_mut(&Address(from))
            .is_some_and(|allowance| allowance.until > now && allowance.bucket.check(now))
    }
}

#[cfg(test)]
mod tests;
