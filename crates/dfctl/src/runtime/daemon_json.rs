//! dockerd's `daemon.json`: `registry-mirrors`, which it uses for Docker Hub's images only. JSON has no comments, so ours is
//! known by its URL.

use super::edit::Edit;
use super::target::{Put, Target, Wanted};
use crate::machine::{Files, Refusal};
use jsonc_parser::ast::{ObjectPropName, Value};
use jsonc_parser::cst::CstRootNode;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};
use std::path::{Path, PathBuf};

/// Ours goes in here.
pub(super) const CONFIG: &str = "/etc/docker/daemon.json";

const KEY: &str = "registry-mirrors";

/// Where a service's command line may stand.
const COMMAND_LINES: [&str; 6] = [
    "/etc/systemd/system/docker.service",
    "/run/systemd/system/docker.service",
    "/usr/lib/systemd/system/docker.service",
    "/lib/systemd/system/docker.service",
    "/etc/default/docker",
    "/etc/sysconfig/docker",
];
const DROP_INS: [&str; 3] = [
    "/etc/systemd/system/docker.service.d",
    "/run/systemd/system/docker.service.d",
    "/usr/lib/systemd/system/docker.service.d",
];

pub(super) fn wanted(files: &Files, mirror: &str) -> Result<Wanted, Refusal> {
    let mut paths: Vec<PathBuf> = COMMAND_LINES.iter().map(PathBuf::from).collect();
    for dir in DROP_INS.map(Path::new) {
        paths.extend(files.names(dir)?.into_iter().map(|name| dir.join(name)));
    }
    let mut seen = false;
    for path in paths {
        let Some(text) = files.look(&path)? else { continue };
        seen = true;
        let mut lines = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
        if lines.any(|line| line.contains("--registry-mirror")) {
            return Err(Refusal::new(format!(
                "{} starts dockerd with --registry-mirror, and dockerd does not start with both that and {KEY} in {CONFIG}",
                path.display()
            )));
        }
    }
    if !seen && !files.of_this_machine() {
        return Err(Refusal::new(
            "how dockerd is started cannot be seen below this root, and with --registry-mirror it would not start again"
                .to_owned(),
        ));
    }
    let target = Target::DaemonJson { mirror: mirror.to_owned() };
    Ok(Wanted {
        targets: vec![(CONFIG.into(), target)],
        notes: vec!["dockerd uses mirrors for Docker Hub's images only".to_owned()],
    })
}

pub(super) fn put(text: Option<&str>, mirror: &str) -> Result<Put, Refusal> {
    let url = serde_json::Value::from(mirror).to_string();
    let text = text.unwrap_or_default();
    if text.trim().is_empty() {
        let (after, edit) = Edit::put(text, 0..text.len(), format!("{{\n  \"{KEY}\": [{url}]\n}}\n"));
        return Ok(Put::Done(after, edit));
    }
    parse(text)?;
    let odd = || Refusal::new("it is no JSON object".to_owned());
    let parsed = parse_to_ast(text, &CollectOptions::default(), &strict())
        .map_err(|error| Refusal::new(error.to_string()))?;
    let Some(Value::Object(object)) = parsed.value else { return Err(odd()) };
    let mirrors = object
        .properties
        .iter()
        .find(|property| matches!(&property.name, ObjectPropName::String(name) if name.value == KEY));
    let (after, edit) = match mirrors.map(|property| &property.value) {
        None => {
            let at = object.range.start + 1;
            // As the members that are there are set.
            let lead = object
                .properties
                .first()
                .map(|first| &text[at..first.range.start])
                .filter(|lead| !lead.is_empty());
            let ours = match lead {
                Some(lead) => format!("{lead}\"{KEY}\": [{url}],"),
                None if object.properties.is_empty() => format!("\"{KEY}\": [{url}]"),
                None => format!("\"{KEY}\": [{url}],"),
            };
            Edit::put(text, at..at, ours)
        }
        Some(Value::Array(array)) => {
            let is_ours = |value: &Value<'_>| matches!(value, Value::StringLit(text) if text.value.trim_end_matches('/') == mirror);
            if array.elements.iter().any(is_ours) {
                return Ok(Put::Already);
            }
            let at = array.range.start + 1;
            let separator = if array.elements.is_empty() { "" } else { ", " };
            Edit::put(text, at..at, format!("{url}{separator}"))
        }
        Some(_) => return Err(Refusal::new(format!("{KEY} is no list"))),
    };
    parse(&after)?;
    Ok(Put::Done(after, edit))
}

