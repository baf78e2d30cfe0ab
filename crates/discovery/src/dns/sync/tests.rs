//! Lists served from a map in virtual time: what a client meets, refuses, remembers and leaves alone.

use std::collections::BTreeMap;

use tercet_enode::SecretKey;
use tercet_machine::UnixTime;
use tercet_machine::check::{Limits, Step as Script, contract};

use super::*;
use crate::dns::{Tree, TreeEntry};

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn url(n: u8, domain: &str) -> TreeUrl {
    TreeUrl::new(key(n).public_key(), domain.parse().unwrap())
}

fn node(n: u16) -> NodeRecord {
    at(n, [20, 1, (n >> 8) as u8, n as u8].into())
}

fn at(n: u16, ip: IpAddr) -> NodeRecord {
    let mut bytes = [0x11; 32];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    let key = SecretKey::from_bytes(&bytes).unwrap();
    NodeRecord::builder().ip(ip).udp(30303).sign(&key).unwrap()
}

/// DNS, a database and a clock around one client.
struct World {
    sync: DnsSync,
    records: BTreeMap<String, String>,
    database: BTreeMap<CacheKey, Bytes>,
    now: Now,
    seen: Vec<SyncOutput>,
    queries: Vec<(MonoTime, String)>,
    down: bool,
    /// Other records at every name.
    others: usize,
}

impl World {
    fn new(config: SyncConfig) -> Self {
        Self {
            sync: DnsSync::new(config, MachineRng::from_seed([3; 32])),
            records: BTreeMap::new(),
            database: BTreeMap::new(),
            now: Now {
                mono: MonoTime::ZERO,
                unix: UnixTime::from_secs(1_700_000_000),
            },
            seen: Vec::new(),
            queries: Vec::new(),
            down: false,
            others: 1,
        }
    }

    fn publish(
        &mut self,
        n: u8,
        domain: &str,
        seq: u64,
        nodes: Vec<NodeRecord>,
        links: Vec<TreeUrl>,
    ) {
        let tree = Tree::new(nodes, links).unwrap().sign(seq, &key(n));
        self.records.extend(tree.records(&domain.parse().unwrap()));
    }

    /// Puts entries under their own hashes and signs a root over the two given.
    fn publish_raw(&mut self, n: u8, domain: &str, nodes: &str, links: &str, others: &[String]) {
        for text in others.iter().map(String::as_str).chain([nodes, links]) {
            let name = format!("{}.{domain}", EntryHash::of(text));
            self.records.insert(name, text.to_owned());
        }
        let root = TreeRoot::sign(EntryHash::of(nodes), EntryHash::of(links), 1, &key(n));
        self.records.insert(domain.to_owned(), root.to_string());
    }

    fn input(&mut self, input: SyncInput) {
        self.sync.handle(self.now, input);
        self.drain();
    }

    fn follow(&mut self, url: &TreeUrl) {
        self.input(SyncInput::Follow(url.clone()));
        self.input(SyncInput::Want(1_000_000));
    }

