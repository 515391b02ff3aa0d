//! Var sources: the checks that the credential managers make of their configuration (reference, section 1.4;
//! validation, section 22).

use std::collections::{BTreeSet, HashMap};

use holdall_engine::pipeline::{Object, VarSource};
use serde_json::Value;

use crate::duration::parse_duration;
use crate::vars::references;
use crate::yaml::{Node, Reader};

use super::validate::{at, judge};

/// Checks each var source and the order between them.
pub(super) fn check(reader: &mut Reader, sources: &[VarSource], nodes: &[&Node]) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (i, (source, node)) in sources.iter().zip(nodes).enumerate() {
        let name = source.name.as_str();
        let path = if name.is_empty() { format!("var_sources[{i}]") } else { format!("var_sources.{name}") };
        judge(reader, name, node, "name", &path);
        let message = match source.kind.as_str() {
            "vault" | "dummy" | "ssm" | "secretsmanager" | "idtoken" => {
                if let Some(first) = seen.insert(name, i) {
                    let message = format!("var_sources[{first}] and var_sources[{i}] have the same name ('{name}')");
                    reader.error("duplicate-name", node.span, &path, message);
                }
                match config(&source.kind, source.config.as_ref()) {
                    Ok(()) => continue,
                    Err(Problem::Created(why)) => format!("failed to create credential manager {name}: {why}"),
                    Err(Problem::Invalid(why)) => format!("credential manager {name} is invalid: {why}"),
                }
            }
            kind @ ("conjur" | "credhub" | "kubernetes") => {
                format!("credential manager type {kind} is not supported in pipeline yet")
            }
            kind => format!("unknown credential manager type: {kind}"),
        };
        reader.error("var-source", at(node, "config").span, &path, message);
    }
    order(reader, sources, nodes);
}

/// What is wrong with a configuration: its shape, or what it says.
enum Problem {
    Created(String),
    Invalid(String),
}

fn created<T>(why: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Created(why.into()))
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Invalid(why.into()))
}

fn config(kind: &str, config: Option<&Value>) -> Result<(), Problem> {
    let empty = Object::new();
    let map = match config {
        None | Some(Value::Null) => &empty,
        Some(Value::Object(map)) => map,
        Some(other) => return created(format!("invalid {kind} credential manager config: {}", go_type(other))),
    };
    match kind {
        "dummy" => match map.get("vars") {
            Some(Value::Object(_)) => Ok(()),
            other => created(format!("invalid vars config: {}", other.map_or("<nil>", go_type))),
        },
        "idtoken" => idtoken(map),
        "ssm" => aws(map, "ssm.SsmManager", &["pipeline_secret_template", "team_secret_template", "shared_path"]),
        "secretsmanager" => aws(
            map,
            "secretsmanager.Manager",
            &["pipeline_secret_template", "team_secret_template", "shared_secret_template"],
        ),
        _ => vault(map),
    }
}

/// How Go names the type of a value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Refuses keys that are not known, and texts that are none.
fn shape(map: &Object, of: &str, texts: &[&str], others: &[&str]) -> Result<(), Problem> {
    let failed = |why: String| created(format!("decoding failed due to the following error(s):\n\n{why}"));
    for key in texts {
        if let Some(value) = map.get(*key).filter(|value| !value.is_string() && !value.is_null()) {
            return failed(format!("'{key}' expected type 'string', got unconvertible type '{}'", go_type(value)));
        }
    }
    let unknown: Vec<&str> =
        map.keys().map(String::as_str).filter(|key| !texts.contains(key) && !others.contains(key)).collect();
    if unknown.is_empty() { Ok(()) } else { failed(format!("'{of}' has invalid keys: {}", unknown.join(", "))) }
}

fn text<'m>(map: &'m Object, key: &str) -> &'m str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn aws(map: &Object, of: &str, templates: &[&str]) -> Result<(), Problem> {
    let texts = ["access_key", "secret_key", "session_token", "region"];
    shape(map, of, &[&texts, templates].concat(), &[])?;
    match (text(map, "access_key"), text(map, "secret_key")) {
        ("", "") => Ok(()),
        ("", _) => invalid("must provide aws access key id"),
        (_, "") => invalid("must provide aws secret access key"),
        _ => Ok(()),
    }
}

