//! Log lines: `tracing` events go to stderr, above the progress bars when there are any; geth's numbers choose how many.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging at geth's level `verbosity`: 0 nothing, 1 errors, 2 warnings, 3 information, 4 debugging, 5 everything.
pub(crate) fn init(verbosity: u8, progress: &MultiProgress) {
    let level = match verbosity {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // The program starts logging once, so a subscriber that is already set can only be its own.
    let _already_set = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(!progress.is_hidden())
        .with_writer(AboveBars(progress.clone()))
        .try_init();
}

/// Clears the bars, writes the line, draws the bars again: a line in the middle of a bar would leave half of it standing.
struct AboveBars(MultiProgress);

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter(self.0.clone())
    }
}

struct LineWriter(MultiProgress);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(line))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
