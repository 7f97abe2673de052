//! A text with something of ours put into it, and the way back.
//!
//! What goes into somebody else's file is remembered as the text that went in and the text that it stood in for: taken out
//! again, the file is byte for byte what it was, and what others changed around it stays.

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// What was done to a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Edit {
    /// What stands there now.
    pub(super) inserted: String,
    /// What stood there before.
    pub(super) replaced: String,
}

impl Edit {
    /// Puts `inserted` in the place of `range`; the new text, and what was done.
    ///
    /// # Panics
    /// If the range is none of the text's.
    pub(super) fn put(text: &str, range: Range<usize>, inserted: String) -> (String, Self) {
        let after = [&text[..range.start], &inserted, &text[range.end..]].concat();
        (after, Self { replaced: text[range].to_owned(), inserted })
    }

    /// The text without it; nothing unless it stands there exactly once, as it was put in.
    pub(super) fn undo(&self, text: &str) -> Option<String> {
        let mut places = text.match_indices(&self.inserted);
        let (at, _) = places.next()?;
        if places.next().is_some() {
            return None;
        }
        Some([&text[..at], &self.replaced, &text[at + self.inserted.len()..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_put_in_comes_out_again(
            (head, old, tail) in ("[a-z\n]{0,40}", "[a-z\n]{0,10}", "[a-z\n]{0,40}"),
            (head_later, tail_later) in ("[a-z\n]{0,40}", "[a-z\n]{0,40}"),
        ) {
            let text = [&*head, &old, &tail].concat();
            let (after, edit) = Edit::put(&text, head.len()..head.len() + old.len(), "OURS".to_owned());
            prop_assert_eq!(edit.undo(&after), Some(text));
            let changed = after.replacen(&head, &head_later, 1);
            if changed.matches("OURS").count() == 1 {
                let expected = changed.replacen("OURS", &old, 1);
                prop_assert_eq!(edit.undo(&changed), Some(expected));
            }
            prop_assert_eq!(edit.undo(&[&*head_later, &tail_later].concat()), None);
            prop_assert_eq!(edit.undo(&[&*after, &after].concat()), None);
        }
    }
}
