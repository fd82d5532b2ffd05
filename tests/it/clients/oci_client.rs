//! `oci-client`: the crate that Rust programs pull and push with. It runs inside the test, and shares no code
//! with the clients of containers, containerd or coracle's own tests.
//!
//! It has no deletion, so curl does that for it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use futures_util::TryStreamExt as _;
use oci_client::client::{
    BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol, Config, ImageLayer,
};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::manifest::{IMAGE_LAYER_MEDIA_TYPE, OciDescriptor, OciImageIndex};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::content::{self, ARTIFACT_TYPE, HEAVY_BYTES, noise};
use super::curl::Curl;
use super::home::{Home, needs};
use super::image::{Descriptor, Image, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, compare, digest};
use super::target::{Target, guarded, open, targets};

/// Waits for what the crate does; the tests themselves are not asynchronous, as no other client is.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
    RUNTIME.block_on(future)
}

/// The crate's client, who uses it, and the registry.
pub(crate) struct OciClient<'a> {
    pub(crate) client: oci_client::Client,
    pub(crate) auth: RegistryAuth,
    target: &'a Target,
}

impl<'a> OciClient<'a> {
    /// A client with all rights, signed in for this repository.
    fn signed_in(target: &'a Target, repository: &str) -> Self {
        Self::with_config(target, repository, |_| ())
    }

    fn with_config(target: &'a Target, repository: &str, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let auth = target.credentials.clone();
        let auth = auth.map_or(RegistryAuth::Anonymous, |(user, password)| RegistryAuth::Basic(user, password));
        let this = Self::new(target, auth, change);
        wait(this.client.auth(&this.at(repository), &this.auth, RegistryOperation::Push)).unwrap();
        this
    }

    pub(crate) fn new(target: &'a Target, auth: RegistryAuth, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        if let Some(authority) = &target.authority {
            let data = std::fs::read(authority).unwrap();
            config.protocol = ClientProtocol::Https;
            config.extra_root_certificates = vec![Certificate { encoding: CertificateEncoding::Pem, data }];
        }
        change(&mut config);
        Self { client: oci_client::Client::new(config), auth, target }
    }

    pub(crate) fn at(&self, name: &str) -> Reference {
        self.target.image(name).parse().unwrap()
    }

    fn pinned(&self, repository: &str, digest: &str) -> Reference {
        self.at(&format!("{repository}@{digest}"))
    }

    /// Pushes everything of an image, byte for byte.
    pub(crate) fn push(&self, image: &Image, repository: &str, tag: &str) {
        for part in image.parts() {
            let bytes = image.store.get(&part);
            let pinned = self.pinned(repository, &part.digest);
            let location = if part.is_manifest() {
                let at = if part == image.root { self.at(&format!("{repository}:{tag}")) } else { pinned };
                wait(self.client.push_manifest_raw(&at, bytes, part.media_type.parse().unwrap()))
            } else {
                wait(self.client.push_blob(&pinned, bytes, &part.digest))
            };
            let location = location.unwrap();
            assert!(location.starts_with(&self.target.url(&format!("/v2/{repository}/"))), "{location}");
        }
    }

    /// The bytes of a manifest or blob; the crate checks that they have the digest.
    pub(crate) fn fetch(&self, repository: &str, part: &Descriptor) -> Vec<u8> {
        let at = self.pinned(repository, &part.digest);
        if part.is_manifest() {
            let (bytes, digest) = wait(self.client.pull_manifest_raw(&at, &self.auth, &[&part.media_type])).unwrap();
            assert_eq!(digest, part.digest);
            return bytes.to_vec();
        }
        let mut bytes = Vec::new();
        wait(self.client.pull_blob(&at, &*part.digest, &mut bytes)).unwrap();
        bytes
    }

    fn tags(&self, repository: &str, n: Option<usize>, last: Option<&str>) -> Vec<String> {
        wait(self.client.list_tags(&self.at(repository), &self.auth, n, last)).unwrap().tags
    }
}

