//! Limits: nothing passes beyond burst + rate × time, budgets come back to zero, every bound is reached.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // a test fails by panicking

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tercet_machine::{
    ByteBudget, KeyedState, MachineRng, MonoTime, Quota, RateLimiter, Subnet, SubnetLimit,
    SubnetQuota, TokenBucket,
};

fn state() -> KeyedState {
    KeyedState::new(&mut MachineRng::from_seed([3; 32]))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Whether tokens taken at `times` ever exceed burst + rate × span, over every span of time.
fn within(quota: Quota, taken: &[(u64, u32)]) -> bool {
    (0..taken.len()).all(|from| {
        (from..taken.len()).all(|to| {
            let span = u128::from(taken[to].0 - taken[from].0);
            let sum: u128 = taken[from..=to]
                .iter()
                .map(|(_, count)| u128::from(*count))
                .sum();
            sum <= u128::from(quota.burst()) + span / quota.interval().as_nanos().max(1)
        })
    })
}

proptest! {
    #[test]
    fn a_bucket_never_passes_more_than_burst_and_rate(
        every in 1u64..50, burst in 1u32..8, calls in vec((0u64..30, 1u32..4), 1..120)
    ) {
        let quota = Quota::every(Duration::from_nanos(every), burst);
        let mut bucket = TokenBucket::new(quota);
        let (mut now, mut taken) = (0, Vec::new());
        for (wait, count) in calls {
            now += wait;
            if bucket.check_n(MonoTime::from_nanos(now), count) {
                taken.push((now, count));
            }
        }
        prop_assert!(within(quota, &taken));
    }

    /// Four places for ten keys: many share the bucket of the crowd, and move in and out of places of their own.
    #[test]
    fn no_key_passes_more_than_burst_and_rate(
        every in 1u64..40, burst in 1u32..5, calls in vec((0u64..20, 0u8..10), 1..200)
    ) {
        let quota = Quota::every(Duration::from_nanos(every), burst);
        let mut limiter = RateLimiter::new(quota, 4);
        let mut taken: BTreeMap<u8, Vec<(u64, u32)>> = BTreeMap::new();
        let mut now = 0;
        for (wait, key) in calls {
            now += wait;
            if limiter.check(MonoTime::from_nanos(now), &key) {
                taken.entry(key).or_default().push((now, 1));
            }
            prop_assert!(limiter.len() <= 4);
        }
        for (key, taken) in taken {
            prop_assert!(within(quota, &taken), "key {key}");
        }
    }

    #[test]
    fn a_key_that_keeps_to_the_rate_always_passes(every in 1u64..1000, calls in 1usize..100) {
        let mut limiter = RateLimiter::new(Quota::every(Duration::from_nanos(every), 1), 1);
        for call in 0..calls {
            let now = MonoTime::from_nanos(every * call as u64);
            prop_assert!(limiter.check(now, &"steady"));
        }
    }

    #[test]
    fn budgets_return_to_zero(limit in 0usize..1000, steps in vec((0usize..400, any::<bool>()), 0..80)) {
        let budget = ByteBudget::new(limit);
        let mut held = Vec::new();
        for (bytes, give_back) in steps {
            if give_back && !held.is_empty() {
                held.remove(bytes % held.len());
            } else {
                let room = budget.available();
                match budget.try_acquire(bytes) {
                    Some(guard) => held.push(guard),
                    None => prop_assert!(bytes > room),
                }
            }
            let sum: usize = held.iter().map(tercet_machine::BudgetGuard::bytes).sum();
            prop_assert_eq!(budget.used(), sum);
            prop_assert!(sum <= limit);
        }
        held.clear();
        prop_assert_eq!(budget.used(), 0);
    }

    /// Few subnets, so that all of them fill up; a naive count beside it says what is right.
    #[test]
    fn subnets_are_counted_exactly(quota in 1u32..4, steps in vec((0u8..24, any::<bool>()), 0..200)) {
        let mut limit = SubnetLimit::new(SubnetQuota { v4: quota, v6: quota, v6_wide: quota + 1 }, state());
        let mut counted: Vec<IpAddr> = Vec::new();
        for (which, remove) in steps {
            let ip: IpAddr = match which {
                0..8 => IpAddr::from([10, 0, which % 2, which]),
                n => format!("2001:db9:{:x}:{:x}::{n:x}", n % 2, n % 3).parse().unwrap(),
            };
            let of = |wide: fn(IpAddr) -> Subnet| {
                counted.iter().filter(|other| wide(**other) == wide(ip)).count()
            };
            let (narrow, wide) = (of(Subnet::of), of(Subnet::wide));
            let wide_quota = if ip.is_ipv4() { quota } else { quota + 1 };
            let room = narrow < quota as usize && wide < wide_quota as usize;
            if remove {
                // Taking back needs something counted in both subnets.
                prop_assert_eq!(limit.remove(ip), narrow > 0);
                if let Some(at) = counted.iter().position(|other| Subnet::of(*other) == Subnet::of(ip)) {
                    counted.remove(at);
                }
            } else {
                prop_assert_eq!(limit.has_room(ip), room);
                prop_assert_eq!(limit.insert(ip), room);
                if room {
                    counted.push(ip);
                }
            }
        }
        for ip in counted {
            prop_assert!(limit.remove(ip));
        }
        prop_assert!(limit.is_empty());
    }
}

#[test]
fn quotas_are_what_their_names_say() {
    assert_eq!(
        Quota::per_second(10, 1).interval(),
        Duration::from_millis(100)
    );
    assert_eq!(Quota::per_minute(60, 1).interval(), Duration::from_secs(1));
    // A third of a second is rounded up: three a second, never more.
    assert_eq!(
        Quota::per_second(3, 1).interval(),
        Duration::from_nanos(333_333_334)
    );
    assert_eq!(Quota::per_second(0, 0), Quota::per_second(1, 1));
}

#[test]
fn more_than_the_burst_at_once_never_passes() {
    let mut bucket = TokenBucket::new(Quota::per_second(1, 3));
    assert!(!bucket.check_n(MonoTime::from_secs(1000), 4));
    assert!(bucket.check_n(MonoTime::from_secs(1000), 3));
    assert!(!bucket.check(MonoTime::from_secs(1000)));
}

#[test]
fn a_flood_of_keys_neither_grows_the_limiter_nor_hurts_known_keys() {
    let mut limiter = RateLimiter::new(Quota::per_second(1, 10), 100);
    let now = MonoTime::from_secs(5);
    for key in 0..100u32 {
        assert!(limiter.check(now, &key));
    }
    let passed = (100..100_000u32)
        .filter(|key| limiter.check(now, key))
        .count();
    assert_eq!(passed, 10, "the crowd shares one bucket");
    assert_eq!(limiter.len(), 100);
    assert!(
        (0..100).all(|key| limiter.check(now, &key)),
        "known keys keep theirs"
    );
    // Ten seconds on, all buckets are full again and forgotten as new keys come.
    let later = MonoTime::from_secs(16);
    for key in 0..60u32 {
        assert!(limiter.check(later, &(1_000_000 + key)));
    }
    assert_eq!(limiter.len(), 60);
}

#[test]
fn a_budget_is_shared_between_its_clones_and_threads() {
    let budget = ByteBudget::new(64);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let budget = budget.clone();
            scope.spawn(move || {
                for _ in 0..10_000 {
                    let guard = budget.try_acquire(20);
                    assert!(budget.used() <= budget.limit());
                    drop(guard);
                }
            });
        }
    });
    assert_eq!((budget.used(), budget.available()), (0, 64));
    assert!(budget.try_acquire(usize::MAX).is_none());
}

