//! `tercet listen`: a node that takes part in discovery and nothing else, as boot nodes do, and shows its table.

mod events;
mod screen;
mod view;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::MultiProgress;
use tercet_discovery::{Discovery, TableSnapshot};
use tercet_machine::Clock;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::events::{ListenEvent, Started};
use self::screen::Screen;
use self::view::View;
use super::DEFAULT_PORT;
use super::discover::{DiscoverArgs, Discoverer};
use crate::error::CliError;
use crate::events::Reporter;
use crate::output::Output;
use crate::signals::Interrupt;

/// On a terminal the counts move at least this often.
const DRAW_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tercet listen --nodekey ./nodekey --addr :30301 --extaddr 203.0.113.7
  tercet listen --addr 127.0.0.1:0 --bootnodes enode://KEY@127.0.0.1:30303 --json

Takes no TCP connections. The first two lines are the enode URL and the ENR. Ctrl-C or SIGTERM stops it cleanly.
The address to listen on is 0.0.0.0:30303 by default, the key a new one. Without --extaddr the ENR names the address
that enough others see, once they do.")]
pub(crate) struct ListenArgs {
    #[command(flatten)]
    discover: DiscoverArgs,
}

pub(crate) async fn run(
    args: ListenArgs,
    output: Output,
    progress: &MultiProgress,
) -> Result<(), CliError> {
    let mut interrupt = Interrupt::listen().map_err(CliError::Signals)?;
    let discoverer = Discoverer::for_serving(&args.discover, DEFAULT_PORT).await?;
    let drawn = !output.is_json() && std::io::stdout().is_terminal() && !progress.is_hidden();
    let mut listener = Listener {
        reporter: Reporter::new(output, Clock::start()),
        screen: drawn.then(|| Screen::new(progress)),
        view: View::default(),
    };
    let told = tokio::select! {
        told = listener.tell(&discoverer) => told,
        () = interrupt.recv() => listener.say(&ListenEvent::Stopping),
    };
    let stopped = discoverer.stop().await;
    let said = told
        .and(stopped)
        .and_then(|()| listener.say(&ListenEvent::Stopped));
    if let Some(screen) = &listener.screen {
        screen.leave();
    }
    said
}

struct Listener {
    reporter: Reporter,
    /// On a terminal, where the table is drawn instead of telling each change.
    screen: Option<Screen>,
    view: View,
}

impl Listener {
    fn say(&self, event: &ListenEvent) -> Result<(), CliError> {
        match &self.screen {
            Some(screen) => screen.above(|| self.reporter.say(event)),
            None => self.reporter.say(event),
        }
    }

    /// Tells and draws what happens until discovery has ended.
    async fn tell(&mut self, discoverer: &Discoverer) -> Result<(), CliError> {
        let service = &discoverer.service;
        let mut table = service.table_watch();
        let mut record = service.local_record_watch();
        record.mark_unchanged();
        self.say(&ListenEvent::Started(Box::new(Started::of(discoverer))))?;
        loop {
            self.look(&mut table)?;
            let next_draw = Instant::now() + DRAW_INTERVAL;
            if let Some(screen) = &self.screen {
                screen.draw(&self.view, &service.metrics());
            }
            tokio::select! {
                changed = table.changed() => if changed.is_err() { return Ok(()) },
                changed = record.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    self.tell_record(service)?;
                }
                () = sleep_until(next_draw), if self.screen.is_some() => {}
            }
        }
    }

    /// Takes the table as it is now, and tells what is new unless it is drawn.
    fn look(&mut self, table: &mut watch::Receiver<Arc<TableSnapshot>>) -> Result<(), CliError> {
        let now = View::of(&table.borrow_and_update());
        if self.screen.is_none() {
            for change in now.since(&self.view) {
                self.say(&ListenEvent::Table(change))?;
            }
        }
        self.view = now;
        Ok(())
    }

    fn tell_record(&self, service: &Discovery) -> Result<(), CliError> {
        let record = service.local_record();
        let (enr, seq) = (record.to_string(), record.seq());
        self.say(&ListenEvent::Record { enr, seq })
    }
}
