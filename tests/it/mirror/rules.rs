//! Rules for tags, and for signed images.

use serde_json::{Value, json};

use super::between::{Between, Canned, Mode};
use super::{Setting, pull};
use crate::support::content::{self, MANIFEST, push_blob, push_image, put_manifest, sha256};
use crate::support::http::Caller;

fn config(between: &Between, more: &str, content: &str) -> String {
    format!(
        "[[extensions.sync.registries]]\nurls = ['http://{}']\nonDemand = true\nmanifestCheckInterval = '0s'\nmaxRetries = \
         0\n{more}\ncontent = [{{ prefix = '**', destination = '/up'{content} }}]\n",
        between.address
    )
}

#[tokio::test]
async fn tags_that_the_rules_leave_out_are_not_mirrored() {
    let rules = ", tags = { regex = '^v', excludeRegex = '-rc', semver = true }";
    let t = Setting::with(|between| config(between, "", rules)).await;
    for (tag, seed) in [("v1.2", 1), ("v2-rc.1", 2), ("latest", 3), ("3.0", 4)] {
        push_image(&t.pusher(), "app", tag, seed * 10).await;
    }
    t.puller().get("/v2/up/app/manifests/v1.2").send().await.status(200);
    let requests = t.between.total();
    for tag in ["v2-rc.1", "latest", "3.0"] {
        let answer = t.puller().get(&format!("/v2/up/app/manifests/{tag}")).send().await;
        let answer = answer.error(404, "MANIFEST_UNKNOWN");
        assert!(answer.text().contains(&format!("leave out the tag {tag}")), "{}", answer.text());
    }
    assert_eq!(t.between.total(), requests);
    let listed = t.puller().get("/v2/up/app/tags/list").send().await.status(200);
    assert_eq!(listed.json()["tags"], json!(["v1.2"]));
}

#[tokio::test]
async fn an_immutable_tag_is_never_compared() {
    let keys = "immutableTags = ['v*']";
    let t = Setting::with(|between| config(between, keys, ", immutableTags = ['2026-??']")).await;
    for tag in ["v1", "2026-11", "latest"] {
        let first = push_image(&t.pusher(), "app", tag, 1).await;
        pull(&t.puller(), "up/app", tag, &first).await;
        for _ in 0..2 {
            let expected = [usize::from(tag == "latest"), 0];
            assert_eq!(t.compared(&format!("/v2/up/app/manifests/{tag}")).await.1, expected, "{tag}");
        }
    }
}

/// Pushes a signature of an image as a referrer, or under the tag of cosign.
async fn sign(caller: &Caller, image: &Value, by_tag: bool) {
    push_blob(caller, "app", b"{}").await;
    let mut signature = content::image(b"{}", &[]);
    let subject = sha256(&content::bytes(image));
    if by_tag {
        put_manifest(caller, "app", &format!("{}.sig", subject.replace(':', "-")), &signature).await.status(201);
    } else {
        signature["artifactType"] = "application/vnd.cncf.notary.signature".into();
        signature["subject"] = content::descriptor(MANIFEST, &content::bytes(image));
        let digest = sha256(&content::bytes(&signature));
        put_manifest(caller, "app", &digest, &signature).await.status(201);
    }
}

#[tokio::test]
async fn only_signed_images_are_mirrored_if_the_rule_says_so() {
    let t = Setting::with(|between| config(between, "onlySigned = true", "")).await;
    let unsigned = push_image(&t.pusher(), "app", "unsigned", 10).await;
    let by_referrer = push_image(&t.pusher(), "app", "referrer", 20).await;
    let by_tag = push_image(&t.pusher(), "app", "tag", 30).await;
    sign(&t.pusher(), &by_referrer, false).await;
    sign(&t.pusher(), &by_tag, true).await;
    pull(&t.puller(), "up/app", "referrer", &by_referrer).await;
    pull(&t.puller(), "up/app", "tag", &by_tag).await;
    let signature = format!("{}.sig", sha256(&content::bytes(&by_tag)).replace(':', "-"));
    t.puller().get(&format!("/v2/up/app/manifests/{signature}")).send().await.status(200);
    let digest = sha256(&content::bytes(&unsigned));
    for reference in ["unsigned", &digest] {
        let answer = t.puller().get(&format!("/v2/up/app/manifests/{reference}")).send().await.error(403, "DENIED");
        assert!(answer.text().contains("has no signature"), "{}", answer.text());
    }
    // A part of a signed index passes, and a tag that moves to an unsigned image keeps the signed one.
    let index = content::index(&[&unsigned]);
    put_manifest(&t.pusher(), "app", "index", &index).await.status(201);
    sign(&t.pusher(), &index, true).await;
    t.puller().get("/v2/up/app/manifests/index").send().await.status(200);
    pull(&t.puller(), "up/app", &digest, &unsigned).await;
    push_image(&t.pusher(), "app", "tag", 40).await;
    let kept = t.puller().get("/v2/up/app/manifests/tag").send().await.status(200);
    assert_eq!(kept.body, content::bytes(&by_tag));
    assert!(kept.header("warning").is_some());
}

fn companion(image: &Value) -> String {
    format!("{}.sig", sha256(&content::bytes(image)).replace(':', "-"))
}

