//! The two cores between which a service shares out what arrives. Elsewhere than on Linux there are none: a datagram cannot be told to
//! stay where it has arrived.

/// The core of the first of two sockets on a port, and that of the second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Cores {
    pub(super) first: usize,
    pub(super) second: usize,
}

impl Cores {
    /// The first two this thread may run on, if there are as many.
    #[cfg(target_os = "linux")]
    pub(crate) fn available() -> Option<Self> {
        use rustix::thread::{CpuSet, sched_getaffinity};

        let set = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core));
        Some(Self {
            first: cores.next()?,
            second: cores.next()?,
        })
    }

    /// None.
    #[cfg(not(target_os = "linux"))]
    pub(crate) const fn available() -> Option<Self> {
        None
    }
}

/// The core this thread runs on, at this moment.
#[cfg(target_os = "linux")]
pub(super) fn here() -> Option<usize> {
    Some(rustix::thread::sched_getcpu())
}

/// Unknown.
#[cfg(not(target_os = "linux"))]
pub(super) const fn here() -> Option<usize> {
    None
}