    fn drain(&mut self) {
        while let Some(output) = self.sync.poll() {
            match output {
                SyncOutput::Load(id, key) => {
                    let value = self.database.get(&key).cloned();
                    self.sync.handle(self.now, SyncInput::Loaded(id, value));
                }
                SyncOutput::Query(id, name) => {
                    self.queries.push((self.now.mono, name.clone()));
                    let text = self.records.get(name.trim_end_matches('.'));
                    let answer = match text {
                        _ if self.down => continue,
                        Some(text) => {
                            let mut texts = vec![Bytes::from_static(b"v=spf1 -all"); self.others];
                            texts.push(text.clone().into());
                            Ok(texts)
                        }
                        None => Err(LookupError::NotFound),
                    };
                    self.sync.handle(self.now, SyncInput::Answer(id, answer));
                }
                SyncOutput::Store(Write::Cache { key, value }) => {
                    self.database.insert(key, value);
                }
                other => self.seen.push(other),
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(at) = self.sync.deadline().filter(|at| *at <= end.mono) {
            self.now = self.now.after(at - self.now.mono);
            self.sync.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn nodes(&mut self) -> BTreeSet<String> {
        let nodes = self.seen.iter().filter_map(|output| match output {
            SyncOutput::Node(record) => Some(record.to_string()),
            _ => None,
        });
        nodes.collect()
    }

    fn errors(&self) -> Vec<&SyncError> {
        let errors = self.seen.iter().filter_map(|output| match output {
            SyncOutput::Refused(_, _, error) => Some(error),
            _ => None,
        });
        errors.collect()
    }

    fn restarted(self) -> Self {
        let World {
            records, database, ..
        } = self;
        World {
            records,
            database,
            ..Self::new(SyncConfig::default())
        }
    }
}

fn texts(nodes: &[NodeRecord]) -> BTreeSet<String> {
    nodes.iter().map(ToString::to_string).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn a_list_is_read_whole_links_first_and_at_no_more_than_three_queries_a_second() {
    let nodes: Vec<NodeRecord> = (0..60).map(node).collect();
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, nodes.clone(), vec![url(2, "b.org")]);
    world.publish(2, "b.org", 1, vec![node(100)], vec![]);
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    let mut expected = texts(&nodes);
    expected.extend(texts(&[node(100)]));
    assert_eq!(world.nodes(), expected);
    assert!(world.errors().is_empty());
    let (root, link) = (&world.queries[0].1, &world.queries[1].1);
    assert_eq!(root, "a.org.");
    assert!(world.records[link.trim_end_matches('.')].starts_with("enrtree://"));
    for (index, (at, _)) in world.queries.iter().enumerate() {
        let allowed = 10 + (*at - MonoTime::ZERO).as_millis() * 3 / 1000;
        assert!(index as u128 <= allowed, "query {index} at {at:?}");
    }
}

#[test]
fn nothing_is_looked_up_while_nobody_wants_a_node() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, (0..40).map(node).collect(), vec![]);
    world.input(SyncInput::Follow(url(1, "a.org")));
    world.run(60 * MINUTE);
    assert!(world.queries.is_empty());
    world.input(SyncInput::Want(1));
    world.run(60 * MINUTE);
    let given = world.nodes().len();
    assert!((1..=MAX_ASKS).contains(&given), "{given}");
    assert!(world.queries.len() < 20);
}

#[test]
fn a_restarted_client_asks_for_the_root_alone() {
    let nodes: Vec<NodeRecord> = (0..40).map(node).collect();
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, nodes.clone(), vec![]);
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    let mut world = world.restarted();
    world.follow(&url(1, "a.org"));
    // No time passes: what is cached is free. It is 40 nodes, 3 branches and one over
    // them, and the empty branch of links.
    assert_eq!(world.nodes(), texts(&nodes));
    assert_eq!(world.queries.len(), 1);
    world.run(MINUTE);
    assert_eq!(world.sync.counters().cached, 40 + 3 + 1 + 1);
}

#[test]
fn a_damaged_cache_is_looked_up_again() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, vec![node(1), node(2)], vec![]);
    world.follow(&url(1, "a.org"));
    for value in world.database.values_mut() {
        *value = Bytes::from_static(b"enrtree-branch:");
    }
    let mut world = world.restarted();
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    assert_eq!(world.nodes().len(), 2);
}

#[test]
fn a_higher_number_is_followed_and_a_lower_one_refused_even_after_a_restart() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 7, vec![node(1)], vec![]);
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    world.publish(1, "a.org", 8, vec![node(2)], vec![]);
    world.run(ROOT_INTERVAL);
    assert_eq!(world.nodes(), texts(&[node(1), node(2)]));
    for restarted in [false, true] {
        if restarted {
            world = world.restarted();
            world.follow(&url(1, "a.org"));
        }
        world.publish(1, "a.org", 6, vec![node(3)], vec![]);
        world.run(ROOT_INTERVAL);
        assert!(!world.nodes().contains(&node(3).to_string()));
        assert!(
            world
                .errors()
                .contains(&&SyncError::Stale { found: 6, seen: 8 })
        );
    }
}

