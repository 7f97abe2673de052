//! What the demo shows while it runs: a bar per node on a terminal, a line per node elsewhere.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;
use support::pull::Progress;

/// The bars of all nodes.
#[derive(Debug)]
pub struct Bars {
    all: MultiProgress,
    lines: Lines,
}

/// Whether the end of each node is said in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Said,
    Silent,
}

impl Bars {
    /// Bars on standard error if that is a terminal, lines if not.
    #[must_use]
    pub fn shown() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let lines = if all.is_hidden() { Lines::Said } else { Lines::Silent };
        Self { all, lines }
    }

    /// Nothing at all.
    #[must_use]
    pub fn hidden() -> Self {
        Self { all: MultiProgress::with_draw_target(ProgressDrawTarget::hidden()), lines: Lines::Silent }
    }

    /// Says what is being done before the bars move.
    pub fn say(&self, text: &str) {
        match self.lines {
            Lines::Said => eprintln!("{text}"),
            // Hidden bars print nothing; visible ones keep the line above them.
            Lines::Silent => {
                let _ = self.all.println(text);
            }
        }
    }

    /// The bar of one node.
    #[must_use]
    pub fn node(&self, name: &str) -> NodeBar {
        let style = ProgressStyle::with_template(
            "{prefix:<8} [{bar:40}] {bytes:>11} {binary_bytes_per_sec:>13} {msg}",
        )
        .expect("a constant template");
        let bar = self
            .all
            .add(ProgressBar::new(0).with_style(style.progress_chars("=> ")).with_prefix(name.to_owned()));
        bar.tick();
        NodeBar { bar, name: name.to_owned(), lines: self.lines }
    }
}

/// One node's bar.
#[derive(Clone, Debug)]
pub struct NodeBar {
    bar: ProgressBar,
    name: String,
    lines: Lines,
}

impl NodeBar {
    /// Takes note of what happened.
    pub fn update(&self, progress: Progress) {
        match progress {
            Progress::Total(bytes) => self.bar.set_length(bytes),
            Progress::Bytes(bytes) => self.bar.inc(bytes),
        }
    }

    /// The node has everything.
    pub fn done(&self, elapsed: Duration) {
        self.bar.finish_with_message(format!("done in {:.2} s", elapsed.as_secs_f64()));
        if self.lines == Lines::Said {
            eprintln!("{} done in {:.2} s", self.name, elapsed.as_secs_f64());
        }
    }
}
