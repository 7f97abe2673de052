//! containerd 1.6 and later: what has to be in which of its files. A `hosts.toml` is read at each pull; `config_path`, which
//! says where they are, only when containerd starts.

use super::config_toml::parse;
use super::target::{Target, Wanted};
use crate::machine::{Files, Refusal};
use std::path::{Path, PathBuf};
use toml_edit::{Document, Item};
use types::Registry;

pub(super) const CONFIG: &str = "/etc/containerd/config.toml";
const CERTS: &str = "/etc/containerd/certs.d";

/// What counts for registries that have no files of their own.
const DEFAULT: &str = "_default/hosts.toml";

/// How many files an `imports` may lead to.
const IMPORTS_MAX: usize = 64;

/// The plugins that pull for the CRI, by the version of the configuration.
const CRI_V2: &str = "io.containerd.grpc.v1.cri";
const CRI_V3: &str = "io.containerd.cri.v1.images";

/// What is wanted, and what is to be said about it.
pub(super) fn wanted(files: &Files, mirror: &str, registries: &[Registry]) -> Result<Wanted, Refusal> {
    let config = Config::read(files)?;
    let mut wanted = Wanted::default();
    let roots = if config.cri_is_off {
        wanted.notes.push(format!(
            "the CRI is switched off in {CONFIG}: ctr needs --hosts-dir {CERTS}, nerdctl has it"
        ));
        CERTS.to_owned()
    } else if let Some(path) = config.config_path {
        path
    } else {
        let table = vec!["plugins".to_owned(), config.plugin.to_owned(), "registry".to_owned()];
        let target = Target::ConfigToml { table, config_path: CERTS.to_owned() };
        wanted.targets.push((CONFIG.into(), target));
        CERTS.to_owned()
    };
    let roots: Vec<&Path> = roots.split(':').filter(|dir| !dir.is_empty()).map(Path::new).collect();
    if let Some(dir) = roots.iter().find(|dir| !dir.is_absolute()) {
        return Err(Refusal::new(format!("config_path in {CONFIG} is no absolute path: {}", dir.display())));
    }
    let Some(end) = roots.len().checked_sub(1) else {
        return Err(Refusal::new(format!("config_path in {CONFIG} names no directory")));
    };
    let target = Target::HostsToml { mirror: mirror.to_owned() };
    // containerd goes through the list, and takes the first directory in which a registry has files or there is a default:
    // one in an earlier directory would put the files of all later ones out of force.
    let with_default = roots.iter().position(|dir| files.exists(&dir.join(DEFAULT)));
    let last = with_default.unwrap_or(end);
    wanted.targets.push((roots[last].join(DEFAULT), target.clone()));
    let in_force = &roots[..=last];
    for registry in registries {
        let dir = directory(files, in_force, registry)?;
        let hosts = dir.join("hosts.toml");
        if files.read(&hosts)?.is_none() && !files.names(&dir)?.is_empty() {
            return Err(Refusal::new(format!(
                "{} has certificates and no hosts.toml: one written here would put them out of force",
                dir.display()
            )));
        }
        wanted.targets.push((hosts, target.clone()));
    }
    for root in in_force {
        let is_ours =
            |name: &String| wanted.targets.iter().any(|(path, _)| path.starts_with(root.join(name)));
        let others: Vec<String> =
            files.names(root)?.into_iter().filter(|name| name != "_default" && !is_ours(name)).collect();
        if !others.is_empty() {
            wanted.notes.push(format!(
                "{} has files of their own in {} and {} pulled without Damselfly; --registry NAME puts it first there too",
                // Whoever may write there is not to steer a terminal.
                others.join(", ").escape_debug(),
                root.display(),
                if others.len() == 1 { "is" } else { "are" },
            ));
        }
    }
    Ok(wanted)
}

/// What is known of the configuration with its imports.
struct Config {
    plugin: &'static str,
    config_path: Option<String>,
    cri_is_off: bool,
}

impl Config {
    fn read(files: &Files) -> Result<Self, Refusal> {
        let main = files.read(Path::new(CONFIG))?.unwrap_or_default();
        let about =
            |path: &Path, refusal: Refusal| Refusal::new(format!("{}: {}", path.display(), refusal.why));
        let document = parse(&main).map_err(|refusal| about(Path::new(CONFIG), refusal))?;
        let version = document.get("version").and_then(Item::as_integer);
        let plugin = match version {
            None if document.iter().next().is_none() => CRI_V2,
            Some(2) => CRI_V2,
            Some(3..) => CRI_V3,
            _ => {
                let off = disabled(&document, &[CRI_V2, "cri"]);
                if !off {
                    return Err(Refusal::new(format!(
                        "{CONFIG} is of the first format (it names no version): `containerd config migrate` prints it \
                         in a newer one"
                    )));
                }
                CRI_V2
            }
        };
        let mut config = Self { plugin, config_path: None, cri_is_off: false };
        config.merge(Path::new(CONFIG), &document)?;
        for path in imports(files, &document)? {
            let Some(text) = files.look(&path)? else { continue };
            let imported = parse(&text).map_err(|refusal| about(&path, refusal))?;
            if imported.get("imports").is_some() {
                return Err(Refusal::new(format!(
                    "{} imports files of its own; set config_path by hand",
                    path.display()
                )));
            }
            config.merge(&path, &imported)?;
        }
        Ok(config)
    }

