//! The commands of ours that README.md and docs/ show exist: each subcommand and flag is looked up in the program's own.

use anyhow::{Context, Result, ensure};
use clap::{Command, CommandFactory as _};
use std::path::{Path, PathBuf};

fn program(name: &str) -> Option<Command> {
    match name {
        "dfctl" => Some(dfctl::Cli::command()),
        "dfdaemon" => Some(dfdaemon::config_flags::Flags::command()),
        // Under the second name where it is installed.
        "scheduler" | "damselfly-scheduler" => Some(scheduler::Flags::command()),
        _ => None,
    }
}

/// What is wrong with a line, if it calls one of our programs. Values are not looked at: pages have placeholders there.
fn wrong(line: &str) -> Option<String> {
    let is_variable = |word: &&str| word.contains('=') && !word.starts_with('-');
    let ends = |word: &&str| ["#", "|", ">", "&&"].contains(word);
    let mut words = line.split_whitespace().skip_while(is_variable).take_while(|word| !ends(word));
    let root = program(words.next()?)?;
    let mut commands = vec![&root];
    while let Some(word) = words.next() {
        let command: &Command = commands.last()?;
        if let Some(flag) = word.strip_prefix("--") {
            let (name, value) =
                flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let args = command.get_arguments();
            let global =
                commands.iter().flat_map(|above| above.get_arguments()).filter(|arg| arg.is_global_set());
            match args.chain(global).find(|arg| arg.get_long() == Some(name)) {
                Some(arg) if arg.get_action().takes_values() && value.is_none() => {
                    words.next();
                }
                Some(_) => {}
                // clap adds these two when it parses.
                None if ["help", "version"].contains(&name) => {}
                None => return Some(format!("{line}: {} has no --{name}", command.get_name())),
            }
        } else if let Some(inner) = command.find_subcommand(word) {
            commands.push(inner);
        } else if command.has_subcommands() && is_word(word) {
            return Some(format!("{line}: {} has no {word}", command.get_name()));
        }
    }
    None
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

/// What a page has in blocks of code, line by line, and between backticks.
fn shown(page: &str) -> Vec<&str> {
    let mut shown = Vec::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 1 {
            shown.extend(part.lines().skip(1));
        } else {
            let paragraphs = part.split("\n\n");
            shown.extend(paragraphs.flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2)));
        }
    }
    shown
}

fn pages() -> Result<Vec<PathBuf>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md"), root.join("charts/damselfly/README.md")];
    for entry in std::fs::read_dir(root.join("docs"))? {
        pages.push(entry?.path());
    }
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    Ok(pages)
}

#[test]
fn commands_of_the_pages_exist() -> Result<()> {
    let (mut ours, mut mistakes) = (0, Vec::new());
    for path in pages()? {
        let page = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        for line in shown(&page) {
            ours += usize::from(line.contains("dfctl ") || line.contains("dfdaemon "));
            mistakes.extend(wrong(line).map(|mistake| format!("{}: {mistake}", path.display())));
        }
    }
    ensure!(mistakes.is_empty(), "{mistakes:#?}");
    ensure!(ours > 40, "only {ours} commands were found");
    Ok(())
}

#[test]
fn a_command_that_does_not_exist_is_found() {
    for line in [
        "dfctl stats",
        "dfctl runtime instal",
        "dfctl runtime install --no-such-flag",
        "dfctl --proxy URL status",
        "A=b dfdaemon --lsten 127.0.0.1:1",
        "scheduler --join TOKEN",
    ] {
        assert!(wrong(line).is_some(), "{line}");
    }
    for line in [
        "dfctl status -o json # all of it",
        "dfctl host remove ID --daemon URL",
        "dfctl runtime install --root /host containerd",
        "dfctl flush [REPOSITORY]",
        "A=b damselfly-scheduler --listen=127.0.0.1:1 > stats",
        "install -m 755 target/release/dfctl /usr/bin/",
    ] {
        assert_eq!(wrong(line), None);
    }
}
