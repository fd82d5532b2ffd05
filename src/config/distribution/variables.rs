//! `REGISTRY_HTTP_ADDR` and the like: variables that replace keys of the file.

use serde_json::{Map, Value};

use super::super::source::{Format, parse};
use super::super::walk::Findings;
use super::keys::KEYS;
use super::{is_below, put};

/// The beginning of the names.
const PREFIX: &str = "REGISTRY_";
/// A variable of podman with such a name: its file of credentials.
const OF_PODMAN: &str = "REGISTRY_AUTH_FILE";

/// Applies the variables, in the order of their names: a kind, such as `REGISTRY_AUTH`, comes before its keys.
pub(super) fn apply(
    tree: &mut Map<String, Value>,
    environment: impl IntoIterator<Item = (String, String)>,
    findings: &mut Findings,
) {
    let is_ours = |(name, _): &(String, String)| name.starts_with(PREFIX) && name != OF_PODMAN;
    let mut variables: Vec<_> = environment.into_iter().filter(is_ours).collect();
    variables.sort_unstable();
    for (name, text) in variables {
        let key = name[PREFIX.len()..].to_lowercase().replace('_', ".");
        let is_known = KEYS.iter().any(|(known, _)| {
            // A table that is not followed may have any keys.
            *known == key || is_below(&key, known) || is_below(known, &key)
        });
        if !is_known {
            // docker's registry ignores such variables, and orchestrators set some of their own.
            findings.warning(&name, "has no effect: docker's registry has no such key");
            continue;
        }
        put(tree, &key, value(&text));
    }
    for name in ["auth", "storage"] {
        // A kind alone, such as `auth: htpasswd`.
        if let Some(Value::String(kind)) = tree.get(name) {
            let kind = kind.to_lowercase();
            put(tree, &format!("{name}.{kind}"), Value::Object(Map::new()));
        }
    }
}

/// The value of a variable, which may be a list or a table in YAML.
fn value(text: &str) -> Value {
    let parsed = parse("", Format::Yaml, &format!("value: {text}")).ok();
    let parsed = parsed.and_then(|mut table| table.remove("value"));
    match parsed {
        // Numbers, and words such as `yes`, are what their keys make of them.
        Some(value @ (Value::Array(_) | Value::Object(_) | Value::Bool(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}
