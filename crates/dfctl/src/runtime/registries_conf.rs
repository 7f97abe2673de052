//! A file of `registries.conf.d`, for all that pull with containers/image: podman, CRI-O, buildah, skopeo. They name no
//! registry to a mirror, so it stands in the mirror's location, and each registry has to be named here.

use super::edit::Edit;
use super::target::{Put, Target, Wanted};
use crate::machine::{Files, Refusal};
use std::path::{Path, PathBuf};
use toml_edit::{DocumentMut, Item};
use types::Registry;

/// Ours. The number puts it after what distributions bring.
pub(super) const OURS: &str = "/etc/containers/registries.conf.d/50-damselfly.conf";

const MAIN: &str = "/etc/containers/registries.conf";
const DROP_INS: &str = "/etc/containers/registries.conf.d";

/// The registries that most clusters pull from.
const COMMON: [&str; 7] =
    ["docker.io", "gcr.io", "ghcr.io", "mcr.microsoft.com", "public.ecr.aws", "quay.io", "registry.k8s.io"];

/// What is wanted, and what is to be said about it: no word of ours stands over one of theirs.
pub(super) fn wanted(files: &Files, mirror: &str, registries: &[Registry]) -> Result<Wanted, Refusal> {
    let mut theirs: Vec<(String, PathBuf)> = Vec::new();
    let drop_ins = files.names(Path::new(DROP_INS))?.into_iter().filter(|name| name.ends_with(".conf"));
    for path in
        std::iter::once(PathBuf::from(MAIN)).chain(drop_ins.map(|name| Path::new(DROP_INS).join(name)))
    {
        if path == Path::new(OURS) {
            continue;
        }
        let Some(text) = files.look(&path)? else { continue };
        let named =
            prefixes(&text).map_err(|refusal| Refusal::new(format!("{}: {refusal}", path.display())))?;
        theirs.extend(named.into_iter().map(|prefix| (prefix, path.clone())));
    }
    let mut wanted: Vec<String> = COMMON.map(str::to_owned).to_vec();
    wanted.extend(registries.iter().map(Registry::to_string));
    wanted.sort();
    wanted.dedup();
    let mut notes = Vec::new();
    wanted.retain(|registry| match theirs.iter().find(|(prefix, _)| speaks_of(prefix, registry)) {
        Some((_, path)) => {
            notes.push(format!(
                "{registry} is left as {} has it, and pulled without Damselfly",
                path.display()
            ));
            false
        }
        None => true,
    });
    if wanted.is_empty() {
        return Ok(Wanted { targets: Vec::new(), notes });
    }
    let target = Target::RegistriesConf { mirror: mirror.to_owned(), registries: wanted };
    Ok(Wanted { targets: vec![(OURS.into(), target)], notes })
}

/// The whole file is ours, so that nothing can be in it already.
pub(super) fn put(text: Option<&str>, mirror: &str, registries: &[String]) -> Result<Put, Refusal> {
    if text.is_some_and(|text| !text.trim().is_empty()) {
        return Err(Refusal::new(format!(
            "{OURS} is there already, and was not written by `dfctl runtime install`"
        )));
    }
    let mut ours = String::from(
        "# Put here by `dfctl runtime install`; `dfctl runtime uninstall` takes it away.\n\
         # While the daemon is away the registries themselves are asked.\n",
    );
    for registry in registries {
        ours.push_str(&format!(
            "\n[[registry]]\nprefix = {registry:?}\nlocation = {registry:?}\n\n\
             [[registry.mirror]]\nlocation = \"{mirror}/{registry}\"\ninsecure = true\n"
        ));
    }
    let (after, edit) = Edit::put(text.unwrap_or_default(), 0..0, ours);
    Ok(Put::Done(after, edit))
}

/// Takes away the mirrors that are ours, and the registries that stand there for nothing else.
pub(super) fn take_out(text: &str, mirror: &str) -> Result<String, Refusal> {
    let mut document: DocumentMut = text.parse().map_err(|error| unreadable(&error))?;
    let Some(registries) = document.get_mut("registry").and_then(Item::as_array_of_tables_mut) else {
        return Ok(text.to_owned());
    };
    let ours = format!("{mirror}/");
    let mut found = false;
    for registry in registries.iter_mut() {
        let Some(mirrors) = registry.get_mut("mirror").and_then(Item::as_array_of_tables_mut) else {
            continue;
        };
        let before = mirrors.len();
        mirrors.retain(|mirror| {
            !mirror.get("location").and_then(Item::as_str).is_some_and(|location| location.starts_with(&ours))
        });
        found |= mirrors.len() < before;
        if mirrors.is_empty() {
            registry.remove("mirror");
        }
    }
    if !found {
        return Ok(text.to_owned());
    }
    // One that says no more than its own name says nothing.
    registries.retain(|registry| {
        let prefix = registry.get("prefix").and_then(Item::as_str);
        !(registry.len() == 2
            && prefix.is_some()
            && prefix == registry.get("location").and_then(Item::as_str))
    });
    if registries.is_empty() {
        document.remove("registry");
    }
    Ok(document.to_string())
}

