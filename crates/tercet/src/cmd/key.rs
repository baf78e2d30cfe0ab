//! `tercet key`: make a node key, or show the public side of one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use tercet_enode::{Endpoint, Node, SecretKey};

use crate::error::CliError;
use crate::keyfile::{self, KeyText};
use crate::output::{Fields, Output};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new key and write it to FILE, or to stdout when there is no FILE
    #[command(
        after_help = "Example:\n  tercet key generate ./nodekey && tercet node --nodekey ./nodekey"
    )]
    Generate {
        /// The new file; an existing one is never overwritten
        file: Option<PathBuf>,
    },
    /// Show the node id, public key and enode URL that belong to a key
    #[command(
        after_help = "Example:\n  tercet key inspect ./nodekey --ip 10.3.58.6 --tcp 30303 --udp 30301"
    )]
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// File with the key: 64 hex digits
    #[arg(required_unless_present = "nodekeyhex", conflicts_with = "nodekeyhex")]
    file: Option<PathBuf>,
    /// The key itself: 64 hex digits (other users of this machine may see it)
    #[arg(long, value_name = "HEX")]
    nodekeyhex: Option<KeyText>,
    /// IP address in the enode URL
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    ip: IpAddr,
    /// TCP port in the enode URL
    #[arg(long, default_value_t = super::DEFAULT_PORT)]
    tcp: u16,
    /// UDP port in the enode URL [default: the TCP port]
    #[arg(long)]
    udp: Option<u16>,
}

#[derive(Debug, Serialize)]
struct KeyReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// Only when the key was not written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    id: String,
    public_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    enode: Option<String>,
}

impl KeyReport {
    fn new(key: &SecretKey) -> Self {
        Self {
            file: None,
            secret: None,
            id: key.node_id().to_string(),
            public_key: hex::encode(key.public_key().to_bytes()),
            enode: None,
        }
    }

    fn text(&self) -> String {
        Fields::default()
            .add_some("file", self.file.as_ref().map(|path| path.display()))
            .add_some("secret key", self.secret.as_ref())
            .add("node id", &self.id)
            .add("public key", &self.public_key)
            .add_some("enode", self.enode.as_ref())
            .render()
    }
}

pub(crate) fn run(command: KeyCommand, output: Output) -> Result<(), CliError> {
    match command {
        KeyCommand::Generate { file } => generate(file, output),
        KeyCommand::Inspect(args) => inspect(&args, output),
    }
}

fn generate(file: Option<PathBuf>, output: Output) -> Result<(), CliError> {
    let key = super::new_key();
    let mut report = KeyReport::new(&key);
    match file {
        Some(path) => {
            keyfile::create(&path, &key)?;
            report.file = Some(path);
        }
        None => report.secret = Some(hex::encode(key.to_bytes().as_slice())),
    }
    output.print(&report, KeyReport::text)
}

fn inspect(args: &InspectArgs, output: Output) -> Result<(), CliError> {
    let key = match (&args.nodekeyhex, &args.file) {
        (Some(text), _) => text.parse().map_err(CliError::KeyText)?,
        (None, Some(path)) => keyfile::read(path)?,
        (None, None) => return Err(CliError::NoKey),
    };
    let endpoint = Endpoint::new(args.ip, args.udp.unwrap_or(args.tcp), args.tcp);
    let mut report = KeyReport::new(&key);
    report.enode = Some(
        Node::new(key.public_key(), endpoint)
            .enode_url()
            .to_string(),
    );
    output.print(&report, KeyReport::text)
}
