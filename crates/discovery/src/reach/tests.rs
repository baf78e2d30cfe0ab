//! Every arrow of the drawing.

use super::*;

const START: MonoTime = MonoTime::from_secs(1000);
const SECOND: Duration = Duration::from_secs(1);

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn voted(trials: bool) -> Reach {
    let mut reach = Reach::new(trials);
    assert_eq!((reach.advertised(), reach.deadline()), (None, None));
    reach.on_winner(START, addr("20.0.0.1:1"));
    reach
}

fn reachable() -> Reach {
    let mut reach = voted(false);
    reach.on_contact(START, addr("40.0.0.1:1"));
    reach.on_contact(START, addr("41.0.0.1:1"));
    assert_eq!(reach.advertised(), Some(addr("20.0.0.1:1")));
    reach
}

/// Steps the machine on time until `end` and counts how long the address was advertised.
fn advertised_until(reach: &mut Reach, end: MonoTime) -> Duration {
    let mut now = START;
    let mut total = Duration::ZERO;
    while now < end {
        let next = reach.deadline().unwrap_or(end).min(end);
        if reach.advertised().is_some() {
            total += next - now;
        }
        now = next;
        reach.handle_timeout(now);
        assert!(reach.deadline().is_none_or(|deadline| deadline > now));
    }
    total
}

#[test]
fn contacts_from_two_networks_make_an_address_reachable() {
    let mut reach = Reach::new(false);
    // Before an address is known a contact says nothing of it.
    reach.on_contact(START, addr("40.0.0.1:1"));
    reach.on_contact(START, addr("41.0.0.1:1"));
    reach.on_winner(START, addr("20.0.0.1:1"));
    assert_eq!(reach.advertised(), None);
    reach.on_contact(START, addr("40.0.0.1:1"));
    reach.on_contact(START, addr("40.0.0.2:2"));
    assert_eq!(reach.advertised(), None, "one network");
    reach.on_contact(START, addr("10.0.0.2:1"));
    reach.on_contact(START, addr("127.0.0.1:1"));
    reach.on_contact(START, addr("[2a00::1]:1"));
    assert_eq!(reach.advertised(), None, "neighbours, or another family");
    reach.on_contact(START, addr("41.0.0.1:1"));
    assert_eq!(reach.advertised(), Some(addr("20.0.0.1:1")));
}

#[test]
fn without_trials_a_candidate_waits_for_ever() {
    let mut reach = voted(false);
    assert_eq!(reach.deadline(), None);
    reach.handle_timeout(START + MAX_PAUSE * 10);
    assert_eq!(reach.advertised(), None);
}

#[test]
fn what_falls_silent_is_withdrawn_and_comes_back_with_contacts() {
    let mut reach = reachable();
    let doubtful = START + SILENCE;
    reach.handle_timeout(doubtful);
    assert!(reach.advertised().is_some());
    reach.on_contact(doubtful, addr("40.0.0.1:1"));
    reach.handle_timeout(doubtful + (SILENCE * 2 - Duration::from_nanos(1)));
    assert!(reach.advertised().is_some());
    reach.handle_timeout(doubtful + SILENCE * 2);
    assert_eq!(reach.advertised(), None);
    reach.on_contact(doubtful + SILENCE * 3, addr("40.0.0.1:1"));
    assert_eq!(reach.advertised(), None);
    reach.on_contact(doubtful + SILENCE * 3, addr("41.0.0.1:1"));
    assert!(reach.advertised().is_some());
}

/// With everybody met and everybody naming it, silence says nothing; with somebody new, or nobody left, it does.
#[test]
fn silence_is_no_sign_in_a_network_at_rest() {
    let rest = |hours: u32, strangers_in: u32| {
        let mut reach = reachable();
        for minute in 0..hours * 60 {
            let now = START + SECOND * 60 * minute;
            reach.on_winner(now, addr("20.0.0.1:1"));
            if minute == strangers_in * 60 + 1 {
                reach.on_strangers(1);
            }
            reach.handle_timeout(now);
        }
        reach
    };
    let mut reach = rest(12, 0);
    assert!(reach.advertised().is_some(), "met before it was doubtful");
    reach.handle_timeout(START + SILENCE * 13);
    assert_eq!(reach.advertised(), None, "nobody names it any more");
    assert!(rest(6, 5).advertised().is_some());
    assert_eq!(rest(7, 5).advertised(), None, "somebody new has not come");
}

#[test]
fn a_trial_ends_and_the_next_one_takes_twice_as_long_to_come() {
    let mut reach = voted(true);
    for (end, expected) in [
        (TEST_TIME, Duration::ZERO),
        (TEST_TIME + TRIAL_TIME, TRIAL_TIME),
    ] {
        let mut reach = reach.clone();
        assert_eq!(advertised_until(&mut reach, START + end), expected);
    }
    let mut pauses = Vec::new();
    let mut now = START;
    for _ in 0..9 {
        while reach.advertised().is_none() {
            now = reach.deadline().unwrap();
            reach.handle_timeout(now);
        }
        let withdrawn = reach.deadline().unwrap();
        reach.handle_timeout(withdrawn);
        assert_eq!(reach.advertised(), None);
        pauses.push(reach.deadline().unwrap() - withdrawn);
        assert!(now < withdrawn);
    }
    let hours = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 24.0, 24.0, 24.0];
    assert_eq!(pauses, hours.map(|hours| SILENCE.mul_f64(hours)));
}

#[test]
fn a_trial_that_somebody_answers_is_the_end_of_trials() {
    let mut reach = voted(true);
    let now = START + TEST_TIME;
    reach.handle_timeout(now);
    reach.on_contact(now, addr("40.0.0.1:1"));
    reach.on_contact(now, addr("41.0.0.1:1"));
    reach.handle_timeout(now + TRIAL_TIME);
    assert!(reach.advertised().is_some());
    assert_eq!(reach.deadline(), Some(now + SILENCE));
}

#[test]
fn a_host_that_moves_is_tried_at_its_new_address_at_once() {
    let mut reach = reachable();
    reach.on_winner(START + SECOND, addr("20.0.0.1:1"));
    assert_eq!(reach.deadline(), Some(START + SILENCE), "nothing new");
    let new = addr("22.0.0.1:1");
    reach.on_winner(START + SECOND, new);
    assert_eq!(reach.advertised(), Some(new));
    reach.handle_timeout(START + SECOND + TRIAL_TIME);
    assert_eq!(reach.advertised(), None);
    // What was never reachable is not tried at once; nor is an address of another scope.
    let mut reach = voted(false);
    reach.on_winner(START, new);
    assert_eq!(reach.advertised(), None);
    let mut reach = reachable();
    reach.on_winner(START, addr("10.0.0.1:1"));
    assert_eq!(reach.advertised(), None);
}

#[test]
fn a_driver_that_overslept_ends_up_in_the_same_state() {
    let end = START + Duration::from_secs(1_000_000);
    let (mut on_time, mut late) = (voted(true), voted(true));
    advertised_until(&mut on_time, end);
    late.handle_timeout(end);
    assert_eq!(
        (on_time.advertised(), on_time.deadline()),
        (late.advertised(), late.deadline())
    );
}
