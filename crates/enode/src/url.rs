//! The enode URL: `enode://<128 hex>@<host>:<tcp>[?discport=<udp>]`, read and written as geth does. Resolving a DNS name is
//! left to whoever dials.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::address::canonical_ip;
use crate::endpoint::Endpoint;
use crate::hexadecimal::HexError;
use crate::id::NodeId;
use crate::keys::{KeyError, ParseKeyError, PublicKey};

const PREFIX: &str = "enode://";
/// The longest DNS name (RFC 1035, in its text form) and the longest label.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// Where a URL says its node is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address; never an IPv4-mapped IPv6 one.
    Ip(IpAddr),
    /// A name, to be resolved when dialing.
    Dns(String),
}

/// A parsed enode URL. Without a host it only names a node.
///
/// ```
/// use tercet_enode::EnodeUrl;
/// let key = "ca634cae0d49acb401d8a4c6b6fe8c55b70d115bf400769cc1400f3258cd31387574077f301b421bc84df7266c44e9e6d569fc56be00812904767bf5ccd1fc7f";
/// let url: EnodeUrl = format!("enode://{key}@127.0.0.1:30303?discport=30301").parse()?;
/// assert_eq!((url.tcp(), url.udp()), (30303, 30301));
/// let wrong = format!("enode://{key}@127.0.0.1:http").parse::<EnodeUrl>();
/// assert_eq!(wrong.unwrap_err().to_string(), "enode URL: \"http\" at character 148 is not a TCP port (0 to 65535)");
/// # Ok::<(), tercet_enode::ParseEnodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EnodeUrl {
    public_key: PublicKey,
    host: Option<Host>,
    tcp: u16,
    udp: u16,
}

impl EnodeUrl {
    /// The URL of a node at an endpoint.
    #[must_use]
    pub fn new(public_key: PublicKey, endpoint: &Endpoint) -> Self {
        let host = Some(Host::Ip(canonical_ip(endpoint.ip)));
        Self {
            public_key,
            host,
            tcp: endpoint.tcp,
            udp: endpoint.udp,
        }
    }

    /// A URL that only names a node.
    #[must_use]
    pub fn without_host(public_key: PublicKey) -> Self {
        Self {
            public_key,
            host: None,
            tcp: 0,
            udp: 0,
        }
    }

    /// The node's key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The node's id, computed from the key.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.public_key.node_id()
    }

    /// Address or name, if the URL has one.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The RLPx port, 0 without a host.
    #[must_use]
    pub fn tcp(&self) -> u16 {
        self.tcp
    }

    /// The discovery port: `discport`, or else the TCP port.
    #[must_use]
    pub fn udp(&self) -> u16 {
        self.udp
    }

    /// The endpoint, unless the host is missing or has to be resolved first.
    #[must_use]
    pub fn endpoint(&self) -> Option<Endpoint> {
        match self.host {
            Some(Host::Ip(ip)) => Some(Endpoint::new(ip, self.udp, self.tcp)),
            Some(Host::Dns(_)) | None => None,
        }
    }

    /// The endpoint at an address the host's name was resolved to.
    #[must_use]
    pub fn endpoint_at(&self, ip: IpAddr) -> Endpoint {
        Endpoint::new(ip, self.udp, self.tcp)
    }
}

impl fmt::Display for EnodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.public_key)?;
        let Some(host) = &self.host else {
            return Ok(());
        };
        match host {
            Host::Ip(IpAddr::V4(ip)) => write!(f, "@{ip}")?,
            Host::Ip(IpAddr::V6(ip)) => write!(f, "@[{ip}]")?,
            Host::Dns(name) => write!(f, "@{name}")?,
        }
        write!(f, ":{}", self.tcp)?;
        if self.udp != self.tcp {
            write!(f, "?discport={}", self.udp)?;
        }
        Ok(())
    }
}

/// A piece of the text that was refused, cut to 40 characters for the message.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    fn new(text: &str) -> Self {
        const SHOWN: usize = 40;
        let mut cut: String = text.chars().take(SHOWN).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        Self(cut.into_boxed_str())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is not an enode URL. Positions count characters from 0; messages count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseEnodeError {
    /// The text does not begin with `enode://`.
    #[error("an enode URL begins with \"enode://\"")]
    MissingPrefix,
    /// The key does not have 128 digits.
    #[error("enode URL: the public key has {found} characters, 128 hexadecimal digits are needed")]
    KeyLength {
        /// Characters before the `@` or the end.
        found: usize,
    },
    /// The key has a character that is no digit.
    #[error("enode URL: {found:?} at character {} is not a hexadecimal digit of the public key", .at + 1)]
    KeyCharacter {
        /// Index in the whole text.
        at: usize,
        /// The character.
        found: char,
    },
    /// The key is not a point of the curve.
    #[error("enode URL: {source}")]
    Key {
        /// What is wrong with the key.
        source: KeyError,
    },
    /// Nothing between `@` and the port.
    #[error("enode URL: the host is missing at character {}", .at + 1)]
    MissingHost {
        /// Index in the whole text.
        at: usize,
    },
    /// The host is neither an address nor a DNS name.
    #[error("enode URL: {host} at character {} is neither an IP address nor a DNS name", .at + 1)]
    Host {
        /// Index in the whole text.
        at: usize,
        /// The host given.
        host: Excerpt,
    },
    /// No `:port` after the host.
    #[error("enode URL: the TCP port is missing at character {}", .at + 1)]
    MissingPort {
        /// Index in the whole text.
        at: usize,
    },
    /// The TCP port is not a number up to 65535.
    #[error("enode URL: {port} at character {} is not a TCP port (0 to 65535)", .at + 1)]
    Port {
        /// Index in the whole text.
        at: usize,
        /// The port given.
        port: Excerpt,
    },
    /// `discport` is not a number up to 65535.
    #[error("enode URL: {port} at character {} is not a UDP port (discport, 0 to 65535)", .at + 1)]
    DiscoveryPort {
        /// Index in the whole text.
        at: usize,
        /// The port given.
        port: Excerpt,
    },
}

