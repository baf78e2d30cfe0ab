//! The options of `tercet node`, from flags and from a TOML file with the same names. A flag wins over the file, the file over
//! the defaults; an unknown key or a bad value in the file is an error that names its line.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use tercet_enode::NodeAddress;

use super::discovery::DiscoveryOptions;
use crate::cmd::discover::{ExtAddr, ExtAddrError};
use crate::keyfile::KeyText;

/// Everything the node can be told, each value optional so that two sources can be laid over each other.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeOptions {
    /// Folder of the node key and the node database [default: ~/.tercet]
    #[arg(long, value_name = "DIR")]
    pub(crate) datadir: Option<PathBuf>,
    /// TCP port for peers; 0 takes any free one [default: 30303]
    #[arg(long)]
    pub(crate) port: Option<u16>,
    #[command(flatten)]
    pub(crate) discovery: DiscoveryOptions,
    /// Nodes to start discovery from: enode URLs or ENRs, separated by commas
    #[arg(long, value_name = "NODE,...")]
    pub(crate) bootnodes: Option<List<NodeAddress>>,
    /// File with the node key [default: nodekey in the datadir, made on the first start]
    #[arg(long, value_name = "FILE", conflicts_with = "nodekeyhex")]
    pub(crate) nodekey: Option<PathBuf>,
    /// The node key itself: 64 hex digits (for tests: other users of this machine may see it)
    #[arg(long, value_name = "HEX")]
    pub(crate) nodekeyhex: Option<KeyText>,
    /// Most peers at a time; 0 turns peers off [default: 50]
    #[arg(long)]
    pub(crate) maxpeers: Option<usize>,
    /// Talk only to addresses in these networks, separated by commas
    #[arg(long, value_name = "CIDR,...")]
    pub(crate) netrestrict: Option<List<IpNet>>,
    /// Network id; without --chain it also picks the chain: 1 mainnet, 11155111 sepolia, 560048 hoodi, 17000 holesky [default: the chain's own, else 1]
    #[arg(long, value_name = "ID")]
    pub(crate) networkid: Option<u64>,
    /// A word of your own in the client name that peers see
    #[arg(long, value_name = "WORD")]
    pub(crate) identity: Option<Identity>,
    /// No discv4 and no discv5: only peers that dial in, and those of --discovery.dns
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false")]
    pub(crate) nodiscover: Option<bool>,
    /// The address others reach this node at: none (the one they see), or extip:IP, with an IPv6 address after a comma where there is one of each [default: none]
    #[arg(long, value_name = "none|extip:IP[,IP6]")]
    pub(crate) nat: Option<Nat>,
    /// Serve the chain in this folder: genesis.json and chain.rlp (may be empty)
    #[arg(long, value_name = "DIR")]
    pub(crate) chain: Option<PathBuf>,
    /// IP address to listen on; :: for both families [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    pub(crate) addr: Option<IpAddr>,
}

/// The options file could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum OptionsFileError {
    /// Reading failed.
    #[error("cannot read the options file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Not TOML, an unknown key, or a value that does not fit its key.
    #[error("{} line {line}, column {column}: {}", path.display(), first_line(error.message()))]
    Content {
        path: PathBuf,
        line: usize,
        column: usize,
        error: Box<toml::de::Error>,
    },
}

impl NodeOptions {
    /// Reads a TOML file.
    pub(crate) fn read(path: &Path) -> Result<Self, OptionsFileError> {
        let text = fs::read_to_string(path).map_err(|source| OptionsFileError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| {
            let (line, column) = position(&text, source.span());
            OptionsFileError::Content {
                path: path.to_owned(),
                line,
                column,
                error: Box::new(source),
            }
        })
    }

    /// Lays these options over `below`: what is not set here is taken from there.
    pub(crate) fn over(self, below: Self) -> Self {
        // The two ways to give a key are one choice: a flag for one sets aside the file's other.
        let (nodekey, nodekeyhex) = if self.nodekey.is_some() || self.nodekeyhex.is_some() {
            (self.nodekey, self.nodekeyhex)
        } else {
            (below.nodekey, below.nodekeyhex)
        };
        Self {
            datadir: self.datadir.or(below.datadir),
            port: self.port.or(below.port),
            discovery: self.discovery.over(below.discovery),
            bootnodes: self.bootnodes.or(below.bootnodes),
            nodekey,
            nodekeyhex,
            maxpeers: self.maxpeers.or(below.maxpeers),
            netrestrict: self.netrestrict.or(below.netrestrict),
            networkid: self.networkid.or(below.networkid),
            identity: self.identity.or(below.identity),
            nodiscover: self.nodiscover.or(below.nodiscover),
            nat: self.nat.or(below.nat),
            chain: self.chain.or(below.chain),
            addr: self.addr.or(below.addr),
        }
    }
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or(message)
}

