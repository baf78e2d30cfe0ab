//! When a part of the key space is settled, and by whom.

use super::super::slices::Slice;
use super::*;

/// Over discv4 only the first node is there, and it names all others.
fn alone(place: u16) -> Protocols {
    if place == 0 {
        Protocols::V4
    } else {
        Protocols::NONE
    }
}

/// All targets the first node was asked for.
fn targets(log: &Log) -> Vec<NodeId> {
    let asked = log.asked.iter().map(|(_, question)| question);
    let first = asked.filter(|question| question.node.id() == key(0).node_id());
    let target = |question: &Question| match &question.ask {
        Ask::V4 { target, .. } => target.id(),
        Ask::V5(_) => panic!("not asked for"),
    };
    first.map(target).collect()
}

#[test]
fn a_search_waits_for_who_is_being_asked_and_for_his_subnet() {
    let public = |place| {
        let [high, low] = u16::to_be_bytes(place);
        [20, high, low, 1]
    };
    for ip in [lan, public] {
        let world = World::new(40, ip, alone);
        let mut crawl = crawler(64, Protocols::V4, 1);
        let known = (0..40).map(|place| world.known(place, false)).collect();
        let log = world.crawl(&mut crawl, known);
        let targets = targets(&log);
        // Every slice is searched, though one node has to answer for all of them.
        for first in 0..4 {
            let is_there = |target: &&NodeId| target.as_bytes()[0] >> 6 == first;
            assert!(targets.iter().any(|target| is_there(&target)), "{first}");
        }
        // The visit, four slices at least, and the walks.
        assert!(targets.len() >= 1 + 4 + 8, "{}", targets.len());
        assert_eq!(crawl.progress().silent, 39);
    }
}

/// The nodes with 16 and more nearer to a target than themselves name those with the lowest ids, as if their tables were full of them.
fn hides_the_high(world: &World, question: &Question) -> CrawlInput {
    let CrawlInput::Answered {
        serial,
        record,
        rtt,
        ..
    } = world.answer(question)
    else {
        panic!("all answer");
    };
    let Ask::V4 { target, .. } = &question.ask else {
        panic!("not asked for");
    };
    let asked = question.node.id();
    let mut named: Vec<NodeId> = Vec::new();
    for distance in 240..=256 {
        let ids = world.keys.keys();
        let bucket = ids.filter(|id| asked.log_distance(id) == distance);
        named.extend(bucket.take(FULL));
    }
    named.sort_by(|a, b| target.id().cmp_distance(a, b));
    let named = world.named(Protocol::V4, named.into_iter());
    CrawlInput::Answered {
        serial,
        record,
        extent: extent(named.len()),
        named,
        rtt,
    }
}

#[test]
fn who_hides_behind_full_buckets_is_found() {
    let world = World::new(400, lan, both);
    for seed in 1..=5 {
        let mut crawl = crawler(64, Protocols::V4, seed);
        let known = vec![world.known(0, false)];
        drive(&mut crawl, known, |question| {
            hides_the_high(&world, question)
        });
        assert_eq!(crawl.progress().answered, 400, "seed {seed}");
    }
}

#[test]
fn an_answer_of_which_a_part_is_missing_settles_nothing() {
    let world = World::new(4, lan, both);
    for (extent, settles) in [(Extent::All, true), (Extent::Part, false)] {
        let mut crawl = crawler(64, Protocols::V4, 1);
        let known = (0..4).map(|place| world.known(place, false)).collect();
        drive(&mut crawl, known, |question| CrawlInput::Answered {
            serial: question.serial,
            record: None,
            named: Vec::new(),
            extent,
            rtt: RTT,
        });
        assert_eq!(crawl.nodes.is_covered(Slice::ALL, Protocol::V4), settles);
    }
}

#[test]
fn an_answer_settles_no_nearer_bucket_than_it_has_come_to() {
    // A node of 32 in one half of the space, asked for its own half first: a full answer of its bucket there says nothing about what
    // is nearer.
    let world = World::new(64, lan, both);
    let mut crawl = crawler(64, Protocols::V5, 1);
    let id = key(0).node_id();
    drive(&mut crawl, vec![world.known(0, true)], |question| {
        CrawlInput::Answered {
            serial: question.serial,
            record: None,
            named: {
                let far = |other: &&NodeId| id.log_distance(other) == 256;
                let far = world.keys.keys().filter(far).copied();
                let all = world.named(Protocol::V5, far);
                if question.node.id() == id {
                    all
                } else {
                    Vec::new()
                }
            },
            extent: Extent::Full,
            rtt: RTT,
        }
    });
    assert_eq!(
        crawl.nodes.get_mut(&id).unwrap().over(Protocol::V5).within,
        0
    );
}

#[test]
fn a_search_whose_answers_are_lost_is_made_again() {
    let world = World::new(1, lan, both);
    let mut crawl = crawler(1, Protocols::V4, 1);
    let log = drive(&mut crawl, vec![world.known(0, false)], |question| {
        CrawlInput::Answered {
            serial: question.serial,
            record: None,
            named: Vec::new(),
            extent: Extent::Part,
            rtt: RTT,
        }
    });
    let progress = crawl.progress();
    // The visit, the search of all the space and two more of it, and the walks.
    assert_eq!((log.asked.len(), progress.searches), (1 + 3 + 8, 3 + 8));
}
