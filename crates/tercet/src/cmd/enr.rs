//! `tercet enr`: read a node record in words, or sign one.

use std::net::IpAddr;
use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tercet_enode::{Node, NodeRecord, ParseRecordError, RecordError};

use crate::error::CliError;
use crate::keyfile::KeyArgs;
use crate::output::{Fields, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum EnrCommand {
    /// Check a record's structure and signature and show what it says
    #[command(
        after_help = "Example:\n  tercet enr decode enr:-IS4QHCYrYZbAKWCBRlAy5zzaDZXJBGkcnh4MHcBFZ..."
    )]
    Decode {
        /// The record: enr:… or the hex of its RLP
        #[arg(value_name = "RECORD")]
        record: RecordArg,
    },
    /// Sign a record with a node key and print it
    #[command(
        after_help = "Example:\n  tercet enr sign --nodekey ./nodekey --ip 10.3.58.6 --udp 30303 --tcp 30303 --seq 2"
    )]
    Sign(SignArgs),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("key").required(true).args(["nodekey", "nodekeyhex"])))]
pub(crate) struct SignArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Sequence number: raise it whenever the content changes
    #[arg(long, default_value_t = 1)]
    seq: u64,
    /// IP address; at most one IPv4 and one IPv6 address
    #[arg(long)]
    ip: Vec<IpAddr>,
    /// UDP port
    #[arg(long)]
    udp: Option<u16>,
    /// TCP port
    #[arg(long)]
    tcp: Option<u16>,
    /// UDP port for IPv6, where it differs
    #[arg(long)]
    udp6: Option<u16>,
    /// TCP port for IPv6, where it differs
    #[arg(long)]
    tcp6: Option<u16>,
    /// Any other entry: KEY=HEX, the value as RLP
    #[arg(long, value_name = "KEY=HEX")]
    entry: Vec<EntryArg>,
}

/// A record as typed: text form or hex.
#[derive(Debug, Clone)]
pub(crate) struct RecordArg(NodeRecord);

/// What is wrong with a typed record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RecordArgError {
    /// Neither of the two forms.
    #[error("a record is enr:… or hex")]
    Form,
    /// The text form is wrong.
    #[error(transparent)]
    Text(#[from] ParseRecordError),
    /// The bytes are no record.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl FromStr for RecordArg {
    type Err = RecordArgError;

    fn from_str(text: &str) -> Result<Self, RecordArgError> {
        let text = text.trim();
        if text.starts_with("enr:") {
            return Ok(Self(text.parse()?));
        }
        let bytes = hex::decode(text.strip_prefix("0x").unwrap_or(text))
            .map_err(|_| RecordArgError::Form)?;
        Ok(Self(NodeRecord::decode(&bytes)?))
    }
}

/// One `KEY=HEX`.
#[derive(Debug, Clone)]
pub(crate) struct EntryArg {
    key: String,
    rlp: Vec<u8>,
}

/// What is wrong with a typed entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum EntryArgError {
    /// No `=`.
    #[error("an entry is KEY=HEX")]
    Form,
    /// The value is no hex.
    #[error("the value is not hex")]
    Hex(#[from] hex::FromHexError),
}

impl FromStr for EntryArg {
    type Err = EntryArgError;

    fn from_str(text: &str) -> Result<Self, EntryArgError> {
        let (key, value) = text.split_once('=').ok_or(EntryArgError::Form)?;
        let rlp = hex::decode(value.strip_prefix("0x").unwrap_or(value))?;
        Ok(Self {
            key: key.to_owned(),
            rlp,
        })
    }
}

/// A record in words.
#[derive(Debug, Serialize)]
pub(super) struct RecordReport {
    pub(super) enr: String,
    id: String,
    seq: u64,
    size: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    enode: Option<String>,
    /// In the record's order, which is sorted by key.
    entries: serde_json::Map<String, Value>,
}

impl RecordReport {
    pub(super) fn new(record: &NodeRecord) -> Self {
        Self {
            enr: record.to_string(),
            id: record.id().to_string(),
            seq: record.seq(),
            size: record.raw().len(),
            enode: Node::from_record(record.clone()).map(|node| node.enode_url().to_string()),
            entries: record
                .iter()
                .map(|(key, rlp)| (key_text(key), entry_value(record, key, rlp)))
                .collect(),
        }
    }

    fn text(&self) -> String {
        let mut fields = Fields::default();
        fields
            .add("node id", &self.id)
            .add("signature", "valid")
            .add("sequence", self.seq)
            .add("size", format!("{} bytes", self.size))
            .add(
                "enode",
                self.enode
                    .as_deref()
                    .unwrap_or("none: the record has no endpoint"),
            );
        for (key, value) in &self.entries {
            match value {
                Value::String(text) => fields.add(format!("  {key}"), text),
                other => fields.add(format!("  {key}"), other),
            };
        }
        fields.render()
    }
}

/// Keys are bytes; those that are no plain text are shown escaped.
fn key_text(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// The value of a known key in its own form, any other (or a malformed one) as the hex of its RLP.
fn entry_value(record: &NodeRecord, key: &[u8], rlp: &[u8]) -> Value {
    let known = match key {
        b"id" => rlp.get(1..).map(|text| Value::from(text.escape_ascii().to_string())),
        b"ip" => record.ip4().map(|ip| Value::from(ip.to_string())),
        b"ip6" => record.ip6().map(|ip| Value::from(ip.to_string())),
        b"udp" => record.udp4().map(Value::from),
        b"udp6" => record.udp6().map(Value::from),
        b"tcp" => record.tcp4().map(Value::from),
        b"tcp6" => record.tcp6().map(Value::from),
        b"secp256k1" => Some(Value::from(hex::encode(record.public_key().to_compressed()))),
        b"eth" => record.eth().map(|eth| {
            serde_json::json!({ "fork_hash": hex::encode(eth.fork_hash), "fork_next": eth.fork_next })
        }),
        _ => None,
    };
    known.unwrap_or_else(|| Value::from(format!("0x{}", hex::encode(rlp))))
}

pub(crate) fn run(command: EnrCommand, output: Output) -> Result<(), CliError> {
    match command {
        EnrCommand::Decode { record } => {
            output.print(&RecordReport::new(&record.0), RecordReport::text)
        }
        EnrCommand::Sign(args) => {
            let record = sign(&args)?;
            output.print(&RecordReport::new(&record), |report| report.enr.clone())
        }
    }
}

fn sign(args: &SignArgs) -> Result<NodeRecord, CliError> {
    let key = args.key.load()?.ok_or(CliError::NoKey)?;
    if args.ip.iter().filter(|ip| ip.is_ipv4()).count() > 1
        || args.ip.iter().filter(|ip| ip.is_ipv6()).count() > 1
    {
        return Err(CliError::TwoAddresses);
    }
    let mut builder = NodeRecord::builder().seq(args.seq);
    for ip in &args.ip {
        builder = builder.ip(*ip);
    }
    if let Some(port) = args.udp {
        builder = builder.udp(port);
    }
    if let Some(port) = args.tcp {
        builder = builder.tcp(port);
    }
    if let Some(port) = args.udp6 {
        builder = builder.udp6(port);
    }
    if let Some(port) = args.tcp6 {
        builder = builder.tcp6(port);
    }
    for entry in &args.entry {
        builder = builder.insert_raw(entry.key.as_bytes(), &entry.rlp);
    }
    builder.sign(&key).map_err(CliError::Record)
}
