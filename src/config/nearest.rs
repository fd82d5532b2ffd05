//! What somebody may have meant who wrote a key that does not exist.
//!
//! Knows the key table and no configuration. What must always hold: a suggestion is a key that exists.

use std::collections::BTreeSet;

use super::keys;

/// Names less alike than this are not taken for each other.
const LIKENESS_MIN: f64 = 0.8;

/// A longer name is no misspelling, and comparing it is slow.
const NAME_BYTES_MAX: usize = 100;

/// The message for the unknown `name` in the table `parent`, whose path in the file is `path`.
pub(super) fn unknown_key(parent: &str, path: &str, name: &str) -> String {
    match nearest(parent, name) {
        Some(key) => {
            let shown = match keys::below(parent, &key) {
                Some(rest) if !path.is_empty() => format!("{path}.{rest}"),
                _ => key,
            };
            format!("unknown key, did you mean {shown}?")
        }
        None => format!("unknown key; known here are {}", known_in(parent).join(", ")),
    }
}

/// The names that a table may hold.
fn known_in(parent: &str) -> Vec<&'static str> {
    let names: BTreeSet<_> = keys::all()
        .filter_map(|row| keys::below(parent, row.key))
        .map(keys::first_element)
        .filter(|name| *name != keys::EACH)
        .collect();
    names.into_iter().collect()
}

/// The key most like `name`: by its last element first, which may have been written in another table,
/// then by the whole path.
fn nearest(parent: &str, name: &str) -> Option<String> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
    let path = path.to_ascii_lowercase();
    let likeness = |key: &str| {
        let last = key.rsplit('.').next().unwrap_or(key).to_ascii_lowercase();
        let key = key.to_ascii_lowercase();
        let by_name = strsim::jaro_winkler(&name, &last).max(strsim::jaro_winkler(&name, &key));
        (by_name >= LIKENESS_MIN).then(|| by_name + strsim::jaro_winkler(&path, &key))
    };
    every_key()
        .into_iter()
        .filter_map(|key| likeness(key).map(|score| (score, key)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key.to_owned())
}

/// Every key and every table on the way to one, except those that are only a place in a list or map.
fn every_key() -> BTreeSet<&'static str> {
    keys::all()
        .flat_map(|row| {
            let ends = row.key.match_indices('.').map(|(at, _)| at).chain([row.key.len()]);
            ends.map(|end| &row.key[..end])
        })
        .filter(|key| !key.ends_with(keys::EACH))
        .collect()
}
