//! What is shown while it runs: a bar on a terminal, a few lines elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The bar of all pulls together.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    lines: Lines,
}

/// Whether lines are printed: where there is no terminal for a bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    Said,
    Silent,
}

impl Bar {
    /// On standard error.
    #[must_use]
    pub fn shown() -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
        let lines = if bar.is_hidden() { Lines::Said } else { Lines::Silent };
        Self { bar, lines }
    }

    /// Nothing at all.
    #[must_use]
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), lines: Lines::Silent }
    }

    /// Says what happens.
    pub fn say(&self, text: &str) {
        match self.lines {
            Lines::Said => eprintln!("{text}"),
            Lines::Silent => self.bar.println(text),
        }
    }

    /// The pulls begin: so many bytes in all, for so many peers.
    pub fn begin(&self, bytes: u64, peers: u16) {
        self.say(&format!("{peers} pulls"));
        let template = "[{bar:40}] {bytes:>11} of {total_bytes} {binary_bytes_per_sec:>13} {msg}";
        let style = ProgressStyle::with_template(template).expect("a constant template");
        self.bar.set_style(style.progress_chars("=> "));
        self.bar.set_length(bytes);
        self.bar.reset();
    }

    /// How it stands.
    pub fn update(&self, bytes: u64, done: usize) {
        self.bar.set_position(bytes);
        self.bar.set_message(format!("{done} done"));
    }

    /// The pulls have ended.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
