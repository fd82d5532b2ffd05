//! curl: the distribution API by hand, as in the specification. [`blobs`] has the tests of uploads and downloads.
//!
//! Other modules use it for checks that their client cannot do: whether content is really gone, which bytes the registry
//! serves, and deletion.

mod blobs;

use std::fs;

use serde_json::{Value, json};

use super::content;
use super::home::{Home, needs};
use super::image::{Descriptor, Image, OCI_EMPTY, OCI_MANIFEST, compare, digest, named};
use super::target::{Target, guarded, open, targets};

/// curl as one user, with its responses.
pub(crate) struct Curl<'a> {
    home: &'a Home,
    target: &'a Target,
    user: Option<String>,
}

/// One response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header of the response, if present.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Checks the status, and returns the response.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        assert_eq!(self.status, status, "{:?} {body}", self.headers);
        self
    }

    /// The code of the first error.
    fn code(&self) -> String {
        let json = self.json();
        let code = json["errors"][0]["code"].as_str();
        code.unwrap_or_else(|| panic!("no errors[0].code in {json}")).to_owned()
    }
}

impl<'a> Curl<'a> {
    /// curl as a user with all rights.
    pub(crate) fn of(home: &'a Home, target: &'a Target) -> Self {
        let user = target.credentials.as_ref().map(|(user, password)| format!("{user}:{password}"));
        Self { home, target, user }
    }

    /// curl without credentials.
    pub(crate) fn stranger(home: &'a Home, target: &'a Target) -> Self {
        Self { home, target, user: None }
    }

    /// The URL of a path or a `Location`.
    fn url(&self, path: &str) -> String {
        if path.starts_with('/') { self.target.url(path) } else { path.to_owned() }
    }

    /// The common arguments of a request.
    fn arguments<'s>(&'s self, url: &'s str) -> Vec<&'s str> {
        let mut arguments = vec!["--silent", "--show-error", "--globoff", "--path-as-is"];
        if let Some(user) = &self.user {
            arguments.extend(["--user", user]);
        }
        arguments.extend(["--url", url]);
        arguments
    }

    /// Sends one request with these arguments.
    pub(crate) fn send(&self, path: &str, request: &[&str]) -> Answer {
        let [headers, body] = ["headers", "body"].map(|name| self.home.fresh(name));
        let url = self.url(path);
        let mut arguments = self.arguments(&url);
        arguments.extend(["--dump-header", headers.to_str().unwrap(), "--output", body.to_str().unwrap()]);
        arguments.extend(["--write-out", "%{http_code}"]);
        arguments.extend(request);
        let status = self.home.run("curl", &arguments).text().parse().unwrap();
        let headers = fs::read_to_string(headers).unwrap();
        // The final head comes after `100 Continue`.
        let head = headers.trim_end().rsplit("\r\n\r\n").next().unwrap();
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Answer { status, headers, body: fs::read(body).unwrap_or_default() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send(path, &[])
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        self.send(path, &["--head"])
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.send(path, &["--request", "DELETE"])
    }

    /// Sends the bytes of a file.
    fn send_file(&self, method: &str, path: &str, media_type: &str, bytes: &[u8], more: &[&str]) -> Answer {
        let file = self.home.fresh("send");
        fs::write(&file, bytes).unwrap();
        let data = format!("@{}", file.display());
        let kind = format!("Content-Type: {media_type}");
        let mut request = vec!["--request", method, "--header", &kind, "--data-binary", &data];
        request.extend(more);
        self.send(path, &request)
    }

    /// Starts an upload and returns its location.
    fn start(&self, repository: &str) -> String {
        let answer = self.send(&format!("/v2/{repository}/blobs/uploads/"), &["--request", "POST", "--data", ""]);
        let answer = answer.is(202);
        answer.header("Location").expect("an upload has a Location").to_owned()
    }

    /// Finishes an upload with its last bytes, if any.
    fn end(&self, location: &str, digest: &str, bytes: &[u8], more: &[&str]) -> Answer {
        let mark = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{mark}digest={digest}");
        self.send_file("PUT", &url, "application/octet-stream", bytes, more)
    }

    /// Pushes a blob: `POST`, then `PUT`.
    pub(crate) fn push_blob(&self, repository: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of("application/octet-stream", bytes);
        self.end(&self.start(repository), &descriptor.digest, bytes, &[]).is(201);
        descriptor
    }

    /// Pushes a manifest.
    pub(crate) fn push_manifest(&self, repository: &str, reference: &str, media_type: &str, bytes: &[u8]) -> Answer {
        let path = format!("/v2/{repository}/manifests/{reference}");
        let answer = self.send_file("PUT", &path, media_type, bytes, &[]).is(201);
        assert_eq!(answer.header("Docker-Content-Digest"), Some(&*digest(bytes)));
        answer
    }

    /// Pushes an image with all of its content, and tags it.
    pub(crate) fn push(&self, image: &Image, repository: &str, tag: &str) {
        for part in image.parts() {
            let bytes = image.store.get(&part);
            if part.is_manifest() {
                let reference = if part == image.root { tag } else { &part.digest };
                self.push_manifest(repository, reference, &part.media_type, &bytes);
            } else {
                self.push_blob(repository, &bytes);
            }
        }
    }

    /// Fetches a manifest or blob by its digest.
    pub(crate) fn fetch(&self, repository: &str, part: &Descriptor) -> Answer {
        if part.is_manifest() {
            self.manifest(repository, &part.digest)
        } else {
            self.get(&format!("/v2/{repository}/blobs/{}", part.digest))
        }
    }

    /// Fetches a manifest of any type.
    pub(crate) fn manifest(&self, repository: &str, reference: &str) -> Answer {
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";
        self.send(&format!("/v2/{repository}/manifests/{reference}"), &["--header", accept])
    }

    /// Downloads an image or index with all of its content.
    pub(crate) fn download(&self, repository: &str, tag: &str) -> Image {
        let layout = content::new_layout(self.home.fresh("download"));
        let answer = self.manifest(repository, tag).is(200);
        let root = Descriptor::of(answer.header("Content-Type").unwrap(), &answer.body);
        let mut wanted = vec![root.clone()];
        while let Some(part) = wanted.pop() {
            let bytes = self.fetch(repository, &part).is(200).body;
            content::put(&layout, &part.media_type, &bytes);
            if part.is_manifest() {
                wanted.extend(named(&bytes));
            }
        }
        content::tag(&layout, "downloaded", &root);
        Image::in_layout(&layout, "downloaded")
    }

    /// All tags of a repository.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let tags = self.get(&format!("/v2/{repository}/tags/list")).is(200).json()["tags"].take();
        serde_json::from_value(tags).unwrap()
    }

