//! Whole lists in virtual time, over servers that fail for a while, for ever, or lose entries.

use std::time::Duration;

use tercet_enode::SecretKey;
use tercet_machine::{Machine as _, MachineRng, MonoTime, Now, UnixTime};

use super::super::sync::{DnsSync, LookupError, SyncConfig};
use super::*;

fn key() -> SecretKey {
    SecretKey::from_bytes(&[1; 32]).unwrap()
}

fn url() -> TreeUrl {
    TreeUrl::new(key().public_key(), "a.org".parse().unwrap())
}

fn node(n: u8) -> NodeRecord {
    let key = SecretKey::from_bytes(&[n + 1; 32]).unwrap();
    let record = NodeRecord::builder().ip([20, 0, 0, n].into()).udp(30303);
    record.sign(&key).unwrap()
}

fn records(seq: u64, nodes: impl IntoIterator<Item = u8>) -> BTreeMap<String, String> {
    let tree = Tree::new(nodes.into_iter().map(node), []).unwrap();
    tree.sign(seq, &key()).records(&"a.org".parse().unwrap())
}

fn name(n: u8) -> String {
    format!("{}.a.org", EntryHash::of(&node(n).to_string()))
}

/// Fetches the list that `serve` tells the records of, by name and time since the start; the names that were asked for.
fn fetch(
    serve: impl Fn(&str, Duration) -> Option<String>,
) -> (Result<FetchedList, FetchError>, Vec<String>) {
    let config = SyncConfig {
        follow_links: false,
        any_address: true,
        ..SyncConfig::default()
    };
    let mut sync = DnsSync::new(config, MachineRng::from_seed([3; 32]));
    let (mut cache, mut asked) = (Cache::Known(BTreeMap::new()), Vec::new());
    let mut fetch = Fetch::new(url().domain().clone(), 0);
    let mut now = Now {
        mono: MonoTime::ZERO,
        unix: UnixTime::from_secs(1_700_000_000),
    };
    sync.handle(now, SyncInput::Follow(url()));
    sync.handle(now, SyncInput::Want(u64::MAX));
    loop {
        let Some(output) = sync.poll() else {
            let at = sync.deadline().expect("something to wait for");
            now = now.after(at - now.mono);
            sync.handle_timeout(now);
            continue;
        };
        match output {
            SyncOutput::Load(id, key) => {
                sync.handle(now, SyncInput::Loaded(id, cache.load(&key)));
            }
            SyncOutput::Query(id, name) => {
                let text = serve(name.trim_end_matches('.'), now.mono - MonoTime::ZERO);
                let texts = text.map(|text| vec![Bytes::from(text)]);
                asked.push(name);
                let answer = texts.ok_or(LookupError::NotFound);
                sync.handle(now, SyncInput::Answer(id, answer));
            }
            SyncOutput::Store(write) => cache.store(write),
            told => match fetch.on_told(told, &cache) {
                Ok(Next::More) => {}
                Ok(Next::Again) => {
                    sync.handle(now, SyncInput::Leave(url()));
                    sync.handle(now, SyncInput::Follow(url()));
                }
                Ok(Next::Whole(list)) => return (Ok(list), asked),
                Err(error) => return (Err(error), asked),
            },
        }
    }
}

#[test]
fn a_list_with_a_hole_is_an_error_however_many_entries_are_gone() {
    // More failures than five let the client look at the root again in between.
    for gone in [1, 2, 3, 7] {
        let mut records = records(1, 0..12);
        for n in 0..gone {
            records.remove(&name(n)).unwrap();
        }
        let (fetched, _) = fetch(|name, _| records.get(name).cloned());
        let error = fetched.unwrap_err();
        assert!(
            matches!(error, FetchError::Incomplete { .. }),
            "{gone}: {error:?}"
        );
    }
}

#[test]
fn what_is_not_there_for_a_minute_is_asked_for_again_and_nothing_else_is() {
    let records = records(1, 0..12);
    let all = records.len();
    let lost = |at: Duration| at < Duration::from_secs(60);
    let (fetched, asked) = fetch(|asked, at| {
        records
            .get(asked)
            .filter(|_| asked != name(3) || !lost(at))
            .cloned()
    });
    assert_eq!(fetched.unwrap().nodes.len(), 12);
    let others = asked
        .iter()
        .filter(|asked| **asked != format!("{}.", name(3)));
    // The root once more.
    assert!(others.count() <= all + 1, "{asked:?}");
}

#[test]
fn a_list_that_is_published_anew_on_the_way_is_fetched_as_it_is_then() {
    let (old, new) = (records(1, 0..60), records(2, 30..90));
    let soon = Duration::from_secs(8);
    let (fetched, asked) = fetch(|asked, at| {
        let served = if at < soon { &old } else { &new };
        served.get(asked).cloned()
    });
    let fetched = fetched.unwrap();
    assert_eq!((fetched.root.seq(), fetched.nodes.len()), (2, 60));
    // Nothing that came was asked for twice.
    let had = |name: &&String| asked.iter().filter(|other| other == name).count() == 1;
    assert!(asked.iter().filter(had).count() >= 60, "{}", asked.len());
}

#[test]
fn links_come_in_the_order_the_signature_is_over() {
    let link = |n: u8| {
        let key = SecretKey::from_bytes(&[n + 1; 32]).unwrap();
        TreeUrl::new(key.public_key(), "b.org".parse().unwrap())
    };
    let links: Vec<TreeUrl> = (0..40).rev().map(link).collect();
    let signed = Tree::new([], links.clone()).unwrap().sign(1, &key());
    let records = signed.records(&"a.org".parse().unwrap());
    let (fetched, _) = fetch(|name, _| records.get(name).cloned());
    assert_eq!(fetched.unwrap().links, links);
}

#[test]
fn of_two_records_of_a_node_the_newer_is_the_last() {
    let key = |n: u8| SecretKey::from_bytes(&[n; 32]).unwrap();
    let of_seq = |seq| NodeRecord::builder().seq(seq).sign(&key(5)).unwrap();
    let leaves = [1, 2, 3, 4, 5, 6, 7].map(|seq| of_seq(seq).to_string());
    let branch = TreeEntry::Branch(leaves.iter().map(|text| EntryHash::of(text)).collect());
    let (branch, empty) = (branch.to_string(), "enrtree-branch:".to_owned());
    let root = TreeRoot::sign(EntryHash::of(&branch), EntryHash::of(&empty), 1, &key(1));
    let texts = leaves.into_iter().chain([branch, empty]);
    let entries = texts.map(|text| (format!("{}.a.org", EntryHash::of(&text)), text));
    let mut records: BTreeMap<String, String> = entries.collect();
    records.insert("a.org".to_owned(), root.to_string());
    let (fetched, _) = fetch(|name, _| records.get(name).cloned());
    let seqs: Vec<u64> = fetched.unwrap().nodes.iter().map(NodeRecord::seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_root_that_was_had_need_not_be_had_again() {
    let records = records(1, 0..100);
    // Five failures of entries and more bring the root forward, which is not there any more.
    let (fetched, asked) = fetch(|asked, at| {
        let failing = (5..25).contains(&at.as_secs()) && asked != "a.org";
        let gone = asked == "a.org" && at.as_secs() > 0;
        records.get(asked).filter(|_| !failing && !gone).cloned()
    });
    assert_eq!(fetched.unwrap().nodes.len(), 100);
    assert!(asked.iter().filter(|asked| *asked == "a.org.").count() > 3);
}
