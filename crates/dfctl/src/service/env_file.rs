//! The file with a service's settings, which systemd reads as variables: `KEY=VALUE` on each line.
//!
//! Ours is one line for a key, found again by its whole text; what else stands there belongs to whoever looks after the
//! machine. The values may be secrets, so that they are not shown.

use crate::machine::Refusal;
use serde::{Deserialize, Serialize};

/// What ends the names of variables whose values are shown: they stand on a command line, which all users see.
const SHOWN: &str = "_FLAGS";

/// What begins a join token.
const TOKEN: &str = "dfjoin1.";

/// One line that was put in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    /// What stands there now, without its end.
    line: String,
    /// What stood there before, if something did.
    replaced: Option<String>,
    /// Whether the line before it had no end.
    unended: bool,
}

/// It may hold a secret.
impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Line(…)")
    }
}

/// A text with what was wanted in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It stands there, though not by our doing.
    Already,
    /// It was put there.
    Done(String, Line),
}

/// Puts `key=value` into a file's text, in the place of the line that is in force for this key.
///
/// # Errors
/// If a line of the text goes on over its end: what begins a line may be a part of something else there.
pub(super) fn put(text: &str, key: &str, value: &str) -> Result<Put, Refusal> {
    check(text, key)?;
    let ours = format!("{key}={value}");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // The last one is in force.
    if let Some(at) = lines.iter().rposition(|line| value_of(line, key).is_some()) {
        if value_of(lines[at], key) == Some(value) {
            return Ok(Put::Already);
        }
        let (old, end) = split_end(lines[at]);
        let text = [&*lines[..at].concat(), &*ours, end, &*lines[at + 1..].concat()].concat();
        return Ok(Put::Done(text, Line { line: ours, replaced: Some(old.to_owned()), unended: false }));
    }
    let unended = !text.is_empty() && !text.ends_with('\n');
    let gap = if unended { "\n" } else { "" };
    Ok(Put::Done(format!("{text}{gap}{ours}\n"), Line { line: ours, replaced: None, unended }))
}

/// Whether each line of a file's text is what it looks like.
///
/// # Errors
/// If one goes on over its end.
pub(super) fn check(text: &str, key: &str) -> Result<(), Refusal> {
    if text.lines().any(goes_on) {
        let why = format!("a line in it goes on over its end; write {key}=… into it by hand");
        return Err(Refusal::new(why));
    }
    Ok(())
}

impl Line {
    /// Which line of a text it is; nothing if it does not stand there.
    pub(super) fn place(&self, text: &str) -> Option<usize> {
        // The last one is in force.
        let (at, _) = text.lines().enumerate().filter(|(_, line)| line.trim() == self.line).last()?;
        Some(at)
    }

    /// Whether it stands in a text as the last one of its key, which is the one in force.
    pub(super) fn is_in_force(&self, text: &str, key: &str) -> bool {
        let last = text.lines().enumerate().filter(|(_, line)| value_of(line, key).is_some()).last();
        last.is_some_and(|(at, _)| self.place(text) == Some(at))
    }

    /// Whether another one looks the same.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        self.line == other.line
    }

    /// Whether it says this.
    pub(super) fn says(&self, key: &str, value: &str) -> bool {
        self.line.split_once('=') == Some((key, value))
    }

    /// A text with another value in its place, where it stands.
    pub(super) fn exchange(&self, text: &str, key: &str, value: &str) -> (String, Self) {
        let new = Self { line: format!("{key}={value}"), ..self.clone() };
        // Only the line goes: what it replaced, or stands in for, is the new one's matter.
        let alone = Self { replaced: Some(new.line.clone()), ..self.clone() };
        (alone.take_out(text), new)
    }

    /// The text without it; as it is if it does not stand there.
    pub(super) fn take_out(&self, text: &str) -> String {
        let Some(at) = self.place(text) else { return text.to_owned() };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut before = lines[..at].concat();
        let after = lines[at + 1..].concat();
        match &self.replaced {
            Some(old) => before + old + split_end(lines[at]).1 + &after,
            None => {
                if self.unended && after.is_empty() && before.ends_with('\n') {
                    before.pop();
                }
                before + &after
            }
        }
    }
}

/// A line as it may be shown to anybody.
pub(super) fn without_secrets(line: &str) -> String {
    let is_comment = line.trim_start().starts_with(['#', ';']);
    match line.split_once('=') {
        _ if line.trim().is_empty() => line.to_owned(),
        Some((key, value)) if key.trim_end().ends_with(SHOWN) && !value.contains(TOKEN) => line.to_owned(),
        Some((key, _)) if !key.contains(TOKEN) => format!("{key}=…"),
        None if is_comment && !line.contains(TOKEN) => line.to_owned(),
        _ => "…".to_owned(),
    }
}

/// What a line sets the key to, without the quotes around it.
fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = line.trim_start().strip_prefix(key)?.trim_start().strip_prefix('=')?.trim();
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    Some(inner('"').or_else(|| inner('\'')).unwrap_or(value))
}