    /// Checks that a deleted image is gone: by tag, by digest, and from the list.
    pub(crate) fn is_gone(&self, repository: &str, tag: &str, root: &Descriptor) {
        for reference in [tag, &root.digest] {
            let answer = self.manifest(repository, reference).is(404);
            assert_eq!(answer.code(), "MANIFEST_UNKNOWN", "{answer:?}");
        }
        let answer = self.get(&format!("/v2/{repository}/tags/list"));
        let listed =
            answer.status == 200 && answer.json()["tags"].as_array().is_some_and(|tags| tags.contains(&tag.into()));
        assert!(!listed, "{tag} is deleted and still listed: {answer:?}");
    }
}

#[test]
fn everything_is_pushed_listed_pulled_and_deleted() {
    needs!(CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let (image, other) = (content::busybox(), content::busybox_arm64());
        curl.push(&image, "curl/box", "one");
        curl.push(&other, "curl/box", "two");
        assert_eq!(curl.tags("curl/box"), ["one", "two"]);
        compare(&image, |part| curl.fetch("curl/box", part).is(200).body).at_least(1, 3, 100_000);
        let by_tag = curl.manifest("curl/box", "one").is(200);
        assert_eq!(by_tag.body, image.manifest());
        assert_eq!(by_tag.header("Content-Type"), Some(OCI_MANIFEST));
        assert_eq!(by_tag.header("Docker-Content-Digest"), Some(&*image.root.digest));

        curl.delete(&format!("/v2/curl/box/manifests/{}", image.root.digest)).is(202);
        curl.is_gone("curl/box", "one", &image.root);
        let config = format!("/v2/curl/box/blobs/{}", image.config().digest);
        curl.head(&config).is(200);
        curl.delete(&config).is(202);
        assert_eq!(curl.get(&config).is(404).code(), "BLOB_UNKNOWN");
        compare(&other, |part| curl.fetch("curl/box", part).is(200).body).at_least(1, 3, 100_000);
    }
}

#[test]
fn a_stranger_and_a_wrong_password_hear_a_challenge_and_change_nothing() {
    needs!(CURL);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let blob = curl.push_blob("curl/mine", b"mine");
    let (user, _) = target.credentials.as_ref().unwrap();
    let mut wrong = Curl::stranger(&home, &target);
    wrong.user = Some(format!("{user}:wrong"));
    for refused in [Curl::stranger(&home, &target), wrong] {
        let requests: [(&str, &[&str]); 4] = [
            ("/v2/", &[]),
            (&format!("/v2/curl/mine/blobs/{}", blob.digest), &[]),
            (&format!("/v2/curl/mine/blobs/{}", blob.digest), &["--request", "DELETE"]),
            ("/v2/curl/mine/blobs/uploads/", &["--request", "POST", "--data", ""]),
        ];
        for (path, request) in requests {
            let answer = refused.send(path, request).is(401);
            assert_eq!(answer.code(), "UNAUTHORIZED", "{path}");
            let challenge = answer.header("WWW-Authenticate").expect("a 401 says how to sign in");
            assert!(challenge.starts_with("Basic ") || challenge.starts_with("Bearer "), "{challenge}");
        }
    }
    assert_eq!(curl.fetch("curl/mine", &blob).is(200).body, b"mine");
}