#[test]
fn subnets_are_24_for_ipv4_and_64_and_48_for_ipv6() {
    assert_eq!(Subnet::of(ip("1.2.3.4")), Subnet::V4([1, 2, 3]));
    assert_eq!(Subnet::wide(ip("1.2.3.4")), Subnet::V4([1, 2, 3]));
    assert_eq!(Subnet::of(ip("::ffff:1.2.3.4")), Subnet::V4([1, 2, 3]));
    assert_eq!(Subnet::of(ip("1.2.3.4")).to_string(), "1.2.3.0/24");
    assert_eq!(
        Subnet::of(ip("2001:db8:1:2:3::4")).to_string(),
        "2001:db8:1:2::/64"
    );
    assert_eq!(
        Subnet::wide(ip("2001:db8:1:2:3::4")).to_string(),
        "2001:db8:1::/48"
    );
}

#[test]
fn an_ipv6_site_cannot_get_around_its_limit_by_using_more_64s() {
    let mut limit = SubnetLimit::new(
        SubnetQuota {
            v4: 2,
            v6: 2,
            v6_wide: 5,
        },
        state(),
    );
    let mut counted = 0;
    for net in 0..1000 {
        for host in 0..4 {
            counted += u32::from(limit.insert(ip(&format!("2a00:1:1:{net:x}::{host}"))));
        }
    }
    assert_eq!(counted, 5);
    assert_eq!(limit.count(Subnet::wide(ip("2a00:1:1::"))), 5);
    assert!(limit.insert(ip("2a00:1:2::1")), "another site has its own");
}
