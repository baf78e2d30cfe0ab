//! Lists of nodes in DNS against the published vectors: entries, roots, signatures, and a whole list rebuilt from its nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)] // a test may fail loudly

use serde_json::Value;
use tercet_discovery::dns::{EntryHash, SignedTree, Tree, TreeEntry, TreeRoot, TreeUrl};
use tercet_enode::{NodeRecord, PublicKey, SecretKey};

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/dns.json")).unwrap()
}

fn signing_key(vectors: &Value) -> SecretKey {
    vectors["tree"]["signing_key"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

/// The published list made anew from its nodes and its link, in reverse order.
fn rebuilt(vectors: &Value) -> SignedTree {
    let texts = vectors["tree"]["zone"].as_object().unwrap().values();
    let texts: Vec<&str> = texts.map(|entry| entry["txt"].as_str().unwrap()).collect();
    let nodes = texts
        .iter()
        .rev()
        .filter_map(|text| text.parse::<NodeRecord>().ok());
    let links = texts.iter().filter_map(|text| text.parse::<TreeUrl>().ok());
    Tree::new(nodes, links)
        .unwrap()
        .sign(1, &signing_key(vectors))
}

#[test]
fn the_published_list_is_rebuilt_byte_for_byte() {
    let vectors = vectors();
    let domain = "n".parse().unwrap();
    let records = rebuilt(&vectors).records(&domain);
    let zone = vectors["tree"]["zone"].as_object().unwrap();
    assert_eq!(records.len(), zone.len());
    for (name, entry) in zone {
        let name = if name == "@" {
            "n".to_owned()
        } else {
            format!("{name}.n")
        };
        assert_eq!(records[&name], entry["txt"].as_str().unwrap(), "{name}");
    }
    let url = TreeUrl::new(signing_key(&vectors).public_key(), domain);
    assert_eq!(
        url.to_string(),
        vectors["tree"]["link_url_for_domain_n"].as_str().unwrap()
    );
}

#[test]
fn roots_verify_under_their_key_only_and_only_unchanged() {
    let vectors = vectors();
    let key = signing_key(&vectors).public_key();
    let other = SecretKey::from_bytes(&[7; 32]).unwrap().public_key();
    let bad_enr = &vectors["bad_enr_tree"]["records"]["n"];
    for text in [&vectors["tree"]["zone"]["@"]["txt"], bad_enr] {
        let text = text.as_str().unwrap();
        let root: TreeRoot = text.parse().unwrap();
        assert_eq!(root.to_string(), text);
        root.verify(&key).unwrap();
        root.verify(&other).unwrap_err();
        let later = text.replace("seq=", "seq=1");
        later.parse::<TreeRoot>().unwrap().verify(&key).unwrap_err();
    }
    assert!(
        bad_enr
            .as_str()
            .unwrap()
            .contains("e=INDMVBZEEQ4ESVYAKGIYU74EAA")
    );
    // The leaf is published under its own hash and is no record: what a client has to drop.
    let label: EntryHash = "INDMVBZEEQ4ESVYAKGIYU74EAA".parse().unwrap();
    assert!(label.matches("enr:-----"));
    assert!("enr:-----".parse::<TreeEntry>().is_err());
}

#[test]
fn roots_are_read_as_the_vectors_say() {
    for case in vectors()["parse_root"].as_array().unwrap() {
        let text = case["input"].as_str().unwrap();
        let ok = case["result"] == "ok";
        assert_eq!(text.parse::<TreeRoot>().is_ok(), ok, "{text}");
    }
    let good = vectors()["parse_root"][2]["input"]
        .as_str()
        .unwrap()
        .to_owned();
    for bad in [
        good.replace("seq=3", "seq=03"),
        good.replace("seq=3", "seq=+3"),
        good.replace("seq=3", "seq=18446744073709551616"),
        good.replace(" l=", "  l="),
        format!("{good} "),
        good.replace("enrtree-root:v1", "enrtree-root=v1"),
    ] {
        assert!(bad.parse::<TreeRoot>().is_err(), "{bad}");
    }
}

#[test]
fn entries_are_read_as_the_vectors_say() {
    for case in vectors()["parse_entry"].as_array().unwrap() {
        let text = case["input"].as_str().unwrap();
        let entry = text.parse::<TreeEntry>();
        let valid = case["result"].as_str().unwrap().starts_with("valid");
        assert_eq!(entry.is_ok(), valid, "{text}: {entry:?}");
        if let Ok(entry) = entry {
            assert_eq!(entry.to_string(), text);
        }
    }
    let long = format!("enrtree-branch:{}", "A".repeat(2000));
    assert!(long.parse::<TreeEntry>().is_err());
}

#[test]
fn labels_are_the_hashes_of_their_texts() {
    for case in vectors()["hash_examples"].as_array().unwrap() {
        let (text, label) = (
            case["text"].as_str().unwrap(),
            case["subdomain"].as_str().unwrap(),
        );
        assert_eq!(EntryHash::of(text).as_str(), label);
        // A shorter one, down to 12 bytes, is the same promise.
        let short: EntryHash = label[..20].parse().unwrap();
        assert!(short.matches(text) && !short.matches("other"));
        assert!(label[..18].parse::<EntryHash>().is_err());
    }
}

#[test]
fn public_lists_are_read() {
    for url in vectors()["public_lists"].as_array().unwrap() {
        let url = url.as_str().unwrap();
        assert_eq!(url.parse::<TreeUrl>().unwrap().to_string(), url);
    }
    let bad = "enrtree://AKA3AM6LPBYEUDMVNU3BSVQJ5AD45Y7YPOHJLEF6W26QOE4VTUDPE@a..b";
    assert!(bad.parse::<TreeUrl>().is_err());
}

/// Follows every hash from the root, checking each, as a client does.
fn walk(records: &std::collections::BTreeMap<String, String>, key: &PublicKey) -> Vec<NodeRecord> {
    let root: TreeRoot = records["list.example"].parse().unwrap();
    root.verify(key).unwrap();
    let (mut found, mut open) = (Vec::new(), vec![root.nodes().clone()]);
    while let Some(hash) = open.pop() {
        let text = &records[&format!("{hash}.list.example")];
        assert!(hash.matches(text) && text.len() <= 404);
        match text.parse().unwrap() {
            TreeEntry::Branch(children) => {
                assert!(children.len() <= 13);
                open.extend(children);
            }
            TreeEntry::Node(record) => found.push(record),
            TreeEntry::Link(_) => unreachable!("no links here"),
        }
    }
    found
}

fn record(n: u8) -> NodeRecord {
    let node = SecretKey::from_bytes(&[n + 1; 32]).unwrap();
    let record = NodeRecord::builder().ip([20, 0, 0, n].into()).udp(30303);
    record.sign(&node).unwrap()
}

#[test]
fn lists_of_every_size_lead_to_all_their_nodes_and_are_written_the_same_way_twice() {
    let key = SecretKey::from_bytes(&[9; 32]).unwrap();
    let domain = "list.example".parse().unwrap();
    for count in [0, 1, 2, 13, 14, 27, 169, 170, 200] {
        let nodes: Vec<NodeRecord> = (0..count).map(record).collect();
        let tree = Tree::new(nodes.clone(), []).unwrap();
        assert_eq!(tree.node_count(), usize::from(count));
        let signed = tree.sign(5, &key);
        let mut found = walk(&signed.records(&domain), &key.public_key());
        found.sort_by_key(NodeRecord::id);
        let again = Tree::new(nodes.into_iter().rev(), [])
            .unwrap()
            .sign(5, &key);
        assert_eq!(again, signed);
        assert_eq!(found.len(), usize::from(count));
    }
}

/// What go-ethereum v1.17.10 (`p2p/dnsdisc`) makes of the first so many nodes of [`record`], with two links where their number is
/// odd: how many records, and the root, whose hashes are over all of them.
const GETHS: [(u8, usize, &str); 5] = [
    (
        1,
        5,
        "enrtree-root:v1 e=G5L6HUHUES7TRZ5LCDMCMUINXU l=VNB4Z4UREFZLQSCYERRC36PVAI seq=5 sig=9ZFM6qTFSZe7I15CAeS2ZwBW7JWCNLteIhkCl1xzZwUsl55Mv_pV96Vl-3dKVnNONIdQGxoKR39tW-UPDGJsCAE",
    ),
    (
        14,
        18,
        "enrtree-root:v1 e=VKCCP77FCIU7PTW7WVQMR6DXGU l=FDXN3SN67NA5DKA4J2GOK7BVQI seq=5 sig=1A-U34MTjGZZ-iIcrdTZ0J5gBvQiFjsJYloo-NVZDN4I6gOP9IvZjlTTiGatHzECACjhNjlZWAmzm9UZKqmqqwA",
    ),
    (
        27,
        34,
        "enrtree-root:v1 e=CPP6FL7NV5D2QY4WOF6OHOIIRQ l=VNB4Z4UREFZLQSCYERRC36PVAI seq=5 sig=IN1IbNKiQy-SbdGMSLjt-FbsCp5p0hEb_kaTVyCpFjxQhOCwr_J7IKzx7zeImz67tvN_rUtvvYxn4sWfwx7-BAA",
    ),
    (
        170,
        187,
        "enrtree-root:v1 e=W7MA4HQKRYPR2ZIKUZ6NE2A5XM l=FDXN3SN67NA5DKA4J2GOK7BVQI seq=5 sig=2iOF5iTXM8XbuczEq6cAM3ZwjNS6l8M0LJ673sMQS0gpUnJDH7jt14fISl0Lfvk29oFfWpq6G-Um8qnjPzTnvAA",
    ),
    (
        200,
        221,
        "enrtree-root:v1 e=YJV2WX33RWUT6D2Y7W2S3OPVUA l=FDXN3SN67NA5DKA4J2GOK7BVQI seq=5 sig=4nCjZEwIn7Smds17o8wSSCOC1kyepOUsBBDJEEUff4x1h9KQbzYdf21MEHuslMIroN7-srnGXytLFwGcbBGH6QA",
    ),
];

#[test]
fn lists_are_laid_out_as_geth_lays_them_out() {
    let key = SecretKey::from_bytes(&[9; 32]).unwrap();
    let domain = "list.example".parse().unwrap();
    let link = |domain: &str| {
        let url =
            format!("enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@{domain}");
        url.parse::<TreeUrl>().unwrap()
    };
    for (count, records, root) in GETHS {
        let links = ["a.org", "b.org"].map(link);
        let links = links.into_iter().filter(|_| count % 2 == 1);
        let tree = Tree::new((0..count).map(record), links).unwrap();
        let made = tree.sign(5, &key).records(&domain);
        assert_eq!(made.len(), records, "{count}");
        // The last character stands for the part of the signature that nobody looks at.
        let checked = |root: &str| root[..root.len() - 1].to_owned();
        assert_eq!(checked(&made["list.example"]), checked(root), "{count}");
    }
}

#[test]
fn the_zone_file_splits_texts_at_255_bytes_and_is_a_whole_zone_when_asked() {
    let vectors = vectors();
    let domain = "n".parse().unwrap();
    let tree = rebuilt(&vectors);
    let part = tree.zone_file(&domain, None);
    assert!(part.starts_with("$ORIGIN n.\n@ 1800 IN TXT \"enrtree-root:v1 "));
    assert!(!part.contains("SOA"));
    let server = "ns.n".parse().unwrap();
    let whole = tree.zone_file(&domain, Some(&server));
    assert!(whole.contains("@ 1800 IN SOA ns.n. hostmaster.n. 1 "));
    let records = tree.records(&domain);
    let mut texts: Vec<String> = Vec::new();
    for line in part.lines().skip(1) {
        let text = line.split_once(" IN TXT ").unwrap().1;
        let strings: Vec<&str> = text.trim_matches('"').split("\" \"").collect();
        assert!(strings.iter().all(|string| string.len() <= 255));
        texts.push(strings.concat());
    }
    texts.sort();
    let mut expected: Vec<String> = records.into_values().collect();
    expected.sort();
    assert_eq!(texts, expected);
}
