//! The search for the endpoint of a request line.

use hyper::Method;

use super::endpoint::{Endpoint, REPOSITORY};
use crate::http::route::RouteError;
use crate::oci::RepositoryName;

/// The beginning of the path of a repository.
const REPOSITORY_PATH: &str = "/api/v1/repository/";

/// The endpoint of a request line, with the values of the path's segments in braces.
pub(super) fn find(method: &Method, path: &str) -> Result<(&'static Endpoint, Vec<String>), RouteError> {
    let mut allowed = Vec::new();
    let mut matched = None;
    for endpoint in super::endpoints() {
        // A repository name could be read to contain the segments after it: the first path that fits decides.
        if matched.is_some_and(|matched| matched != endpoint.path) {
            continue;
        }
        let Some(values) = values(endpoint.path, path) else { continue };
        matched = Some(endpoint.path);
        if *endpoint.method == *method || (*endpoint.method == Method::GET && *method == Method::HEAD) {
            return Ok((endpoint, values));
        }
        allowed.push(endpoint.method.to_string());
        if *endpoint.method == Method::GET {
            allowed.push(Method::HEAD.to_string());
        }
    }
    match matched {
        Some(_) => Err(RouteError::MethodNotAllowed { allow: allowed.join(", ").into() }),
        None => Err(RouteError::NotFound),
    }
}

/// Whether the path of a repository with this name means the repository. `/api/v1/repository/a/tag/1` means a tag of `a`.
pub(super) fn means_repository(name: &RepositoryName) -> bool {
    let path = format!("{REPOSITORY_PATH}{name}");
    let found = super::endpoints().find(|endpoint| values(endpoint.path, &path).is_some());
    found.is_some_and(|endpoint| endpoint.path.strip_prefix(REPOSITORY_PATH) == Some(REPOSITORY))
}

/// The values of a path's segments in braces, if the path fits.
fn values(pattern: &str, path: &str) -> Option<Vec<String>> {
    let pattern: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
    let path: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
    // A repository name takes the segments that are left over.
    let more = path.len().checked_sub(pattern.len())?;
    let (mut values, mut at) = (Vec::new(), 0);
    for wanted in &pattern {
        let length = if *wanted == REPOSITORY { 1 + more } else { 1 };
        let given = path.get(at..at + length)?;
        at += length;
        match wanted.starts_with('{') {
            true if given.iter().all(|segment| !segment.is_empty()) => {
                values.push(given.iter().flat_map(|segment| ["/", segment]).skip(1).collect());
            }
            false if given == [*wanted] => {}
            _ => return None,
        }
    }
    (at == path.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_path_that_fits_is_meant_whatever_the_method() {
        let allow = |method, path| match find(&method, path) {
            Err(RouteError::MethodNotAllowed { allow }) => allow.into_owned(),
            other => panic!("{path}: {:?}", other.map(|(endpoint, _)| endpoint.path)),
        };
        let options = |path| allow(Method::OPTIONS, path);
        assert_eq!(options("/api/v1/repository/a/b/tag/"), "GET, HEAD");
        assert_eq!(options("/api/v1/repository/a/b/tag/1"), "PUT, DELETE");
        assert_eq!(options("/api/v1/repository/a/b/tag/1/restore"), "POST");
        assert_eq!(options("/api/v1/repository/a/b"), "GET, HEAD, PUT, DELETE");
        // A missing tag must not delete the repository.
        assert_eq!(allow(Method::DELETE, "/api/v1/repository/a/b/tag/"), "GET, HEAD");
    }

    #[test]
    fn a_name_that_ends_like_a_path_means_something_else() {
        for (name, expected) in [
            ("a", true),
            ("a/b/c", true),
            ("a/tags/v1", true),
            ("tag/v1", true),
            ("a/tag", false),
            ("a/tag/v1", false),
            ("a/b/tag/v1/restore", false),
            ("a/changevisibility", false),
            ("a/permissions/user/bob", false),
        ] {
            assert_eq!(means_repository(&name.parse().expect("a name")), expected, "{name}");
        }
    }

    #[test]
    fn a_path_fits_a_row() {
        for (pattern, path, expected) in [
            ("/api/v1/user/", "/api/v1/user", Some(vec![])),
            ("/api/v1/user/", "/api/v1/user/", Some(vec![])),
            ("/api/v1/user/", "/api/v1/user//", None),
            ("/api/v1/users/{username}", "/api/v1/users/a", Some(vec!["a"])),
            ("/api/v1/users/{username}", "/api/v1/users/a/b", None),
            ("/api/v1/users/{username}", "/api/v1/users/", None),
            ("/r/{repository}/tag/{tag}", "/r/a/b/c/tag/x", Some(vec!["a/b/c", "x"])),
            ("/r/{repository}/tag/{tag}", "/r/a/tag/x", Some(vec!["a", "x"])),
            ("/r/{repository}/tag/{tag}", "/r/a//tag/x", None),
            ("/r/{repository}/tag/{tag}", "/r/tag/x", None),
            ("/r/{repository}/tag/", "/r/a/tag/tag", Some(vec!["a/tag"])),
            ("/r/{repository}", "/r/a/b", Some(vec!["a/b"])),
        ] {
            let expected = expected.map(|values| values.into_iter().map(str::to_owned).collect());
            assert_eq!(values(pattern, path), expected, "{pattern} {path}");
        }
    }
}
