use tercet_enode::SecretKey;
use tercet_eth_peer::Network;
use tercet_machine::MachineRng;

use super::*;

const AT: UnixTime = UnixTime::from_secs(1_700_000_000);

fn key(seed: u8) -> SecretKey {
    SecretKey::generate(&mut MachineRng::from_seed([seed; 32]))
}

fn record(seed: u8, network: Option<Network>) -> NodeRecord {
    let mut builder = NodeRecord::builder()
        .seq(u64::from(seed))
        .ip([10, 0, seed, 1].into())
        .udp(30303);
    if let Some(network) = network {
        let fork_id = network
            .forks()
            .fork_id(tercet_eth_peer::ForkPoint::default());
        builder = builder.eth(fork_id.hash.0, fork_id.next).tcp(30303);
    }
    builder.sign(&key(seed)).unwrap()
}

fn known(seed: u8, network: Option<Network>, score: u64) -> KnownNode {
    KnownNode {
        score,
        first_response: Some(AT),
        last_response: Some(UnixTime::from_secs(AT.as_secs() + u64::from(seed))),
        last_check: Some(AT),
        ..KnownNode::new(NodeAddress::Record(record(seed, network)))
    }
}

fn set() -> NodeSet {
    [
        known(1, Some(Network::MAINNET), 5),
        known(2, Some(Network::SEPOLIA), 9),
        known(3, None, 1),
    ]
    .into_iter()
    .collect()
}

#[test]
fn a_set_survives_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.json");
    let mut set = set();
    let url = format!(
        "{}",
        tercet_enode::Node::from_record(record(4, None))
            .unwrap()
            .enode_url()
    );
    set.insert(KnownNode::new(url.parse().unwrap()));
    set.write(&path).unwrap();
    assert_eq!(NodeSet::read(&path).unwrap(), set);
    // An older file gives way, and nothing else stays in the folder.
    set.write(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The form geth writes: an indent of four, whole seconds, the year 1 for "never", no score when there is none.
#[test]
fn the_file_is_as_geth_writes_it() {
    let node = KnownNode {
        score: 0,
        last_check: None,
        ..known(1, None, 0)
    };
    let (id, enr) = (node.address.id(), node.address.to_string());
    let text = NodeSet::from_iter([node]).pretty().unwrap();
    let expected = format!(
        "{{\n    \"{id}\": {{\n        \"seq\": 1,\n        \"record\": \"{enr}\",\n        \
         \"firstResponse\": \"2023-11-14T22:13:20Z\",\n        \"lastResponse\": \"2023-11-14T22:13:21Z\",\n        \
         \"lastCheck\": \"0001-01-01T00:00:00Z\"\n    }}\n}}\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nodes.json");
    let error = |text: &str| {
        fs::write(&path, text).unwrap();
        crate::error::chain(&NodeSet::read(&path).unwrap_err())
    };
    assert!(error("[]").contains("line 1"), "{}", error("[]"));
    assert!(error(r#"{"12": {"record": "enr:"}}"#).contains("record"));
    let enr = record(1, None).to_string();
    let row = |id: &str, rest: &str| format!(r#"{{"{id}": {{"seq":1,"record":"{enr}"{rest}}}}}"#);
    assert!(error(&row("12", "")).contains("\"12\" is no node id"));
    let other = key(9).node_id().to_string();
    assert!(error(&row(&other, "")).contains("is of node"));
    let own = key(1).node_id().to_string();
    assert!(error(&row(&own, r#","lastCheck":"soon""#)).contains("soon"));
    assert!(NodeSet::read(folder.path().join("none").as_path()).is_err());
    fs::write(&path, row(&own, "")).unwrap();
    assert_eq!(NodeSet::read(&path).unwrap().len(), 1);
}

#[test]
fn filters_keep_what_they_say() {
    let set = set();
    let kept = |filter: NodeFilter, limit| -> Vec<u64> {
        let mut seqs: Vec<u64> = set
            .filtered(&filter, limit)
            .iter()
            .filter_map(|(_, node)| node.record().map(NodeRecord::seq))
            .collect();
        seqs.sort_unstable();
        seqs
    };
    let record = |record| NodeFilter {
        record,
        ..NodeFilter::default()
    };
    assert_eq!(kept(NodeFilter::default(), None), [1, 2, 3]);
    assert_eq!(kept(NodeFilter::default(), Some(2)), [1, 2]);
    assert_eq!(kept(NodeFilter::default(), Some(0)), [0_u64; 0]);
    let eth_network = Some("sepolia".parse().unwrap());
    assert_eq!(
        kept(
            record(FilterArgs {
                eth_network,
                ..FilterArgs::default()
            }),
            None
        ),
        [2]
    );
    let fork_id = Some("0xfc64ec04".parse().unwrap());
    assert_eq!(
        kept(
            record(FilterArgs {
                fork_id,
                ..FilterArgs::default()
            }),
            None
        ),
        [1]
    );
    let enr_key = vec!["eth".to_owned(), "tcp".to_owned()];
    assert_eq!(
        kept(
            record(FilterArgs {
                enr_key,
                ..FilterArgs::default()
            }),
            None
        ),
        [1, 2]
    );
    assert_eq!(
        kept(
            record(FilterArgs {
                snap: true,
                ..FilterArgs::default()
            }),
            None
        ),
        [0_u64; 0]
    );
    let ip = Some("10.0.3.0/24".parse().unwrap());
    assert_eq!(
        kept(
            NodeFilter {
                ip,
                ..NodeFilter::default()
            },
            None
        ),
        [3]
    );
    let min_age = Some(std::time::Duration::from_secs(2));
    assert_eq!(
        kept(
            NodeFilter {
                min_age,
                ..NodeFilter::default()
            },
            None
        ),
        [2, 3]
    );
    assert_eq!(
        kept(
            NodeFilter {
                dialable: true,
                ..NodeFilter::default()
            },
            None
        ),
        [1, 2]
    );
    assert_eq!(
        kept(
            NodeFilter {
                les_server: true,
                ..NodeFilter::default()
            },
            None
        ),
        [0_u64; 0]
    );
}

#[test]
fn the_score_grows_by_one_and_halves() {
    let mut node = KnownNode::new(NodeAddress::Record(record(1, None)));
    for _ in 0..5 {
        node.on_answer(AT);
    }
    assert_eq!((node.score, node.first_response), (5, Some(AT)));
    assert!(node.on_failure(AT) && node.on_failure(AT));
    assert!(!node.on_failure(AT));
}

#[test]
fn keys_are_counted() {
    let keys = set().keys();
    assert_eq!((keys["id"], keys["eth"], keys["tcp"]), (3, 2, 2));
}

#[test]
#[cfg(unix)]
fn a_link_stays_one_and_a_device_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("file"), "old").unwrap();
    // By a link of its own: were the device replaced, root would lose it.
    for (link, to) in [("to-file", at("file")), ("to-device", "/dev/null".into())] {
        std::os::unix::fs::symlink(&to, at(link)).unwrap();
        replace(&at(link), b"new").unwrap();
        assert_eq!(fs::read_link(at(link)).unwrap(), to);
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"new");
    replace(&at("another"), b"new").unwrap();
    assert_eq!(fs::read(at("another")).unwrap(), b"new");
}
