//! What went wrong, in few texts that many rows share: thousands of hosts fail for the same reason.

use proto::PREHEAT_FAILURE_BYTES_MAX;

/// The most texts of hosts that one preheat tells apart.
const REASONS_MAX: usize = 32;

/// The most texts of the scheduler's own beside them; there are fewer.
const OWN_MAX: usize = 8;

/// What stands for further ones.
const ANOTHER: &str = "for another reason than the hosts before it: its log has it";

/// Which of them; none at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reason(u8);

impl Reason {
    /// One that is not told apart.
    const ANOTHER: Self = Self(u8::MAX);
}

/// The texts of one preheat.
#[derive(Debug, Default)]
pub(super) struct Reasons(Vec<Box<str>>);

impl Reasons {
    /// Keeps a host's text; the empty one stands for no reason.
    pub(super) fn note(&mut self, text: &str) -> Reason {
        match readable(text) {
            text if text.is_empty() => Reason::default(),
            text => self.keep(&text, REASONS_MAX),
        }
    }

    /// Keeps a text of the scheduler's own, which is told apart whatever hosts say.
    pub(super) fn note_own(&mut self, text: &'static str) -> Reason {
        self.keep(text, REASONS_MAX + OWN_MAX)
    }

    fn keep(&mut self, text: &str, max: usize) -> Reason {
        let place = match self.0.iter().position(|known| **known == *text) {
            Some(place) => place,
            None if self.0.len() < max => {
                self.0.push(text.into());
                self.0.len() - 1
            }
            None => return Reason::ANOTHER,
        };
        u8::try_from(place + 1).map_or(Reason::ANOTHER, Reason)
    }

    pub(super) fn get(&self, reason: Reason) -> Option<&str> {
        let place = usize::from(reason.0).checked_sub(1)?;
        Some(self.0.get(place).map_or(ANOTHER, |text| &**text))
    }
}

/// A text of somebody else's for people: what could steer a terminal is dropped, and what nobody reads to its end is cut
/// to [`PREHEAT_FAILURE_BYTES_MAX`], at a character.
pub(super) fn readable(text: &str) -> String {
    let readable = text.chars().filter(|c| !c.is_control());
    let mut text: String = readable.take(PREHEAT_FAILURE_BYTES_MAX).collect();
    text.truncate(text.floor_char_boundary(PREHEAT_FAILURE_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_apart() {
        let mut reasons = Reasons::default();
        assert_eq!(reasons.note(""), Reason::default());
        assert_eq!(reasons.get(Reason::default()), None);
        let first = reasons.note("the \u{1b}disk\n is full");
        assert_eq!(reasons.note("the disk is full"), first);
        assert_eq!(reasons.get(first), Some("the disk is full"));
        let more: Vec<Reason> = (0..100).map(|n| reasons.note(&n.to_string())).collect();
        assert_eq!(reasons.get(more[REASONS_MAX - 2]), Some("30"));
        assert_eq!(reasons.get(more[REASONS_MAX - 1]), Some(ANOTHER));
        assert_eq!(more[99], more[REASONS_MAX - 1]);
        assert_eq!(reasons.note("the disk is full"), first);
        let own = reasons.note_own("it is away");
        assert_eq!(reasons.note_own("it is away"), own);
        assert_eq!(reasons.get(own), Some("it is away"));
        assert_eq!(reasons.note("one more"), Reason::ANOTHER);
        let long = "é".repeat(PREHEAT_FAILURE_BYTES_MAX);
        assert_eq!(readable(&long).len(), PREHEAT_FAILURE_BYTES_MAX);
    }
}