#[test]
fn a_root_of_another_key_is_none_and_the_wait_grows() {
    let mut world = World::new(SyncConfig::default());
    world.publish(9, "a.org", 1, vec![node(1)], vec![]);
    world.follow(&url(1, "a.org"));
    world.run(60 * MINUTE);
    assert!(world.nodes().is_empty());
    assert!(
        world
            .errors()
            .iter()
            .all(|error| **error == SyncError::NoRoot)
    );
    let waits: Vec<u64> = world
        .queries
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_secs())
        .collect();
    assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert!(waits.len() < 25);
}

#[test]
fn linked_lists_join_and_leave_and_circles_do_no_harm() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, vec![node(1)], vec![url(2, "b.org")]);
    world.publish(2, "b.org", 1, vec![node(2)], vec![url(3, "c.org")]);
    world.publish(
        3,
        "c.org",
        1,
        vec![node(3)],
        vec![url(2, "b.org"), url(1, "a.org"), url(3, "c.org")],
    );
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    assert_eq!(world.nodes().len(), 3);
    assert_eq!(world.sync.lists().len(), 3);
    // b and c still name each other, but nobody named leads to them.
    world.publish(1, "a.org", 2, vec![node(1)], vec![]);
    world.run(ROOT_INTERVAL);
    assert_eq!(world.sync.lists().collect::<Vec<_>>(), [&url(1, "a.org")]);
    world.input(SyncInput::Leave(url(1, "a.org")));
    assert_eq!(world.sync.lists().len(), 0);
}

#[test]
fn a_link_that_cannot_be_had_is_tried_again_and_costs_no_other() {
    let mut world = World::new(SyncConfig::default());
    let [b, c, d] = [2, 3, 4].map(|n| (url(n, &format!("{n}.org")), n));
    for (url, n) in [&b, &c, &d] {
        let nodes = vec![node((*n).into())];
        world.publish(*n, url.domain().as_str(), 1, nodes, vec![]);
    }
    let links = vec![b.0.clone(), c.0.clone()];
    world.publish(1, "a.org", 1, vec![node(1)], links);
    let lost = |world: &mut World, link: &TreeUrl| {
        let name = format!("{}.a.org", EntryHash::of(&link.to_string()));
        let text = world.records.remove(&name).unwrap();
        (name, text)
    };
    let (name, text) = lost(&mut world, &c.0);
    world.follow(&url(1, "a.org"));
    world.run(2 * MINUTE);
    assert_eq!(world.nodes(), texts(&[node(1), node(2)]));
    world.records.insert(name, text);
    world.run(REPEAT_AFTER + MINUTE);
    assert_eq!(world.nodes(), texts(&[node(1), node(2), node(3)]));

    // With new links that cannot be had, it leads to where it led.
    let links = vec![c.0.clone(), d.0.clone()];
    world.publish(1, "a.org", 2, vec![node(1)], links);
    let root: TreeRoot = world.records["a.org"].parse().unwrap();
    let name = format!("{}.a.org", root.links());
    let text = world.records.remove(&name).unwrap();
    world.run(ROOT_INTERVAL + MINUTE);
    assert_eq!(world.sync.lists().len(), 3);
    world.records.insert(name, text);
    world.run(REPEAT_AFTER + 2 * MINUTE);
    let followed: Vec<&TreeUrl> = world.sync.lists().collect();
    assert_eq!(followed, [&c.0, &d.0, &url(1, "a.org")]);
}

#[test]
fn a_root_is_found_among_many_other_records() {
    let mut world = World::new(SyncConfig::default());
    world.others = 40;
    world.publish(1, "a.org", 1, vec![node(1)], vec![]);
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    assert_eq!(world.nodes().len(), 1);
}

