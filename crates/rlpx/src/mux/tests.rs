use super::*;
use crate::vectors::vectors;
use proptest::prelude::*;
use serde_json::Value;

fn capabilities(list: &Value) -> Vec<Capability> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap().parse().unwrap())
        .collect()
}

/// Message ids a capability takes, as of the versions in the vectors.
fn length(capability: &Capability) -> u64 {
    match capability.to_string().as_str() {
        "eth/68" => 17,
        "eth/69" => 18,
        "eth/71" => 20,
        "eth/72" => 22,
        "snap/1" => 8,
        "snap/2" => 10,
        other => panic!("no length for {other}"),
    }
}

#[test]
fn capability_offset_vectors() {
    let v = vectors();
    let cases = v["capability_offsets"]["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 6);
    for case in cases {
        let local: Vec<_> = capabilities(&case["local"])
            .iter()
            .map(|c| (*c, length(c)))
            .collect();
        let shared = SharedCapabilities::match_capabilities(&local, &capabilities(&case["remote"]));
        let expected = case["shared"].as_array().unwrap();
        assert_eq!(shared.len(), expected.len());
        assert_eq!(shared.is_empty(), expected.is_empty());
        for (index, (shared, expected)) in shared.iter().zip(expected).enumerate() {
            assert_eq!(
                shared.capability.name.as_str(),
                expected["cap"].as_str().unwrap()
            );
            assert_eq!(
                u64::from(shared.capability.version),
                expected["version"].as_u64().unwrap()
            );
            assert_eq!(
                shared.ids.start,
                expected["offset"].as_u64().unwrap(),
                "capability {index}"
            );
            assert_eq!(
                shared.ids.end - shared.ids.start,
                expected["length"].as_u64().unwrap()
            );
            assert_eq!(local[shared.local_index].0, shared.capability);
        }
        assert_eq!(shared.next_free(), case["next_free"].as_u64().unwrap());
    }
}

#[test]
fn repeated_entries_are_harmless() {
    let eth = Capability::new("eth", 69).unwrap();
    let shared = SharedCapabilities::match_capabilities(&[(eth, 18), (eth, 99)], &[eth, eth]);
    assert_eq!((shared.len(), shared.next_free()), (1, 0x22));
}

#[test]
fn names_differ_by_case() {
    let (lower, upper) = (
        Capability::new("eth", 69).unwrap(),
        Capability::new("ETH", 69).unwrap(),
    );
    assert!(SharedCapabilities::match_capabilities(&[(lower, 18)], &[upper]).is_empty());
}

#[test]
fn base_ids_and_ids_beyond_the_ranges_belong_to_nobody() {
    let eth = Capability::new("eth", 69).unwrap();
    let shared = SharedCapabilities::match_capabilities(&[(eth, 18)], &[eth]);
    assert_eq!(shared.locate(0x0f), None);
    assert_eq!(shared.locate(0x10), Some((0, 0)));
    assert_eq!(shared.locate(0x21), Some((0, 17)));
    assert_eq!(shared.locate(0x22), None);
    assert_eq!(shared.locate(u64::MAX), None);
}

fn any_capability() -> impl Strategy<Value = Capability> {
    ("[a-c]{1,2}", 0u32..4).prop_map(|(name, version)| Capability::new(&name, version).unwrap())
}

proptest! {
    #[test]
    fn ranges_adjoin_and_every_id_has_one_owner(
        local in prop::collection::vec((any_capability(), 0u64..30), 0..8),
        remote in prop::collection::vec(any_capability(), 0..8),
    ) {
        let shared = SharedCapabilities::match_capabilities(&local, &remote);
        let mut next = FIRST_OFFSET;
        for (index, one) in shared.iter().enumerate() {
            prop_assert_eq!(one.ids.start, next);
            next = one.ids.end;
            for id in one.ids.clone() {
                prop_assert_eq!(shared.locate(id), Some((index, id - one.ids.start)));
            }
            // The highest version of its name that both have.
            let best = local.iter().map(|(c, _)| c).filter(|c| c.name == one.capability.name && remote.contains(c)).max();
            prop_assert_eq!(best, Some(&one.capability));
        }
        prop_assert_eq!(shared.next_free(), next);
        prop_assert!(shared.iter().zip(shared.iter().skip(1)).all(|(a, b)| a.capability.name < b.capability.name));
    }

    /// Both ends come to the same ranges if they agree on the lengths, whatever the order of their lists.
    #[test]
    fn both_ends_agree(
        mut local in prop::collection::vec(any_capability(), 0..8),
        remote in prop::collection::vec(any_capability(), 0..8),
    ) {
        let lengths = |list: &[Capability]| list.iter().map(|c| (*c, u64::from(c.version) + 1)).collect::<Vec<_>>();
        let ours = SharedCapabilities::match_capabilities(&lengths(&local), &remote);
        local.reverse();
        let theirs = SharedCapabilities::match_capabilities(&lengths(&remote), &local);
        let ids = |shared: &SharedCapabilities| shared.iter().map(|s| (s.capability, s.ids.clone())).collect::<Vec<_>>();
        prop_assert_eq!(ids(&ours), ids(&theirs));
    }
}