fn idtoken(map: &Object) -> Result<(), Problem> {
    let known = ["subject_scope", "audience", "expires_in", "algorithm"];
    if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
        return created(format!("invalid idtoken provider config: unknown setting: {key}"));
    }
    let scope = text(map, "subject_scope");
    if !matches!(scope, "" | "team" | "pipeline" | "instance" | "job") {
        return invalid(format!("invalid subject_scope value: {scope}"));
    }
    let algorithm = text(map, "algorithm");
    if !matches!(algorithm, "" | "RS256" | "ES256") {
        return invalid(format!("invalid algorithm value: {algorithm}. Only RS256 and ES256 are supported"));
    }
    match text(map, "expires_in") {
        "" => Ok(()),
        expires => match parse_duration(expires) {
            Ok(duration) if duration.span.0 > 24 * 3_600_000_000 => invalid("expires_in must be <= 24h0m0s"),
            Ok(_) => Ok(()),
            Err(why) => created(format!("invalid idtoken provider config: invalid expires_in value: {why}")),
        },
    }
}

fn vault(map: &Object) -> Result<(), Problem> {
    let texts = [
        "url",
        "path_prefix",
        "shared_path",
        "namespace",
        "login_timeout",
        "query_timeout",
        "ca_cert",
        "client_cert",
        "client_key",
        "server_name",
        "client_token",
        "client_token_path",
        "auth_backend",
        "auth_max_ttl",
        "auth_retry_max",
        "auth_retry_initial",
    ];
    let others = ["path_prefixes", "lookup_templates", "insecure_skip_verify", "auth_params", "disable_srv_lookup"];
    shape(map, "vault.VaultManager", &texts, &others)?;
    let url = text(map, "url");
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(' ')) {
        return invalid(format!("invalid URL: {url}"));
    }
    if map.get("path_prefix").and_then(Value::as_str) == Some("") {
        return invalid("path prefix must be a non-empty string");
    }
    let templates = map.get("lookup_templates").and_then(Value::as_array);
    for (i, template) in templates.into_iter().flatten().enumerate() {
        if let Some(why) = template.as_str().and_then(template_problem) {
            return invalid(format!("template: lookup-template-{i}:1: {why}"));
        }
    }
    if ["client_token", "client_token_path", "auth_backend"].iter().all(|key| text(map, key).is_empty()) {
        return invalid("must configure client token or auth backend");
    }
    Ok(())
}

/// What is wrong with a lookup template, which may name the team, the pipeline and the secret.
fn template_problem(template: &str) -> Option<String> {
    let mut rest = template;
    while let Some((_, tail)) = rest.split_once("{{") {
        let Some((action, after)) = tail.split_once("}}") else { return Some("unclosed action".into()) };
        let action = action.trim();
        if !matches!(action, ".Team" | ".Pipeline" | ".Secret" | ".InstanceVars") {
            return Some(format!("can't evaluate {action}: known are .Team, .Pipeline and .Secret"));
        }
        rest = after;
    }
    None
}

/// Var sources may use vars of each other, but not in a circle, and not of one that is not there.
fn order(reader: &mut Reader, sources: &[VarSource], nodes: &[&Node]) {
    let mut waiting: Vec<(usize, BTreeSet<String>)> = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let mut needed = BTreeSet::new();
        used(source.config.as_ref().unwrap_or(&Value::Null), &mut needed);
        waiting.push((i, needed));
    }
    let mut ready: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = waiting.len();
        let (done, rest): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|(_, needed)| needed.iter().all(|name| ready.contains(name.as_str())));
        ready.extend(done.iter().map(|(i, _)| sources[*i].name.as_str()));
        waiting = rest;
        if waiting.len() == before {
            break;
        }
    }
    if let Some((first, _)) = waiting.first() {
        let names: Vec<&str> = waiting.iter().map(|(i, _)| sources[*i].name.as_str()).collect();
        let message = format!(
            "failed to order by dependency: could not resolve inter-dependent var sources: {}",
            names.join(", ")
        );
        reader.error("var-source", nodes[*first].span, &format!("var_sources.{}", sources[*first].name), message);
    }
}

/// The var sources that a value uses.
fn used(value: &Value, out: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => out.extend(references(text).filter_map(|(_, found)| found.ok()?.source)),
        Value::Array(items) => items.iter().for_each(|item| used(item, out)),
        Value::Object(map) => map.values().for_each(|item| used(item, out)),
        _ => {}
    }
}
