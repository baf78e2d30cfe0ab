//! What a command that runs for long says on stdout: one line for each change of its state, with the time before it, or one
//! JSON object a line. What the changes are, each command says itself.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use tercet_machine::{Clock, UnixTime};

use crate::error::CliError;
use crate::output::Output;

/// A change of a command's state. As JSON it has its name in the field `event`.
pub(crate) trait Event: Serialize {
    /// The change in words, with the time before each line that is not to be taken by scripts.
    fn text(&self, time: UnixTime) -> String;
}

/// The time as it stands before a line.
pub(crate) fn stamp(time: UnixTime) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time.as_secs())).to_string()
}

/// The first eight digits of a node id are enough to follow it through a log.
pub(crate) fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

#[derive(Serialize)]
struct Stamped<'a, E> {
    time: String,
    #[serde(flatten)]
    event: &'a E,
}

/// Says events on stdout.
#[derive(Debug)]
pub(crate) struct Reporter {
    output: Output,
    clock: Clock,
}

impl Reporter {
    pub(crate) fn new(output: Output, clock: Clock) -> Self {
        Self { output, clock }
    }

    pub(crate) fn say<E: Event>(&self, event: &E) -> Result<(), CliError> {
        let now = self.clock.now().unix;
        let time = UNIX_EPOCH + Duration::from_millis(now.as_millis());
        let stamped = Stamped {
            time: humantime::format_rfc3339_millis(time).to_string(),
            event,
        };
        self.output
            .print(&stamped, |stamped| stamped.event.text(now))
    }
}
