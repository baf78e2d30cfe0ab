//! Reading a database from end to end when it is opened: the checksum of every block, the shape of every entry, and that
//! each contact has its row and each row its contact.
//!
//! It costs a fifth of a second for 100,000 nodes (see the README) and buys that damage is found now, when it can be
//! repaired, and not by a lookup an hour later.

use rocksdb::{DB, WriteBatch};
use tercet_enode::NodeId;

use crate::cache::{CacheIndex, CacheKey};
use crate::codec::{decode_cached, decode_number, decode_row, encode_row, is_contact};

use super::keys::{Kind, SCHEMA, id_of};
use super::{SCAN_BATCH, cache_key, options, scan};

/// What a whole database holds.
#[derive(Debug, Default)]
pub(super) struct Audit {
    pub(super) rows: usize,
    pub(super) nodes: usize,
    pub(super) cache: CacheIndex,
    /// Entries that were no use and are gone.
    pub(super) skipped: u64,
}

/// Reads everything and drops the entries that cannot be used.
pub(super) fn audit(db: &DB) -> Result<Audit, rocksdb::Error> {
    let mut sweep = Sweep {
        db,
        drop: WriteBatch::default(),
        found: Audit::default(),
    };
    sweep.foreign_keys()?;
    sweep.local_numbers()?;
    sweep.cached_values()?;
    sweep.rows_and_contacts()?;
    db.write(sweep.drop)?;
    Ok(sweep.found)
}

/// What is in the cache, read from the disk.
pub(super) fn cached_values(db: &DB) -> Result<CacheIndex, rocksdb::Error> {
    let mut sweep = Sweep {
        db,
        drop: WriteBatch::default(),
        found: Audit::default(),
    };
    sweep.cached_values()?;
    db.write(sweep.drop)?;
    Ok(sweep.found.cache)
}

struct Sweep<'a> {
    db: &'a DB,
    drop: WriteBatch,
    found: Audit,
}

impl Sweep<'_> {
    fn skip(&mut self, key: &[u8]) -> Result<(), rocksdb::Error> {
        self.found.skipped += 1;
        self.drop.delete(key);
        if self.drop.len() >= SCAN_BATCH {
            self.db.write(std::mem::take(&mut self.drop))?;
        }
        Ok(())
    }

    /// Whatever is not of a known kind; ranges of known kinds are jumped over.
    fn foreign_keys(&mut self) -> Result<(), rocksdb::Error> {
        let mut entries = self.db.raw_iterator_opt(options::scan());
        entries.seek_to_first();
        while let Some(key) = entries.key() {
            if let Some(kind) = Kind::of(key) {
                entries.seek(kind.range().end);
                continue;
            }
            if key != SCHEMA {
                let key = key.to_vec();
                self.skip(&key)?;
            }
            entries.next();
        }
        entries.status()
    }

    fn local_numbers(&mut self) -> Result<(), rocksdb::Error> {
        let mut entries = scan(self.db, Kind::LocalSeq);
        while let Some((key, value)) = entries.item() {
            if id_of(key).is_err() || decode_number(value).is_err() {
                let key = key.to_vec();
                self.skip(&key)?;
            }
            entries.next();
        }
        entries.status()
    }

    /// Values of the cache; those over its bound leave, too.
    fn cached_values(&mut self) -> Result<(), rocksdb::Error> {
        let mut entries = scan(self.db, Kind::Cache);
        while let Some((key, value)) = entries.item() {
            match (id_of(key), decode_cached(value)) {
                (Ok(id), Ok((written, value))) => {
                    let key = CacheKey::new(*id.as_bytes());
                    for gone in self.found.cache.insert(key, written, value.len()) {
                        self.drop.delete(cache_key(&gone));
                    }
                }
                _ => {
                    let key = key.to_vec();
                    self.skip(&key)?;
                }
            }
            entries.next();
        }
        entries.status()
    }

    /// Walks rows and contacts side by side, both in order of id.
    fn rows_and_contacts(&mut self) -> Result<(), rocksdb::Error> {
        let mut contacts = scan(self.db, Kind::Contact);
        let mut rows = scan(self.db, Kind::Row);
        while let Some((key, value)) = rows.item() {
            let (Ok(id), Ok(mut row)) = (id_of(key), decode_row(value)) else {
                let key = key.to_vec();
                self.skip(&key)?;
                rows.next();
                continue;
            };
            let contact = self.contact_of(&mut contacts, &id)?;
            if !contact && row.head.take().is_some() {
                // Its contact is gone; the statistics are still true.
                self.found.skipped += 1;
                if row.is_empty() {
                    self.drop.delete(key);
                } else {
                    self.drop.put(key, encode_row(&row));
                }
            }
            if contact && row.head.is_none() {
                self.skip(&Kind::Contact.key(&id))?;
            }
            self.found.rows += usize::from(!row.is_empty());
            self.found.nodes += usize::from(row.head.is_some());
            rows.next();
        }
        rows.status()?;
        // Contacts beyond the last row belong to none.
        while let Some(key) = contacts.key() {
            let key = key.to_vec();
            self.skip(&key)?;
            contacts.next();
        }
        contacts.status()
    }

    /// Moves on to the contact of `id`, skipping those before it, which have no row. Says whether it is there and whole.
    fn contact_of(
        &mut self,
        contacts: &mut rocksdb::DBRawIterator<'_>,
        id: &NodeId,
    ) -> Result<bool, rocksdb::Error> {
        let wanted = Kind::Contact.key(id);
        while let Some((key, value)) = contacts.item() {
            if key > wanted.as_slice() {
                return Ok(false);
            }
            let whole = key == wanted.as_slice() && is_contact(id, value).is_ok();
            let found = key == wanted.as_slice();
            if !whole {
                let key = key.to_vec();
                self.skip(&key)?;
            }
            contacts.next();
            if found {
                return Ok(whole);
            }
        }
        contacts.status()?;
        Ok(false)
    }
}
