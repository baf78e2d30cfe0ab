//! RocksDB made small. Its defaults are for servers: 64 MiB write buffers, unlimited open files, megabytes of log. A node database
//! is 50 MB, written in small bursts, read rarely.

use rocksdb::{BlockBasedOptions, Cache, DBRecoveryMode, LogLevel, Options, ReadOptions};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Two write buffers of 1 MiB: one filling, one being written out. 2 MiB at most.
const WRITE_BUFFER: usize = MIB;
const WRITE_BUFFERS: i32 = 2;

/// Blocks, and the indexes and filters of the tables, share this cache, so open tables cost nothing beside it.
pub(super) const BLOCK_CACHE: usize = 4 * MIB;

/// Bigger than the 4 KiB default: four times fewer index entries, and contacts are read one by one rarely.
const BLOCK: usize = 16 * KIB;

/// 10 bits a key leave 1% false hits: a ping from an unknown id almost never reaches the disk.
const FILTER_BITS: f64 = 10.0;

/// One table file holds about 80,000 nodes, so 131,072 nodes at their bound are a handful of files.
const TABLE: u64 = 32 * MIB as u64;

/// Scans read ahead this much, and compactions too; the default for those is 2 MiB.
const READ_AHEAD: usize = 256 * KIB;

/// Each file's log of what happened to it, kept short: 2 files of 256 KiB.
const LOG_FILE: usize = 256 * KIB;
const LOG_FILES: usize = 2;

/// The write-ahead log is emptied by writing the buffers out once it has this size; also what opening after a kill replays.
const WRITE_AHEAD: u64 = 4 * MIB as u64;

/// The manifest is started anew at this size and reserved in small steps (defaults: 1 GiB and 4 MiB).
const MANIFEST: usize = MIB;
const MANIFEST_STEP: usize = 64 * KIB;

/// At most this many open files for a database; it never has as many.
const OPEN_FILES: i32 = 64;

pub(super) fn options(cache: &Cache, create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_max_write_buffer_number(WRITE_BUFFERS);
    options.set_block_based_table_factory(&tables(cache));
    options.set_target_file_size_base(TABLE);
    options.set_max_bytes_for_level_base(2 * TABLE);
    options.set_max_open_files(OPEN_FILES);
    options.set_compaction_readahead_size(READ_AHEAD);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(WRITE_AHEAD);
    // After a kill: everything up to the first torn entry, which is a consistent state.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_max_manifest_file_size(MANIFEST);
    options.set_manifest_preallocation_size(MANIFEST_STEP);
    options.set_keep_log_file_num(LOG_FILES);
    options.set_max_log_file_size(LOG_FILE);
    options.set_log_level(LogLevel::Warn);
    // No statistics thread's reports and no history of them.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

fn tables(cache: &Cache) -> BlockBasedOptions {
    let mut tables = BlockBasedOptions::default();
    tables.set_block_cache(cache);
    tables.set_block_size(BLOCK);
    tables.set_bloom_filter(FILTER_BITS, false);
    tables.set_cache_index_and_filter_blocks(true);
    tables.set_pin_l0_filter_and_index_blocks_in_cache(true);
    tables.set_format_version(5);
    tables
}

/// For scans over a whole range: they must not push the indexes out of the small cache.
pub(super) fn scan() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD);
    options
}
