//! When a scheduler counts as silent. Beats without an answer are counted, not time: a host that was too busy to listen
//! finds the answers unread, and its own delay says nothing of the scheduler.

/// Beats without an answer before the scheduler counts as silent.
const SILENT_AFTER: u32 = 3;

/// Beats without an answer before the stream is given up.
const BROKEN_AFTER: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Speaks,
    Silent,
    Broken,
}

#[derive(Debug, Default)]
pub(super) struct Silence {
    unanswered: u32,
}

impl Silence {
    /// The scheduler said something.
    pub(super) const fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// It is time for a ping. Who is late for it may have an answer unread, but not several beats' time.
    pub(super) const fn beat(&mut self) -> Verdict {
        let verdict = match self.unanswered {
            0..=SILENT_AFTER => Verdict::Speaks,
            n if n <= BROKEN_AFTER => Verdict::Silent,
            _ => Verdict::Broken,
        };
        self.unanswered = self.unanswered.saturating_add(1);
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_answered_for_some_beats_is_silent_and_later_broken() {
        let mut silence = Silence::default();
        let verdicts: Vec<_> = (0..12).map(|_| silence.beat()).collect();
        assert_eq!(verdicts[..4], [Verdict::Speaks; 4], "the first beat is the first ping");
        assert_eq!(verdicts[4..11], [Verdict::Silent; 7]);
        assert_eq!(verdicts[11], Verdict::Broken);
        silence.heard();
        assert_eq!(silence.beat(), Verdict::Speaks);
    }

    /// A busy host's beats are late, so that frames and beats alternate however much time lies between.
    #[test]
    fn an_answer_between_two_beats_is_enough() {
        let mut silence = Silence::default();
        for _ in 0..100 {
            assert_eq!(silence.beat(), Verdict::Speaks);
            silence.heard();
        }
    }
}
