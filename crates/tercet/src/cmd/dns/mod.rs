//! `tercet dns`: lists of nodes in DNS (EIP-1459), fetched, signed and written for publishing, in the files of geth's devp2p.

mod folder;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Args, Subcommand};
use indicatif::{MultiProgress, ProgressBar};
use serde::Serialize;
use tercet_discovery::dns::{
    DnsConfig, Domain, EntryHash, FetchError, FetchProgress, FetchedList, PublishError, SignedTree,
    SyncConfig, SyncError, TreeUrl, TreeUrlError, fetch_list,
};
use tercet_enode::{NodeAddress, NodeId};
use tercet_machine::Clock;
use thiserror::Error;

use self::folder::Folder;
use crate::error::CliError;
use crate::keyfile;
use crate::nodeset::{KnownNode, replace};
use crate::output::{Fields, Output};

/// A list is fetched whole, however long it is: 2^20 entries are four days at 3 queries a second, and with their texts some
/// 700 MiB.
const MAX_ENTRIES: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Fetch a whole list into a folder: enrtree-info.json and nodes.json
    #[command(after_help = "Example:
  tercet dns sync enrtree://AKA3...@all.mainnet.ethdisco.net ./all

A list is looked up at 3 names a second at most. In a folder that has the list already, only what has changed is looked up.")]
    Sync(SyncArgs),
    /// Sign the list in a folder, under the next sequence number
    #[command(after_help = "Example:\n  tercet dns sign ./list ./key --domain nodes.example.org")]
    Sign(SignArgs),
    /// Write a signed list's TXT records as JSON: name and text
    #[command(after_help = "Example:\n  tercet dns to-txt ./list records.json")]
    ToTxt {
        /// The list's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The file to write; - for stdout [default: stdout]
        #[arg(value_name = "OUT")]
        out: Option<PathBuf>,
    },
    /// Write a signed list's TXT records as a zone file (RFC 1035)
    #[command(
        after_help = "Example:\n  tercet dns to-zone ./list nodes.example.org.zone --ns ns1.example.org"
    )]
    ToZone {
        /// The list's folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The file to write; - for stdout [default: stdout]
        #[arg(value_name = "OUT")]
        out: Option<PathBuf>,
        /// The zone's name server: makes it a whole zone, with SOA and NS records, and not a part to include in one
        #[arg(long, value_name = "NAME")]
        ns: Option<Domain>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// The list: enrtree://KEY@DOMAIN
    #[arg(value_name = "URL")]
    url: TreeUrl,
    /// The folder to write [default: the list's domain]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How long to wait for one DNS answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// A DNS server to ask; may be repeated [default: those of the system]
    #[arg(long, value_name = "IP[:PORT]")]
    nameserver: Vec<NameServer>,
}

/// A DNS server as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameServer(pub(crate) SocketAddr);

/// A text that is no address of a DNS server.
#[derive(Debug, Error)]
#[error("a DNS server is IP or IP:PORT, an IPv6 address with a port in brackets")]
pub(crate) struct NameServerError;

/// Where DNS servers listen (RFC 1035).
const DNS_PORT: u16 = 53;

impl FromStr for NameServer {
    type Err = NameServerError;

    fn from_str(text: &str) -> Result<Self, NameServerError> {
        let alone = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        let address = alone.or_else(|_| text.parse());
        Ok(Self(address.map_err(|_| NameServerError)?))
    }
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The list's folder: nodes.json, and enrtree-info.json if it was signed before
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// File with the signing key: 64 hex digits, as tercet key generate writes them
    #[arg(value_name = "KEYFILE")]
    key: PathBuf,
    /// Where the list will be published [default: as it was]
    #[arg(long)]
    domain: Option<Domain>,
    /// The sequence number [default: one more than the last]
    #[arg(long)]
    seq: Option<u64>,
}

