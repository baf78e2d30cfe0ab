//! What comes of connecting to nodes that are not there, and what of it is on record.

use std::net::TcpListener;

use rusqlite::Connection;
use tercet_discovery::Families;
use tercet_enode::Endpoint;
use tercet_machine::Machine as _;
use tercet_machine::check::START;
use tercet_rlpx::SETUP_TIMEOUT;

use super::*;
use crate::crawl::{Crawl, CrawlConfig, CrawlInput};

/// A node with nobody behind its UDP port.
fn node_at(tcp: SocketAddr) -> Node {
    Node::new(
        crate::cmd::new_key().public_key(),
        Endpoint::new(tcp.ip(), 1, tcp.port()),
    )
}

fn closed() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Connects to a node and says what came of it, and after how long.
async fn dial(places: Vec<Node>) -> (Outcome, Duration) {
    let begun = Instant::now();
    let mut dials = Dials::new(true);
    dials.add(places);
    let outcome = dials.next().await.unwrap();
    (outcome, begun.elapsed())
}

/// What the database has on a dial: the error, and whether there was an answer.
async fn on_record(outcome: Outcome) -> (String, i64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("crawl.db");
    let mut crawl = Crawl::new(CrawlConfig {
        own: NodeId::new([0; 32]),
        parallel: 1,
        protocols: Protocols::ALL,
        families: Families::BOTH,
        seed: [1; 32],
    });
    let known = KnownNode::new(NodeAddress::Enode(outcome.node.enode_url()));
    crawl.handle(START, CrawlInput::Known(known));
    let mut store = Store::begin(&path, START.unix).await.unwrap();
    records::dialled(&mut store, &crawl, outcome, START.unix)
        .await
        .unwrap();
    store.end(START.unix, true).await.unwrap();
    let connection = Connection::open(&path).unwrap();
    let query = "SELECT error, answers FROM sightings JOIN reachability USING (node, protocol)
                 WHERE protocol = 'rlpx' AND rtt_us IS NULL AND visits = 1 AND last_answer IS NULL";
    let row = connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)));
    row.unwrap()
}

#[tokio::test(start_paused = true)]
async fn who_takes_a_connection_and_says_nothing_is_given_up() {
    // The system takes it; nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (outcome, took) = dial(vec![node_at(address)]).await;
    assert!(outcome.said.is_err());
    assert_eq!(took.as_secs(), SETUP_TIMEOUT.as_secs());
    // The thread that writes the file is in no hurry for a clock that stands still.
    tokio::time::resume();
    let (error, answers) = on_record(outcome).await;
    assert!(error.starts_with(&address.to_string()), "{error}");
    assert!(
        error.contains("took longer than 5 s") && answers == 0,
        "{error}"
    );
}

#[tokio::test]
async fn a_closed_port_is_on_record_as_one() {
    let (outcome, _) = dial(vec![node_at(closed())]).await;
    let (error, answers) = on_record(outcome).await;
    assert!(error.starts_with("cannot connect to 127.0.0.1:"), "{error}");
    assert!(error.contains("refused") && answers == 0, "{error}");
}

#[tokio::test]
async fn the_other_address_is_dialled_where_the_first_takes_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    // Whoever is there hangs up: there is somebody, so nobody else is tried.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let at = |address| node_at(address);
    let (outcome, _) = dial(vec![at(closed()), at(open)]).await;
    assert_eq!(outcome.node.endpoint().tcp, open.port());
    let (outcome, _) = dial(vec![at(open), at(closed())]).await;
    assert_eq!(outcome.node.endpoint().tcp, open.port());
    // Who names no port is not dialled.
    let mut dials = Dials::new(false);
    dials.add(vec![node_at(SocketAddr::from(([127, 0, 0, 1], 0)))]);
    assert!(dials.is_empty());
}
