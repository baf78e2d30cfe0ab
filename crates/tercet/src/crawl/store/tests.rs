use tercet_enode::{NodeAddress, NodeRecord, SecretKey};
use tercet_machine::MachineRng;
use tercet_rlpx::{Capability, Hello};

use super::*;
use crate::nodeset::KnownNode;

fn node(seed: u16, score: u64) -> KnownNode {
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&seed.to_be_bytes());
    let key = SecretKey::generate(&mut MachineRng::from_seed(bytes));
    let record = NodeRecord::builder()
        .seq(7)
        .ip([10, 0, 0, 1].into())
        .udp(1000)
        .tcp(1001);
    let record = record
        .eth([0xfc, 0x64, 0xec, 0x04], u64::MAX)
        .sign(&key)
        .unwrap();
    KnownNode {
        score,
        last_check: Some(UnixTime::from_secs(50)),
        ..KnownNode::new(NodeAddress::Record(record))
    }
}

fn met(node: &KnownNode, protocol: &'static str, at: u64, answers: bool) -> Row {
    let place = node.address.to_node().map(|node| *node.endpoint());
    let sighting = Sighting {
        protocol,
        at: UnixTime::from_secs(at),
        address: place.map(|place| place.udp_addr()),
        rtt: answers.then_some(std::time::Duration::from_micros(1500)),
        error: None,
    };
    Row::Met {
        known: Box::new(node.clone()),
        place,
        sighting,
    }
}

fn spoke(node: &KnownNode, client: &str, capabilities: &[&str]) -> Row {
    let capabilities = capabilities
        .iter()
        .map(|name| Capability::new(name, 1).unwrap());
    let key = node.address.public_key();
    Row::Spoke {
        id: node.address.id(),
        at: UnixTime::from_secs(60),
        spoken: Box::new(Spoken {
            hello: Hello::new(client, capabilities.collect(), key),
            status: None,
        }),
    }
}

async fn crawl(path: &Path, at: u64, rows: Vec<Row>) {
    let mut store = Store::begin(path, UnixTime::from_secs(at)).await.unwrap();
    for row in rows {
        store.add(row).await.unwrap();
    }
    store
        .end(UnixTime::from_secs(at + 100), true)
        .await
        .unwrap();
}

fn one<T: rusqlite::types::FromSql>(path: &Path, query: &str) -> T {
    let connection = open_to_read(path).unwrap();
    connection.query_row(query, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn two_crawls_are_summed_up_and_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crawl.db");
    let (a, b, silent) = (node(1, 3), node(2, 1), node(3, 0));
    let rows = vec![
        met(&a, "v4", 10, true),
        met(&a, "v5", 11, false),
        met(&b, "v5", 12, true),
        met(&silent, "v4", 13, false),
        spoke(&a, "Geth/v1", &["eth", "snap"]),
        spoke(&b, "Geth/v1", &["eth"]),
    ];
    crawl(&path, 5, rows).await;
    // The second time the first one has another name, speaks less, and answers over discv4 no more.
    let rows = vec![
        met(&a, "v4", 200, false),
        met(&a, "v5", 201, true),
        spoke(&a, "Geth/v2", &["eth"]),
    ];
    crawl(&path, 150, rows).await;

    assert_eq!(
        one::<i64>(
            &path,
            "SELECT count(*) FROM crawls WHERE complete AND ended = started + 100"
        ),
        2
    );
    assert_eq!(one::<i64>(&path, "SELECT count(*) FROM nodes"), 3);
    assert_eq!(one::<i64>(&path, "SELECT count(*) FROM sightings"), 6);
    assert_eq!(
        one::<i64>(
            &path,
            "SELECT rtt_us FROM sightings WHERE crawl = 2 AND protocol = 'v5'"
        ),
        1500
    );
    let v4 = "SELECT visits || ' ' || answers || ' ' || first_answer || ' ' || last_answer || ' ' || last_visit
              FROM reachability WHERE protocol = 'v4' AND answers > 0";
    assert_eq!(one::<String>(&path, v4), "2 1 10 10 200");
    let v5 = "SELECT first_answer FROM reachability WHERE protocol = 'v5' AND visits = 2";
    assert_eq!(one::<i64>(&path, v5), 201);
    assert_eq!(
        one::<String>(&path, "SELECT group_concat(name) FROM clients"),
        "Geth/v1,Geth/v2"
    );
    // What does not fit an integer of SQLite's is the largest of them.
    assert_eq!(
        one::<i64>(&path, "SELECT fork_next FROM nodes LIMIT 1"),
        i64::MAX
    );

    let set = known(&path).unwrap();
    assert_eq!(set.len(), 2);
    assert_eq!(set.get(&a.address.id()), Some(&a));
    let counts = counts(&path).unwrap();
    assert_eq!(counts.nodes, 2);
    let clients: Vec<_> = counts
        .clients
        .into_iter()
        .map(|(name, count)| (name.unwrap(), count))
        .collect();
    assert_eq!(
        clients,
        [("Geth/v1".to_owned(), 1), ("Geth/v2".to_owned(), 1)]
    );
    assert_eq!(counts.protocols, [("v5".to_owned(), 2)].into());
    assert_eq!(counts.capabilities, [("eth/1".to_owned(), 2)].into());
    assert_eq!(
        counts.forks,
        [(Some(([0xfc, 0x64, 0xec, 0x04], i64::MAX as u64)), 2)].into()
    );
}

#[tokio::test]
async fn many_rows_are_written_in_batches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crawl.db");
    let nodes: Vec<_> = (0..3).map(|seed| node(seed, 1)).collect();
    let mut store = Store::begin(&path, UnixTime::from_secs(1)).await.unwrap();
    // More than may be on their way at a time.
    for turn in 0..BATCH * (MAX_BATCHES + 2) {
        store
            .add(met(&nodes[turn % 3], "v4", 2, true))
            .await
            .unwrap();
        assert!(store.batch.len() < BATCH);
    }
    store.end(UnixTime::from_secs(3), false).await.unwrap();
    let visits: i64 = one(&path, "SELECT sum(visits) FROM reachability");
    assert_eq!(visits as usize, BATCH * (MAX_BATCHES + 2));
}

#[tokio::test]
async fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let now = UnixTime::from_secs(1);
    std::fs::write(
        path("text"),
        "no database, but quite long enough to be taken for one\n".repeat(40),
    )
    .unwrap();
    assert!(matches!(
        Store::begin(&path("text"), now).await,
        Err(StoreError::NotOurs { .. })
    ));
    assert!(!is_database(&path("text")));
    Connection::open(path("other"))
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    assert!(matches!(
        Store::begin(&path("other"), now).await,
        Err(StoreError::NotOurs { .. })
    ));
    assert!(
        is_database(&path("other"))
            && matches!(known(&path("other")), Err(StoreError::NotOurs { .. }))
    );
    crawl(&path("newer"), 1, Vec::new()).await;
    Connection::open(path("newer"))
        .unwrap()
        .pragma_update(None, "user_version", 9)
        .unwrap();
    let newer = Store::begin(&path("newer"), now).await;
    assert!(matches!(newer, Err(StoreError::Version { found: 9, .. })));
    crawl(&path("bad"), 1, vec![met(&node(1, 1), "v4", 1, true)]).await;
    Connection::open(path("bad"))
        .unwrap()
        .execute_batch("UPDATE nodes SET address = 'x'")
        .unwrap();
    assert!(matches!(known(&path("bad")), Err(StoreError::Row { .. })));
    assert!(matches!(known(&path("none")), Err(StoreError::Open { .. })));
}
