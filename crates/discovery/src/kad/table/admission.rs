//! Who comes into the table, what is known of him there, and who gives way.

use std::net::IpAddr;

use rand::RngExt;
use tercet_enode::{Node, NodeId};
use tercet_machine::MonoTime;

use super::{Added, BUCKETS, Refusal, Table};
use crate::engine::Protocols;
use crate::kad::bucket::{Bucket, Entry, Proof, merge};
use crate::kad::filter::{BUCKET_LIMITS, TABLE_LIMITS};
use crate::kad::revalidate::RevalidationList;

impl Table {
    /// Takes in a node, or what is new about it.
    ///
    /// A known node moves to the head of its bucket if it was heard itself. The endpoint of a node that has
    /// answered a ping is changed only by the node's own packets, never by hearsay: the one that works is
    /// worth more than the one announced.
    pub fn add(&mut self, now: MonoTime, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(bucket) = self.bucket(&id) else {
            return Added::Refused(Refusal::Own);
        };
        if let Some(known) = bucket.get(&id) {
            return if says_nothing_new(known, &node, proof) {
                Added::Known
            } else {
                self.update(now, node, proof)
            };
        }
        let full = bucket.is_full();
        if full && let Some(known) = bucket.replacement(&id) {
            return if says_nothing_new(known, &node, proof) {
                Added::Waiting
            } else {
                self.update_waiting(node, proof)
            };
        }
        if !self.admits(&id, node.endpoint().ip) {
            return Added::Refused(Refusal::Subnet);
        }
        let mut entry = Entry::unproven(node, now);
        if let Proof::Answer(protocol) = proof {
            entry.prove(protocol);
        }
        if full {
            self.edit(&id, |bucket| bucket.wait(entry));
            // Nobody who waits is on a list.
            self.version += 1;
            return Added::Waiting;
        }
        self.edit(&id, |bucket| {
            bucket.take_replacement(&id);
            // At the tail: a stranger has not been heard of longer than anyone here.
            bucket.push(entry);
        });
        self.changed(now);
        Added::Inserted
    }

    /// Whether somebody who names this node says nothing new: then [`add`](Self::add) would do nothing.
    #[must_use]
    pub fn has_heard(&self, node: &Node) -> bool {
        let id = node.id();
        self.bucket(&id).is_some_and(|bucket| {
            let waiting = || bucket.replacement(&id).filter(|_| bucket.is_full());
            let known = bucket.get(&id).or_else(waiting);
            known.is_some_and(|known| says_nothing_new(known, node, Proof::Hearsay))
        })
    }

    /// Lets a node wait among the replacements even where its bucket has room; see
    /// [`fill`](Self::fill). For nodes that come by themselves before this one has found its own way into the
    /// network, so that they cannot fill the table first.
    pub fn add_waiting(&mut self, now: MonoTime, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(bucket) = self.bucket(&id) else {
            return Added::Refused(Refusal::Own);
        };
        if bucket.get(&id).is_some() {
            return self.update(now, node, proof);
        }
        if bucket.replacement(&id).is_some() {
            return self.update_waiting(node, proof);
        }
        if !self.admits(&id, node.endpoint().ip) {
            return Added::Refused(Refusal::Subnet);
        }
        let mut entry = Entry::unproven(node, now);
        if let Proof::Answer(protocol) = proof {
            entry.live = protocol.into();
        }
        self.edit(&id, |bucket| bucket.wait(entry));
        self.version += 1;
        Added::Waiting
    }

    /// Gives free places to those waiting.
    pub fn fill(&mut self, now: MonoTime) {
        for at in 0..BUCKETS {
            self.edit_at(at, |bucket| {
                while !bucket.is_full()
                    && let Some(mut entry) = bucket.take_replacement_at(0)
                {
                    entry.added = now;
                    // On the fast list, even those that have answered: what else they can answer over is found out soon.
                    if let Some(protocol) = entry.live.preferred() {
                        entry.prove(protocol);
                        entry.list = RevalidationList::Fast;
                    }
                    bucket.push(entry);
                }
            });
        }
        self.changed(now);
    }

