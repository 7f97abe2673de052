//! What comes from outside: permissive licences (those of `.deny.toml`), one registry, one TLS library with one provider.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// One package that is really built here.
struct Built {
    /// Name and version, then the path or source if it is not the usual registry.
    package: String,
    licence: String,
    features: String,
}

impl Built {
    /// The workspace's own packages show their path.
    fn is_ours(&self) -> bool {
        self.package.contains("(/")
    }
}

/// What `cargo tree` says, since `cargo metadata` names optional packages that are not built.
fn built() -> Vec<Built> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["tree", "--workspace", "--offline", "--locked", "--prefix=none", "--no-dedupe"]);
    command.args(["--format", "{p}\t{l}\t{f}"]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let output = command.output().expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: BTreeSet<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let built: Vec<Built> = lines.into_iter().map(parse).collect();
    assert!(built.len() > 100, "only {} packages", built.len());
    built
}

fn parse(line: &str) -> Built {
    let mut fields = line.split('\t').map(str::to_owned);
    let mut next = || fields.next().unwrap_or_default();
    Built { package: next(), licence: next(), features: next() }
}

fn allowed() -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deny.toml");
    let deny: toml::Table = std::fs::read_to_string(file).expect(".deny.toml").parse().expect("TOML");
    let allow = deny["licenses"]["allow"].as_array().expect("a list");
    allow.iter().map(|licence| licence.as_str().expect("a name").to_owned()).collect()
}

/// Whether an SPDX expression can be met with `allowed` licences. `/` is how old manifests write OR.
fn permits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&words, &mut at, allowed);
    met && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(words, at, allowed);
    }
    met
}

fn all(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed);
    }
    met
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let met = any(words, at, allowed);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        let name = format!("{word} WITH {}", words.get(*at + 1).copied().unwrap_or_default());
        *at += 2;
        return allowed.contains(&name);
    }
    allowed.contains(*word)
}

#[test]
fn expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned));
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "MIT AND (GPL-3.0 OR ISC)",
        "Apache-2.0 WITH LLVM-exception OR X",
    ] {
        assert!(permits(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT OR ISC) AND MPL-2.0", "Apache-2.0", "", "MIT MIT"] {
        assert!(!permits(bad, &allowed), "{bad}");
    }
}

#[test]
fn licences_are_permissive() {
    let allowed = allowed();
    let wrong: Vec<String> = built()
        .iter()
        .filter(|built| !permits(&built.licence, &allowed))
        .map(|built| format!("{}: {:?}", built.package, built.licence))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn everything_comes_from_one_registry() {
    for built in built().iter().filter(|built| !built.is_ours()) {
        // Another source would stand in parentheses.
        let rest = built.package.split(' ').nth(2).unwrap_or_default();
        assert!(["", "(proc-macro)", "(*)"].contains(&rest), "{}", built.package);
    }
}

#[test]
fn there_is_one_tls_library_with_one_provider() {
    let built = built();
    let named = |name: &str| -> Vec<&Built> {
        built.iter().filter(|built| built.package.split(' ').next() == Some(name)).collect()
    };
    assert!(named("openssl-sys").is_empty() && named("native-tls").is_empty());
    let rustls = named("rustls");
    assert!(!rustls.is_empty());
    for rustls in rustls {
        let features: Vec<&str> = rustls.features.split(',').collect();
        assert!(features.contains(&"aws_lc_rs") && !features.contains(&"ring"), "{features:?}");
    }
}