impl FromStr for EnodeUrl {
    type Err = ParseEnodeError;

    fn from_str(text: &str) -> Result<Self, ParseEnodeError> {
        let rest = text
            .strip_prefix(PREFIX)
            .ok_or(ParseEnodeError::MissingPrefix)?;
        let (key, location) = match rest.split_once('@') {
            Some((key, location)) => (key, Some(location)),
            None => (rest, None),
        };
        let public_key = parse_key(key)?;
        let Some(location) = location else {
            return Ok(Self::without_host(public_key));
        };
        // From here on everything before is ASCII, so that bytes count characters.
        let at = PREFIX.len() + key.len() + 1;
        let (authority, query) = match location.split_once('?') {
            Some((authority, query)) => (authority, Some((query, at + authority.len() + 1))),
            None => (location, None),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port, port_at) = split_authority(authority, at)?;
        let host = parse_host(host, at)?;
        let tcp = parse_port(port).ok_or_else(|| ParseEnodeError::Port {
            at: port_at,
            port: Excerpt::new(port),
        })?;
        let udp = match query {
            Some((query, query_at)) => parse_discport(query, query_at)?.unwrap_or(tcp),
            None => tcp,
        };
        Ok(Self {
            public_key,
            host: Some(host),
            tcp,
            udp,
        })
    }
}

fn parse_key(digits: &str) -> Result<PublicKey, ParseEnodeError> {
    digits.parse().map_err(|error| match error {
        ParseKeyError::Hex(HexError::Character { at, found }) => ParseEnodeError::KeyCharacter {
            at: PREFIX.len() + at,
            found,
        },
        ParseKeyError::Hex(HexError::Length { found, .. }) => ParseEnodeError::KeyLength { found },
        ParseKeyError::Key(source) => ParseEnodeError::Key { source },
    })
}

/// Host and port of `host:port` with the port's position; an IPv6 address stands in brackets.
fn split_authority(authority: &str, at: usize) -> Result<(&str, &str, usize), ParseEnodeError> {
    let host_end = match authority.starts_with('[') {
        true => authority
            .find(']')
            .map(|end| end + 1)
            .ok_or_else(|| ParseEnodeError::Host {
                at,
                host: Excerpt::new(authority),
            })?,
        false => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    if host.is_empty() {
        return Err(ParseEnodeError::MissingHost { at });
    }
    let after = at + host.chars().count();
    match rest.strip_prefix(':') {
        Some(port) if !port.is_empty() => Ok((host, port, after + 1)),
        Some(_) => Err(ParseEnodeError::MissingPort { at: after + 1 }),
        None if rest.is_empty() => Err(ParseEnodeError::MissingPort { at: after }),
        None => Err(ParseEnodeError::Host {
            at,
            host: Excerpt::new(authority),
        }),
    }
}

fn parse_host(host: &str, at: usize) -> Result<Host, ParseEnodeError> {
    let bracketed = host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let parsed = match bracketed {
        Some(inner) => inner
            .parse::<Ipv6Addr>()
            .ok()
            .map(|ip| Host::Ip(canonical_ip(ip.into()))),
        None => match host.parse::<std::net::Ipv4Addr>() {
            Ok(ip) => Some(Host::Ip(ip.into())),
            Err(_) => is_dns_name(host).then(|| Host::Dns(host.to_owned())),
        },
    };
    parsed.ok_or_else(|| ParseEnodeError::Host {
        at,
        host: Excerpt::new(host),
    })
}

/// Letters, digits, hyphens and underscores in labels, perhaps a dot at the end. A last label of digits alone is a
/// mistyped IPv4 address, not a name.
fn is_dns_name(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host);
    let label_ok = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last_numeric = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= MAX_NAME && name.split('.').all(label_ok) && !last_numeric
}

fn parse_port(digits: &str) -> Option<u16> {
    // `u16::from_str` would also take a leading plus sign.
    digits
        .bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| digits.parse().ok())
        .flatten()
}

/// The value of `discport`; other parameters are ignored, as every client does.
fn parse_discport(query: &str, at: usize) -> Result<Option<u16>, ParseEnodeError> {
    let mut at = at;
    for parameter in query.split('&') {
        if let Some(port) = parameter.strip_prefix("discport=") {
            let at = at + "discport=".len();
            return parse_port(port)
                .map(Some)
                .ok_or_else(|| ParseEnodeError::DiscoveryPort {
                    at,
                    port: Excerpt::new(port),
                });
        }
        at += parameter.chars().count() + 1;
    }
    Ok(None)
}
