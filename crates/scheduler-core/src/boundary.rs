//! How many pieces cross a zone's boundary at a time.
//!
//! Nobody tells how much a boundary lets through. If too much is under way, every piece takes long, holds a slot on both
//! sides, and runs out of time; so the number grows while pieces come soon and falls when they do not.

use std::time::Duration;

/// A piece that crosses in half of this time came soon, one that takes longer did not.
pub(crate) const TARGET: Duration = Duration::from_millis(1000);
/// The window is counted in parts of a piece.
const ONE: u32 = 256;
const START: u32 = 16 * ONE;
/// Two keep a link busy: one is under way while the other is asked for.
const MIN: u32 = 2 * ONE;
const MAX: u32 = 1024 * ONE;

/// One direction of a boundary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    crossing: u32,
    size: u32,
}

impl Default for Window {
    fn default() -> Self {
        Self { crossing: 0, size: START }
    }
}

impl Window {
    pub(crate) const fn is_open(self) -> bool {
        self.crossing * ONE < self.size
    }

    /// Not even half of what may cross does.
    pub(crate) const fn is_wide_open(self) -> bool {
        (self.crossing + 1) * ONE * 2 <= self.size
    }

    pub(crate) const fn crossing(self) -> u32 {
        self.crossing
    }

    pub(crate) const fn enter(&mut self) {
        self.crossing += 1;
    }

    /// A piece has crossed in this time, or has not crossed by then; or it was given up early, then without one.
    pub(crate) fn leave(&mut self, took: Option<Duration>) {
        self.crossing -= 1;
        let Some(took) = took else { return };
        let size = if took * 2 < TARGET {
            // One more each time that all have crossed.
            self.size + ONE * ONE / self.size
        } else if took > TARGET {
            self.size - ONE / 2
        } else {
            self.size
        };
        self.size = size.clamp(MIN, MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(window: &mut Window) -> u32 {
        while window.is_open() {
            window.enter();
        }
        window.crossing()
    }

    #[test]
    fn it_settles_where_pieces_take_about_the_target() {
        // What crosses shares 5 pieces a second.
        let mut window = Window::default();
        for _ in 0..500 {
            let count = full(&mut window);
            window.leave(Some(Duration::from_millis(200) * count));
        }
        let count = full(&mut window);
        assert!((2..=5).contains(&count), "{count}");
        (0..4_000).for_each(|_| {
            full(&mut window);
            window.leave(Some(Duration::from_millis(10)));
        });
        assert!(full(&mut window) > 32, "{window:?}");
        while window.crossing() > 0 {
            window.leave(None);
        }
        (0..4_000).for_each(|_| {
            full(&mut window);
            window.leave(Some(Duration::from_secs(9)));
        });
        assert_eq!(window.size, MIN, "never shut");
    }
}
