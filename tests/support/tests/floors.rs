//! The workspace's packages depend downwards only: each stands on a floor, and neither climbs nor leans on a sibling.

use cargo_metadata::{DependencyKind, MetadataCommand, Package};
use std::collections::BTreeMap;

/// Where each package stands. On the top floor `report` and `support` lie under `sim` and both lie under the others, as their
/// foundation.
const FLOORS: [(&str, u8); 20] = [
    ("types", 10),
    ("membership", 20),
    ("scheduler-core", 20),
    ("download-core", 20),
    ("proto", 20),
    ("store", 30),
    ("p2p", 30),
    ("origin", 30),
    ("process", 30),
    ("scheduler", 40),
    ("dfdaemon", 41),
    ("dfctl", 40),
    ("report", 50),
    ("support", 50),
    ("sim", 51),
    ("e2e", 52),
    ("bench", 52),
    ("demo", 52),
    ("load", 52),
    ("fuzz", 52),
];

/// Packages that decide: no runtime, no clock, no sockets, not even to test them.
const CORES: [&str; 3] = ["types", "scheduler-core", "download-core"];

/// What a core may not depend on.
const IO: [&str; 5] = ["tokio", "futures", "hyper", "tonic", "reqwest"];

fn packages() -> Vec<Package> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .other_options(vec!["--offline".to_owned()])
        .exec()
        .expect("a workspace");
    metadata.packages
}

/// The violations among `edges`, pairs of a package and one it depends on.
fn violations<'a>(
    floors: &BTreeMap<&str, u8>,
    edges: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Vec<String> {
    let wrong = edges.into_iter().filter(|(from, to)| match (floors.get(from), floors.get(to)) {
        (Some(from), Some(to)) => to >= from,
        _ => false,
    });
    wrong.map(|(from, to)| format!("{from} -> {to}")).collect()
}

#[test]
fn every_package_has_a_floor() {
    let floors = BTreeMap::from(FLOORS);
    let names: Vec<String> = packages().iter().map(|package| package.name.to_string()).collect();
    for name in &names {
        assert!(floors.contains_key(name.as_str()), "{name} has no floor in this test");
    }
    assert_eq!(names.len(), FLOORS.len(), "a floor for a package that is not there");
}

#[test]
fn dependencies_point_down() {
    let packages = packages();
    let edges = packages.iter().flat_map(|package| {
        package.dependencies.iter().map(|dependency| (package.name.as_str(), dependency.name.as_str()))
    });
    let wrong = violations(&BTreeMap::from(FLOORS), edges);
    assert!(wrong.is_empty(), "upward or sideways: {wrong:?}");
}

#[test]
fn cores_know_no_runtime() {
    for package in packages().iter().filter(|package| CORES.contains(&package.name.as_str())) {
        for dependency in package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal) {
            assert!(!IO.contains(&dependency.name.as_str()), "{} -> {}", package.name, dependency.name);
        }
    }
}

#[test]
fn only_p2p_knows_libp2p() {
    for package in packages().iter().filter(|package| package.name != "p2p") {
        for dependency in &package.dependencies {
            assert!(!dependency.name.starts_with("libp2p"), "{} -> {}", package.name, dependency.name);
        }
    }
}

#[test]
fn the_rule_finds_climbers_and_siblings() {
    let floors = BTreeMap::from(FLOORS);
    let edges = [
        ("store", "p2p"),
        ("types", "proto"),
        ("dfdaemon", "scheduler"),
        ("demo", "support"),
        ("store", "redb"),
    ];
    assert_eq!(violations(&floors, edges), ["store -> p2p", "types -> proto"]);
}