/// Why a `dns` command failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DnsError {
    /// The list could not be fetched.
    #[error("cannot fetch the list")]
    Fetch(#[from] FetchError),
    /// The folder is another list's.
    #[error("{} holds nodes that are not of this list and would be lost: choose another folder", path.display())]
    OtherList { path: PathBuf },
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A file is something else.
    #[error("{} is no description of a list", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// A URL in a file is none.
    #[error("{}: {text:?}", path.display())]
    Url {
        path: PathBuf,
        text: String,
        source: TreeUrlError,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A node has no record to publish.
    #[error("{}: node {} has no record, and only records can be published", path.display(), folder::short(id))]
    NoRecord { path: PathBuf, id: NodeId },
    /// The nodes cannot be published.
    #[error("the list cannot be made")]
    Publish(#[source] PublishError),
    /// No domain is known.
    #[error("{} names no domain: give --domain", path.display())]
    NoDomain { path: PathBuf },
    /// The key is not the list's.
    #[error("the list in {} is signed by another key, and those who follow it would not believe this one: use its key, or remove \"url\" to begin a new list", path.display())]
    OtherKey { path: PathBuf },
    /// The number does not grow.
    #[error(
        "--seq {seq} is not higher than the last, {last}: clients refuse a list that goes back"
    )]
    Seq { seq: u64, last: u64 },
    /// The numbers are used up.
    #[error("the sequence number of the list in {} cannot grow any more", path.display())]
    SeqEnd { path: PathBuf },
    /// There is no signature.
    #[error("the list in {} is not signed: run tercet dns sign first", path.display())]
    Unsigned { path: PathBuf },
    /// The signature is over something else.
    #[error("the list in {} has changed since it was signed: run tercet dns sign again", path.display())]
    Changed { path: PathBuf },
}

impl DnsError {
    pub(crate) const fn is_bad_input(&self) -> bool {
        !matches!(self, Self::Fetch(_) | Self::Write { .. })
    }
}

impl From<DnsError> for CliError {
    fn from(error: DnsError) -> Self {
        Self::Dns(Box::new(error))
    }
}

#[derive(Debug, Serialize)]
struct ListReport {
    url: String,
    seq: u64,
    nodes: usize,
    links: Vec<String>,
    /// Names looked up for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    queries: Option<u64>,
    folder: PathBuf,
    /// Entries that are signed and malformed, left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

impl ListReport {
    fn of(folder: &Folder, path: PathBuf) -> Self {
        Self {
            url: folder.info.url.clone().unwrap_or_default(),
            seq: folder.info.seq,
            nodes: folder.nodes.len(),
            links: folder.info.links.clone().unwrap_or_default(),
            queries: None,
            folder: path,
            left_out: Vec::new(),
        }
    }

    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields
            .add("list", &self.url)
            .add("sequence", self.seq)
            .add("nodes", self.nodes)
            .add("links", self.links.len())
            .add_some("queries", self.queries)
            .add("folder", self.folder.display());
        for entry in &self.left_out {
            fields.add("left out", entry);
        }
        fields.render()
    }
}

pub(crate) async fn run(
    command: DnsCommand,
    output: Output,
    progress: &MultiProgress,
) -> Result<(), CliError> {
    match command {
        DnsCommand::Sync(args) => sync(args, output, progress).await,
        DnsCommand::Sign(args) => sign(&args, output),
        DnsCommand::ToTxt { folder, out } => {
            let (url, tree) = Folder::read(&folder)?.signed()?;
            let records = tree.records(url.domain());
            let mut text = Vec::new();
            let indent = serde_json::ser::PrettyFormatter::with_indent(b"    ");
            let mut json = serde_json::Serializer::with_formatter(&mut text, indent);
            records.serialize(&mut json).map_err(CliError::Json)?;
            text.push(b'\n');
            let text = String::from_utf8_lossy(&text).into_owned();
            written(&tree, text, out.as_deref(), output)
        }
        DnsCommand::ToZone { folder, out, ns } => {
            let (url, tree) = Folder::read(&folder)?.signed()?;
            let zone = tree.zone_file(url.domain(), ns.as_ref());
            written(&tree, zone, out.as_deref(), output)
        }
    }
}

