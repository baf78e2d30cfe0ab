//! A network that grows from one node, up to ten thousand, and what a lookup costs in it.

use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use tercet_sim::{Counts, TraceHash};

use crate::network::{Network, Setup, link};
use crate::quality::{LookupQuality, TableQuality};
use crate::{Ending, MINUTE, Protocols, SECOND, end, grow, twice};

/// Memory of this process, in bytes, where the system tells.
fn resident() -> Option<u64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = pages.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// A network of one size.
#[derive(Debug, PartialEq)]
struct Row {
    nodes: usize,
    trace: TraceHash,
    counts: Counts,
    /// From the coming of the last node to the end of the last first refresh.
    waited: Duration,
    tables: TableQuality,
    lookups: LookupQuality,
}

/// How long it takes until all have come, in seconds.
const JOINING: u32 = 15;

/// Both runs one after the other, each on all cores. Says how long it took until all had joined, and the
/// memory of a node half a minute later where the system tells.
fn row(nodes: usize) -> Row {
    let play = || {
        let (empty, began) = (resident(), clock());
        let mut setup = Setup::new(nodes as u64);
        setup.threads = thread::available_parallelism().map_or(1, NonZero::get);
        let mut network = Network::new(setup);
        let waited = grow(&mut network, nodes, nodes as u32 / JOINING);
        let joined = began.elapsed();
        network.run(MINUTE / 2);
        let each = resident()
            .zip(empty)
            .map(|(full, empty)| full.saturating_sub(empty) / nodes as u64);
        println!("{nodes} nodes have joined within {joined:?}, {each:?} bytes a node");
        let tables = TableQuality::measure(&network);
        let lookups = LookupQuality::measure(&mut network, LOOKUPS, Protocols::ALL);
        Row {
            nodes,
            trace: network.sim.trace_hash(),
            counts: network.sim.counts(),
            waited,
            tables,
            lookups,
        }
    };
    let (row, again) = (play(), play());
    assert_eq!(row, again, "a seed repeats its run");
    println!("{row:#?}");
    row
}

#[allow(clippy::disallowed_methods)] // to be printed, and for nothing else
fn clock() -> Instant {
    Instant::now()
}

/// At most this many lookups in each network, each by a node of its own.
const LOOKUPS: usize = 200;

/// The three networks have ten times as many nodes each; what a lookup costs may grow by a constant from one to the next. A hop
/// halves the distance several times, as sixteen nodes of each bucket are named: ten times the nodes are 3.3 halvings.
const HOPS: f64 = 1.5;
const QUERIES: f64 = 6.0;
const MESSAGES: f64 = 25.0;

#[test]
fn ten_thousand_nodes_come_from_one_and_lookups_grow_with_the_logarithm() {
    let rows = [row(100), row(1000), row(10_000)];
    println!(
        "  nodes  hops (most)  queries (most)  messages  time     nearest  of 16  table  joined"
    );
    for row in &rows {
        let (tables, lookups) = (&row.tables, &row.lookups);
        println!(
            "{:>7}  {:>4.2} {:>6}  {:>7.1} {:>6}  {:>8.1}  {:>5.2} s  {:>7.3}  {:>5.3}  {:>5.1}  {:>4} s",
            row.nodes,
            lookups.mean_hops,
            lookups.most_hops,
            lookups.mean_queries,
            lookups.most_queries,
            lookups.mean_messages,
            lookups.mean_time.as_secs_f64(),
            lookups.nearest,
            lookups.overlap,
            tables.mean,
            row.waited.as_secs(),
        );
    }
    for Row {
        waited,
        tables,
        lookups,
        ..
    } in &rows
    {
        assert!(*waited <= 30 * SECOND, "{waited:?}");
        assert!(tables.smallest >= 1 && tables.poor <= 0.01, "{tables:?}");
        assert!(
            tables.live >= 0.95 && tables.nearest_known >= 0.8,
            "{tables:?}"
        );
        assert!(
            lookups.nearest >= 0.9 && lookups.overlap >= 0.9,
            "{lookups:?}"
        );
        assert!(
            lookups.most_hops <= 10 && lookups.most_queries <= 60,
            "{lookups:?}"
        );
    }
    for pair in rows.windows(2) {
        let [fewer, more] = [&pair[0].lookups, &pair[1].lookups];
        assert!(
            more.mean_hops - fewer.mean_hops <= HOPS,
            "{fewer:?} {more:?}"
        );
        assert!(
            more.mean_queries - fewer.mean_queries <= QUERIES,
            "{fewer:?} {more:?}"
        );
        assert!(
            more.mean_messages - fewer.mean_messages <= MESSAGES,
            "{fewer:?} {more:?}"
        );
    }
}

#[test]
fn lookups_find_the_nearest_where_datagrams_overtake_each_other() {
    let Ending {
        trace,
        counts,
        tables,
        lookups,
    } = twice(|| {
        let mut setup = Setup::new(3);
        // One full packet of neighbours in four is overtaken by its rest.
        setup.link = link().reordering(0.5, Duration::from_millis(50));
        let mut network = Network::new(setup);
        grow(&mut network, 300, 20);
        network.run(MINUTE / 2);
        end(&mut network, 100)
    });
    println!("300 nodes, datagrams out of order, trace {trace}");
    println!("{counts:?}\n{tables:?}\n{lookups:?}");

    assert!(
        lookups.nearest >= 0.9 && lookups.overlap >= 0.9,
        "{lookups:?}"
    );
    assert!(
        lookups.most_hops <= 8 && lookups.most_queries <= 60,
        "{lookups:?}"
    );
}