/// The version of HTTP that the crate's own HTTP library agrees on with a registry.
pub(crate) fn spoken(target: &Target) -> reqwest::Version {
    let authority = target.authority.as_ref().map(|file| std::fs::read(file).unwrap());
    let authority = authority.map(|pem| reqwest::Certificate::from_pem(&pem).unwrap());
    let client = reqwest::Client::builder().tls_certs_merge(authority).build().unwrap();
    wait(client.get(target.url("/livez")).send()).unwrap().version()
}

/// The code in a refusal of the registry.
fn code(error: &OciDistributionError) -> Option<&OciErrorCode> {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => Some(&envelope.errors.first()?.code),
        _ => None,
    }
}

#[test]
fn an_image_is_pushed_listed_pulled_back_and_deleted() {
    needs!(CURL, UMOCI, BUSYBOX);
    for target in targets() {
        let client = OciClient::signed_in(&target, "crate/box");
        let (image, other) = (content::busybox(), content::busybox_arm64());
        client.push(&image, "crate/box", "one");
        client.push(&other, "crate/box", "two");
        let listed: BTreeSet<String> = client.tags("crate/box", None, None).into_iter().collect();
        assert_eq!(listed, ["one", "two"].map(str::to_owned).into());
        compare(&image, |part| client.fetch("crate/box", part)).at_least(1, 3, 100_000);
        let one = client.at("crate/box:one");
        assert_eq!(wait(client.client.fetch_manifest_digest(&one, &client.auth)).unwrap(), image.root.digest);

        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        curl.delete(&format!("/v2/crate/box/manifests/{}", image.root.digest)).is(202);
        curl.is_gone("crate/box", "one", &image.root);
        let gone = wait(client.client.pull_manifest(&one, &client.auth)).unwrap_err();
        assert_eq!(code(&gone), Some(&OciErrorCode::ManifestUnknown), "{gone}");
        let config = image.config().digest;
        assert!(wait(client.client.blob_exists(&one, &config)).unwrap());
        curl.delete(&format!("/v2/crate/box/blobs/{config}")).is(202);
        assert!(!wait(client.client.blob_exists(&one, &config)).unwrap());
        compare(&other, |part| client.fetch("crate/box", part)).at_least(1, 3, 100_000);
    }
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    let target = guarded();
    let client = OciClient::signed_in(&target, "crate/mine");
    let image = content::many_layers();
    client.push(&image, "crate/mine", "one");
    let (user, password) = target.credentials.clone().unwrap();
    let strangers = [
        RegistryAuth::Anonymous,
        RegistryAuth::Basic(user, "wrong".to_owned()),
        RegistryAuth::Basic("mallory".to_owned(), password),
    ];
    for auth in strangers {
        let stranger = OciClient::new(&target, auth, |_| ());
        let mine = stranger.at("crate/mine:one");
        let refusals = [
            wait(stranger.client.pull_manifest(&mine, &stranger.auth)).map(drop).unwrap_err(),
            wait(stranger.client.list_tags(&mine, &stranger.auth, None, None)).map(drop).unwrap_err(),
            wait(stranger.client.push_blob(&mine, &b"theirs"[..], &digest(b"theirs"))).map(drop).unwrap_err(),
        ];
        for refusal in refusals {
            let clear = match &refusal {
                OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => true,
                OciDistributionError::ServerError { code, .. } => *code == 401,
                other => code(other) == Some(&OciErrorCode::Unauthorized),
            };
            assert!(clear, "{:?}: {refusal}", stranger.auth);
        }
    }
    assert_eq!(client.fetch("crate/mine", &image.root), image.manifest());
}

