//! How many connections there may be and how long things may take: the plain
//! numbers of a configuration.

use std::time::Duration;

/// Static and trusted nodes kept at most, each: 1024 nodes of about 0.5 KiB.
pub const MAX_NAMED_NODES: usize = 1024;

/// How many connections there may be.
///
/// | field | default | unit |
/// |---|---|---|
/// | `max_peers` | 50 | peers |
/// | `dial_ratio` | 3 | 1 of so many slots is for dialed peers |
/// | `max_pending` | 50 | unfinished set-ups, for each direction |
/// | `pending_per_subnet` | 4 | unfinished inbound set-ups per IPv4 /24 or IPv6 /48 |
/// | `dialing` | true | |
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Limits {
    /// Peers at once. A peer may pin 32 MiB for each protocol it shares
    /// (16 MiB in, 16 MiB out) in the worst case.
    pub max_peers: usize,
    /// One of this many slots is for peers we dial, the others for inbound ones.
    pub dial_ratio: usize,
    /// Connections in set-up, for each direction.
    pub max_pending: usize,
    /// Inbound connections in set-up from one IPv4 /24 or IPv6 /48; loopback and
    /// LAN addresses are exempt.
    pub pending_per_subnet: usize,
    /// Whether nodes found by discovery are dialed. Static nodes always are.
    pub dialing: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_peers: 50,
            dial_ratio: 3,
            max_pending: 50,
            pending_per_subnet: 4,
            dialing: true,
        }
    }
}

impl Limits {
    /// How many peers found by discovery may be connected by our dialing:
    /// a `dial_ratio`th of the slots, at least one; none without dialing or slots.
    pub fn max_dialed(&self) -> usize {
        if !self.dialing || self.max_peers == 0 {
            return 0;
        }
        (self.max_peers / self.dial_ratio.max(1)).max(1)
    }

    /// How many peers may be connected by their dialing.
    pub fn max_inbound(&self) -> usize {
        self.max_peers - self.max_dialed()
    }
}

/// How long things may take. Two limits are fixed: 5 s for the handshake with
/// both Hellos, 2 s for a Disconnect to be sent and the remote to close.
///
/// | field | default |
/// |---|---|
/// | `dial` | 15 s |
/// | `dns` | 5 s |
/// | `ping` | 15 s |
/// | `idle` | 30 s |
/// | `write` | 20 s |
/// | `inbox` | 10 s |
/// | `join` | 5 s |
/// | `throttle` | 30 s |
/// | `redial` | 35 s |
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Timeouts {
    /// Making a TCP connection.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub dial: Duration,
    /// Resolving a host name.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub dns: Duration,
    /// Between two pings to a peer.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub ping: Duration,
    /// Without a message from the peer.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub idle: Duration,
    /// For the remote to take what was queued.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub write: Duration,
    /// A protocol's inbox may be full.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub inbox: Duration,
    /// A protocol's run to end after its connection has.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub join: Duration,
    /// Between two inbound connections from one subnet (IPv4 /24, IPv6 /64);
    /// loopback and LAN are exempt.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub throttle: Duration,
    /// Least time between two dials of one node: the throttle others apply, and
    /// 5 s. Back-off after failures is counted in multiples of it.
    #[cfg_attr(feature = "serde", serde(with = "humantime_serde"))]
    pub redial: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(15),
            dns: Duration::from_secs(5),
            ping: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            write: Duration::from_secs(20),
            inbox: Duration::from_secs(10),
            join: Duration::from_secs(5),
            throttle: Duration::from_secs(30),
            redial: Duration::from_secs(35),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "serde")]
    #[test]
    fn limits_are_read_from_files_field_by_field() {
        let limits: Limits = serde_json::from_str(r#"{"max_peers": 9}"#).unwrap();
        assert_eq!(
            limits,
            Limits {
                max_peers: 9,
                ..Limits::default()
            }
        );
        let timeouts: Timeouts = serde_json::from_str(r#"{"redial": "2m 5s"}"#).unwrap();
        assert_eq!(timeouts.redial, Duration::from_secs(125));
        let again = serde_json::to_string(&timeouts).unwrap();
        assert_eq!(serde_json::from_str::<Timeouts>(&again).unwrap(), timeouts);
        assert!(serde_json::from_str::<Limits>(r#"{"max_pears": 9}"#).is_err());
    }

    /// The rows `| name | value | …` of the table in the doc of a struct.
    fn documented(of: &str) -> Vec<(String, String)> {
        let source = include_str!("limits.rs");
        let doc = source.split(&format!("pub struct {of} ")).next().unwrap();
        let table = doc.rsplit("|---").next().unwrap();
        let rows = table
            .lines()
            .filter_map(|line| line.strip_prefix("/// | `"));
        let row = |row: &str| {
            let mut cells = row
                .split(" |")
                .map(|cell| cell.trim_matches([' ', '`', '|']));
            (
                cells.next().unwrap().to_owned(),
                cells.next().unwrap().to_owned(),
            )
        };
        rows.map(row).collect()
    }

    fn pairs<const N: usize>(rows: [(&str, String); N]) -> Vec<(String, String)> {
        rows.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    #[test]
    fn the_documented_limits_are_the_defaults() {
        let Limits {
            max_peers,
            dial_ratio,
            max_pending,
            pending_per_subnet,
            dialing,
        } = Limits::default();
        let actual = pairs([
            ("max_peers", max_peers.to_string()),
            ("dial_ratio", dial_ratio.to_string()),
            ("max_pending", max_pending.to_string()),
            ("pending_per_subnet", pending_per_subnet.to_string()),
            ("dialing", dialing.to_string()),
        ]);
        assert_eq!(documented("Limits"), actual);
    }

    #[test]
    fn the_documented_timeouts_are_the_defaults() {
        let Timeouts {
            dial,
            dns,
            ping,
            idle,
            write,
            inbox,
            join,
            throttle,
            redial,
        } = Timeouts::default();
        let text = |duration: Duration| format!("{} s", duration.as_secs());
        let actual = pairs([
            ("dial", text(dial)),
            ("dns", text(dns)),
            ("ping", text(ping)),
            ("idle", text(idle)),
            ("write", text(write)),
            ("inbox", text(inbox)),
            ("join", text(join)),
            ("throttle", text(throttle)),
            ("redial", text(redial)),
        ]);
        assert_eq!(documented("Timeouts"), actual);
    }
}
