use super::*;

const START: MonoTime = MonoTime::from_secs(100);

fn schedule() -> Schedule {
    Schedule::default()
}

fn commit(schedule: &mut Schedule, now: MonoTime, ok: bool) {
    assert_eq!(schedule.next(now), Step::Commit);
    schedule.on_commit_start();
    schedule.on_commit_end(now, ok);
}

#[test]
fn with_nothing_to_do_it_waits_to_be_woken() {
    assert_eq!(schedule().next(START), Step::Wait(None));
}

#[test]
fn the_first_write_sets_the_time_of_the_commit_and_later_ones_do_not_move_it() {
    let mut schedule = schedule();
    assert!(schedule.on_write(1, || START));
    let later = START + COMMIT_INTERVAL / 2;
    assert!(!schedule.on_write(2, || later));
    assert_eq!(schedule.next(later), Step::Wait(Some(COMMIT_INTERVAL / 2)));
    commit(&mut schedule, START + COMMIT_INTERVAL, true);
    assert_eq!(schedule.next(later), Step::Wait(None));
}

#[test]
fn many_waiting_writes_are_committed_early() {
    let mut schedule = schedule();
    assert!(schedule.on_write(1, || START));
    assert!(!schedule.on_write(COMMIT_EARLY - 1, || START));
    assert_eq!(schedule.next(START), Step::Wait(Some(COMMIT_INTERVAL)));
    assert!(schedule.on_write(COMMIT_EARLY, || START));
    assert!(!schedule.on_write(COMMIT_EARLY + 1, || START));
    commit(&mut schedule, START, true);
}

#[test]
fn a_failed_commit_is_repeated_after_a_while_and_not_before() {
    let mut schedule = schedule();
    schedule.on_write(1, || START);
    let at = START + COMMIT_INTERVAL;
    commit(&mut schedule, at, false);
    // Neither time nor number of new writes hurries a store that refuses.
    schedule.on_write(COMMIT_EARLY, || at);
    assert_eq!(schedule.next(at), Step::Wait(Some(RETRY_INTERVAL)));
    commit(&mut schedule, at + RETRY_INTERVAL, true);
    commit(&mut schedule, at + RETRY_INTERVAL, true);
    assert_eq!(schedule.next(at + RETRY_INTERVAL), Step::Wait(None));
}

#[test]
fn expiry_begins_when_told_and_comes_every_hour() {
    let mut schedule = schedule();
    assert_eq!(schedule.next(START + 100 * EXPIRY_CYCLE), Step::Wait(None));
    schedule.start_expiry(START);
    schedule.start_expiry(START + EXPIRY_CYCLE / 2);
    assert_eq!(schedule.next(START), Step::Wait(Some(EXPIRY_CYCLE)));
    let due = START + EXPIRY_CYCLE;
    assert_eq!(schedule.next(due), Step::Expire);
    schedule.on_expired(due);
    assert_eq!(schedule.next(due), Step::Wait(Some(EXPIRY_CYCLE)));
}

#[test]
fn a_flush_commits_and_expires_what_is_due_first() {
    let mut schedule = schedule();
    schedule.start_expiry(START);
    schedule.on_write(1, || START);
    let now = START + EXPIRY_CYCLE;
    let number = schedule.want_flush();
    commit(&mut schedule, now, true);
    assert_eq!(schedule.next(now), Step::Expire);
    schedule.on_expired(now);
    assert_eq!(schedule.next(now), Step::Flush(number));
    schedule.on_flushed(number);
    assert_eq!(schedule.flush_done(), number);
    assert_eq!(schedule.next(now), Step::Wait(Some(EXPIRY_CYCLE)));
}

#[test]
fn those_who_write_on_do_not_hold_a_flush_up() {
    let mut schedule = schedule();
    schedule.on_write(1, || START);
    let number = schedule.want_flush();
    assert_eq!(schedule.next(START), Step::Commit);
    schedule.on_commit_start();
    schedule.on_write(1, || START);
    schedule.on_commit_end(START, true);
    assert_eq!(schedule.next(START), Step::Flush(number));
}

#[test]
fn a_flush_during_a_commit_waits_for_the_writes_that_came_during_it() {
    let mut schedule = schedule();
    schedule.on_write(1, || START);
    schedule.want_flush();
    schedule.on_commit_start();
    schedule.on_write(1, || START);
    let second = schedule.want_flush();
    schedule.on_commit_end(START, true);
    commit(&mut schedule, START, true);
    assert_eq!(schedule.next(START), Step::Flush(second));
}

#[test]
fn a_store_that_fails_does_not_hold_a_flush_or_the_end_up() {
    let mut schedule = schedule();
    schedule.on_write(1, || START);
    let number = schedule.want_flush();
    commit(&mut schedule, START, false);
    assert_eq!(schedule.next(START), Step::Flush(number));
    schedule.on_flushed(number);
    schedule.on_write(1, || START);
    schedule.close();
    // What was kept is tried once more, and what came since is not reached.
    commit(&mut schedule, START, false);
    assert_eq!(schedule.next(START), Step::Close);
}

#[test]
fn the_end_commits_everything_and_does_not_expire() {
    let mut schedule = schedule();
    schedule.start_expiry(START);
    schedule.on_write(1, || START);
    schedule.close();
    let now = START + EXPIRY_CYCLE;
    commit(&mut schedule, now, true);
    assert_eq!(schedule.next(now), Step::Close);
}
