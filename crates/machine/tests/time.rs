//! Times: arithmetic that saturates instead of wrapping, and the one clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::time::Duration;

use tercet_machine::{Clock, MonoTime, Now, UnixTime};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn monotonic_time_saturates() {
    assert_eq!(MonoTime::from_secs(1), MonoTime::ZERO + SECOND);
    assert_eq!(
        MonoTime::from_millis(1000),
        MonoTime::from_nanos(1_000_000_000)
    );
    assert_eq!(MonoTime::MAX + SECOND, MonoTime::MAX);
    assert_eq!(MonoTime::ZERO + Duration::MAX, MonoTime::MAX);
    assert_eq!(MonoTime::from_secs(u64::MAX), MonoTime::MAX);
    assert_eq!(MonoTime::MAX.checked_add(SECOND), None);
    assert_eq!(MonoTime::ZERO.checked_sub(SECOND), None);
    assert_eq!(
        MonoTime::from_secs(3).checked_sub(SECOND),
        Some(MonoTime::from_secs(2))
    );
    assert_eq!(MonoTime::from_secs(3) - MonoTime::from_secs(1), 2 * SECOND);
    assert_eq!(
        MonoTime::from_secs(1) - MonoTime::from_secs(3),
        Duration::ZERO
    );
    assert_eq!(MonoTime::from_nanos(7).as_nanos(), 7);
    assert_eq!(format!("{:?}", MonoTime::from_millis(1500)), "+1.5s");
}

#[test]
fn civil_time_saturates() {
    let time = UnixTime::from_secs(1_700_000_000);
    assert_eq!(
        (time.as_secs(), time.as_millis()),
        (1_700_000_000, 1_700_000_000_000)
    );
    assert_eq!((time + SECOND) - time, SECOND);
    assert_eq!(time - (time + SECOND), Duration::ZERO);
    assert_eq!(UnixTime::EPOCH - SECOND, UnixTime::EPOCH);
    assert_eq!(time - SECOND, UnixTime::from_secs(1_699_999_999));
    assert_eq!(
        UnixTime::from_secs(u64::MAX),
        UnixTime::from_millis(u64::MAX)
    );
    assert_eq!(
        UnixTime::from_millis(u64::MAX) + Duration::MAX,
        UnixTime::from_millis(u64::MAX)
    );
    assert_eq!(format!("{:?}", UnixTime::from_millis(1_001)), "unix 1.001");
    let now = Now {
        mono: MonoTime::ZERO,
        unix: time,
    };
    assert_eq!(
        now.after(SECOND),
        Now {
            mono: MonoTime::from_secs(1),
            unix: time + SECOND
        }
    );
}

#[test]
fn the_clock_runs_and_knows_never() {
    let clock = Clock::start();
    let (first, second) = (clock.now(), clock.now());
    assert!(second.mono >= first.mono);
    assert!(
        first.unix > UnixTime::from_secs(1_600_000_000),
        "after 2020"
    );
    let never = clock.instant(MonoTime::MAX) - clock.instant(MonoTime::ZERO);
    assert_eq!(
        never,
        Duration::from_secs(315_360_000),
        "ten years of 365 days"
    );
    assert_eq!(
        clock.instant(MonoTime::ZERO + SECOND) - clock.instant(MonoTime::ZERO),
        SECOND
    );
}
