//! The `tercet` program: it reads the command line, runs one command on the crates below and turns the result into an exit
//! code. What a command does lives in `cmd`, what it prints in `output`, how it fails in `error`; everything about the
//! protocols is in the crates.

mod bootnodes;
mod cli;
mod cmd;
mod crawl;
mod descriptors;
mod error;
mod events;
mod keyfile;
mod log;
mod memory;
mod nodeset;
mod output;
mod signals;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::cli::{Cli, Command};
use crate::error::CliError;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::report(&error),
    };
    let output = Output::new(cli.json);
    let progress = MultiProgress::with_draw_target(if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    log::init(
        cli.verbosity.unwrap_or(cli.command.default_verbosity()),
        &progress,
    );
    let result = run(cli.command, output, &progress);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(command: Command, output: Output, progress: &MultiProgress) -> Result<(), CliError> {
    match command {
        Command::Key(command) => cmd::key::run(command, output),
        Command::Enr(command) => cmd::enr::run(command, output),
        Command::Crawl(args) => block_on(cmd::crawl::run(*args, output, progress)),
        Command::Dns(command) => block_on(cmd::dns::run(command, output, progress)),
        Command::Nodeset(command) => cmd::nodeset::run(command, output),
        Command::Listen(args) => block_on(cmd::listen::run(*args, output, progress)),
        Command::Ping(args) => block_on(cmd::ping::run(*args, output)),
        Command::Requestenr(args) => block_on(cmd::requestenr::run(*args, output)),
        Command::Resolve(args) => block_on(cmd::resolve::run(*args, output)),
        Command::Lookup(args) => block_on(cmd::lookup::run(*args, output)),
        Command::Hello(args) => block_on(cmd::hello::run(args, output)),
        Command::Status(args) => block_on(cmd::status::run(args, output)),
        Command::Node(args) => block_on(cmd::node::run(*args, output)),
        Command::Devnet(args) => block_on(cmd::devnet::run(args, output, progress)),
    }
}

fn block_on<F: Future<Output = Result<(), CliError>>>(command: F) -> Result<(), CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CliError::Runtime)?
        .block_on(command)
}