#[tokio::test]
async fn no_unsigned_image_comes_in_place_of_a_signature_or_by_its_blobs() {
    let t = Setting::with(|between| config(between, "onlySigned = true", "")).await;
    let pusher = t.pusher();
    let unsigned = push_image(&pusher, "app", "unsigned", 20).await;
    let mut signed = Vec::new();
    for (tag, seed) in [("1", 30), ("2", 40), ("3", 50)] {
        let image = push_image(&pusher, "app", tag, seed).await;
        sign(&pusher, &image, false).await;
        signed.push(image);
    }
    pull(&t.puller(), "up/app", "1", &signed[0]).await;
    pull(&t.puller(), "up/app", "2", &signed[1]).await;
    let get = async |path: String| t.puller().get(&format!("/v2/up/app/{path}")).send().await;
    // An image under the tag of a signature, and an index, which would let its images in. The third image is not stored.
    let index = content::index(&[&unsigned]);
    for (subject, content) in signed.iter().zip([&unsigned, &index, &unsigned]) {
        put_manifest(&pusher, "app", &companion(subject), content).await.status(201);
        get(format!("manifests/{}", companion(subject))).await.error(403, "DENIED");
    }
    let signed = &signed[0];
    // An image that says it is a signature, or a referrer of a signed one.
    let mut disguised = unsigned.clone();
    disguised["artifactType"] = "application/vnd.cncf.notary.signature".into();
    disguised["subject"] = content::descriptor(MANIFEST, &content::bytes(signed));
    let digest = sha256(&content::bytes(&disguised));
    put_manifest(&pusher, "app", &digest, &disguised).await.status(201);
    let (listed, _) = t.compared(&format!("/v2/up/app/referrers/{}", sha256(&content::bytes(signed)))).await;
    assert_eq!(listed.json()["manifests"].as_array().unwrap().len(), 1, "{}", listed.text());
    get(format!("manifests/{digest}")).await.error(403, "DENIED");
    let layer = unsigned["layers"][0]["digest"].as_str().unwrap();
    let blob = get(format!("blobs/{layer}")).await.error(404, "BLOB_UNKNOWN");
    assert!(blob.text().contains("pull its manifest first"), "{}", blob.text());
    t.puller().head(&format!("/v2/up/app/blobs/{layer}")).send().await.status(404);
    let layer = signed["layers"][0]["digest"].as_str().unwrap();
    get(format!("blobs/{layer}")).await.status(200);
}

#[tokio::test]
async fn a_manifest_that_says_it_is_a_signature_is_not_believed() {
    let t = Setting::with(|between| config(between, "onlySigned = true", "")).await;
    let pusher = t.pusher();
    let signed = push_image(&pusher, "app", "1", 30).await;
    sign(&pusher, &signed, false).await;
    pull(&t.puller(), "up/app", "1", &signed).await;
    let refused = async |reference: &str| {
        t.puller().get(&format!("/v2/up/app/manifests/{reference}")).send().await.error(403, "DENIED");
    };
    let (unsigned, absent) = (push_image(&pusher, "app", "2", 20).await, push_image(&pusher, "app", "3", 40).await);
    let mut disguised = unsigned.clone();
    disguised["artifactType"] = "application/vnd.dev.cosign.artifact.sig.v1+json".into();
    disguised["layers"][0]["mediaType"] = "application/octet-stream".into();
    for tag in ["plain", "of-absent"] {
        put_manifest(&pusher, "app", tag, &disguised).await.status(201);
        refused(tag).await;
        refused(&sha256(&content::bytes(&disguised))).await;
        disguised["subject"] = content::descriptor(MANIFEST, &content::bytes(&absent));
    }
    // A blob of a signature is not a part of an index, although it is the manifest of an image.
    let bytes = content::bytes(&unsigned);
    push_blob(&pusher, "app", &bytes).await;
    push_blob(&pusher, "app", b"{}").await;
    let mut signature = content::image(b"{}", &[&bytes]);
    signature["layers"][0]["mediaType"] = "application/octet-stream".into();
    put_manifest(&pusher, "app", &companion(&signed), &signature).await.status(201);
    t.puller().get(&format!("/v2/up/app/manifests/{}", companion(&signed))).send().await.status(200);
    refused(&sha256(&bytes)).await;
    let attestation = companion(&unsigned).replace(".sig", ".att");
    put_manifest(&pusher, "app", &attestation, &signature).await.status(201);
    refused(&attestation).await;
    // A list of referrers under a tag, which anyone there can write.
    disguised["subject"] = content::descriptor(MANIFEST, b"another");
    let (subject, digest) = (sha256(&content::bytes(&signed)), sha256(&content::bytes(&disguised)));
    put_manifest(&pusher, "app", &digest, &disguised).await.status(201);
    put_manifest(&pusher, "app", &subject.replace(':', "-"), &content::index(&[&disguised])).await.status(201);
    let none = Canned { at: "/referrers/".to_owned(), status: 404, kind: "text/plain", text: String::new() };
    t.between.set(Mode::Answers(vec![none]));
    t.compared(&format!("/v2/up/app/referrers/{subject}")).await;
    assert!(t.between.count("GET", &digest) > 0, "the list is read");
    t.between.set(Mode::Forward);
    refused(&digest).await;
}

#[tokio::test]
async fn the_tag_of_a_signature_follows_its_image() {
    let t = Setting::with(|between| config(between, "", ", tags = { regex = '^v' }")).await;
    let image = push_image(&t.pusher(), "app", "v1", 10).await;
    sign(&t.pusher(), &image, true).await;
    let path = format!("/v2/up/app/manifests/{}", companion(&image));
    let answer = t.puller().get(&path).send().await.error(404, "MANIFEST_UNKNOWN");
    assert!(answer.text().contains("leave out the tag"), "{}", answer.text());
    pull(&t.puller(), "up/app", "v1", &image).await;
    t.puller().get(&path).send().await.status(200);
}