    /// Later files stand over earlier ones.
    fn merge(&mut self, path: &Path, document: &Document<&str>) -> Result<(), Refusal> {
        self.cri_is_off |= disabled(document, &[self.plugin, CRI_V2, "cri"]);
        let registries = [CRI_V2, CRI_V3].map(|plugin| {
            document
                .get("plugins")
                .and_then(|plugins| plugins.get(plugin))
                .and_then(|plugin| plugin.get("registry"))
        });
        for registry in registries.iter().copied().flatten() {
            let is_set = |item: Option<&Item>| {
                item.and_then(Item::as_table_like).is_some_and(|table| !table.is_empty())
            };
            if is_set(registry.get("mirrors")) {
                return Err(Refusal::new(format!(
                    "{} has registry.mirrors, beside which containerd takes no config_path: move them into {CERTS}",
                    path.display()
                )));
            }
            let secured = registry.get("configs").and_then(Item::as_table_like);
            if secured.is_some_and(|hosts| hosts.iter().any(|(_, host)| host.get("tls").is_some())) {
                return Err(Refusal::new(format!(
                    "{} has registry.configs with tls, beside which containerd takes no config_path: move it into {CERTS}",
                    path.display()
                )));
            }
            if let Some(value) = registry.get("config_path").and_then(Item::as_str) {
                self.config_path = Some(value.to_owned()).filter(|value| !value.is_empty());
            }
        }
        let plugins = document.get("plugins");
        let has_section = [CRI_V2, CRI_V3]
            .iter()
            .any(|plugin| plugins.is_some_and(|plugins| plugins.get(plugin).is_some()));
        let sets_it = registries.iter().flatten().any(|registry| registry.get("config_path").is_some());
        // In containerd 1.x a plugin's section in an imported file takes the place of the whole of the main file's.
        if has_section && path != Path::new(CONFIG) && !(sets_it && self.config_path.is_some()) {
            return Err(Refusal::new(format!(
                "{} has the CRI's section, which stands in the place of that in {CONFIG}: set config_path there",
                path.display()
            )));
        }
        Ok(())
    }
}

/// Whether one of `plugins` is not loaded.
fn disabled(document: &Document<&str>, plugins: &[&str]) -> bool {
    let list = document.get("disabled_plugins").and_then(Item::as_array);
    list.is_some_and(|list| list.iter().filter_map(|name| name.as_str()).any(|name| plugins.contains(&name)))
}

/// The files that the main file imports, in order; a `*` may stand in a file's name.
fn imports(files: &Files, document: &Document<&str>) -> Result<Vec<PathBuf>, Refusal> {
    let Some(patterns) = document.get("imports").and_then(Item::as_array) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for pattern in patterns.iter().filter_map(|pattern| pattern.as_str()) {
        let pattern = Path::new(CONFIG).parent().unwrap_or(Path::new("/")).join(pattern);
        let (Some(dir), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
        else {
            continue;
        };
        let odd = |text: &str| text.contains(['*', '?', '[', '\\']);
        match name.split_once('*') {
            _ if odd(&dir.to_string_lossy()) => return Err(not_understood(&pattern)),
            None if odd(name) => return Err(not_understood(&pattern)),
            Some((head, tail)) if odd(head) || odd(tail) => return Err(not_understood(&pattern)),
            None => found.push(pattern.clone()),
            Some((head, tail)) => {
                let names = files.names(dir)?.into_iter();
                let matching = names.filter(|name| {
                    name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
                });
                found.extend(matching.map(|name| dir.join(name)));
            }
        }
    }
    if found.len() > IMPORTS_MAX {
        return Err(Refusal::new(format!(
            "{CONFIG} imports more than {IMPORTS_MAX} files; set config_path by hand"
        )));
    }
    Ok(found)
}

fn not_understood(pattern: &Path) -> Refusal {
    Refusal::new(format!("{CONFIG} imports {}, a pattern that is not understood here", pattern.display()))
}

/// The directory of a registry's files: the first that there is. containerd looks for `host_port_` before `host:port`.
fn directory(files: &Files, roots: &[&Path], registry: &Registry) -> Result<PathBuf, Refusal> {
    let name = registry.as_str();
    let mut names = vec![name.to_owned()];
    if let Some((host, port)) = name.rsplit_once(':') {
        names.insert(0, format!("{host}_{port}_"));
    }
    for root in roots {
        for dir in names.iter().map(|name| root.join(name)) {
            if !files.names(&dir)?.is_empty() {
                return Ok(dir);
            }
        }
    }
    Ok(roots.last().unwrap_or(&Path::new(CERTS)).join(name))
}
