//! docs/configuration.md has every key and every flag of the two programs. Keys, defaults and what they do are those of the
//! example files, which are held against what the programs take; flags are those that clap knows. With `DAMSELFLY_BLESS=1`
//! the page is written anew.

use crate::example::{Columns, Key, Section, sections};
use anyhow::{Context, Result, bail, ensure};
use clap::{Arg, Command, CommandFactory as _};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Flags that stand for no key.
const WITHOUT_KEY: [&str; 3] = ["check", "config", "join"];

/// One of the two programs.
struct Program {
    title: &'static str,
    /// Its example file, from the workspace's root.
    file: &'static str,
    sections: Vec<Section>,
    command: Command,
    /// What it says of a configuration file that it does not take.
    refusal: fn(&str) -> Result<String>,
}

fn programs() -> Result<[Program; 2]> {
    let daemon = include_str!("../../../../dfdaemon/dfdaemon.example.toml");
    let scheduler = include_str!("../../../../scheduler/scheduler.example.toml");
    Ok([
        Program {
            title: "The daemon",
            file: "dfdaemon/dfdaemon.example.toml",
            sections: sections(daemon, &Columns { at_default: "# ", without: "#     " })?,
            command: dfdaemon::config_flags::Flags::command(),
            refusal: refused_by_the_daemon,
        },
        Program {
            title: "The scheduler",
            file: "scheduler/scheduler.example.toml",
            sections: sections(scheduler, &Columns { at_default: "", without: "# " })?,
            command: scheduler::Flags::command(),
            refusal: refused::<scheduler::Options>,
        },
    ])
}

fn refused_by_the_daemon(text: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), text)?;
    let flags = dfdaemon::config_flags::Flags { config: Some(file.path().to_owned()), ..Default::default() };
    match dfdaemon::config::Config::load(flags) {
        Ok(_) => bail!("the daemon takes {text:?}"),
        Err(error) => Ok(error.to_string()),
    }
}

fn refused<T: DeserializeOwned>(text: &str) -> Result<String> {
    match toml::from_str::<T>(text) {
        Ok(_) => bail!("it takes {text:?}"),
        Err(error) => Ok(error.message().to_owned()),
    }
}

impl Program {
    fn keys(&self) -> impl Iterator<Item = &Key> {
        self.sections.iter().flat_map(|section| &section.keys)
    }