#[test]
fn a_tag_alone_is_deleted_and_its_manifest_stays() {
    needs!(CURL, UMOCI, BUSYBOX);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let image = content::busybox();
    curl.push(&image, "curl/tags", "one");
    curl.push_manifest("curl/tags", "two", &image.root.media_type, &image.manifest());
    curl.delete("/v2/curl/tags/manifests/one").is(202);
    assert_eq!(curl.manifest("curl/tags", "one").is(404).code(), "MANIFEST_UNKNOWN");
    assert_eq!(curl.tags("curl/tags"), ["two"]);
    compare(&image, |part| curl.fetch("curl/tags", part).is(200).body).at_least(1, 3, 100_000);
}

#[test]
fn a_tag_moves_and_the_older_image_stays_under_its_digest() {
    needs!(CURL, UMOCI, BUSYBOX);
    let target = open();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let (old, new) = (content::busybox(), content::busybox_arm64());
    curl.push(&old, "curl/moves", "latest");
    curl.push(&new, "curl/moves", "latest");
    assert_eq!(curl.manifest("curl/moves", "latest").is(200).body, new.manifest());
    assert_eq!(curl.manifest("curl/moves", &old.root.digest).is(200).body, old.manifest());
    assert_eq!(curl.tags("curl/moves"), ["latest"]);
}

#[test]
fn an_artifact_is_found_from_its_subject() {
    needs!(CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let subject = content::busybox();
        curl.push(&subject, "curl/subject", "image");
        let artifact = content::artifact(&home, &subject.root);
        let config = artifact.config();
        assert_eq!((&*config.media_type, config.size), (OCI_EMPTY, 2));
        for part in artifact.parts().iter().filter(|part| !part.is_manifest()) {
            curl.push_blob("curl/subject", &artifact.store.get(part));
        }
        let pushed = curl.push_manifest("curl/subject", &artifact.root.digest, OCI_MANIFEST, &artifact.manifest());
        compare(&artifact, |part| curl.fetch("curl/subject", part).is(200).body).at_least(1, 2, 500);
        assert_eq!(pushed.header("OCI-Subject"), Some(&*subject.root.digest));
        let path = format!("/v2/curl/subject/referrers/{}", subject.root.digest);
        let listed = curl.get(&path).is(200).json()["manifests"].take();
        let mut expected = artifact.root.json();
        expected["artifactType"] = content::ARTIFACT_TYPE.into();
        expected["annotations"] = artifact.manifest_json()["annotations"].clone();
        assert_eq!(listed, json!([expected]));
        for (kind, count) in [(content::ARTIFACT_TYPE, 1), ("application/vnd.other", 0)] {
            let answer = curl.get(&format!("{path}?artifactType={kind}")).is(200);
            assert_eq!(answer.header("OCI-Filters-Applied"), Some("artifactType"));
            assert_eq!(answer.json()["manifests"].as_array().map(Vec::len), Some(count), "{kind}");
        }
        curl.delete(&format!("/v2/curl/subject/manifests/{}", artifact.root.digest)).is(202);
        assert_eq!(curl.get(&path).is(200).json()["manifests"], json!([]));
    }
}

/// A shell script with curl and jq that lists every tag of a repository.
const EVERY_TAG: &str = r#"
set -eu
page="/v2/$2/tags/list?n=3"
while [ -n "$page" ]; do
    curl --silent --show-error --fail ${3:+--user "$3"} --dump-header head "$1$page" | jq --raw-output '.tags[]'
    page=$(sed -n 's/^[Ll]ink: *<\([^>]*\)>; *rel="\{0,1\}next.*$/\1/p' head)
    case "$page" in "$1"/*) page=${page#"$1"} ;; esac
done
"#;

#[test]
fn a_shell_script_with_curl_and_jq_walks_all_pages_of_tags() {
    needs!(CURL, JQ, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let image = content::busybox();
        let tags: Vec<String> = (0..10).map(|n| format!("v{n}")).collect();
        curl.push(&image, "curl/pages", &tags[0]);
        for tag in &tags[1..] {
            curl.push_manifest("curl/pages", tag, &image.root.media_type, &image.manifest());
        }
        let user = curl.user.clone().unwrap_or_default();
        let said = home.run("sh", &["-c", EVERY_TAG, "sh", &target.url(""), "curl/pages", &user]);
        assert_eq!(said.words(), tags);
        let page = curl.get("/v2/curl/pages/tags/list?n=3&last=v4").is(200);
        assert_eq!(page.json()["tags"], json!(["v5", "v6", "v7"]));
        assert!(page.header("Link").is_some_and(|link| link.contains("last=v7")), "{page:?}");
    }
}