pub(super) fn take_out(text: &str, mirror: &str) -> Result<String, Refusal> {
    parse(text)?;
    let root = CstRootNode::parse(text, &strict()).map_err(|error| Refusal::new(error.to_string()))?;
    let Some(mirrors) = root.object_value().and_then(|object| object.get(KEY)) else {
        return Ok(text.to_owned());
    };
    let Some(list) = mirrors.array_value() else { return Ok(text.to_owned()) };
    let ours: Vec<_> = list
        .elements()
        .into_iter()
        .filter(|element| {
            element
                .as_string_lit()
                .and_then(|text| text.decoded_value().ok())
                .is_some_and(|url| url == mirror)
        })
        .collect();
    if ours.is_empty() {
        return Ok(text.to_owned());
    }
    ours.into_iter().for_each(jsonc_parser::cst::CstNode::remove);
    if list.elements().is_empty() {
        mirrors.remove();
    }
    let without = root.to_string();
    parse(&without)?;
    Ok(without)
}

pub(super) fn parse(text: &str) -> Result<serde_json::Value, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::new(format!("it is no JSON: {error}")))
}

/// What JSON has, and no more.
fn strict() -> ParseOptions {
    ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        ..ParseOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::target::Target;
    use serde_json::json;

    const MIRROR: &str = "http://127.0.0.1:6500";

    fn put_into(text: Option<&str>) -> (String, Edit) {
        match put(text, MIRROR) {
            Ok(Put::Done(after, edit)) => (after, edit),
            other => panic!("{other:?} for {text:?}"),
        }
    }

    #[test]
    fn it_comes_first_and_comes_out_again() {
        for (text, mirrors) in [
            ("", json!([MIRROR])),
            ("{}", json!([MIRROR])),
            ("{ }\n", json!([MIRROR])),
            ("{\n    \"debug\": true\n}\n", json!([MIRROR])),
            ("{\"debug\":true}", json!([MIRROR])),
            ("{\"registry-mirrors\": []}", json!([MIRROR])),
            ("{\"a\": 1,\n \"registry-mirrors\": [\n  \"https://b\"\n ]}", json!([MIRROR, "https://b"])),
        ] {
            let (after, edit) = put_into(Some(text));
            assert_eq!(parse(&after).unwrap()[KEY], mirrors, "{after}");
            assert_eq!(edit.undo(&after).as_deref(), Some(text));
            assert_eq!(put(Some(&after), MIRROR), Ok(Put::Already));
        }
        assert_eq!(put_into(None).0, "{\n  \"registry-mirrors\": [\"http://127.0.0.1:6500\"]\n}\n");
        assert_eq!(
            put_into(Some("{\n    \"debug\": true\n}\n")).0,
            "{\n    \"registry-mirrors\": [\"http://127.0.0.1:6500\"],\n    \"debug\": true\n}\n"
        );
    }

    #[test]
    fn what_others_changed_meanwhile_stays() {
        let target = Target::DaemonJson { mirror: MIRROR.to_owned() };
        let without = |text: &str, edit: &Edit| parse(&target.take_out(text, edit).unwrap()).unwrap();
        // A member is added behind ours, which was alone.
        let (after, edit) = put_into(Some("{}"));
        let changed = after.replace('}', ", \"debug\": true}");
        assert_eq!(without(&changed, &edit), json!({"debug": true}));
        // All others are taken away.
        let (after, edit) = put_into(Some("{\n  \"debug\": true\n}\n"));
        let changed = after.replace(",\n  \"debug\": true", "");
        assert_eq!(without(&changed, &edit), json!({}));
        // A tool reads the file and writes it anew, with a mirror of its own.
        let (after, edit) = put_into(Some("{\"z\": 1, \"a\": [1]}"));
        let mut value = parse(&after).unwrap();
        value[KEY].as_array_mut().unwrap().push(json!("https://b"));
        let anew = serde_json::to_string_pretty(&value).unwrap();
        assert_eq!(edit.undo(&anew), None);
        let out = target.take_out(&anew, &edit).unwrap();
        assert_eq!(parse(&out).unwrap(), json!({"z": 1, "a": [1], KEY: ["https://b"]}));
        assert_eq!(target.take_out(&out, &edit).unwrap(), out);
    }

    #[test]
    fn forms_that_are_left_alone() {
        for text in ["[]", "{\"registry-mirrors\": \"x\"}", "{", "{\"a\": 1,}", "// x\n{}"] {
            assert!(put(Some(text), MIRROR).is_err(), "{text}");
        }
    }
}
