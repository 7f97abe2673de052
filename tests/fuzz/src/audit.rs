//! The audit log as `dfctl audit` reads it: lines that anybody may have written.

use crate::input::Input;
use dfctl::audit::{Filter, Form, run};
use process::audit::{Line, PermittedBy};
use std::io::Write as _;
use tempfile::NamedTempFile;

/// A line with what is filtered by, then the log.
pub fn audit(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let filter = filter(&mut input);
    let log = input.rest();
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(log).expect("room for a temporary file");
    let show = |filter: &Filter, form| {
        let mut out = Vec::new();
        let malformed = run(file.path(), filter, form, &mut out).expect("a file that can be read");
        (String::from_utf8(out).expect("text"), malformed)
    };
    let (all, malformed) = show(&Filter::default(), Form::Json);
    let lines: Vec<&str> = all.lines().collect();
    let obeyed = |c: char| c.is_control() && c != '\t' && c != '\r';
    assert!(!lines.iter().any(|line| line.contains(obeyed)), "a line that steers the terminal");
    let written = log.split_inclusive(|b| *b == b'\n').count();
    assert_eq!(lines.len() as u64 + malformed, written as u64, "each line is shown or counted");
    for line in &lines {
        let line: Line = serde_json::from_str(line).expect("what is shown is a line");
        let again = line.to_json().expect("a line");
        assert!(!again.contains(|c: char| c.is_control()), "one line, whatever is in it: {again}");
        assert_eq!(serde_json::from_str::<Line>(&again).expect("what we write can be read"), line);
    }
    let (some, again) = show(&filter, Form::Json);
    assert_eq!(again, malformed, "a filter is not about what is none");
    let mut rest = lines.iter();
    assert!(some.lines().all(|line| rest.any(|other| *other == line)), "a part of the lines, in their order");

    let (table, _) = show(&filter, Form::Table);
    assert_eq!(table.lines().count(), some.lines().count() + 1, "a row for each line, below the head");
    assert!(
        table.lines().all(|row| !row.contains(|c: char| c.is_control())),
        "a row that steers the terminal"
    );
}

fn filter(input: &mut Input<'_>) -> Filter {
    let given = input.u8();
    let line = String::from_utf8_lossy(input.line()).into_owned();
    let mut words = line.split(' ');
    let mut word = |bit: u8| words.next().filter(|_| given & (1 << bit) != 0);
    Filter {
        since: word(0).and_then(|word| word.parse().ok()),
        client: word(1).and_then(|word| word.parse().ok()),
        uid: word(2).and_then(|word| word.parse().ok()),
        repository: word(3).map(str::to_owned),
        digest: word(4).and_then(|word| word.parse().ok()),
        status: word(5).and_then(|word| word.parse().ok()),
        permitted_by: word(6).map(|_| PermittedBy::Client),
    }
}
