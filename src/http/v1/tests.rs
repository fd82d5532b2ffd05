//! The list of endpoints against the table of callers, and the description against itself.

use std::collections::BTreeSet;

use super::*;
use crate::identity::access::Access;
use crate::oci::RepositoryName;

const UUID: &str = "07070707-0707-4707-8707-070707070707";

/// The name of an endpoint for a request line of the table, if it has one.
fn endpoint_of(method: &Method, path: &str) -> Option<&'static str> {
    let (endpoint, _) = path::find(method, path).ok()?;
    Some(endpoint.name)
}

/// The server's own answers make the table. This test makes sure that it has every endpoint.
#[test]
fn every_endpoint_has_a_line_in_the_table_of_callers() {
    let table = include_str!("../../../tests/it/accounts/routes.txt");
    let lines = table.lines().filter(|line| line.contains(" /api/") || line.contains(" /csrf_token"));
    let mut asked = BTreeSet::new();
    for line in lines.filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let mut word = || words.next().expect("a line has a method, a path and the status for each caller");
        let (method, path) = (word().parse().expect("a method"), word());
        if let Some(name) = endpoint_of(&method, path) {
            asked.insert(name);
        } else {
            // A path that does not exist is the same for all callers.
            let said: BTreeSet<&str> = words.collect();
            assert!(said.len() == 1 && said.is_subset(&["404", "405"].into()), "{line}");
        }
    }
    let all: BTreeSet<&str> = endpoints().map(|endpoint| endpoint.name).collect();
    assert_eq!(all.len(), endpoints().count(), "every endpoint has a name of its own");
    assert_eq!(all, asked);
}

/// Each endpoint is found by its own path, and has a type for each value of the path.
#[test]
fn every_endpoint_is_reached_by_its_path() {
    for endpoint in endpoints() {
        let path = endpoint.path.replace(super::endpoint::REPOSITORY, "a/b");
        let path = ["{session_id}", "{token_uuid}"].iter().fold(path, |path, name| path.replace(name, UUID));
        let path = endpoint.values().fold(path, |path, name| path.replace(&format!("{{{name}}}"), "invalid_token"));
        assert_eq!(endpoint_of(endpoint.method, &path), Some(endpoint.name));
        let request = parse(endpoint.method, &path, None).expect("the values are well formed");
        let repository: RepositoryName = "a/b".parse().expect("a name");
        match request.access() {
            Access::Repository(name, _) => assert_eq!(name, repository),
            access => assert_eq!(access, Access::Account(endpoint.requires)),
        }
    }
}

/// A second type of the same name would be called like the first with a number.
#[test]
fn the_schemas_of_the_description_have_names_of_their_own() {
    let document = discovery::document("http://registry.test");
    let schemas = document.schemas();
    let numbered = schemas.iter().filter(|name| name.ends_with(|c: char| c.is_ascii_digit()));
    assert_eq!(numbered.count(), 0, "{schemas:?}");
    assert!(schemas.len() > 30, "{schemas:?}");
}
