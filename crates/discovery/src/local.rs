//! This node's own record: its endpoints, its entries, and a sequence number that never goes back.
//!
//! Each family has an endpoint of its own, the first of these there is:
//!
//! 1. the one given by hand (or by a port mapping), never withdrawn;
//! 2. the one others see (`vote`), while it is found reachable (`reach`);
//! 3. the one listened on, if it is a particular address: who binds to 127.0.0.1 or to the address of one interface
//!    means it;
//! 4. none. A fresh node that listens on "any" address publishes no endpoint rather than one nobody can use.
//!
//! The record is signed only when it says something new. What the owner sets is published at once; what strangers bring
//! about, at most once in [`NETWORK_INTERVAL`], so that whoever makes the votes flap burns 120 sequence numbers an hour of
//! 2^64 and cannot make us send our record to everybody at will. Sending and storing are left to the driver: with every new
//! record it writes the sequence number to the database.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use tercet_enode::{NodeRecord, RecordError, SecretKey, canonical_ip};
use tercet_machine::{MachineRng, MonoTime, Now, UnixTime};

use crate::reach::Reach;
use crate::vote::{Family, MIN_VOICES, Votes};

/// Least time between two records signed because of what strangers say.
pub(crate) const NETWORK_INTERVAL: Duration = Duration::from_secs(30);

/// Keys that belong to the node itself and are not set as entries.
const RESERVED: [&[u8]; 8] = [
    b"id",
    b"secp256k1",
    b"ip",
    b"ip6",
    b"tcp",
    b"tcp6",
    b"udp",
    b"udp6",
];

/// Why an entry or an address is not taken. The record stays as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// The key is the node's identity or endpoint.
    #[error("the key belongs to the node itself")]
    Reserved,
    /// The record would not be one: longer than 300 bytes, or the value is not one RLP item.
    #[error("the record cannot hold the entry")]
    Record(#[source] RecordError),
    /// Nobody can be reached at the address to be advertised.
    #[error("{0} is no address of a single host in its family")]
    AdvertisedIp(IpAddr),
    /// There is no socket of the family of the address to be advertised.
    #[error("{0} is of a family that is not listened on")]
    AdvertisedFamily(IpAddr),
    /// Too many requests are under way; try again later.
    #[error("too many requests are under way")]
    Busy,
    /// Discovery has been shut down.
    #[error("discovery has been shut down")]
    Closed,
}

/// What a record is made from at the start. The addresses are by family: IPv4, IPv6.
#[derive(Clone, Debug)]
pub(crate) struct LocalConfig {
    /// Where the sockets are bound; `None` for a family without one.
    pub(crate) listen: [Option<SocketAddr>; 2],
    /// What to advertise whatever others say. A port of 0 stands for the one listened on.
    pub(crate) manual: [Option<SocketAddr>; 2],
    /// The RLPx port; 0 for none.
    pub(crate) tcp: u16,
    /// Further entries.
    pub(crate) entries: BTreeMap<Vec<u8>, Bytes>,
    /// Fewest voices for an address.
    pub(crate) min_voices: usize,
    /// Whether an address may be advertised to see whether it can be reached: for nodes that nobody finds otherwise,
    /// those without discv4.
    pub(crate) trials: bool,
}

impl LocalConfig {
    /// A node at these sockets with nothing given by hand, ten voices and no trials.
    pub(crate) const fn new(listen: [Option<SocketAddr>; 2]) -> Self {
        Self {
            listen,
            manual: [None; 2],
            tcp: 0,
            entries: BTreeMap::new(),
            min_voices: MIN_VOICES,
            trials: false,
        }
    }
}

/// One family's possible endpoints.
#[derive(Debug)]
struct Side {
    listen: Option<SocketAddr>,
    manual: Option<SocketAddr>,
    reach: Reach,
}

impl Side {
    fn endpoint(&self) -> Option<SocketAddr> {
        let bound = self.listen.filter(|listen| !listen.ip().is_unspecified());
        let manual = self
            .manual
            .map(|manual| match (manual.port(), self.listen) {
                (0, Some(listen)) => SocketAddr::new(manual.ip(), listen.port()),
                _ => manual,
            });
        manual.or(self.reach.advertised()).or(bound)
    }
}

/// The endpoints a record names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Endpoints {
    v4: Option<SocketAddr>,
    v6: Option<SocketAddr>,
    tcp: u16,
}

/// Owns the key and signs the record anew with every change.
#[derive(Debug)]
pub(crate) struct LocalNode {
    key: SecretKey,
    v4: Side,
    v6: Side,
    tcp: u16,
    entries: BTreeMap<Vec<u8>, Bytes>,
    votes: Votes,
    published: Endpoints,
    record: NodeRecord,
    /// Not before this is a record signed because of what strangers say.
    not_before: MonoTime,
}

