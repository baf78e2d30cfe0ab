//! What counts, what an attacker can do, and that the count is the one a full count would give.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const START: MonoTime = MonoTime::from_secs(1000);
const US: &str = "20.0.0.1:30303";
const LIE: &str = "21.0.0.1:30303";

fn votes(min_voices: usize) -> Votes {
    Votes::new(min_voices, &mut MachineRng::from_seed([3; 32]))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The `n`th of voters of whom no two share a /16.
fn scattered(n: usize) -> IpAddr {
    let n = u8::try_from(n).unwrap();
    [40 + n / 200, n % 200, 0, 1].into()
}

#[test]
fn ten_networks_and_more_than_two_thirds_make_an_address() {
    let mut votes = votes(MIN_VOICES);
    for n in 0..9 {
        votes.add(START, scattered(n), addr(US)).unwrap();
        assert_eq!(votes.winner(START, Family::V4), None);
    }
    votes.add(START, scattered(9), addr(US)).unwrap();
    assert_eq!(votes.winner(START, Family::V4), Some(addr(US)));
    assert_eq!(votes.winner(START, Family::V6), None);
    for n in 10..14 {
        votes.add(START, scattered(n), addr(LIE)).unwrap();
        assert_eq!(votes.winner(START, Family::V4), Some(addr(US)));
    }
    // Ten of fifteen are not more than two thirds.
    votes.add(START, scattered(14), addr(LIE)).unwrap();
    assert_eq!(votes.winner(START, Family::V4), None);
    // The newest statement of a voter replaces the one before.
    votes.add(START, scattered(14), addr(US)).unwrap();
    assert_eq!(votes.winner(START, Family::V4), Some(addr(US)));
}

#[test]
fn statements_end_with_their_window() {
    let mut votes = votes(2);
    votes.add(START, scattered(0), addr(US)).unwrap();
    let later = START + VOICE_LIFE / 2;
    votes.add(later, scattered(1), addr(US)).unwrap();
    let end = START + VOICE_LIFE;
    let just_before = end.checked_sub(Duration::from_nanos(1)).unwrap();
    assert!(votes.winner(just_before, Family::V4).is_some());
    assert_eq!(votes.winner(end, Family::V4), None);
    assert_eq!(votes.voices(), 1);
    // Said again in time, it lasts on.
    votes.add(end, scattered(2), addr(US)).unwrap();
    votes.add(end, scattered(1), addr(US)).unwrap();
    assert!(votes.winner(later + VOICE_LIFE, Family::V4).is_some());
}

#[test]
fn one_subnet_has_one_voice_and_a_provider_four() {
    let mut votes = votes(MIN_VOICES);
    for host in 1..=255 {
        votes
            .add(START, [40, 0, 0, host].into(), addr(LIE))
            .unwrap();
    }
    assert_eq!(votes.voices(), 1);
    let mut refused = 0;
    for net in 1..=255 {
        let result = votes.add(START, [40, 0, net, 1].into(), addr(LIE));
        refused += usize::from(result == Err(Ignored::Crowded));
    }
    assert_eq!((votes.voices(), refused), (4, 252));
    // The same in IPv6: two in a /48, four in a /32.
    let v6 = |site: u16, net: u16| IpAddr::from([0x2a00, 1, site, net, 0, 0, 0, 1]);
    let lie = addr("[2a09::1]:30303");
    for host in 0..100 {
        let host: u16 = host;
        let _ = votes.add(START, [0x2a00, 1, 1, 1, 0, 0, 0, host].into(), lie);
    }
    assert_eq!(votes.voices(), 4 + 1);
    for net in 0..100 {
        let _ = votes.add(START, v6(1, net), lie);
    }
    assert_eq!(votes.voices(), 4 + 2);
    for site in 0..100 {
        let _ = votes.add(START, v6(site, 1), lie);
    }
    assert_eq!(votes.voices(), 4 + 4);
    for family in [Family::V4, Family::V6] {
        assert_eq!(votes.winner(START, family), None);
    }
    // Room comes back with time.
    let later = START + VOICE_LIFE;
    assert_eq!(votes.add(later, [40, 0, 200, 1].into(), addr(US)), Ok(()));
}

/// Of a hundred networks thirty lie, each of them something else: the seventy are believed, and so they are down to fifty-one.
#[test]
fn liars_who_disagree_do_not_silence_the_rest() {
    for (liars, winner) in [(30, Some(US)), (49, Some(US)), (50, None)] {
        let mut votes = votes(MIN_VOICES);
        for n in 0..liars {
            let lie = SocketAddr::new([21, 0, 0, 1].into(), 1000 + u16::try_from(n).unwrap());
            votes.add(START, scattered(n), lie).unwrap();
        }
        for n in liars..100 {
            votes.add(START, scattered(n), addr(US)).unwrap();
        }
        let won = votes.winner(START, Family::V4);
        assert_eq!(won, winner.map(addr), "{liars} lie");
    }
}

/// Thirty of a hundred who agree do not win either, from a few providers nor from everywhere; nor do they keep the seventy from it.
#[test]
fn liars_who_agree_do_not_win() {
    for subnets_in_one in [1, 10, 30] {
        let mut votes = votes(MIN_VOICES);
        for n in 0..30_u8 {
            let voter = [80, n / subnets_in_one, n, 1].into();
            let _ = votes.add(START, voter, addr(LIE));
            if subnets_in_one == 30 {
                assert_eq!(votes.winner(START, Family::V4), None, "even alone");
            }
        }
        for n in 0..70 {
            votes.add(START, scattered(n), addr(US)).unwrap();
        }
        let won = votes.winner(START, Family::V4);
        assert_eq!(won, Some(addr(US)), "{subnets_in_one} in one /16");
    }
}

/// With 100 scattered networks a majority can be had, when fewer than 50 others speak; with as many in 20 /16s it takes
/// fewer than 40. That is the price, and below it the true address is not displaced by a false one.
#[test]
fn a_hundred_subnets_win_only_against_few() {
    for (honest, provider_subnets, winner) in [
        (49, 1, Some(LIE)),
        (50, 1, None),
        (40, 5, None),
        (39, 5, Some(LIE)),
        (30, 50, Some(US)),
    ] {
        let mut votes = votes(MIN_VOICES);
        for n in 0..100 {
            let (net, subnet) = (n / provider_subnets, n % provider_subnets);
            let voter = [80, net, subnet, 1].into();
            let _ = votes.add(START, voter, addr(LIE));
        }
        for n in 0..honest {
            votes.add(START, scattered(n), addr(US)).unwrap();
        }
        // The voice by which a majority is noticed.
        let _ = votes.add(START, [80, 0, 0, 1].into(), addr(LIE));
        let won = votes.winner(START, Family::V4);
        assert_eq!(won, winner.map(addr), "{honest} against it");
    }
}

#[test]
fn a_voter_speaks_only_of_what_it_can_see() {
    let mut votes = votes(1);
    let mut add =
        |voter: &str, seen_as: &str| votes.add(START, voter.parse().unwrap(), addr(seen_as));
    assert_eq!(add("40.0.0.1", "10.0.0.1:1"), Err(Ignored::Scope));
    assert_eq!(add("40.0.0.1", "127.0.0.1:1"), Err(Ignored::Scope));
    assert_eq!(add("10.0.0.2", "20.0.0.1:1"), Err(Ignored::Scope));
    assert_eq!(add("127.0.0.1", "10.0.0.1:1"), Err(Ignored::Scope));
    for nobody in ["0.0.0.0:1", "224.0.0.1:1", "100.64.0.1:1", "192.0.2.1:1"] {
        assert_eq!(add("40.0.0.1", nobody), Err(Ignored::Scope), "{nobody}");
    }
    assert_eq!(add("40.0.0.1", "[2a00::1]:1"), Err(Ignored::Family));
    assert_eq!(add("40.0.0.1", "20.0.0.1:0"), Err(Ignored::Port));
    assert_eq!(add("10.0.0.2", "10.0.0.1:1"), Ok(()));
    assert_eq!(add("127.0.0.1", "127.0.0.1:1"), Ok(()));
    for (voter, seen_as) in [
        ("2a00::2", "[fd00::1]:1"),
        ("2a00::2", "[::1]:1"),
        ("fd00::2", "[2a00::1]:1"),
        ("::1", "[fd00::1]:1"),
        // Nobody can be met there who does not know the interface.
        ("fd00::2", "[fe80::1]:1"),
        ("fe80::2", "[fe80::1]:1"),
    ] {
        assert_eq!(
            add(voter, seen_as),
            Err(Ignored::Scope),
            "{voter} {seen_as}"
        );
    }
    assert_eq!(add("::1", "[::1]:1"), Ok(()));
    assert_eq!(add("fd00::2", "[fd00::1]:1"), Ok(()));
    assert_eq!(votes.winner(START, Family::V4), Some(addr("10.0.0.1:1")));
    assert_eq!(votes.winner(START, Family::V6), Some(addr("[fd00::1]:1")));
    // A mapped address is the address inside, and the wider scope goes before.
    let mapped = votes.add(START, "::ffff:40.0.0.1".parse().unwrap(), addr(US));
    assert_eq!(mapped, Ok(()));
    assert_eq!(votes.winner(START, Family::V4), Some(addr(US)));
}

#[test]
fn hosts_of_a_private_network_count_one_by_one() {
    let mut votes = votes(MIN_VOICES);
    for host in 1..=10 {
        let voter = [10, 0, 0, host].into();
        votes.add(START, voter, addr("10.0.0.99:30303")).unwrap();
    }
    assert_eq!(
        votes.winner(START, Family::V4),
        Some(addr("10.0.0.99:30303"))
    );
}

#[test]
fn ever_new_voters_and_addresses_fill_no_more_than_the_bound() {
    let mut votes = votes(MIN_VOICES);
    for n in 0..20_000_u32 {
        let [_, a, b, c] = n.to_be_bytes();
        let seen_as = SocketAddr::new([20, a, b, c].into(), 30303);
        let _ = votes.add(START, [30 + c % 90, b, c, a].into(), seen_as);
        let ballot = &votes.ballots[0][2];
        assert!(ballot.voices.len() <= MAX_VOICES);
        assert!(ballot.tally.len() <= ballot.voices.len());
        assert!(ballot.regions.len() <= ballot.voices.len());
    }
    assert_eq!(votes.voices(), MAX_VOICES);
    // All counters go with the voices.
    votes.winner(START + VOICE_LIFE, Family::V4);
    let ballot = &votes.ballots[0][2];
    assert_eq!((ballot.tally.len(), ballot.regions.len()), (0, 0));
}

proptest! {
    /// Against a count from scratch: a winner is always one there too, and the address just named wins if it does there.
    #[test]
    fn the_running_count_is_the_full_count(
        steps in prop::collection::vec((0..24_usize, 0..3_u16, 0..60_u64), 1..200)
    ) {
        let mut votes = votes(4);
        let mut all = BTreeMap::new();
        let mut now = START;
        for (voter, port, seconds) in steps {
            now = now + Duration::from_secs(seconds);
            let named = SocketAddr::new([20, 0, 0, 1].into(), 1 + port);
            votes.add(now, scattered(voter), named).unwrap();
            all.insert(voter, (named, now));
            all.retain(|_, (_, at)| *at + VOICE_LIFE > now);
            let count = |address| all.values().filter(|(seen, _)| *seen == address).count();
            let wins = |address| {
                let others = all.values().filter(|(seen, _)| *seen != address);
                count(address) >= 4
                    && count(address) * 2 > all.len()
                    && others.clone().all(|(other, _)| count(*other) * 2 < count(address))
            };
            let winner = votes.winner(now, Family::V4);
            prop_assert!(winner.is_none_or(&wins));
            if wins(named) {
                prop_assert_eq!(winner, Some(named));
            }
        }
    }
}
