//! Which crate may know which. A crate of this workspace exists because of what it must not depend on, neither
//! directly nor through others; dev-dependencies are free.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

/// For each crate, what must not be among its dependencies. Other crates of the workspace are forbidden unless they are in
/// [`MAY_USE`].
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "holdall-engine",
        &["tokio", "axum", "rusqlite", "postgres", "ureq", "nix", "jiff", "getrandom", "tempfile", "tracing"],
    ),
    (
        "holdall-config",
        &["tokio", "axum", "rusqlite", "postgres", "ureq", "nix", "jiff", "getrandom", "tempfile", "tracing"],
    ),
    ("holdall-protocol", &["tokio", "axum", "rusqlite", "postgres", "ureq", "nix", "getrandom", "tempfile"]),
    ("holdall-store", &["axum", "maud", "ureq"]),
    ("holdall-server", &["ureq"]),
    // Blocking code and threads, and never a database.
    ("holdall-worker", &["tokio", "axum", "rusqlite", "postgres", "maud"]),
];

/// For each crate, what it must leave to others that it uses.
const FORBIDDEN_DIRECTLY: &[(&str, &[&str])] = &[("holdall-server", &["rusqlite", "postgres"])];

/// Which crates of the workspace a crate may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("holdall-engine", &[]),
    ("holdall-protocol", &[]),
    ("holdall-config", &["holdall-engine"]),
    ("holdall-store", &["holdall-engine"]),
    ("holdall-server", &["holdall-config", "holdall-engine", "holdall-protocol", "holdall-store"]),
    ("holdall-worker", &["holdall-config", "holdall-engine", "holdall-protocol"]),
    (
        "holdall-cli",
        &["holdall-config", "holdall-engine", "holdall-protocol", "holdall-server", "holdall-store", "holdall-worker"],
    ),
    ("scratch-postgres", &[]),
    ("xtask", &["scratch-postgres"]),
];

/// Reports forbidden dependencies, given the output of `cargo metadata`.
///
/// # Errors
/// When that is not what it looks like.
pub fn check(metadata: &Value, findings: &mut Vec<String>) -> Result<()> {
    let graph = Graph::read(metadata).context("cargo metadata has another form than expected")?;
    for id in &graph.members {
        let name = graph.name(id);
        let may_use = MAY_USE.iter().find(|(of, _)| *of == name).map(|(_, names)| *names);
        if may_use.is_none() {
            findings.push(format!("{name}: say in xtask/src/tidy/dependencies.rs which crates it may use"));
        }
        let forbidden = FORBIDDEN.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, names)| *names);
        let others = graph.members.iter().map(|id| graph.name(id));
        let others = others.filter(|other| *other != name && !may_use.unwrap_or_default().contains(other));
        let forbidden: BTreeSet<&str> = forbidden.iter().copied().chain(others).collect();
        let directly = FORBIDDEN_DIRECTLY.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, names)| *names);
        for dependency in graph.needs.get(id).into_iter().flatten().map(|id| graph.name(id)) {
            if directly.contains(&dependency) {
                findings.push(format!("{name} must leave {dependency} to the crates that it uses"));
            }
        }
        for path in graph.paths(id, &forbidden) {
            findings.push(format!("{name} must not depend on {}: {}", path.last().unwrap_or(&""), path.join(" -> ")));
        }
    }
    Ok(())
}

/// The dependencies that a build without tests has.
struct Graph<'a> {
    names: BTreeMap<&'a str, &'a str>,
    needs: BTreeMap<&'a str, Vec<&'a str>>,
    members: Vec<&'a str>,
}