impl LocalNode {
    /// A node that was last published with `stored_seq`. The first number is the time in milliseconds, so that a
    /// node that has lost its database, or the last moments of it, still moves forward.
    pub(crate) fn with_config(
        key: SecretKey,
        config: LocalConfig,
        stored_seq: Option<u64>,
        now: UnixTime,
        rng: &mut MachineRng,
    ) -> Result<Self, EntryError> {
        if config.entries.keys().any(|key| is_reserved(key)) {
            return Err(EntryError::Reserved);
        }
        let seq = stored_seq
            // Not 0: to whoever knows no record, that is the number of the one he has, and he would not be sent this one.
            .map_or(1, |seq| seq.saturating_add(1))
            .max(now.as_millis());
        let side = |family, listen, manual| Side {
            listen: of_family(family, listen),
            manual: of_family(family, manual),
            reach: Reach::new(config.trials),
        };
        let ([listen4, listen6], [manual4, manual6]) = (config.listen, config.manual);
        let v4 = side(Family::V4, listen4, manual4);
        let v6 = side(Family::V6, listen6, manual6);
        check_room(&key, &v4, &v6, &config.entries)?;
        let published = Endpoints {
            v4: v4.endpoint(),
            v6: v6.endpoint(),
            tcp: config.tcp,
        };
        let record = sign(&key, seq, published, &config.entries)?;
        Ok(Self {
            key,
            v4,
            v6,
            tcp: config.tcp,
            entries: config.entries,
            votes: Votes::new(config.min_voices, rng),
            published,
            record,
            not_before: MonoTime::ZERO,
        })
    }

    pub(crate) const fn key(&self) -> &SecretKey {
        &self.key
    }

    pub(crate) const fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// Sets an entry; `true` if that changed the record.
    pub(crate) fn set_entry(&mut self, key: Vec<u8>, rlp: Bytes) -> Result<bool, EntryError> {
        if is_reserved(&key) {
            return Err(EntryError::Reserved);
        }
        if self.entries.get(&key) == Some(&rlp) {
            return Ok(false);
        }
        let mut entries = self.entries.clone();
        entries.insert(key, rlp);
        check_room(&self.key, &self.v4, &self.v6, &entries)?;
        self.sign_anew(entries)
    }

    /// Takes an entry out; `true` if that changed the record.
    pub(crate) fn remove_entry(&mut self, key: &[u8]) -> Result<bool, EntryError> {
        if is_reserved(key) {
            return Err(EntryError::Reserved);
        }
        let mut entries = self.entries.clone();
        if entries.remove(key).is_none() {
            return Ok(false);
        }
        self.sign_anew(entries)
    }

    /// Sets the RLPx port; `true` if that changed the record.
    pub(crate) fn set_tcp_port(&mut self, port: u16) -> Result<bool, EntryError> {
        if self.tcp == port {
            return Ok(false);
        }
        let before = std::mem::replace(&mut self.tcp, port);
        let signed = self.sign_anew(self.entries.clone());
        if signed.is_err() {
            self.tcp = before;
        }
        signed
    }

    /// Sets or takes back the address given by hand of a family; `true` if that changed the record. A port of 0 stands for
    /// the one listened on.
    pub(crate) fn set_manual(
        &mut self,
        family: Family,
        address: Option<SocketAddr>,
    ) -> Result<bool, EntryError> {
        if let Some(ip) = address.map(|address| address.ip()) {
            if ip.is_unspecified() || ip.is_multicast() || of_family(family, address).is_none() {
                return Err(EntryError::AdvertisedIp(ip));
            }
            if self.side_mut(family).listen.is_none() {
                return Err(EntryError::AdvertisedFamily(ip));
            }
        }
        let before = std::mem::replace(&mut self.side_mut(family).manual, address);
        if self.wanted() == self.published {
            return Ok(false);
        }
        let room = check_room(&self.key, &self.v4, &self.v6, &self.entries);
        let signed = room.and_then(|()| self.sign_anew(self.entries.clone()));
        if signed.is_err() {
            self.side_mut(family).manual = before;
        }
        signed
    }

    /// A node whose endpoint is proven says that it sees this node at `seen_as`. The new record, if that makes one.
    pub(crate) fn on_vote(
        &mut self,
        now: Now,
        voter: IpAddr,
        seen_as: SocketAddr,
    ) -> Option<NodeRecord> {
        let family = Family::of(seen_as.ip());
        // Over a family without a socket we ask nobody, so nobody has seen us.
        self.side_mut(family).listen?;
        if let Err(why) = self.votes.add(now.mono, voter, seen_as) {
            tracing::trace!(%voter, %seen_as, ?why, "statement not counted");
            return None;
        }
        let winner = self.votes.winner(now.mono, family)?;
        self.side_mut(family).reach.on_winner(now.mono, winner);
        self.publish(now)
    }