    /// The keys and tables that it takes in `table`, as it says itself when it is told another.
    fn taken(&self, table: &str) -> Result<BTreeSet<String>> {
        let probe = |table: &str| {
            let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
            format!("{header}no_such_key = 1\n")
        };
        let refusal = match table.strip_prefix("origin.") {
            // Both have it from this package, and do not say what they expect below a key that speaks of a secret.
            Some(below) => refused::<origin::Options>(&probe(below))?,
            None => (self.refusal)(&probe(table))?,
        };
        let expected = refusal.split_once("unknown field").and_then(|(_, rest)| rest.split_once("expected"));
        let (_, names) = expected.with_context(|| format!("[{table}]: {refusal}"))?;
        // `one of `a`, `b``: every second part between backticks is a key.
        Ok(names.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    }

    /// The keys and tables that the example shows in `section`.
    fn shown(&self, section: &Section) -> BTreeSet<String> {
        let above = if section.name.is_empty() { String::new() } else { format!("{}.", section.name) };
        let below = self.sections.iter().filter_map(|other| other.name.strip_prefix(above.as_str()));
        let tables = below.filter_map(|rest| rest.split('.').next()).filter(|name| !name.is_empty());
        section.keys.iter().map(|key| key.name.as_str()).chain(tables).map(str::to_owned).collect()
    }

    fn flag(&self, name: &str) -> Option<&Arg> {
        self.command.get_arguments().find(|arg| arg.get_long() == Some(name))
    }
}

#[test]
fn the_examples_show_every_key() -> Result<()> {
    for program in programs()? {
        let file = program.file;
        for section in &program.sections {
            let (taken, shown) = (program.taken(&section.name)?, program.shown(section));
            ensure!(taken == shown, "{file}: [{}] takes {taken:?}, shown is {shown:?}", section.name);
            for key in section.keys.iter().filter(|key| key.kind() == "table") {
                let table = format!("{}.{}", section.name, key.name);
                // It may be a table of tables, with names of all kinds.
                let fields = program.taken(&table).or_else(|_| program.taken(&format!("{table}.any")))?;
                for field in &fields {
                    ensure!(section.says(field), "{file}: no comment above [{table}] speaks of {field}");
                }
            }
        }
    }
    Ok(())
}

/// With the keys that have no default, too. The daemon's do not all go together: its own tests have them.
#[test]
fn the_scheduler_takes_all_of_its_example() -> Result<()> {
    let [_, scheduler] = programs()?;
    let mut text = String::new();
    for section in &scheduler.sections {
        if !section.name.is_empty() {
            text += &format!("[{}]\n", section.name);
        }
        for key in &section.keys {
            text += &format!("{} = {}\n", key.name, key.value);
        }
    }
    let options: scheduler::Options = toml::from_str(&text)?;
    ensure!(options.origin.registries.len() == 1 && options.scheduling.seed.is_some(), "{text}");
    options.origin.validate()?;
    options.validate()?;
    Ok(())
}

/// The page calls `false` the default also where the example is not at its defaults.
#[test]
fn what_is_not_switched_on_is_off() -> Result<()> {
    for program in programs()? {
        for section in &program.sections {
            let off = section.keys.iter().filter(|key| key.is_off() && !key.is_default);
            let off: String = off.map(|key| format!("{} = false\n", key.name)).collect();
            if !off.is_empty() {
                let table = section.name.strip_prefix("origin.").context("a switch of another section")?;
                let options = |keys: &str| toml::from_str::<origin::Options>(&format!("[{table}]\n{keys}"));
                assert_eq!(
                    format!("{:?}", options(&off)?),
                    format!("{:?}", options("")?),
                    "{}",
                    program.file
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_flag_stands_at_its_key() -> Result<()> {
    for program in programs()? {
        let file = program.file;
        for flag in program.command.get_arguments().filter_map(Arg::get_long) {
            let times = program.keys().filter(|key| key.flag.as_deref() == Some(flag)).count();
            let expected = usize::from(!WITHOUT_KEY.contains(&flag));
            ensure!(times == expected, "{file}: (--{flag}) ends {times} comments, not {expected}");
        }
        for key in program.keys() {
            let Some(name) = &key.flag else { continue };
            let flag = program.flag(name).with_context(|| format!("{file}: there is no --{name}"))?;
            let help = if key.is_default { help(flag) } else { String::new() };
            for word in stated_default(&help) {
                ensure!(
                    key.value.contains(word),
                    "--{name} says {word:?}, {file} {} = {}",
                    key.name,
                    key.value
                );
            }
        }
    }
    Ok(())
}

/// Those words of the default in a flag's help that cannot be put in another way: numbers, sizes, addresses, paths.
fn stated_default(help: &str) -> Vec<&str> {
    let default = help.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
    let words = default.map_or("", |(text, _)| text).split([' ', ',']);
    words.filter(|word| word.contains(|c: char| c.is_ascii_digit() || c == '/')).collect()
}

fn help(arg: &Arg) -> String {
    let text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let values = if arg.get_action().takes_values() { arg.get_possible_values() } else { Vec::new() };
    let names: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    let names = if names.is_empty() { String::new() } else { format!("; one of {}", names.join(", ")) };
    format!("{}{names}", text.trim_end_matches('.'))
}

fn environment(arg: &Arg) -> Option<String> {
    arg.get_env().map(|name| format!("`{}`", name.to_string_lossy()))
}

/// A row of a table.
fn row<const N: usize>(cells: [String; N]) -> String {
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}

fn key_row(program: &Program, key: &Key) -> String {
    let default = key
        .default_value()
        .map_or_else(|| format!("none; as in `{}`", key.value), |value| format!("`{value}`"));
    let flag = key.flag.as_deref().map(|name| format!("`--{name}`"));
    let variable = key.flag.as_deref().and_then(|name| program.flag(name)).and_then(environment);
    let told: Vec<String> = flag.into_iter().chain(variable).collect();
    row([format!("`{}`", key.name), key.kind().to_owned(), default, told.join(", "), key.about.clone()])
}

fn flag_row(arg: &Arg) -> Option<String> {
    let name = arg.get_long()?;
    let values = arg.get_value_names().filter(|_| arg.get_action().takes_values());
    let values: String = values.into_iter().flatten().map(|value| format!(" {value}")).collect();
    Some(row([format!("`--{name}{values}`"), environment(arg).unwrap_or_default(), help(arg)]))
}

fn page(program: &Program) -> String {
    let mut text = format!("\n## {}\n", program.title);
    for section in program.sections.iter().filter(|section| !section.keys.is_empty()) {
        let above = "Above all sections".to_owned();
        let title = if section.name.is_empty() { above } else { format!("`[{}]`", section.name) };
        text += &format!("\n### {title}\n\n");
        if !section.about.is_empty() {
            text += &format!("{}\n\n", section.about);
        }
        text += "| key | type | default | flag | what it does |\n|---|---|---|---|---|\n";
        text.extend(section.keys.iter().map(|key| key_row(program, key)));
    }
    text += "\n### Flags\n\n| flag | environment | what it does |\n|---|---|---|\n";
    text.extend(program.command.get_arguments().filter_map(flag_row));
    text
}

#[test]
fn the_page_is_up_to_date() -> Result<()> {
    let text: String = programs()?.iter().map(page).collect();
    support::page::check("configuration.md", "configuration", &text)
}