#[test]
fn spoiled_entries_cost_themselves_only() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, (0..5).map(node).collect(), vec![]);
    let name = format!("{}.a.org", EntryHash::of(&node(0).to_string()));
    world.records.insert(name, node(9).to_string());
    world.follow(&url(1, "a.org"));
    world.run(10 * MINUTE);
    assert_eq!(world.nodes(), texts(&(1..5).map(node).collect::<Vec<_>>()));
    assert!(world.errors().contains(&&SyncError::WrongHash));

    // A bad record, a link among nodes and a node among links, all signed.
    let link = url(2, "b.org").to_string();
    let texts = [node(1).to_string(), "enr:-----".to_owned(), link.clone()];
    let branch =
        TreeEntry::Branch(texts.iter().map(|text| EntryHash::of(text)).collect()).to_string();
    let mut world = World::new(SyncConfig::default());
    world.publish_raw(1, "a.org", &branch, &texts[0], &texts);
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    assert_eq!(world.nodes().len(), 1);
    let errors = world.errors();
    assert!(errors.contains(&&SyncError::WrongKind(Subtree::Links)));
    assert!(errors.contains(&&SyncError::WrongKind(Subtree::Nodes)));
    assert!(
        errors
            .iter()
            .any(|error| matches!(error, SyncError::Entry(_)))
    );
    assert_eq!(world.sync.lists().len(), 1);
}

#[test]
fn nodes_from_dns_do_not_lead_into_the_private_network() {
    let addresses = [
        "127.0.0.1",
        "10.0.0.7",
        "192.168.1.1",
        "100.64.0.1",
        "224.0.0.1",
        "0.0.0.0",
        "198.18.0.1",
        "fe80::1",
        "::1",
    ];
    let mut nodes: Vec<NodeRecord> = (0..)
        .zip(addresses)
        .map(|(n, ip)| at(n, ip.parse().unwrap()))
        .collect();
    // One good address does not excuse the other.
    let both = NodeRecord::builder()
        .ip([20, 0, 0, 1].into())
        .ip("fd00::1".parse().unwrap())
        .udp(1)
        .sign(&key(50))
        .unwrap();
    nodes.push(both);
    let run = |config| {
        let mut world = World::new(config);
        world.publish(1, "a.org", 1, nodes.clone(), vec![]);
        world.follow(&url(1, "a.org"));
        world.run(MINUTE);
        world.nodes().len()
    };
    assert_eq!(run(SyncConfig::default()), 0);
    let trusted = vec![
        "127.0.0.0/8".parse().unwrap(),
        "10.0.0.0/8".parse().unwrap(),
    ];
    assert_eq!(
        run(SyncConfig {
            trusted,
            ..SyncConfig::default()
        }),
        2
    );
    assert_eq!(
        run(SyncConfig {
            any_address: true,
            ..SyncConfig::default()
        }),
        nodes.len()
    );
}

#[test]
fn hostile_lists_are_bounded() {
    // Every level names the next one many times over: 30 levels would be 40^30 visits.
    let mut texts = vec![node(1).to_string()];
    for _ in 0..30 {
        let child = EntryHash::of(texts.last().unwrap());
        texts.push(TreeEntry::Branch(vec![child; 30]).to_string());
    }
    let mut world = World::new(SyncConfig::default());
    world.publish_raw(1, "a.org", texts.last().unwrap(), "enrtree-branch:", &texts);
    world.follow(&url(1, "a.org"));
    world.run(5 * MINUTE);
    assert!(world.queries.len() < 30);
    assert!(world.errors().contains(&&SyncError::TooMany(30)));

    // More links than are taken, and more lists than are followed.
    let links: Vec<TreeUrl> = (2..=200).map(|n| url(n, "b.org")).collect();
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, vec![], links);
    world.follow(&url(1, "a.org"));
    world.run(3 * MINUTE);
    assert_eq!(world.sync.lists().len(), MAX_LISTS);
    let list = &world.sync.lists[&url(1, "a.org")];
    assert!(list.linked.len() <= MAX_LINKS);
    assert!(world.sync.asks.len() <= MAX_ASKS);

    // A text that is too long is none.
    let mut world = World::new(SyncConfig::default());
    let long = format!("enrtree-branch:{}", vec!["A".repeat(26); 60].join(","));
    world.publish_raw(1, "a.org", &long, "enrtree-branch:", &[]);
    world.follow(&url(1, "a.org"));
    world.run(MINUTE);
    assert!(world.errors().contains(&&SyncError::WrongHash));
}

#[test]
fn a_pass_meets_a_bounded_number_of_entries() {
    let mut rng = MachineRng::from_seed([1; 32]);
    let mut walk = super::walk::Walk::new(100, &mut rng);
    walk.restart(EntryHash::of("root"));
    let step = walk.take(MonoTime::ZERO, &mut rng).unwrap();
    let children = (0..200).map(|n| EntryHash::of(&n.to_string())).collect();
    assert_eq!(walk.branch(&step, children), 101);
    assert_eq!(walk.met(), 100);
}