#[test]
fn an_image_made_by_the_crate_comes_back_as_it_was() {
    for target in targets() {
        for monolithic in [false, true] {
            let repository = if monolithic { "crate/whole" } else { "crate/chunked" };
            let client = OciClient::with_config(&target, repository, |config| config.use_monolithic_push = monolithic);
            // Three layers that are not compressed; the last takes three chunks of 4 MiB.
            let layers: Vec<ImageLayer> = [10, 100_000, 9 << 20]
                .into_iter()
                .map(|length| ImageLayer::new(noise(length), IMAGE_LAYER_MEDIA_TYPE.to_owned(), None))
                .collect();
            let config = Config::new(&b"{}"[..], OCI_CONFIG.to_owned(), None);
            let one = client.at(&format!("{repository}:one"));
            wait(client.client.push(&one, &layers, config, &client.auth, None)).unwrap();
            let pulled = wait(client.client.pull(&one, &client.auth, vec![IMAGE_LAYER_MEDIA_TYPE])).unwrap();
            let lengths = |layers: &[ImageLayer]| layers.iter().map(|layer| layer.data.len()).collect::<BTreeSet<_>>();
            assert_eq!(lengths(&pulled.layers), lengths(&layers));
            assert!(layers.iter().all(|layer| pulled.layers.contains(layer)), "a layer came back differently");
            assert_eq!(pulled.config.data, &b"{}"[..]);
        }
    }
}

#[test]
fn tags_are_listed_page_by_page() {
    let target = guarded();
    let client = OciClient::signed_in(&target, "crate/pages");
    let image = content::many_layers();
    client.push(&image, "crate/pages", "v0");
    for n in 1..10 {
        let at = client.at(&format!("crate/pages:v{n}"));
        wait(client.client.push_manifest_raw(&at, image.manifest(), OCI_MANIFEST.parse().unwrap())).unwrap();
    }
    let mut all = Vec::new();
    for page in [4, 4, 2, 0] {
        let tags = client.tags("crate/pages", Some(4), all.last().map(String::as_str));
        assert_eq!(tags.len(), page);
        all.extend(tags);
    }
    assert_eq!(all, (0..10).map(|n| format!("v{n}")).collect::<Vec<_>>());
}

#[test]
fn repositories_are_listed() {
    for target in targets() {
        let client = OciClient::signed_in(&target, "crate/listed");
        let image = content::many_layers();
        client.push(&image, "crate/listed", "one");
        let any = client.at("crate/listed");
        let listed = wait(client.client.catalog(&any, &client.auth, None, None)).unwrap().repositories;
        assert_eq!(listed, ["crate/listed"]);
        let after =
            wait(client.client.catalog(&any, &client.auth, Some(5), Some("crate/listed"))).unwrap().repositories;
        assert!(after.is_empty(), "{after:?}");
    }
}

#[test]
fn an_index_is_pushed_and_each_platform_finds_its_image() {
    needs!(UMOCI, BUSYBOX);
    for target in targets() {
        let index = content::index();
        for (platform, image) in content::PLATFORMS.into_iter().zip([content::busybox(), content::busybox_arm64()]) {
            let client = OciClient::with_config(&target, "crate/index", |config| {
                config.platform_resolver = Some(Box::new(move |entries| {
                    let of = |entry: &&oci_client::manifest::ImageIndexEntry| {
                        entry.platform.as_ref().is_some_and(|known| known.architecture.to_string() == platform)
                    };
                    entries.iter().find(of).map(|entry| entry.digest.clone())
                }));
            });
            client.push(&index, "crate/index", "one");
            compare(&index, |part| client.fetch("crate/index", part)).at_least(3, 5, 100_000);
            let one = client.at("crate/index:one");
            let found = wait(client.client.pull_image_manifest_and_list_digest(&one, &client.auth)).unwrap();
            assert_eq!((found.1, found.2), (image.root.digest, Some(index.root.digest.clone())), "{platform}");
        }
    }
}

#[test]
fn an_index_written_by_the_crate_is_taken() {
    needs!(UMOCI, BUSYBOX);
    let target = open();
    let client = OciClient::signed_in(&target, "crate/written");
    client.push(&content::index(), "crate/written", "one");
    let mut index: OciImageIndex = serde_json::from_slice(&content::index().manifest()).unwrap();
    index.annotations = Some([("made".to_owned(), "by oci-client".to_owned())].into());
    let two = client.at("crate/written:two");
    wait(client.client.push_manifest_list(&two, &client.auth, index.clone())).unwrap();
    let (bytes, digest) = wait(client.client.pull_manifest_raw(&two, &client.auth, &[OCI_INDEX])).unwrap();
    assert_eq!(digest, super::image::digest(&bytes));
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), serde_json::to_value(index).unwrap());
}

