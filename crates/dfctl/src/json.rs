//! Results, errors and remarks for programs: a result is one JSON document on standard output, anything else one line of
//! JSON on standard error. docs/dfctl.md has the fields; a name that stands there stays.

use crate::Output;
use process::audit::escape;
use process::exit::Exit;
use serde::Serialize;
use std::ffi::OsString;
use std::io::{self, Write};

/// Writes a result, whole or not at all.
pub(crate) fn write(result: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(result)?;
    writeln!(out, "{}", escape(&text))?;
    out.flush()
}

/// Why the program ends, as a line.
pub(crate) fn error(text: &str, exit: u8) -> String {
    escape(&serde_json::json!({"error": text, "exit": exit}).to_string()).into_owned()
}

/// What `clap` says about a command line that makes no sense, as a line: without the advice for people.
pub(crate) fn mistake(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let advice = ["\n\nUsage:", "\n\nFor more information"];
    let end = advice.iter().filter_map(|advice| text.find(*advice)).min().unwrap_or(text.len());
    error(text[..end].trim_end(), Exit::Usage.code())
}

/// Says something beside the result on standard error; the program goes on.
pub(crate) fn note(output: Output, text: &str) {
    match output {
        Output::Table => eprintln!("{text}"),
        Output::Json => eprintln!("{}", escape(&serde_json::json!({"note": text}).to_string())),
    }
}

/// Whether a command line asks for JSON, even if it makes no sense otherwise.
pub(crate) fn is_wanted(words: impl Iterator<Item = OsString>) -> bool {
    let words: Vec<OsString> = words.take_while(|word| word != "--").collect();
    let apart = words.windows(2).any(|pair| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json");
    apart || words.iter().any(|word| word == "-ojson" || word == "-o=json" || word == "--output=json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_errors() {
        assert_eq!(error("a\n\"b\"\u{9b}", 1), r#"{"error":"a\n\"b\"\u009b","exit":1}"#);
        let text =
            "error: unrecognized subcommand 'x'\n\n  tip: y\n\nUsage: dfctl\n\nFor more information, try\n";
        assert_eq!(mistake(text), r#"{"error":"unrecognized subcommand 'x'\n\n  tip: y","exit":64}"#);
        assert_eq!(mistake("odd\n"), r#"{"error":"odd","exit":64}"#);
    }

    #[test]
    fn who_asks_for_json() {
        for (line, wanted) in [
            ("dfctl stats -o json", true),
            ("dfctl --output json stats", true),
            ("dfctl --output=json", true),
            ("dfctl -ojson", true),
            ("dfctl -o=json", true),
            ("dfctl pull json", false),
            ("dfctl status -o table", false),
            ("dfctl pull -- -o json", false),
            ("dfctl status -o", false),
        ] {
            assert_eq!(is_wanted(line.split(' ').map(OsString::from)), wanted, "{line}");
        }
    }
}