/// Whether what a line begins may end on a later one: with a backslash, which ends a comment's line as well, or between
/// quotes.
fn goes_on(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with(['#', ';']);
    let odd = |quote: char| line.matches(quote).count() % 2 == 1;
    line.ends_with('\\') || (!is_comment && (odd('"') || odd('\'')))
}

/// A line and what ends it.
fn split_end(line: &str) -> (&str, &str) {
    line.split_at(line.trim_end_matches(['\n', '\r']).len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn done(text: &str, value: &str) -> (String, Line) {
        match put(text, "JOIN", value) {
            Ok(Put::Done(after, line)) => (after, line),
            other => panic!("{other:?} for {text:?}"),
        }
    }

    #[test]
    fn whatever_stands_there_it_is_set_and_comes_out_again() {
        for (text, with) in [
            ("", "JOIN=new\n"),
            ("A=1", "A=1\nJOIN=new\n"),
            ("A=1\n", "A=1\nJOIN=new\n"),
            ("JOIN=old", "JOIN=new"),
            ("JOIN=a\n JOIN = 'old'\r\nA=1\n", "JOIN=a\nJOIN=new\r\nA=1\n"),
            ("# JOIN=new\n#JOINED='\nJOINED=1\n", "# JOIN=new\n#JOINED='\nJOINED=1\nJOIN=new\n"),
        ] {
            let (after, line) = done(text, "new");
            assert_eq!(after, with);
            assert!(line.place(&after).is_some() && line.says("JOIN", "new") && !line.says("JOIN", "old"));
            assert_eq!(put(&after, "JOIN", "new"), Ok(Put::Already));
            assert_eq!(line.take_out(&after), text);
            let (other, line) = line.exchange(&after, "JOIN", "other");
            assert_eq!(put(&other, "JOIN", "other"), Ok(Put::Already));
            assert_eq!(line.take_out(&other), text);
        }
    }

    #[test]
    fn what_others_changed_since_stays() {
        let (_, line) = done("A=1", "new");
        for (text, without) in [
            // The line was commented out, or has another value: it is not ours any more.
            ("A=1\n# JOIN=new\nB=2\n", "A=1\n# JOIN=new\nB=2\n"),
            ("A=1\nJOIN=other\n", "A=1\nJOIN=other\n"),
            ("A=1\nJOIN=new\nB=2\n", "A=1\nB=2\n"),
            ("B=2\nJOIN=new", "B=2"),
            ("JOIN=new\n", ""),
        ] {
            assert_eq!(line.take_out(text), without, "{text}");
        }
    }

    #[test]
    fn the_last_of_a_key_is_in_force() {
        let (_, line) = done("", "new");
        for (text, is) in [
            ("JOIN=new\n", true),
            ("JOIN=old\nA=1\n JOIN=new\n# JOIN=old\nJOINED=1\n", true),
            ("JOIN=new\nJOIN=new", true),
            ("JOIN=new\nJOIN = 'other'\n", false),
            ("JOIN=other\n", false),
            ("", false),
        ] {
            assert_eq!(line.is_in_force(text, "JOIN"), is, "{text}");
        }
    }

    #[test]
    fn lines_that_go_on_are_left_alone() {
        for text in ["A=1 \\\n2\n", "A=\"1\nJOIN=x\"\n", "A='1\n", "# a \\\n"] {
            assert!(put(text, "JOIN", "new").is_err(), "{text}");
        }
        assert!(put("# it's\nA=\"1\"\n", "JOIN", "new").is_ok());
    }

    #[test]
    fn no_secret_is_shown() {
        for (line, shown) in [
            ("DFDAEMON_JOIN=dfjoin1.a.b@h:1", "DFDAEMON_JOIN=…"),
            ("PASSWORD = x", "PASSWORD =…"),
            ("DFDAEMON_FLAGS=--zone a", "DFDAEMON_FLAGS=--zone a"),
            ("DFDAEMON_FLAGS=--join dfjoin1.a.b@h:1", "DFDAEMON_FLAGS=…"),
            ("# comes from the hoster", "# comes from the hoster"),
            ("# dfjoin1.a.b", "…"),
            ("#JOIN=x", "#JOIN=…"),
            ("dfjoin1.a.b=c", "…"),
            ("the rest of a secret", "…"),
            ("", ""),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out_again(text in "([ABJ#]?(JOIN)?=?[a-z ]{0,3}\r?\n){0,5}(JOIN=x)?") {
            if let Put::Done(after, line) = put(&text, "JOIN", "new").expect("plain lines") {
                prop_assert_eq!(line.take_out(&after), &*text);
                // A line of theirs before and one behind.
                let changed = format!("Z=1\n{after}\nY=2\n");
                let expected = format!("Z=1\n{}", line.take_out(&format!("{after}\nY=2\n")));
                prop_assert_eq!(line.take_out(&changed), expected);
                prop_assert_eq!(put(&after, "JOIN", "new"), Ok(Put::Already));
            }
        }
    }
}
