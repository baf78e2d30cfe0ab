//! The table on a terminal, drawn again and again in one place.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tercet_discovery::DiscoveryMetrics;

use super::view::View;

#[derive(Debug)]
pub(super) struct Screen {
    progress: MultiProgress,
    bar: ProgressBar,
}

impl Screen {
    pub(super) fn new(progress: &MultiProgress) -> Self {
        let bar = progress.add(ProgressBar::new_spinner());
        // The template is fixed and known to be valid; the default style is as good as none.
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self {
            progress: progress.clone(),
            bar,
        }
    }

    /// Shows the table as it is.
    pub(super) fn draw(&self, view: &View, metrics: &DiscoveryMetrics) {
        let (read, sent) = (metrics.datagrams_in, metrics.datagrams_out);
        let drawing = view.drawing();
        self.bar
            .set_message(format!("{drawing}\n{read} datagrams read, {sent} sent"));
        self.bar.tick();
    }

    /// Leaves the last drawing where it is.
    pub(super) fn leave(&self) {
        self.bar.abandon();
    }

    /// Says something above the drawing.
    pub(super) fn above<T>(&self, say: impl FnOnce() -> T) -> T {
        self.progress.suspend(say)
    }
}