    /// Takes a node out. One of those waiting gets its place: a random one among the proven if there are any,
    /// else among all.
    pub fn remove(&mut self, now: MonoTime, id: &NodeId) -> Option<Node> {
        let bucket = self.bucket(id)?;
        bucket.get(id)?;
        let waiting = bucket.replacements().enumerate();
        let proven = waiting.filter(|(_, entry)| entry.is_live());
        let mut candidates: Vec<usize> = proven.map(|(at, _)| at).collect();
        if candidates.is_empty() {
            candidates = (0..bucket.replacements().len()).collect();
        }
        let drawn = (!candidates.is_empty()).then(|| self.rng.random_range(0..candidates.len()));
        let chosen = drawn.and_then(|drawn| candidates.get(drawn));
        let gone = self.edit(id, |bucket| {
            let gone = bucket.take(id);
            if let Some(promoted) = chosen.and_then(|at| bucket.take_replacement_at(*at)) {
                // Whatever it proved was long ago: the fast list finds out.
                bucket.push(Entry::unproven(promoted.node, now));
            }
            gone
        });
        self.changed(now);
        Some(gone.flatten()?.node)
    }

    fn update(&mut self, now: MonoTime, node: Node, proof: Proof) -> Added {
        let id = node.id();
        let Some(old) = self.bucket(&id).and_then(|bucket| bucket.get(&id)) else {
            return Added::Known;
        };
        let merged = merge(old, &node, proof);
        let was_live = old.live;
        let change = Change {
            moved: merged.endpoint().udp_addr() != old.node.endpoint().udp_addr(),
            newer: merged.seq() > old.node.seq(),
            any: merged != old.node,
        };
        let moved_ip = merged.endpoint().ip != old.node.endpoint().ip;
        if moved_ip && !self.admits(&id, merged.endpoint().ip) {
            return Added::Refused(Refusal::Subnet);
        }
        let mut in_turn = false;
        let live = self.edit_node(&id, |entry| {
            in_turn = entry.checking && entry.list == RevalidationList::Slow;
            entry.hear(&node, merged, proof, change)
        });
        if proof != Proof::Hearsay {
            self.move_up(&id);
        }
        if matches!(proof, Proof::Answer(_)) {
            self.history.answered = Some(now);
            if in_turn {
                self.schedule.on_answer();
            }
        }
        let live = live.unwrap_or(was_live);
        if change.any || live != was_live {
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
            .bucket(&id)
            .and_then(|bucket| bucket.replacement(&id))
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
        self.edit(&id, |bucket| {
            if proof == Proof::Hearsay {
                bucket.replace_waiting(&id, entry);
            } else {
                bucket.take_replacement(&id);
                bucket.wait(entry);
            }
        });
        Added::Waiting
    }

    /// Whether the network limits leave room for `id` at `ip`, its own present place not counted.
    pub(super) fn admits(&self, id: &NodeId, ip: IpAddr) -> bool {
        let Some(at) = self.place(id) else {
            return false;
        };
        let Some(bucket) = self.buckets.get(at) else {
            return false;
        };
        let near = |bucket: &'_ Bucket| bucket.ips_near(ip, id).collect::<Vec<_>>();
        self.stock.is_roomy(bucket, ip)
            || BUCKET_LIMITS.admit(ip, near(bucket).into_iter())
                && TABLE_LIMITS.admit(ip, self.buckets.iter().flat_map(near))
    }
}

/// Somebody names a node that is known, and his record of it is no newer: see [`merge`].
fn says_nothing_new(known: &Entry, node: &Node, proof: Proof) -> bool {
    proof == Proof::Hearsay && node.seq() <= known.node.seq()
}

/// What is new about a node.
#[derive(Clone, Copy)]
struct Change {
    /// Its UDP address.
    moved: bool,
    /// Its record.
    newer: bool,
    /// Something.
    any: bool,
}

impl Entry {
    /// Takes in what was heard as `heard`, which with what was known is `merged`. Returns over what it is live then.
    fn hear(&mut self, heard: &Node, merged: Node, proof: Proof, change: Change) -> Protocols {
        self.node = merged;
        self.saved &= !change.any;
        if change.newer {
            // What it could not do before it may say it can now.
            self.silent = Protocols::NONE;
        }
        if change.moved {
            self.live = Protocols::NONE;
            self.silent = Protocols::NONE;
            self.elsewhere = false;
            self.checks = 0;
            self.missed = None;
            self.checking = false;
            self.list = RevalidationList::Fast;
        }
        // An answer from the family it is not at says nothing about the endpoint it is at.
        if let Proof::Answer(protocol) = proof
            && self.node.endpoint().udp_addr() == heard.endpoint().udp_addr()
        {
            self.prove(protocol);
        }
        self.live
    }
}
