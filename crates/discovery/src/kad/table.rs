//! The Kademlia table: up to 17 × 16 nodes sorted by distance to this one, up to ten waiting behind each
//! bucket, and the rules for who comes in, moves up and goes. The protocol machine reports what it
//! hears; the table never sends anything.
//!
//! Counts (per network, per list) are taken from the entries each time they matter: 442 nodes at most are
//! read faster than a counter beside them can be proven right.

use std::net::IpAddr;
use std::time::Duration;

use rand::RngExt;
use tercet_enode::{Endpoint, Node, NodeId};
use tercet_machine::{MachineRng, MonoTime};

use super::bucket::{Bucket, Entry, Proof, merge};
use super::filter::{BUCKET_LIMITS, TABLE_LIMITS};
use super::revalidate::{Census, RevalidationConfig, RevalidationList, Schedule};
use super::snapshot::{BucketSnapshot, EntrySnapshot, TableSnapshot};
use crate::engine::{Protocol, Protocols};

/// Buckets: `256 / 15`, as in geth. Sixteen hold one log distance each, 241 to 256; the first holds everything
/// nearer, which in any real network is nobody.
pub const BUCKETS: usize = 17;

/// Log distances up to this one share the first bucket: `256 - 16`.
const NEAREST: u16 = 240;

/// What [`Table::add`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// New in a bucket.
    Inserted,
    /// Was there, and something about it is new.
    Updated,
    /// Was there already.
    Known,
    /// Its bucket is full; it waits among the replacements.
    Waiting,
    /// Not taken.
    Refused(Refusal),
}

/// Why a node is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is this node.
    Own,
    /// Its network has its share of the bucket or the table.
    Subnet,
}

/// What is known of how a node of the table answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The protocols over which it has answered at its present endpoint.
    pub live: Protocols,
    /// Those over which it was asked there and never answered.
    pub silent: Protocols,
    /// Its credit of answered checks.
    pub checks: u32,
}

/// What else can be tried with a node that did not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fallback {
    /// Every protocol it may be asked over.
    pub protocols: Protocols,
    /// Its record's address in the other family.
    pub endpoint: Option<Endpoint>,
}

/// What became of a node that did not answer a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckFailed {
    /// It keeps its place, if with less credit.
    Kept,
    /// It has not been tried in every way: check it at once again, over a protocol not known to be silent.
    Retry,
    /// It has lost its place.
    Gone,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    local: NodeId,
    buckets: Vec<Bucket>,
    schedule: Schedule,
    version: u64,
    rng: MachineRng,
}

impl Table {
    /// An empty table around `local`.
    #[must_use]
    pub fn new(local: NodeId, revalidation: RevalidationConfig, rng: MachineRng) -> Self {
        let buckets = std::iter::repeat_with(Bucket::default)
            .take(BUCKETS)
            .collect();
        Self {
            local,
            buckets,
            schedule: Schedule::new(revalidation),
            version: 0,
            rng,
        }
    }