impl<'a> Graph<'a> {
    fn read(metadata: &'a Value) -> Option<Graph<'a>> {
        let text = |value: &'a Value, key: &str| value[key].as_str();
        let packages = metadata["packages"].as_array()?.iter();
        let names =
            packages.map(|package| Some((text(package, "id")?, text(package, "name")?))).collect::<Option<_>>()?;
        let mut needs = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array()? {
            let normal = |dep: &&Value| {
                dep["dep_kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"].is_null()))
            };
            let deps = node["deps"].as_array()?.iter().filter(normal);
            needs.insert(text(node, "id")?, deps.map(|dep| text(dep, "pkg")).collect::<Option<_>>()?);
        }
        let members = metadata["workspace_members"].as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?;
        Some(Graph { names, needs, members })
    }

    fn name(&self, id: &str) -> &'a str {
        self.names.get(id).copied().unwrap_or("?")
    }

    /// For each forbidden crate that is reached, the shortest way to it.
    fn paths(&self, from: &'a str, forbidden: &BTreeSet<&str>) -> Vec<Vec<&'a str>> {
        let mut before: BTreeMap<&str, &str> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([from]);
        let mut paths = Vec::new();
        while let Some(id) = queue.pop_front() {
            if id != from && forbidden.contains(self.name(id)) {
                let way = std::iter::successors(Some(id), |id| before.get(id).copied());
                let mut path: Vec<&str> = way.map(|id| self.name(id)).collect();
                path.reverse();
                paths.push(path);
                continue;
            }
            for next in self.needs.get(id).into_iter().flatten() {
                if *next != from && !before.contains_key(next) {
                    before.insert(next, id);
                    queue.push_back(next);
                }
            }
        }
        paths
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn findings(edges: &[(&str, &str, Value)]) -> Vec<String> {
        let names: BTreeSet<&str> = edges.iter().flat_map(|(from, to, _)| [*from, *to]).collect();
        let node = |name: &&str| {
            let deps = edges.iter().filter(|(from, ..)| from == name);
            let deps: Vec<Value> =
                deps.map(|(_, to, kind)| json!({"pkg": to, "dep_kinds": [{"kind": kind}]})).collect();
            json!({"id": name, "deps": deps})
        };
        let members: Vec<&&str> = names.iter().filter(|name| name.starts_with("holdall-")).collect();
        let metadata = json!({
            "packages": names.iter().map(|name| json!({"id": name, "name": name})).collect::<Vec<_>>(),
            "resolve": {"nodes": names.iter().map(node).collect::<Vec<_>>()},
            "workspace_members": members,
        });
        let mut findings = Vec::new();
        check(&metadata, &mut findings).expect("metadata");
        findings
    }

    #[test]
    fn forbidden_dependencies_are_found_through_others() {
        let found = findings(&[("holdall-engine", "clever", Value::Null), ("clever", "tokio", Value::Null)]);
        assert_eq!(found, ["holdall-engine must not depend on tokio: holdall-engine -> clever -> tokio"]);
        let found = findings(&[("holdall-worker", "holdall-store", Value::Null)]);
        assert_eq!(found, ["holdall-worker must not depend on holdall-store: holdall-worker -> holdall-store"]);
    }

    #[test]
    fn what_is_left_to_others_is_not_used_directly() {
        let through = [("holdall-server", "holdall-store", Value::Null), ("holdall-store", "rusqlite", Value::Null)];
        assert_eq!(findings(&through), [""; 0]);
        let found = findings(&[("holdall-server", "rusqlite", Value::Null)]);
        assert_eq!(found, ["holdall-server must leave rusqlite to the crates that it uses"]);
    }

    #[test]
    fn what_only_tests_use_is_free() {
        assert_eq!(findings(&[("holdall-engine", "tokio", json!("dev"))]), [""; 0]);
        assert_eq!(findings(&[("holdall-config", "holdall-engine", Value::Null)]), [""; 0]);
    }

    #[test]
    fn a_new_crate_has_to_say_what_it_uses() {
        let found = findings(&[("holdall-new", "serde", Value::Null)]);
        assert!(found[0].starts_with("holdall-new: say in"), "{found:?}");
    }
}
