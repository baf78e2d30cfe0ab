//! Whether this host's clock is right, asked of a time server (SNTP, RFC 5905) when many packets look expired.
//!
//! discv4 packets end after 20 s, so a clock that is off by more makes a node deaf and mute without any error. When to suspect
//! it is the core's business; here is how often to ask, how, and what to tell the operator. Nobody is asked unless a server
//! was configured. The clock is never set.
//!
//! SNTP is not authenticated: whoever is on the way can make us complain of a right clock, and no more.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use rsntp::{AsyncSntpClient, Config, SynchronizationError};
use tercet_machine::MonoTime;

/// Least time between two checks (geth's `ntpWarningCooldown`).
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How long one answer is waited for, and the server's name (geth's timeout).
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The clock is wrong if it is off by more (geth's `driftThreshold`): half the 20 s a discv4 packet lives.
pub(crate) const MAX_DRIFT: Duration = Duration::from_secs(10);

/// Questions a check asks: three, and the highest and lowest answer that are left out.
const SAMPLES: usize = 5;

/// Fewest answers to judge by: with the extremes left out, one is left.
const MIN_ANSWERS: usize = 3;

/// The port of SNTP, where the server's name says none.
const PORT: u16 = 123;

/// Decides when a check is made.
#[derive(Clone, Debug)]
pub(crate) struct ClockCheck {
    server: Option<String>,
    not_before: MonoTime,
}

impl ClockCheck {
    /// `server`: `host` or `host:port`; without one there are no checks.
    pub(crate) const fn new(server: Option<String>) -> Self {
        Self {
            server,
            not_before: MonoTime::ZERO,
        }
    }

    /// The clock is suspected. The server to [`measure`] with, unless none is configured or the last check was less than
    /// [`CHECK_INTERVAL`] ago.
    pub(crate) fn on_suspicion(&mut self, now: MonoTime) -> Option<&str> {
        let server = self.server.as_deref()?;
        if now < self.not_before {
            return None;
        }
        self.not_before = now + CHECK_INTERVAL;
        Some(server)
    }
}

/// How far the clock is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Drift {
    /// Milliseconds to add to this host's clock to have the server's.
    pub(crate) millis: i64,
}

impl Drift {
    /// Whether it is more than [`MAX_DRIFT`].
    pub(crate) fn is_wrong(self) -> bool {
        u128::from(self.millis.unsigned_abs()) > MAX_DRIFT.as_millis()
    }

    /// What to tell the operator, in one line.
    pub(crate) fn report(self, server: &str) {
        let Self { millis } = self;
        if self.is_wrong() {
            let (seconds, way) = (
                Duration::from_millis(millis.unsigned_abs()),
                if millis > 0 { "behind" } else { "ahead" },
            );
            tracing::warn!(
                server,
                "this host's clock is {seconds:?} {way}: discovery does not work until it is set right (enable time \
                 synchronization)"
            );
        } else {
            tracing::debug!(server, millis, "the clock is right");
        }
    }
}

/// Why nothing is known of the clock.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ClockError {
    /// The server's name leads to no address, or not in time.
    #[error("the time server's name leads nowhere")]
    Unresolved(#[source] io::Error),
    /// Fewer than [`MIN_ANSWERS`] of [`SAMPLES`] questions were answered.
    #[error("the time server gave {answers} answers of {SAMPLES}")]
    Answers {
        /// How many came.
        answers: usize,
        /// Why the last one did not.
        #[source]
        last: SynchronizationError,
    },
}

/// Asks the server five times, one after another, each within `timeout` (normally [`ANSWER_TIMEOUT`]); the mean of the
/// answers without the highest and the lowest. An answer that took a round trip of `t` is off by at most `t / 2`.
pub(crate) async fn measure(server: &str, timeout: Duration) -> Result<Drift, ClockError> {
    let address = resolve(server, timeout).await?;
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    // Connected, so that answers of others do not arrive.
    let config = Config::default()
        .bind_address(any)
        .timeout(timeout)
        .connect_ip(true);
    let client = AsyncSntpClient::with_config(config);
    let mut offsets = Vec::with_capacity(SAMPLES);
    let mut last = None;
    for _ in 0..SAMPLES {
        match client.synchronize(address).await {
            Ok(answer) => offsets.push(answer.clock_offset().as_secs_f64()),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(last) if offsets.len() < MIN_ANSWERS => Err(ClockError::Answers {
            answers: offsets.len(),
            last,
        }),
        _ => Ok(mean(offsets)),
    }
}

async fn resolve(server: &str, timeout: Duration) -> Result<SocketAddr, ClockError> {
    let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let lookup = async {
        let mut found = if has_port {
            tokio::net::lookup_host(server).await?.next()
        } else {
            let host = server.trim_start_matches('[').trim_end_matches(']');
            tokio::net::lookup_host((host, PORT)).await?.next()
        };
        found.take().ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    match tokio::time::timeout(timeout, lookup).await {
        Ok(found) => found.map_err(ClockError::Unresolved),
        Err(_) => Err(ClockError::Unresolved(io::ErrorKind::TimedOut.into())),
    }
}

/// Of at least [`MIN_ANSWERS`] offsets in seconds.
fn mean(mut offsets: Vec<f64>) -> Drift {
    offsets.sort_by(f64::total_cmp);
    let kept = offsets.len().saturating_sub(2);
    let sum: f64 = offsets.into_iter().skip(1).take(kept).sum();
    // SNTP's 64-bit times reach 136 years; their milliseconds fit in a float and in an integer without loss.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "at most five offsets of at most 2^33 seconds"
    )]
    let millis = (sum / kept.max(1) as f64 * 1000.0).round() as i64;
    Drift { millis }
}

#[cfg(test)]
mod tests;