/// Line and column, both from 1, where `span` starts.
fn position(text: &str, span: Option<Range<usize>>) -> (usize, usize) {
    let start = span.map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |rest| rest.chars().count())
        + 1;
    (line, column)
}

/// Values separated by commas on the command line, an array of strings in the file. An empty text is an empty list, as in
/// geth's `--bootnodes ""`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

/// One value of a list is wrong.
#[derive(Debug, thiserror::Error)]
#[error("number {number} in the list: {source}")]
pub(crate) struct ListError<E: std::error::Error + 'static> {
    number: usize,
    source: E,
}

impl<T: FromStr> FromStr for List<T>
where
    T::Err: std::error::Error + 'static,
{
    type Err = ListError<T::Err>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self(Vec::new()));
        }
        let parse = |(index, item): (usize, &str)| {
            item.trim().parse().map_err(|source| ListError {
                number: index + 1,
                source,
            })
        };
        text.split(',')
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for List<T>
where
    T::Err: std::error::Error + 'static,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parse = |(index, item): (usize, String)| {
            item.trim().parse().map_err(|source| {
                de::Error::custom(ListError {
                    number: index + 1,
                    source,
                })
            })
        };
        Vec::<String>::deserialize(deserializer)?
            .into_iter()
            .enumerate()
            .map(parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The user's own word in the client name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Identity(String);

/// Longest `Identity`; the whole client name has to fit a Hello of 2 KiB with room to spare.
const MAX_IDENTITY: usize = 64;

/// Not a usable identity.
#[derive(Debug, thiserror::Error)]
#[error("an identity is 1 to 64 printable ASCII characters without spaces and slashes")]
pub(crate) struct IdentityError;

impl Identity {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Identity {
    type Error = IdentityError;

    fn try_from(word: String) -> Result<Self, IdentityError> {
        let fits = (1..=MAX_IDENTITY).contains(&word.len());
        let plain = word
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if fits && plain {
            Ok(Self(word))
        } else {
            Err(IdentityError)
        }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(word: &str) -> Result<Self, IdentityError> {
        Self::try_from(word.to_owned())
    }
}

/// How others reach this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Nat {
    /// At the address it listens on, or the one its peers report.
    None,
    /// At this address, or these.
    ExtIp(ExtAddr),
}

/// Not a usable `--nat`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NatError {
    /// A mechanism of geth's that Tercet does not have.
    #[error("expected none or extip:IP")]
    Unknown,
    /// `extip:` without an address after it.
    #[error("after extip: {0}")]
    Address(#[from] ExtAddrError),
}

impl FromStr for Nat {
    type Err = NatError;

    fn from_str(text: &str) -> Result<Self, NatError> {
        match text.split_once(':') {
            None if text == "none" => Ok(Self::None),
            Some(("extip", ip)) => Ok(Self::ExtIp(ip.parse()?)),
            _ => Err(NatError::Unknown),
        }
    }
}

impl TryFrom<String> for Nat {
    type Error = NatError;

    fn try_from(text: String) -> Result<Self, NatError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NodeOptions, (usize, usize, String)> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        NodeOptions::read(file.path()).map_err(|failure| match failure {
            OptionsFileError::Content {
                line,
                column,
                ref error,
                ..
            } => (line, column, first_line(error.message()).to_owned()),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn every_option_has_its_key() {
        let options = parse(
            "datadir = 'd'\nport = 1\ndiscovery.port = 2\ndiscovery.v4 = false\ndiscovery.v5 = true\ndiscovery.addr6 = '::1'\n\
             discovery.dns = ['enrtree://AM5FCQLWIZX2QFPNJAP7VUERCCRNGRHWZG3YYHIUV7BVDQ5FDPRT2@n.org']\n\
             discovery.nameserver = ['127.0.0.1', '[::1]:5353']\ndiscovery.ntp = 'pool.ntp.org'\nbootnodes = []\nnodekey = 'k'\nnodekeyhex = 'h'\nmaxpeers = 3\n\
             netrestrict = ['10.0.0.0/8']\nnetworkid = 4\nidentity = 'me'\nnodiscover = true\nnat = 'extip:1.2.3.4'\n\
             chain = 'c'\naddr = '::1'\n",
        )
        .unwrap();
        assert_eq!(
            (options.port, options.discovery.port, options.maxpeers),
            (Some(1), Some(2), Some(3))
        );
        assert_eq!(
            options.netrestrict,
            Some(List(vec!["10.0.0.0/8".parse().unwrap()]))
        );
        assert_eq!(options.nat, Some(Nat::ExtIp("1.2.3.4".parse().unwrap())));
        let discovery = &options.discovery;
        assert_eq!((discovery.v4, discovery.v5), (Some(false), Some(true)));
        assert_eq!(discovery.dns.as_ref().unwrap().0.len(), 1);
        let servers = discovery.nameserver.as_ref().unwrap();
        let servers: Vec<String> = servers
            .0
            .iter()
            .map(|server| server.0.to_string())
            .collect();
        assert_eq!(servers, ["127.0.0.1:53", "[::1]:5353"]);
        assert!(discovery.addr6.is_some() && discovery.ntp.is_some());
        assert_eq!(options.nodiscover, Some(true));
        assert_eq!(options.addr, Some(std::net::Ipv6Addr::LOCALHOST.into()));
        assert!(
            options.bootnodes == Some(List(vec![]))
                && options.identity == Some(Identity("me".into()))
        );
    }

    #[test]
    fn mistakes_in_the_file_have_a_place() {
        let (line, _, message) = parse("port = 1\n\nprot = 2\n").unwrap_err();
        assert_eq!(line, 3);
        assert!(message.contains("unknown field `prot`"), "{message}");
        let (line, _, message) = parse("port = 1\n[discovery]\nprt = 5\n").unwrap_err();
        assert_eq!(line, 3);
        assert!(message.contains("unknown field `prt`"), "{message}");
        let (line, column, message) = parse("port = 70000\n").unwrap_err();
        assert_eq!((line, column), (1, 8), "{message}");
        let (line, _, message) = parse("\nbootnodes = ['enode://x']\n").unwrap_err();
        assert!(
            line == 2 && message.contains("number 1 in the list"),
            "{line} {message}"
        );
        let (line, _, message) = parse("nat = 'upnp'\n").unwrap_err();
        assert!(
            line == 1 && message.contains("expected none or extip:IP"),
            "{line} {message}"
        );
        assert_eq!(parse("port = \n").unwrap_err().0, 1);
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = NodeOptions {
            port: Some(1),
            maxpeers: Some(2),
            nodekeyhex: Some("x".to_owned().into()),
            discovery: DiscoveryOptions {
                v4: Some(false),
                v5: Some(false),
                ..Default::default()
            },
            ..Default::default()
        };
        let flags = NodeOptions {
            port: Some(9),
            nodekey: Some("k".into()),
            discovery: DiscoveryOptions {
                v4: Some(true),
                ..Default::default()
            },
            ..Default::default()
        };
        let both = flags.over(file);
        assert_eq!((both.port, both.maxpeers), (Some(9), Some(2)));
        assert!(both.nodekey.is_some() && both.nodekeyhex.is_none());
        assert_eq!(
            (both.discovery.v4, both.discovery.v5),
            (Some(true), Some(false))
        );
    }

    #[test]
    fn lists_name_the_wrong_item() {
        assert_eq!("".parse::<List<IpNet>>().unwrap(), List(vec![]));
        assert_eq!(
            "10.0.0.0/8, fe80::/10"
                .parse::<List<IpNet>>()
                .unwrap()
                .0
                .len(),
            2
        );
        assert_eq!("10.0.0.0/8,x".parse::<List<IpNet>>().unwrap_err().number, 2);
        assert!(
            "a/b".parse::<Identity>().is_err()
                && "".parse::<Identity>().is_err()
                && "ok-1".parse::<Identity>().is_ok()
        );
        assert!(
            "extip:1.2".parse::<Nat>().is_err()
                && "upnp".parse::<Nat>().is_err()
                && "none".parse::<Nat>().is_ok()
        );
    }
}
