//! The router reads any request line, and never panics.

use proptest::prelude::*;

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ID: &str = "07070707-0707-8707-8707-070707070707";

/// Path segments with a meaning, and similar ones without.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "v2",
        "v2",
        "a",
        "b-c",
        "A",
        "..",
        "",
        "%",
        "%2F",
        "%ff",
        "%00",
        "blobs",
        "uploads",
        "manifests",
        "tags",
        "list",
        "referrers",
        "_catalog",
        "latest",
        "livez",
        "metrics",
        DIGEST,
        ID,
        "sha256:",
        "ä",
    ];
    prop_oneof![9 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,9}"]
}

/// The ends of all paths.
fn end() -> impl Strategy<Value = String> {
    let digest = format!("blobs/{DIGEST}");
    prop::sample::select(vec![
        "tags/list".to_owned(),
        "manifests/latest".to_owned(),
        format!("manifests/{DIGEST}"),
        format!("referrers/{DIGEST}"),
        digest,
        "blobs/uploads/".to_owned(),
        format!("blobs/uploads/{ID}"),
    ])
}

fn path() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(piece(), 0..7).prop_map(|pieces| format!("/{}", pieces.join("/")));
    let likely =
        (prop::collection::vec(piece(), 1..4), end()).prop_map(|(name, end)| format!("/v2/{}/{end}", name.join("/")));
    prop_oneof![2 => pieces, 2 => likely, 1 => "\\PC{0,40}"]
}

fn query() -> impl Strategy<Value = Option<String>> {
    let known = ["n", "last", "digest", "mount", "from", "tag", "artifactType", "digest-algorithm", "", "%ff"];
    let pair = (prop::sample::select(known.to_vec()), prop_oneof!["[0-9]{0,25}", piece(), piece()])
        .prop_map(|(name, value)| format!("{name}={value}"));
    let pairs = prop::collection::vec(pair, 0..4).prop_map(|pairs| pairs.join("&"));
    prop::option::of(prop_oneof![4 => pairs, 1 => "\\PC{0,40}"])
}

fn method() -> impl Strategy<Value = Method> {
    let methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"];
    prop::sample::select(methods.to_vec()).prop_map(|method| method.parse().expect("a method"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Every route has an access, and every method in `Allow` is allowed.
    #[test]
    fn every_request_line_can_be_read(method in method(), path in path(), query in query()) {
        match parse(&method, &Path::decode(&path), query.as_deref(), Some("/metrics")) {
            Ok(route) => drop(route.access()),
            Err(RouteError::MethodNotAllowed { allow }) => {
                assert!(!allow.split(", ").any(|allowed| allowed == method.as_str()));
                for allowed in allow.split(", ") {
                    let allowed = allowed.parse().expect("a method");
                    let again = parse(&allowed, &Path::decode(&path), query.as_deref(), Some("/metrics"));
                    assert!(!matches!(again, Err(RouteError::MethodNotAllowed { .. } | RouteError::NotFound)));
                }
            }
            Err(RouteError::Malformed { message, .. } | RouteError::TooLong { message }) => {
                assert!(!message.is_empty() && !message.chars().any(char::is_control), "{message:?}");
            }
            Err(RouteError::NotFound) => {}
        }
    }
}

/// Checks that the strategies above produce each kind of result often.
#[test]
fn the_generated_request_lines_give_each_kind_of_result() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let lines = (method(), path(), query());
    let [mut taken, mut malformed, mut not_allowed] = [0; 3];
    for _ in 0..2000 {
        let (method, path, query) = lines.new_tree(&mut runner).expect("a line").current();
        match parse(&method, &Path::decode(&path), query.as_deref(), None) {
            Ok(_) => taken += 1,
            Err(RouteError::Malformed { .. }) => malformed += 1,
            Err(RouteError::MethodNotAllowed { .. }) => not_allowed += 1,
            Err(RouteError::NotFound | RouteError::TooLong { .. }) => {}
        }
    }
    assert!(taken > 50 && malformed > 50 && not_allowed > 50, "{taken} {malformed} {not_allowed}");
}