#[test]
fn referrers_of_an_image_are_found_by_their_type() {
    needs!(UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::alone();
        let client = OciClient::signed_in(&target, "crate/subject");
        let subject = content::busybox();
        client.push(&subject, "crate/subject", "image");
        let artifact = content::artifact(&home, &subject.root);
        client.push(&artifact, "crate/subject", "note");
        compare(&artifact, |part| client.fetch("crate/subject", part)).at_least(1, 2, 500);
        let pinned = client.pinned("crate/subject", &subject.root.digest);
        for (kind, count) in [(None, 1), (Some(ARTIFACT_TYPE), 1), (Some("application/vnd.other"), 0)] {
            let found = wait(client.client.pull_referrers(&pinned, kind)).unwrap().manifests;
            assert_eq!(found.len(), count, "{kind:?}: {found:?}");
            for entry in found {
                assert_eq!(
                    (entry.digest, entry.artifact_type.as_deref()),
                    (artifact.root.digest.clone(), Some(ARTIFACT_TYPE))
                );
            }
        }
    }
}

#[test]
fn a_blob_is_mounted_from_another_repository() {
    for target in targets() {
        let client = OciClient::signed_in(&target, "crate/from");
        let blob = noise(50_000);
        let digest = digest(&blob);
        let (from, to) = (client.at("crate/from"), client.at("crate/to"));
        wait(client.client.push_blob(&from, blob.clone(), &digest)).unwrap();
        assert!(!wait(client.client.blob_exists(&to, &digest)).unwrap());
        let mounted = wait(client.client.mount_blob(&to, &from, &digest));
        if target.credentials.is_some() {
            // The crate asks for a token for the one repository alone, and so may not read the other: it is
            // told to push the blob, which it calls a failure.
            assert!(mounted.unwrap_err().to_string().contains("202"));
            continue;
        }
        mounted.unwrap();
        assert_eq!(client.fetch("crate/to", &Descriptor::of("application/octet-stream", &blob)), blob);
    }
}

#[test]
fn many_layers_and_a_layer_of_64_mib_go_up_and_down() {
    let target = guarded();
    let client = OciClient::signed_in(&target, "crate/large");
    let many = content::many_layers();
    for (image, blobs, bytes) in [(many, content::layers() + 1, 0), (content::heavy(), 2, HEAVY_BYTES as u64)] {
        client.push(&image, "crate/large", &image.tag);
        compare(&image, |part| client.fetch("crate/large", part)).at_least(1, blobs, bytes);
    }
}

#[test]
fn a_download_continues_from_an_offset() {
    for target in targets() {
        let client = OciClient::signed_in(&target, "crate/offset");
        let blob = noise(1_000_000);
        let at = client.at("crate/offset");
        let digest = digest(&blob);
        wait(client.client.push_blob(&at, blob.clone(), &digest)).unwrap();
        for (offset, length) in [(400_000, None), (999_999, None), (10, Some(90))] {
            let answer = wait(client.client.pull_blob_stream_partial(&at, &*digest, offset, length)).unwrap();
            let BlobResponse::Partial(stream) = answer else { panic!("the whole blob came for a part of it") };
            let parts: Vec<_> = wait(stream.try_collect()).unwrap();
            let start = usize::try_from(offset).unwrap();
            let end = length.map_or(blob.len(), |length| start + usize::try_from(length).unwrap());
            assert!(parts.concat() == blob[start..end], "{offset} {length:?}");
        }
    }
}

#[test]
fn a_layer_with_the_wrong_digest_is_refused() {
    let target = open();
    let client = OciClient::signed_in(&target, "crate/wrong");
    let at = client.at("crate/wrong");
    let promised = digest(b"something else");
    let refused = wait(client.client.push_blob(&at, &b"something"[..], &promised)).unwrap_err();
    assert!(matches!(refused, OciDistributionError::ServerError { code: 400, .. }), "{refused}");
    assert!(!wait(client.client.blob_exists(&at, &promised)).unwrap());
    let manifest = OciDescriptor { digest: promised, ..OciDescriptor::default() };
    let mut nothing = Vec::new();
    wait(client.client.pull_blob(&at, &manifest, &mut nothing)).unwrap_err();
}