    /// Somebody to whom nothing was sent completed a round trip. The new record, if that makes one. "Nothing sent" is
    /// to the host, at whatever port, or what a restricted NAT lets in would count.
    pub(crate) fn on_unsolicited(&mut self, now: Now, from: SocketAddr) -> Option<NodeRecord> {
        let from = SocketAddr::new(canonical_ip(from.ip()), from.port());
        let side = self.side_mut(Family::of(from.ip()));
        side.reach.on_contact(now.mono, from);
        self.publish(now)
    }

    /// So many hosts of a family were asked something for the first time.
    pub(crate) const fn on_strangers(&mut self, family: Family, count: u64) {
        self.side_mut(family).reach.on_strangers(count);
    }

    /// Does what is due. The new record, if that makes one.
    pub(crate) fn handle_timeout(&mut self, now: Now) -> Option<NodeRecord> {
        self.v4.reach.handle_timeout(now.mono);
        self.v6.reach.handle_timeout(now.mono);
        self.publish(now)
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(crate) fn deadline(&self) -> Option<MonoTime> {
        let unpublished = (self.wanted() != self.published).then_some(self.not_before);
        [
            self.v4.reach.deadline(),
            self.v6.reach.deadline(),
            unpublished,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn publish(&mut self, now: Now) -> Option<NodeRecord> {
        if self.wanted() == self.published || now.mono < self.not_before {
            return None;
        }
        self.not_before = now.mono + NETWORK_INTERVAL;
        match self.sign_anew(self.entries.clone()) {
            Ok(_) => Some(self.record.clone()),
            Err(error) => {
                // Room was kept for it, so only a failure to sign is left. Tried again in an interval.
                tracing::warn!(%error, "the record keeps its old endpoint");
                None
            }
        }
    }

    fn sign_anew(&mut self, entries: BTreeMap<Vec<u8>, Bytes>) -> Result<bool, EntryError> {
        let wanted = self.wanted();
        let seq = self.record.seq().saturating_add(1);
        self.record = sign(&self.key, seq, wanted, &entries)?;
        self.published = wanted;
        self.entries = entries;
        Ok(true)
    }

    fn wanted(&self) -> Endpoints {
        Endpoints {
            v4: self.v4.endpoint(),
            v6: self.v6.endpoint(),
            tcp: self.tcp,
        }
    }

    const fn side_mut(&mut self, family: Family) -> &mut Side {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// The address in its canonical form, if it is of the family.
fn of_family(family: Family, address: Option<SocketAddr>) -> Option<SocketAddr> {
    address
        .map(|address| SocketAddr::new(canonical_ip(address.ip()), address.port()))
        .filter(|address| Family::of(address.ip()) == family)
}

fn is_reserved(key: &[u8]) -> bool {
    RESERVED.contains(&key)
}

/// Whether the record with these entries will hold the longest endpoints the node may come to have. Checked when an entry
/// is set, so that no entry can keep an address out later.
fn check_room(
    key: &SecretKey,
    v4: &Side,
    v6: &Side,
    entries: &BTreeMap<Vec<u8>, Bytes>,
) -> Result<(), EntryError> {
    let has = |side: &Side| side.listen.is_some() || side.manual.is_some();
    let longest = Endpoints {
        v4: has(v4).then(|| SocketAddr::new(Ipv4Addr::BROADCAST.into(), u16::MAX)),
        v6: has(v6).then(|| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), u16::MAX - 1)),
        tcp: u16::MAX,
    };
    sign(key, u64::MAX, longest, entries).map(|_| ())
}

/// An IPv6 address has its `udp6` even where `udp` says the same (EIP-778 would leave it out, and go-ethereum does): to
/// @chainsafe/discv5 and the `discv5` crate an address without it is none, and who has IPv6 alone could not come here.
/// `tcp6` is left out beside an IPv4 address, the port being one.
fn sign(
    key: &SecretKey,
    seq: u64,
    Endpoints { v4, v6, tcp }: Endpoints,
    entries: &BTreeMap<Vec<u8>, Bytes>,
) -> Result<NodeRecord, EntryError> {
    let mut builder = NodeRecord::builder().seq(seq);
    if let Some(v4) = v4 {
        builder = builder.ip(v4.ip()).udp(v4.port());
    }
    if let Some(v6) = v6 {
        builder = builder.ip(v6.ip()).udp6(v6.port());
    }
    if tcp != 0 {
        builder = match (v4, v6) {
            (None, Some(_)) => builder.tcp6(tcp),
            _ => builder.tcp(tcp),
        };
    }
    for (key, value) in entries {
        builder = builder.insert_raw(key, value);
    }
    builder.sign(key).map_err(EntryError::Record)
}

#[cfg(test)]
mod tests;
