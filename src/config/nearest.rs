//! Suggests the nearest key for an unknown one. A suggestion is a key that exists and is not refused.

use std::collections::BTreeSet;

use super::keys::{self, Row, Status};

/// A name of the same table may have one wrong character for each of this many.
const CHARACTERS_TO_AN_ERROR: usize = 3;
/// A name of another table may have one wrong character for each of this many.
const CHARACTERS_TO_AN_ERROR_ELSEWHERE: usize = 6;
/// The shortest name that is taken as an abbreviation.
const ABBREVIATION_MIN: usize = 3;
/// The longest name that is compared, because comparing is slow.
const NAME_BYTES_MAX: usize = 100;

/// The message for an unknown name in the table `parent`, whose path in the file is `path`.
pub(super) fn unknown_key(parent: &str, path: &str, name: &str) -> String {
    let known = known_in(parent).join(", ");
    // The table is refused.
    if known.is_empty() {
        return "unknown key".to_owned();
    }
    match nearest(parent, name) {
        Some(key) => {
            let shown = match keys::below(parent, &key) {
                Some(rest) if !path.is_empty() => format!("{path}.{rest}"),
                _ => key,
            };
            format!("unknown key, did you mean {shown}?")
        }
        None => format!("unknown key; known keys here: {known} (all keys: `coracle check-config --keys`)"),
    }
}

/// The accepted names in a table.
fn known_in(parent: &str) -> Vec<&'static str> {
    let names: BTreeSet<_> = accepted()
        .filter_map(|row| keys::below(parent, row.key))
        .map(keys::first_element)
        .filter(|name| *name != keys::EACH)
        .collect();
    names.into_iter().collect()
}

/// The key most like `name`: one of the same table, or one of another table whose name is almost the same.
fn nearest(parent: &str, name: &str) -> Option<String> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let every = every_key();
    let here = every.iter().filter_map(|key| {
        let rest = keys::below(parent, key)?;
        let known = rest.to_ascii_lowercase();
        // A name with a dot is a whole path in quotes.
        let is_here = !rest.contains('.') && !name.contains('.');
        (is_here && is_like(&name, &known)).then(|| (strsim::jaro_winkler(&name, &known), *key))
    });
    let here = here.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, key)| key.to_owned());
    here.or_else(|| elsewhere(&every, parent, &name))
}

/// The key of another table that was probably meant. `None` if several are equally likely.
fn elsewhere(every: &BTreeSet<&'static str>, parent: &str, name: &str) -> Option<String> {
    let mut candidates: Vec<_> = every
        .iter()
        .filter_map(|key| {
            let below = keys::below(parent, key);
            let path = below.unwrap_or(key);
            let last = path.rsplit('.').next().unwrap_or(path);
            let errors = |known: &str| {
                let errors = strsim::osa_distance(name, &known.to_ascii_lowercase());
                (errors <= known.len() / CHARACTERS_TO_AN_ERROR_ELSEWHERE).then_some(errors)
            };
            let errors = [path, last].into_iter().filter_map(errors).min()?;
            // Elements of lists have many keys with usual names.
            let is_in_element = path.split('.').any(|part| part == keys::EACH);
            let is_near = !is_in_element || errors == 0 && below.is_some() && !parent.is_empty();
            is_near.then(|| (errors, below.is_none(), path.matches('.').count(), *key))
        })
        .collect();
    candidates.sort_unstable();
    match candidates.as_slice() {
        [(.., key)] => Some((*key).to_owned()),
        [first, second, ..] if (first.0, first.1, first.2) != (second.0, second.1, second.2) => {
            Some(first.3.to_owned())
        }
        _ => None,
    }
}

/// Whether one name may be a misspelling or an abbreviation of the other.
fn is_like(name: &str, known: &str) -> bool {
    let (shorter, longer) = if name.len() < known.len() { (name, known) } else { (known, name) };
    let is_abbreviation = shorter.len() >= ABBREVIATION_MIN && longer.starts_with(shorter);
    let errors_max = longer.chars().count() / CHARACTERS_TO_AN_ERROR;
    is_abbreviation || strsim::osa_distance(name, known) <= errors_max
}

/// The rows of keys that are not refused, and not in a refused table.
fn accepted() -> impl Iterator<Item = &'static Row> {
    let is_refused = |row: &Row| matches!(row.status, Status::Refused(_));
    keys::all().filter(move |row| {
        let mut above = keys::all().filter(|above| keys::below(above.key, row.key).is_some());
        !is_refused(row) && !above.any(is_refused)
    })
}

/// Every accepted key, and every table that contains one. Elements of lists and maps are left out.
fn every_key() -> BTreeSet<&'static str> {
    accepted()
        .flat_map(|row| {
            let ends = row.key.match_indices('.').map(|(at, _)| at).chain([row.key.len()]);
            ends.map(|end| &row.key[..end])
        })
        .filter(|key| !key.ends_with(keys::EACH))
        .collect()
}