async fn sync(args: SyncArgs, output: Output, progress: &MultiProgress) -> Result<(), CliError> {
    let domain = args.url.domain();
    let path = args.folder.unwrap_or_else(|| domain.as_str().into());
    let known = Folder::known(&path, &args.url)?;
    // Before the hour that a list of 10,000 nodes takes.
    Folder::check_writable(&path)?;
    let config = DnsConfig {
        name_servers: args.nameserver.iter().map(|server| server.0).collect(),
        sync: SyncConfig {
            timeout: args.timeout,
            max_entries: MAX_ENTRIES,
            ..SyncConfig::default()
        },
    };
    let bar = progress.add(ProgressBar::new_spinner());
    let mut queries = 0;
    let show = |now: FetchProgress| {
        queries = now.queries;
        let (nodes, known) = (now.nodes, now.known);
        bar.set_message(format!(
            "{nodes} nodes, {queries} names looked up, {known} entries known"
        ));
        bar.tick();
    };
    let fetched = fetch_list(args.url.clone(), config, known, show).await;
    bar.finish_and_clear();
    let FetchedList {
        root,
        nodes,
        links,
        spoiled,
    } = fetched.map_err(DnsError::from)?;
    let known_nodes = nodes.into_iter().map(NodeAddress::Record);
    let mut folder = Folder::create(&path, known_nodes.map(KnownNode::new).collect())?;
    folder.info.url = Some(args.url.to_string());
    folder.info.seq = root.seq();
    folder.info.signature = Some(root.signature_text());
    folder.info.links = Some(links.iter().map(ToString::to_string).collect());
    folder.info.last_modified = Some(now());
    // The description first: nodes alone would look like somebody's own.
    folder.write_info()?;
    folder.write_nodes()?;
    let left_out = |(entry, error): &(EntryHash, SyncError)| format!("{entry}: {error}");
    let left_out = spoiled.iter().map(left_out).collect();
    let report = ListReport {
        queries: Some(queries),
        left_out,
        ..ListReport::of(&folder, path)
    };
    output.print(&report, ListReport::text)
}

fn sign(args: &SignArgs, output: Output) -> Result<(), CliError> {
    let key = keyfile::read(&args.key)?;
    let mut folder = Folder::read(&args.folder)?;
    let path = folder.info_path();
    let before = folder.info.url.clone();
    let before = before.map(|url| folder.parse_url(&url)).transpose()?;
    let known = before.as_ref();
    let domain = args
        .domain
        .clone()
        .or_else(|| known.map(|url| url.domain().clone()));
    let domain = domain.ok_or_else(|| DnsError::NoDomain { path: path.clone() })?;
    if known.is_some_and(|url| *url.key() != key.public_key()) {
        return Err(DnsError::OtherKey { path }.into());
    }
    let last = folder.info.seq;
    let seq = match args.seq {
        Some(seq) if seq <= last && folder.info.signature.is_some() => {
            return Err(DnsError::Seq { seq, last }.into());
        }
        Some(seq) => seq,
        None => last.checked_add(1).ok_or(DnsError::SeqEnd { path })?,
    };
    let signed = folder.tree()?.sign(seq, &key);
    folder.info.url = Some(TreeUrl::new(key.public_key(), domain).to_string());
    folder.info.seq = seq;
    folder.info.signature = Some(signed.root().signature_text());
    folder.info.links.get_or_insert_default();
    folder.info.last_modified = Some(now());
    folder.write_info()?;
    let report = ListReport::of(&folder, args.folder.clone());
    output.print(&report, ListReport::text)
}

#[derive(Debug, Serialize)]
struct WrittenReport {
    file: PathBuf,
    records: usize,
}

/// Writes the records to the file, or to stdout as they are.
fn written(
    tree: &SignedTree,
    text: String,
    out: Option<&Path>,
    output: Output,
) -> Result<(), CliError> {
    let Some(path) = out.filter(|path| *path != Path::new("-")) else {
        // Records have one form: with and without --json.
        return Output::new(false).print(&(), |()| text.trim_end().to_owned());
    };
    let file = path.to_owned();
    replace(path, text.as_bytes()).map_err(|source| DnsError::Write {
        path: file.clone(),
        source,
    })?;
    let records = tree.tree().entry_count() + 1;
    output.print(&WrittenReport { file, records }, |report| {
        format!("{} records in {}", report.records, report.file.display())
    })
}

fn now() -> String {
    let now = Clock::start().now().unix;
    let time = UNIX_EPOCH + Duration::from_secs(now.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}
