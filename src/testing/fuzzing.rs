//! The functions of the fuzz targets: properties of every input that a client can send.
//!
//! Each function takes the bytes of a fuzzer and panics if a property does not hold. They are here because they use private
//! types. They are compiled only for fuzzers (`--cfg fuzzing`) and for tests, which run them over the seeds.

#[cfg(test)]
mod tests;

use hyper::Method;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::config::Config;
use crate::content::repository::ManifestTarget;
use crate::http::Operation;
use crate::http::route::{Path, Route, RouteError};
use crate::identity::access::Access;
use crate::oci::{Digest, ImageName, Manifest, MediaType, RepositoryName, RepositoryPattern, Tag, layout};

/// The path of the metrics.
const METRICS: &str = "/metrics";

/// The longest message. It repeats at most 80 characters of the input, each escaped to at most ten.
const MESSAGE_BYTES_MAX: usize = 1200;

/// `METHOD /path?query`: an accepted path prints unchanged. A refused one has a short message without control characters.
pub fn route(input: &[u8]) {
    let Ok(line) = std::str::from_utf8(input) else { return };
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let Ok(method) = method.parse::<Method>() else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let operation = Operation::parse(&method, &Path::decode(path), query, Some(METRICS));
    let decoded = percent_decode_str(path).decode_utf8();
    match operation {
        Ok(Operation::Registry(route)) => {
            let _ = route.access();
            let decoded = decoded.expect("an accepted path is UTF-8");
            assert_eq!(path_of(&route, &decoded), decoded.trim_end_matches('/'));
        }
        Ok(Operation::V1(request)) => {
            let decoded = decoded.expect("an accepted path is UTF-8");
            if let Access::Repository(name, _) = request.access() {
                let rest = decoded.strip_prefix("/api/v1/repository/").expect("only these paths name a repository");
                assert!(rest.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
            }
        }
        Err(RouteError::Malformed { message, .. } | RouteError::TooLong { message }) => {
            assert!(!message.is_empty() && message.len() <= MESSAGE_BYTES_MAX, "{message:?}");
            assert!(!message.contains(char::is_control), "{message:?}");
        }
        // The pages read names and cursors again, and their paths have no other values.
        Ok(Operation::Page(request)) => drop(request.access()),
        Ok(Operation::Site(_)) => panic!("a request line is no file"),
        Err(RouteError::NotFound | RouteError::MethodNotAllowed { .. }) => {}
    }
}

/// A pattern, and names on further lines: the pattern is read or refused, and a comparison takes a limited number of steps.
pub fn pattern(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (pattern, names) = text.split_once('\n').unwrap_or((text, ""));
    let pattern: RepositoryPattern = match pattern.parse() {
        Ok(pattern) => pattern,
        Err(why) => {
            let why = why.to_string();
            assert!(why.len() <= MESSAGE_BYTES_MAX && !why.contains(char::is_control), "{why:?}");
            return;
        }
    };
    for name in pattern.samples().iter().chain(&pattern.literals().unwrap_or_default()) {
        assert!(pattern.matches(name), "{pattern:?} does not match {name}");
    }
    for name in names.lines().filter_map(|name| name.parse::<RepositoryName>().ok()) {
        let (matches, steps) = pattern.matches_in_steps(name.as_str());
        assert!(steps <= pattern.cost() * name.as_str().len() && pattern.cost() <= 16, "{steps} steps");
        let fits = |(beginning, ending): (String, String)| {
            name.as_str().starts_with(&beginning) && name.as_str().ends_with(&ending)
        };
        assert!(!matches || pattern.literal_ends().any(fits), "{name} is not found by the ends of {pattern:?}");
    }
}

/// The path of a route, without a slash at its end. Checks the values that are not in the path. `read` is the path that was
/// read, because some routes have several paths.
fn path_of(route: &Route, read: &str) -> String {
    let under = |name: &RepositoryName, rest: String| {
        assert_eq!(name.to_string().parse().as_ref(), Ok(name));
        format!("/v2/{name}/{rest}")
    };
    let uploads = |name| under(name, "blobs/uploads".to_owned());
    match route {
        Route::Ping => "/v2".to_owned(),
        Route::Catalog { .. } => "/v2/_catalog".to_owned(),
        Route::Tags { name, .. } => under(name, "tags/list".to_owned()),
        Route::Referrers { name, subject, after, .. } => {
            after.digest.iter().for_each(reads_back);
            under(name, format!("referrers/{subject}"))
        }
        Route::GetManifest { name, reference }
        | Route::HeadManifest { name, reference }
        | Route::DeleteManifest { name, reference } => under(name, format!("manifests/{reference}")),
        Route::PutManifest { name, target: ManifestTarget::Tag(tag) } => under(name, format!("manifests/{tag}")),
        Route::PutManifest { name, target: ManifestTarget::Digest { digest, tags } } => {
            for tag in tags {
                assert_eq!(tag.to_string().parse::<Tag>().as_ref(), Ok(tag));
            }
            under(name, format!("manifests/{digest}"))
        }
        Route::GetBlob { name, digest } | Route::HeadBlob { name, digest } | Route::DeleteBlob { name, digest } => {
            under(name, format!("blobs/{digest}"))
        }
        Route::StartUpload { name, .. } => uploads(name),
        Route::PushBlob { name, digest } | Route::MountBlob { name, digest } => {
            reads_back(digest);
            uploads(name)
        }
        Route::UploadStatus { name, id } | Route::UploadChunk { name, id } | Route::CancelUpload { name, id } => {
            under(name, format!("blobs/uploads/{id}"))
        }
        Route::FinishUpload { name, id, digest } => {
            reads_back(digest);
            under(name, format!("blobs/uploads/{id}"))
        }
        Route::GetToken { .. } | Route::PostToken => {
            assert!(matches!(read, "/v2/auth" | "/v2/token"));
            read.to_owned()
        }
        Route::ExchangeToken { .. } => "/zot/auth/token".to_owned(),
        Route::TokenKeys => "/.well-known/jwks.json".to_owned(),
        Route::AcmeChallenge(token) => format!("/.well-known/acme-challenge/{token}"),
        // The slash of the root is the one that the caller strips.
        Route::Root => String::new(),
        Route::Live => "/livez".to_owned(),
        Route::Ready => "/readyz".to_owned(),
        Route::Started => "/startupz".to_owned(),
        Route::Metrics => METRICS.to_owned(),
        Route::ListKeys | Route::CreateKey | Route::RevokeKey { .. } => {
            assert!(read.ends_with("/apikey"));
            read.to_owned()
        }
        Route::Preflight => {
            assert!(read.ends_with("/apikey") || read.ends_with("/logout"));
            read.to_owned()
        }
        Route::Discover => "/v2/_oci/ext/discover".to_owned(),
        Route::Management => "/v2/_zot/ext/mgmt".to_owned(),
        Route::GetSearch { .. } | Route::PostSearch => "/v2/_zot/ext/search".to_owned(),
        Route::TogglePreference { .. } => "/v2/_zot/ext/userprefs".to_owned(),
        Route::Login { .. } => {
            assert!(read.ends_with("/auth/login"));
            read.to_owned()
        }
        Route::Callback { provider, .. } => {
            assert!(!provider.is_empty() && !provider.contains('/'));
            let (way, _) = read.rsplit_once('/').expect("it has slashes");
            assert!(matches!(way, "/zot/auth/callback" | "/auth/callback"));
            format!("{way}/{provider}")
        }
        Route::Confirm => "/zot/auth/confirm".to_owned(),
        Route::Logout => {
            assert!(read.ends_with("/auth/logout"));
            read.to_owned()
        }
    }
}

fn reads_back(digest: &Digest) {
    assert_eq!(digest.to_string().parse().as_ref(), Ok(digest));
    assert_eq!(Digest::from_key(digest.key()).as_ref(), Some(digest));
}

/// A manifest, after an optional line `content-type: …`: an accepted manifest is consistent.
pub fn manifest(input: &[u8]) {
    let (content_type, bytes) = match input.strip_prefix(b"content-type: ").map(|rest| rest.splitn(2, |b| *b == b'\n'))
    {
        Some(mut parts) => (parts.next().unwrap_or_default(), parts.next().unwrap_or_default()),
        None => (&b""[..], input),
    };
    let content_type = std::str::from_utf8(content_type).ok().and_then(|text| MediaType::from_content_type(text).ok());
    let Ok(manifest) = Manifest::read(bytes, content_type.as_ref()) else { return };
    let own = manifest.media_type();
    assert!(own.is_manifest());
    assert!(content_type.is_none_or(|given| given == *own), "it has the type of the request");
    if own.is_index() {
        assert!(manifest.blobs().is_empty(), "an index has no blobs");
    } else {
        assert!(manifest.manifests().is_empty() && !manifest.blobs().is_empty());
    }
    assert!(manifest.blobs().is_sorted_by(|one, next| one < next), "each blob is listed once");
    assert!(
        manifest.optional_blobs().iter().all(|digest| !manifest.blobs().contains(digest)),
        "each blob is listed once"
    );
    manifest.blobs().iter().chain(manifest.optional_blobs()).chain(&manifest.subject()).for_each(reads_back);
    assert_ne!(manifest.artifact_type(), Some(""), "a type is not empty");
    let again = Manifest::read(bytes, Some(own)).expect("an accepted manifest is accepted again");
    assert_eq!(format!("{again:?}"), format!("{manifest:?}"));
    let digest = Digest::of(crate::oci::Algorithm::Sha256, bytes);
    let referrer = manifest.referrer_descriptor(digest, bytes.len() as u64);
    let referrer: Value = serde_json::from_slice(&referrer).expect("a descriptor is JSON");
    assert_eq!(referrer["digest"], digest.to_string());
    assert_eq!(referrer["mediaType"], own.as_str());
}

/// An `index.json` of a layout: accepted entries print unchanged.
pub fn layout(input: &[u8]) {
    for entry in layout::read_index(input).into_iter().flatten().flatten() {
        reads_back(&entry.digest);
        for name in [entry.name.repository.map(|name| name.to_string()), entry.name.tag.map(|tag| tag.to_string())] {
            assert!(name.is_none_or(|name| ImageName::read(&name).is_some()));
        }
    }
}

/// Lines of headers: ranges, conditions, forwarding, and credentials.
pub fn headers(input: &[u8]) {
    crate::http::headers(input);
}

/// A token, a list of scopes after a line with `scopes`, or claims of a workload after a line with `workload`.
pub fn tokens(input: &[u8]) {
    if let Some(scopes) = input.strip_prefix(b"scopes\n") {
        crate::identity::tokens::scopes(scopes);
    } else if let Some(token) = input.strip_prefix(b"workload\n") {
        crate::identity::workload::token(token);
    } else {
        crate::identity::tokens::token(input);
    }
}

/// Steps of one upload, two bytes for each.
pub fn upload(input: &[u8]) {
    crate::content::repository::fuzz_upload(input);
}

/// A request of zot's search, as JSON or only the query: it is refused with errors, or answered.
pub fn search(input: &[u8]) {
    crate::search::fuzz_request(input);
}

/// A configuration in TOML: it is read, or has a problem with a message.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match Config::from_toml_str(text) {
        Ok(loaded) => loaded.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