#[test]
fn entries_asked_for_under_an_older_root_are_of_no_account_under_a_newer_one() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, (0..12).map(node).collect(), vec![]);
    world.follow(&url(1, "a.org"));
    // The rest is asked for, and its answers are late.
    world.down = true;
    world.run(Duration::from_secs(3));
    world.down = false;
    world.publish(1, "a.org", 2, vec![node(100)], vec![]);
    let list = world.sync.lists.get_mut(&url(1, "a.org")).unwrap();
    list.next_root = world.now.mono;
    world.seen.clear();
    world.run(3 * MINUTE);
    assert_eq!(world.nodes(), texts(&[node(100)]));
    assert!(world.errors().is_empty());
}

#[test]
fn failing_entries_bring_the_root_forward() {
    let mut world = World::new(SyncConfig::default());
    let nodes: Vec<NodeRecord> = (0..12).map(node).collect();
    world.publish(1, "a.org", 1, nodes, vec![]);
    let gone: Vec<String> = world
        .records
        .iter()
        .filter(|(_, text)| text.starts_with("enr:"))
        .map(|(name, _)| name.clone())
        .collect();
    for name in gone {
        world.records.remove(&name);
    }
    world.follow(&url(1, "a.org"));
    world.run(2 * MINUTE);
    let roots = world
        .queries
        .iter()
        .filter(|(_, name)| name == "a.org.")
        .count();
    assert!((2..=7).contains(&roots), "{roots}");
}

#[test]
fn a_server_that_is_silent_is_waited_for_five_seconds() {
    let mut world = World::new(SyncConfig::default());
    world.down = true;
    world.follow(&url(1, "a.org"));
    world.run(Duration::from_millis(4999));
    assert!(world.errors().is_empty());
    world.run(Duration::from_millis(1));
    assert_eq!(world.errors(), [&SyncError::Lookup(LookupError::Timeout)]);
}

#[test]
fn a_finished_list_begins_again_after_a_while_and_not_at_once() {
    let mut world = World::new(SyncConfig::default());
    world.publish(1, "a.org", 1, vec![node(1)], vec![]);
    world.follow(&url(1, "a.org"));
    world.run(Duration::from_secs(299));
    let given = |world: &World| world.sync.counters().nodes;
    assert_eq!(given(&world), 1);
    world.run(Duration::from_secs(2));
    assert_eq!(given(&world), 2);
}

#[test]
fn it_keeps_the_contract_of_machines() {
    let tree = Tree::new((0..20).map(node), [url(2, "b.org")])
        .unwrap()
        .sign(3, &key(1));
    let texts: Vec<Bytes> = tree
        .records(&"a.org".parse().unwrap())
        .into_values()
        .map(Bytes::from)
        .collect();
    let mut script = vec![
        Script::Input(SyncInput::Follow(url(1, "a.org"))),
        Script::Input(SyncInput::Follow(url(2, "b.org"))),
        Script::Input(SyncInput::Want(100)),
    ];
    // Whoever asked is told every text: each entry finds its own.
    for round in 0..40 {
        for id in 0..80 {
            script.push(Script::Input(SyncInput::Loaded(AskId(id), None)));
            let answer = if id % 9 == 5 {
                Err(LookupError::Failed)
            } else {
                Ok(texts[..texts.len().min(16)].to_vec())
            };
            script.push(Script::Input(SyncInput::Answer(AskId(id), answer)));
        }
        script.push(Script::Advance(Duration::from_secs(1 + round)));
    }
    script.push(Script::Input(SyncInput::Leave(url(2, "b.org"))));
    script.push(Script::Advance(Duration::from_secs(4000)));
    let make = || DnsSync::new(SyncConfig::default(), MachineRng::from_seed([5; 32]));
    let limits = Limits {
        queued: 64,
        ..Limits::default()
    };
    let report = contract(make, &script, limits).unwrap();
    assert!(report.outputs > 20, "{report:?}");
}