    /// Nodes in the buckets, at most `17 × 16 = 272`.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.entries.len()).sum()
    }

    /// Whether no bucket holds a node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.entries.is_empty())
    }

    /// Nodes that have answered a ping at their endpoint.
    #[must_use]
    pub fn live_len(&self) -> usize {
        self.entries().filter(|entry| entry.is_live()).count()
    }

    /// Grows with every change a [`snapshot`](Self::snapshot) shows, except mere reordering.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The node with this id, if a bucket holds it.
    #[must_use]
    pub fn get(&self, id: &NodeId) -> Option<&Node> {
        self.bucket(id)?.get(id).map(|entry| &entry.node)
    }

    /// Nodes in the bucket `id` belongs to.
    #[must_use]
    pub fn bucket_len(&self, id: &NodeId) -> usize {
        self.bucket(id).map_or(0, |bucket| bucket.entries.len())
    }

    /// What is known of this node in a bucket or, if there is none, waiting for a place.
    #[must_use]
    pub fn known(&self, id: &NodeId) -> Option<&Node> {
        let bucket = self.bucket(id)?;
        let entry = bucket.get(id).or_else(|| bucket.replacement(id))?;
        Some(&entry.node)
    }

    /// How the node with this id answers, if a bucket holds it.
    #[must_use]
    pub fn standing(&self, id: &NodeId) -> Option<Standing> {
        let entry = self.bucket(id)?.get(id)?;
        Some(Standing {
            live: entry.live,
            silent: entry.silent,
            checks: entry.checks,
        })
    }

    /// Nodes at exactly these log distances from this one that are live over discv5 and have a record, with their distance;
    /// in no order that means anything. The first bucket holds many distances: only those asked for are given.
    pub fn at_distances<'a>(
        &'a self,
        distances: &'a [u16],
    ) -> impl Iterator<Item = (u16, &'a Node)> {
        let wanted = |at: usize| {
            distances.iter().any(|distance| {
                *distance > 0 && usize::from(distance.saturating_sub(NEAREST)) == at
            })
        };
        self.buckets
            .iter()
            .enumerate()
            .filter(move |(at, _)| wanted(*at))
            .flat_map(|(_, bucket)| &bucket.entries)
            .filter(|entry| entry.live.contains(Protocol::V5) && entry.node.record().is_some())
            .map(|entry| (self.local.log_distance(&entry.node.id()), &entry.node))
            .filter(|(distance, _)| distances.contains(distance))
    }

    /// The `n` nodes closest to `target`, closest first, of those that `keep`, given the node and the protocols over which it
    /// has answered a ping, lets through.
    #[must_use]
    pub fn closest(
        &self,
        target: &NodeId,
        n: usize,
        keep: impl Fn(&Node, Protocols) -> bool,
    ) -> Vec<Node> {
        let mut closest: Vec<&Node> = Vec::with_capacity(n + 1);
        for entry in self.entries().filter(|entry| keep(&entry.node, entry.live)) {
            let at = closest
                .partition_point(|near| target.cmp_distance(&near.id(), &entry.node.id()).is_lt());
            if at < n {
                closest.insert(at, &entry.node);
                closest.truncate(n);
            }
        }
        closest.into_iter().cloned().collect()
    }

    /// Takes in a node, or what is new about it.
    ///
    /// A known node moves to the head of its bucket if it was heard itself. The endpoint of a node that has
    /// answered a ping is changed only by the node's own packets, never by hearsay: the one that works is
    /// worth more than the one announced.
    pub fn add(&mut self, now: MonoTime, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(bucket) = self.bucket_mut(&id) else {
            return Added::Refused(Refusal::Own);
        };
        if bucket.get(&id).is_some() {
            return self.update(now, node, proof);
        }
        let waiting = bucket.replacement_mut(&id).is_some();
        let full = bucket.is_full();
        if full && waiting {
            return self.update_waiting(node, proof);
        }
        if !self.admits(&id, node.endpoint().ip) {
            return Added::Refused(Refusal::Subnet);
        }
        let mut entry = Entry::unproven(node, now);
        if let Proof::Answer(protocol) = proof {
            entry.prove(protocol);
        }
        let Some(bucket) = self.bucket_mut(&id) else {
            return Added::Refused(Refusal::Own);
        };
        if full {
            bucket.wait(entry);
            // Nobody who waits is on a list.
            self.version += 1;
            return Added::Waiting;
        }
        bucket.take_replacement(&id);
        // At the tail: a stranger has not been heard of longer than anyone here.
        bucket.entries.push(entry);
        self.changed(now);
        Added::Inserted
    }

    /// Lets a node wait among the replacements even where its bucket has room; see
    /// [`fill`](Self::fill). For nodes that come by themselves before this one has found its own way into the
    /// network, so that they cannot fill the table first.
    pub fn add_waiting(&mut self, now: MonoTime, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(bucket) = self.bucket_mut(&id) else {
            return Added::Refused(Refusal::Own);
        };
        if bucket.get(&id).is_some() {
            return self.update(now, node, proof);
        }
        if bucket.replacement_mut(&id).is_some() {
            return self.update_waiting(node, proof);
        }
        if !self.admits(&id, node.endpoint().ip) {
            return Added::Refused(Refusal::Subnet);
        }
        let mut entry = Entry::unproven(node, now);
        if let Proof::Answer(protocol) = proof {
            entry.live = protocol.into();
        }
        if let Some(bucket) = self.bucket_mut(&id) {
            bucket.wait(entry);
        }
        self.version += 1;
        Added::Waiting
    }

    /// Gives free places to those waiting.
    pub fn fill(&mut self, now: MonoTime) {
        for bucket in &mut self.buckets {
            while !bucket.is_full()
                && let Some(mut entry) = bucket.replacements.pop_front()
            {
                entry.added = now;
                if let Some(protocol) = entry.live.preferred() {
                    entry.prove(protocol);
                }
                bucket.entries.push(entry);
            }
        }
        self.changed(now);
    }

    /// The node did not answer a check over `protocol`.
    ///
    /// If it never did over this one, only that is remembered, as long as it answers over another or has not been tried over
    /// all, nor at the other address of its record. Else its credit falls to a third; at nothing it is no longer live over
    /// this protocol, and when it is live over none it goes.
    pub fn on_check_failed(
        &mut self,
        now: MonoTime,
        id: &NodeId,
        protocol: Protocol,
        fallback: Fallback,
    ) -> CheckFailed {
        let room_elsewhere = fallback
            .endpoint
            .filter(|endpoint| self.admits(id, endpoint.ip));
        let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id)) else {
            return CheckFailed::Gone;
        };
        entry.checking = false;
        let proven = entry.live.contains(protocol);
        if !proven {
            entry.silent = entry.silent.with(protocol);
            if entry.is_live() {
                self.sync(now);
                return CheckFailed::Kept;
            }
            if !fallback.protocols.but(entry.silent).is_empty() {
                self.sync(now);
                return CheckFailed::Retry;
            }
        }
        entry.checks /= 3;
        entry.list = RevalidationList::Fast;
        if entry.checks > 0 {
            self.changed(now);
            return CheckFailed::Kept;
        }
        entry.live = entry.live.without(protocol);
        if entry.is_live() {
            entry.silent = entry.silent.with(protocol);
            entry.checks = 1;
            self.changed(now);
            return CheckFailed::Kept;
        }
        if let Some(endpoint) = room_elsewhere.filter(|_| !entry.elsewhere) {
            entry.node = entry.node.clone().with_endpoint(endpoint);
            entry.elsewhere = true;
            entry.silent = Protocols::NONE;
            entry.saved = false;
            self.changed(now);
            return CheckFailed::Retry;
        }
        self.remove(now, id);
        CheckFailed::Gone
    }

    /// The node has not answered a question at `endpoint` over a protocol: if it never did there, that is remembered.
    pub fn on_unanswered(&mut self, id: &NodeId, endpoint: &Endpoint, protocol: Protocol) {
        if let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id))
            && !entry.live.contains(protocol)
            && entry.node.endpoint().udp_addr() == endpoint.udp_addr()
        {
            entry.silent = entry.silent.with(protocol);
        }
    }

    /// The node has not answered a lookup's question, after answering no other since `count - 1` such ones: returns `count`,
    /// or `None` if no bucket holds it.
    pub fn on_find_failed(&mut self, id: &NodeId) -> Option<u32> {
        let entry = self.bucket_mut(id)?.get_mut(id)?;
        entry.find_failures = entry.find_failures.saturating_add(1);
        Some(entry.find_failures)
    }

    /// The node has answered a question. `true` if that ends a row of failures.
    pub fn on_find_answered(&mut self, id: &NodeId) -> bool {
        self.bucket_mut(id)
            .and_then(|bucket| bucket.get_mut(id))
            .is_some_and(|entry| std::mem::take(&mut entry.find_failures) > 0)
    }

    /// Remembers what an earlier run counted about a node.
    pub fn restore_failures(&mut self, id: &NodeId, count: u32) {
        if let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id)) {
            entry.find_failures = count;
        }
    }

    /// The node is being checked, whoever asked for it.
    pub fn on_check_begun(&mut self, now: MonoTime, id: &NodeId) {
        if let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id)) {
            entry.checking = true;
        }
        self.sync(now);
    }

    /// The check never took place (nothing could be sent): it will be tried again.
    pub fn on_check_skipped(&mut self, now: MonoTime, id: &NodeId) {
        if let Some(entry) = self.bucket_mut(id).and_then(|bucket| bucket.get_mut(id)) {
            entry.checking = false;
        }
        self.sync(now);
    }

    /// Takes a node out. One of those waiting gets its place: a random one among the proven if there are any,
    /// else among all.
    pub fn remove(&mut self, now: MonoTime, id: &NodeId) -> Option<Node> {
        let at = self.place(id)?;
        let bucket = self.buckets.get_mut(at)?;
        let entry = bucket.take(id)?;
        let proven: Vec<usize> = (0..bucket.replacements.len())
            .filter(|i| bucket.replacements.get(*i).is_some_and(Entry::is_live))
            .collect();
        let candidates = if proven.is_empty() {
            (0..bucket.replacements.len()).collect()
        } else {
            proven
        };
        if !candidates.is_empty()
            && let Some(chosen) = candidates.get(self.rng.random_range(0..candidates.len()))
            && let Some(promoted) = bucket.replacements.remove(*chosen)
        {
            // Whatever it proved was long ago: the fast list finds out.
            bucket.entries.push(Entry::unproven(promoted.node, now));
        }
        self.changed(now);
        Some(entry.node)
    }

    /// When [`next_check`](Self::next_check) has something to give.
    #[must_use]
    pub fn deadline(&self) -> Option<MonoTime> {
        self.schedule.deadline()
    }

    /// A node to ping now. Call until `None`. It ends with [`add`](Self::add) of an [`Proof::Answer`],
    /// [`on_check_failed`](Self::on_check_failed) or [`on_check_skipped`](Self::on_check_skipped).
    pub fn next_check(&mut self, now: MonoTime) -> Option<Node> {
        let list = self.schedule.due(now)?;
        let idle = |entry: &&mut Entry| entry.list == list && !entry.checking;
        let census = self.census();
        let len = match list {
            RevalidationList::Fast => census.fast,
            RevalidationList::Slow => census.slow,
        };
        self.schedule.rearm(now, list, census, &mut self.rng);
        if len == 0 {
            self.sync(now);
            return self.next_check(now);
        }
        let chosen = self.rng.random_range(0..len);
        let entry = self
            .buckets
            .iter_mut()
            .flat_map(|bucket| &mut bucket.entries)
            .filter(idle)
            .nth(chosen)?;
        entry.checking = true;
        Some(entry.node.clone())
    }

    /// Live nodes that have stayed at least `min_age` and whose present state has not been taken by this call
    /// before: what the database should have.
    pub fn take_settled(&mut self, now: MonoTime, min_age: Duration) -> Vec<Node> {
        self.buckets
            .iter_mut()
            .flat_map(|bucket| &mut bucket.entries)
            .filter(|entry| entry.is_live() && !entry.saved && now - entry.added >= min_age)
            .map(|entry| {
                entry.saved = true;
                entry.node.clone()
            })
            .collect()
    }

    /// A copy for readers.
    #[must_use]
    pub fn snapshot(&self) -> TableSnapshot {
        let buckets = self
            .buckets
            .iter()
            .map(|bucket| BucketSnapshot {
                entries: bucket
                    .entries
                    .iter()
                    .map(|entry| EntrySnapshot {
                        node: entry.node.clone(),
                        live: entry.is_live(),
                        protocols: entry.live,
                        checks: entry.checks,
                        added: entry.added,
                        list: entry.list,
                    })
                    .collect(),
                replacements: bucket
                    .replacements
                    .iter()
                    .map(|entry| entry.node.clone())
                    .collect(),
            })
            .collect();
        TableSnapshot {
            buckets,
            version: self.version,
        }
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.buckets.iter().flat_map(|bucket| &bucket.entries)
    }

    fn update(&mut self, now: MonoTime, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(old) = self.bucket(&id).and_then(|bucket| bucket.get(&id)) else {
            return Added::Known;
        };
        let answered_at = node.endpoint().udp_addr();
        let merged = merge(old, &node, proof);
        let moved_ip = merged.endpoint().ip != old.node.endpoint().ip;
        let moved = moved_ip || merged.endpoint().udp != old.node.endpoint().udp;
        let changed = merged != old.node;
        let was_live = old.live;
        let newer = merged.seq() > old.node.seq();
        if moved_ip && !self.admits(&id, merged.endpoint().ip) {
            return Added::Refused(Refusal::Subnet);
        }
        let Some(bucket) = self.bucket_mut(&id) else {
            return Added::Known;
        };
        if let Some(entry) = bucket.get_mut(&id) {
            entry.node = merged;
            entry.saved &= !changed;
            if newer {
                // What it could not do before it may say it can now.
                entry.silent = Protocols::NONE;
            }
            if moved {
                entry.live = Protocols::NONE;
                entry.silent = Protocols::NONE;
                entry.elsewhere = false;
                entry.checks = 0;
                entry.checking = false;
                entry.list = RevalidationList::Fast;
            }
            // An answer from the family it is not at says nothing about the endpoint it is at.
            if let Proof::Answer(protocol) = proof
                && entry.node.endpoint().udp_addr() == answered_at
            {
                entry.prove(protocol);
            }
        }
        if proof != Proof::Hearsay {
            bucket.move_up(&id);
        }
        let is_live = self
            .standing(&id)
            .map_or(was_live, |standing| standing.live);
        if changed || is_live != was_live {
            self.changed(now);
            return Added::Updated;
        }
        // What somebody says again puts nobody on another list.
        if proof != Proof::Hearsay {
            self.sync(now);
        }
        Added::Known
    }

    /// Keeps what is known of a waiting node up to date; heard of itself it moves to the front.
    fn update_waiting(&mut self, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(old) = self
            .bucket_mut(&id)
            .and_then(|bucket| bucket.replacement_mut(&id))
            .cloned()
        else {
            return Added::Waiting;
        };
        let merged = merge(&old, &node, proof);
        if merged.endpoint().ip != old.node.endpoint().ip && !self.admits(&id, merged.endpoint().ip)
        {
            return Added::Refused(Refusal::Subnet);
        }
        let mut live = old.live;
        if merged.endpoint().udp_addr() != old.node.endpoint().udp_addr() {
            live = Protocols::NONE;
        }
        if let Proof::Answer(protocol) = proof
            && merged.endpoint().udp_addr() == node.endpoint().udp_addr()
        {
            live = live.with(protocol);
        }
        self.version += u64::from(merged != old.node);
        let entry = Entry {
            node: merged,
            live,
            ..old
        };
        if let Some(bucket) = self.bucket_mut(&id) {
            if proof == Proof::Hearsay {
                if let Some(place) = bucket.replacement_mut(&id) {
                    *place = entry;
                }
            } else {
                bucket.take_replacement(&id);
                bucket.wait(entry);
            }
        }
        Added::Waiting
    }

    /// Whether the network limits leave room for `id` at `ip`, its own present place not counted.
    fn admits(&self, id: &NodeId, ip: IpAddr) -> bool {
        let Some(bucket) = self.bucket(id) else {
            return false;
        };
        let all = self
            .buckets
            .iter()
            .flat_map(|bucket| bucket.ips_near(ip, id));
        BUCKET_LIMITS.admit(ip, bucket.ips_near(ip, id)) && TABLE_LIMITS.admit(ip, all)
    }

    fn changed(&mut self, now: MonoTime) {
        self.version += 1;
        self.sync(now);
    }

    fn sync(&mut self, now: MonoTime) {
        let census = self.census();
        self.schedule.sync(now, census, &mut self.rng);
    }

    fn census(&self) -> Census {
        let mut census = Census {
            fast: 0,
            slow: 0,
            live: 0,
        };
        for entry in self.entries() {
            census.live += usize::from(entry.is_live());
            match entry.list {
                _ if entry.checking => {}
                RevalidationList::Fast => census.fast += 1,
                RevalidationList::Slow => census.slow += 1,
            }
        }
        census
    }

    /// The bucket of `id`; `None` for this node itself.
    fn place(&self, id: &NodeId) -> Option<usize> {
        let distance = self.local.log_distance(id);
        (distance > 0).then(|| usize::from(distance.saturating_sub(NEAREST)))
    }

    fn bucket(&self, id: &NodeId) -> Option<&Bucket> {
        self.buckets.get(self.place(id)?)
    }

    fn bucket_mut(&mut self, id: &NodeId) -> Option<&mut Bucket> {
        let at = self.place(id)?;
        self.buckets.get_mut(at)
    }
}
