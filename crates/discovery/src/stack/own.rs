//! This node's own record: what its owner sets, what others bring about by saying where they see it and by coming there, and
//! who has to know of a new one.

use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use bytes::Bytes;
use tercet_enode::{NodeRecord, SecretKey};
use tercet_machine::{Machine, MachineRng, Now};
use tercet_nodedb::Write;

use super::{NodeStack, StackConfig, StackOutput};
use crate::core::CoreInput;
use crate::engine::Protocol;
use crate::local::{EntryError, LocalConfig, LocalNode};
use crate::v5::SessionInput;
use crate::vote::Family;

pub(super) fn local_node(
    config: &StackConfig,
    key: SecretKey,
    (stored_seq, now): (Option<u64>, Now),
    rng: &mut MachineRng,
) -> Result<LocalNode, EntryError> {
    // A guest is nowhere, whatever others say.
    let listen = if config.core.guest {
        [None; 2]
    } else {
        config.listen
    };
    let local = LocalConfig {
        manual: config.advertised,
        tcp: config.tcp_port,
        entries: config.entries.clone(),
        min_voices: config.min_voices,
        // Over discv4 a node is found without a record.
        trials: !config.core.protocols.contains(Protocol::V4),
        ..LocalConfig::new(listen)
    };
    LocalNode::with_config(key, local, stored_seq, now.unix, &mut rng.child("local"))
}

impl NodeStack {
    /// Sets an entry of this node's record, one RLP item. `true` if that changed the record.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub fn set_entry(&mut self, now: Now, key: Vec<u8>, rlp: Bytes) -> Result<bool, EntryError> {
        let changed = self.local.set_entry(key, rlp);
        self.after_change(now, changed)
    }

    /// Takes an entry out of this node's record. `true` if that changed the record.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub fn remove_entry(&mut self, now: Now, key: &[u8]) -> Result<bool, EntryError> {
        let changed = self.local.remove_entry(key);
        self.after_change(now, changed)
    }

    /// Sets the RLPx port in this node's record, 0 for none. `true` if that changed the record.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub fn set_tcp_port(&mut self, now: Now, port: u16) -> Result<bool, EntryError> {
        let changed = self.local.set_tcp_port(port);
        self.after_change(now, changed)
    }

    /// Sets the IPv4 address to advertise, whatever others say; a port of 0 stands for the one listened on. `None`: what others see
    /// counts again. `true` if that changed the record.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub fn set_advertised(
        &mut self,
        now: Now,
        address: Option<SocketAddrV4>,
    ) -> Result<bool, EntryError> {
        let address = address.map(SocketAddr::V4);
        let changed = self.local.set_manual(Family::V4, address);
        self.after_change(now, changed)
    }

    /// The same for IPv6.
    ///
    /// # Errors
    /// See [`EntryError`].
    pub fn set_advertised6(
        &mut self,
        now: Now,
        address: Option<SocketAddrV6>,
    ) -> Result<bool, EntryError> {
        let address = address.map(SocketAddr::V6);
        let changed = self.local.set_manual(Family::V6, address);
        self.after_change(now, changed)
    }

    pub(super) fn on_vote(&mut self, now: Now, voter: IpAddr, seen_as: SocketAddr) {
        self.counters.votes += 1;
        let changed = self.local.on_vote(now, voter, seen_as);
        self.on_new_record(now, changed);
    }

    pub(super) fn on_contact(&mut self, now: Now, from: SocketAddr) {
        self.counters.contacts += 1;
        let changed = self.local.on_unsolicited(now, from);
        self.on_new_record(now, changed);
    }

    pub(super) fn local_timeout(&mut self, now: Now) {
        let [v4, v6] = self.core.take_strangers();
        self.local.on_strangers(Family::V4, v4);
        self.local.on_strangers(Family::V6, v6);
        let changed = self.local.handle_timeout(now);
        self.on_new_record(now, changed);
    }

    pub(super) fn store_seq(&mut self, record: &NodeRecord) {
        self.out.push(StackOutput::Write(Write::LocalSeq {
            id: record.id(),
            seq: record.seq(),
        }));
    }

    fn after_change(
        &mut self,
        now: Now,
        changed: Result<bool, EntryError>,
    ) -> Result<bool, EntryError> {
        if changed.clone()? {
            let record = self.local.record().clone();
            self.on_new_record(now, Some(record));
            self.drain(now);
        }
        changed
    }

    /// The number goes to the database before anybody can have seen the record.
    fn on_new_record(&mut self, now: Now, record: Option<NodeRecord>) {
        let Some(record) = record else {
            return;
        };
        self.store_seq(&record);
        self.sessions
            .handle(now, SessionInput::LocalRecord(record.clone()));
        self.core
            .handle(now, CoreInput::LocalRecord(record.clone()));
        self.out.push(StackOutput::Record(record));
    }
}