/// The registries, or parts of them, that a file speaks of.
fn prefixes(text: &str) -> Result<Vec<String>, Refusal> {
    let document: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| Refusal::new(format!("it is no TOML: {}", error.message())))?;
    let first_format = document.get("registries").and_then(toml::Value::as_table);
    if first_format
        .is_some_and(|kinds| ["search", "insecure", "block"].iter().any(|kind| kinds.contains_key(*kind)))
    {
        return Err(Refusal::new("it is of the first format, which has no mirrors".to_owned()));
    }
    let name = |registry: &toml::Value| {
        let key =
            |key| registry.get(key).and_then(toml::Value::as_str).filter(|value: &&str| !value.is_empty());
        key("prefix").or_else(|| key("location")).map(str::to_owned)
    };
    let registries = document.get("registry").and_then(toml::Value::as_array);
    Ok(registries.into_iter().flatten().filter_map(name).collect())
}

/// Whether what is said of `prefix` is said of the whole registry: `*.example.com` is all hosts below it.
fn speaks_of(prefix: &str, registry: &str) -> bool {
    prefix == registry || prefix.strip_prefix('*').is_some_and(|below| registry.ends_with(below))
}

fn unreadable(error: &toml_edit::TomlError) -> Refusal {
    Refusal::new(format!("it is no TOML: {}", error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIRROR: &str = "127.0.0.1:6500";

    fn ours(registries: &[&str]) -> (String, Edit) {
        let registries: Vec<String> = registries.iter().map(|name| (*name).to_owned()).collect();
        match put(None, MIRROR, &registries).unwrap() {
            Put::Done(after, edit) => (after, edit),
            Put::Already => panic!("already"),
        }
    }

    #[test]
    fn each_registry_has_the_mirror_before_itself() {
        let (text, edit) = ours(&["docker.io", "host:5000"]);
        let parsed: toml::Table = text.parse().unwrap();
        let expected = "[[registry]]\nprefix = 'docker.io'\nlocation = 'docker.io'\n\
            [[registry.mirror]]\nlocation = '127.0.0.1:6500/docker.io'\ninsecure = true\n\
            [[registry]]\nprefix = 'host:5000'\nlocation = 'host:5000'\n\
            [[registry.mirror]]\nlocation = '127.0.0.1:6500/host:5000'\ninsecure = true\n";
        assert_eq!(parsed, expected.parse().unwrap());
        assert_eq!(edit.undo(&text).as_deref(), Some(""));
        assert_eq!(prefixes(&text).unwrap(), ["docker.io", "host:5000"]);
        assert!(put(Some(&text), MIRROR, &[]).is_err());
    }

    #[test]
    fn what_others_added_stays() {
        let (text, _) = ours(&["docker.io", "ghcr.io"]);
        let theirs = "[[registry]]\nprefix = \"ghcr.io\"\nlocation = \"ghcr.io\"\nblocked = true\n";
        let changed = text.replace(
            "[[registry]]\nprefix = \"ghcr.io\"\nlocation = \"ghcr.io\"\n",
            &format!("{theirs}\n[[registry.mirror]]\nlocation = \"other:1/ghcr.io\"\n"),
        );
        assert_ne!(changed, text);
        let without = take_out(&changed, MIRROR).unwrap();
        let expected = format!("{theirs}[[registry.mirror]]\nlocation = 'other:1/ghcr.io'\n");
        assert_eq!(without.parse::<toml::Table>().unwrap(), expected.parse().unwrap());
        assert_eq!(take_out(theirs, MIRROR).unwrap(), theirs);
    }

    #[test]
    fn whose_registry_it_is() {
        let inline = "registry = [{ prefix = 'quay.io', blocked = true }]\n";
        assert_eq!(prefixes(inline).unwrap(), ["quay.io"]);
        assert!(speaks_of("*.k8s.io", "registry.k8s.io") && speaks_of("ghcr.io", "ghcr.io"));
        assert!(!speaks_of("*.k8s.io", "k8s.io") && !speaks_of("docker.io/library", "docker.io"));
    }

    #[test]
    fn the_first_format() {
        assert!(prefixes("[registries.search]\nregistries = ['docker.io']\n").is_err());
        assert!(prefixes("unqualified-search-registries = ['docker.io']\n").unwrap().is_empty());
    }
}
