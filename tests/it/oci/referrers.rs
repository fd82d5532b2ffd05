//! "Listing Referrers", filters and pages, and what old clients push under the referrers tag schema.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{
    CONFIG, INDEX, MANIFEST, bytes, descriptor, image, index, push_blob, push_image, put_manifest, sha256, sha512,
};
use crate::support::http::{Answer, Caller};

const SBOM: &str = "application/vnd.example.sbom+json";
const SIGNATURE: &str = "application/vnd.example.signature";

/// A repository `a` with the blob `{}` and a subject, whose digest is returned.
async fn with_subject() -> (TestRegistry, Caller, String) {
    let t = TestRegistry::open().await;
    let caller = t.anonymous();
    push_blob(&caller, "a", b"{}").await;
    let subject = sha256(&bytes(&push_image(&caller, "a", "subject", 1).await));
    (t, caller, subject)
}

/// A manifest that refers to `subject`, unlike those of other `n`.
fn referrer(subject: &str, artifact_type: Option<&str>, n: usize) -> Value {
    let mut manifest = image(b"{}", &[]);
    manifest["subject"] = json!({ "mediaType": MANIFEST, "digest": subject, "size": 1 });
    manifest["annotations"] = json!({ "n": n.to_string() });
    if let Some(kind) = artifact_type {
        manifest["artifactType"] = kind.into();
    }
    manifest
}

async fn push(caller: &Caller, manifest: &Value) -> String {
    let digest = sha256(&bytes(manifest));
    put_manifest(caller, "a", &digest, manifest).await.status(201);
    digest
}

async fn list(caller: &Caller, subject: &str, query: &str) -> Answer {
    let answer = caller.get(&format!("/v2/a/referrers/{subject}{query}")).send().await.status(200);
    check(&answer);
    answer
}

/// Checks that apply to every list.
fn check(answer: &Answer) {
    let index = answer.json();
    assert_eq!(answer.header("content-type"), Some(INDEX));
    assert_eq!(index["schemaVersion"], 2);
    assert_eq!(index["mediaType"], INDEX);
    assert!(index["manifests"].is_array());
}

fn digests(answer: &Answer) -> Vec<String> {
    let manifests = answer.json()["manifests"].as_array().cloned().unwrap();
    manifests.iter().map(|descriptor| descriptor["digest"].as_str().unwrap().to_owned()).collect()
}

/// The digests that a client who follows the links sees, and the number of pages.
async fn follow(caller: &Caller, subject: &str, query: &str) -> (Vec<String>, usize) {
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut next = Some(format!("/v2/a/referrers/{subject}{query}"));
    while let Some(path) = next {
        let page = caller.get(&path).send().await.status(200);
        check(&page);
        assert_eq!(page.header("oci-filters-applied").is_some(), query.contains("artifactType"), "{path}");
        seen.extend(digests(&page));
        next = page.next();
        pages += 1;
    }
    (seen, pages)
}

#[tokio::test]
async fn what_has_no_referrers_has_an_empty_index() {
    let (_t, caller, subject) = with_subject().await;
    for subject in [subject, sha256(b"never heard of"), sha512(b"never heard of")] {
        let answer = list(&caller, &subject, "").await;
        assert_eq!(answer.json(), json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] }));
        assert_eq!(answer.next(), None);
        assert_eq!(answer.header("oci-filters-applied"), None);
        // Nor does an unknown repository answer 404.
        caller.get(&format!("/v2/unknown/referrers/{subject}")).send().await.status(200);
        caller.head(&format!("/v2/a/referrers/{subject}")).send().await.status(200);
    }
}

#[tokio::test]
async fn a_subject_that_is_no_digest_is_400() {
    let (_t, caller, _) = with_subject().await;
    for subject in ["x", "subject", "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
        caller.get(&format!("/v2/a/referrers/{subject}")).send().await.error(400, "DIGEST_INVALID");
    }
}

#[tokio::test]
async fn a_descriptor_has_size_type_artifact_type_and_annotations() {
    let (_t, caller, subject) = with_subject().await;
    let of_type = referrer(&subject, Some(SBOM), 1);
    let of_config = referrer(&subject, None, 2);
    let of_nothing = referrer(&subject, Some(""), 3);
    let mut list_of_type = index(&[]);
    list_of_type["subject"] = of_type["subject"].clone();
    list_of_type["artifactType"] = SIGNATURE.into();
    let mut plain_list = index(&[]);
    plain_list["subject"] = of_type["subject"].clone();
    plain_list["annotations"] = json!({ "ä \"quoted\"": "\u{1F6F6}\n" });
    for (manifest, kind) in [
        (of_type, Some(SBOM)),
        (of_config, Some(CONFIG)),
        (of_nothing, Some(CONFIG)),
        (list_of_type, Some(SIGNATURE)),
        (plain_list, None),
    ] {
        let digest = push(&caller, &manifest).await;
        let mut expected = json!({
            "mediaType": manifest["mediaType"],
            "digest": digest,
            "size": bytes(&manifest).len(),
        });
        if let Some(kind) = kind {
            expected["artifactType"] = kind.into();
        }
        if let Some(annotations) = manifest.get("annotations") {
            expected["annotations"] = annotations.clone();
        }
        let listed = list(&caller, &subject, "").await.json()["manifests"].as_array().cloned().unwrap();
        let found = listed.iter().find(|descriptor| descriptor["digest"] == digest.as_str());
        assert_eq!(found, Some(&expected));
    }
    assert_eq!(digests(&list(&caller, &subject, "").await).len(), 5);
}

#[tokio::test]
async fn referrers_are_listed_in_their_repository_and_under_their_subject_only() {
    let (_t, caller, subject) = with_subject().await;
    let here = push(&caller, &referrer(&subject, Some(SBOM), 1)).await;
    let other_subject = sha256(b"other");
    let other = push(&caller, &referrer(&other_subject, Some(SBOM), 2)).await;
    push_blob(&caller, "b", b"{}").await;
    let elsewhere = referrer(&subject, Some(SBOM), 3);
    put_manifest(&caller, "b", "1", &elsewhere).await.status(201);
    assert_eq!(digests(&list(&caller, &subject, "").await), [here]);
    assert_eq!(digests(&list(&caller, &other_subject, "").await), [other]);
    let answer = caller.get(&format!("/v2/b/referrers/{subject}")).send().await.status(200);
    assert_eq!(digests(&answer), [sha256(&bytes(&elsewhere))]);
}

#[tokio::test]
async fn a_filter_lists_only_its_artifact_types_and_says_so() {
    let (_t, caller, subject) = with_subject().await;
    let [sbom, signature, config] =
        [referrer(&subject, Some(SBOM), 1), referrer(&subject, Some(SIGNATURE), 2), referrer(&subject, None, 3)];
    let [sbom, signature, config] =
        [push(&caller, &sbom).await, push(&caller, &signature).await, push(&caller, &config).await];
    let encoded = SBOM.replace('/', "%2F").replace('+', "%2B");
    for (query, expected) in [
        (format!("?artifactType={SBOM}"), vec![&sbom]),
        (format!("?artifactType={encoded}"), vec![&sbom]),
        (format!("?artifactType={SIGNATURE}"), vec![&signature]),
        (format!("?artifactType={CONFIG}"), vec![&config]),
        (format!("?artifactType={SBOM}&artifactType={SIGNATURE}"), vec![&sbom, &signature]),
        (format!("?artifactType={SIGNATURE}&artifactType={SBOM}&artifactType={SBOM}"), vec![&sbom, &signature]),
        (format!("?artifactType={SIGNATURE}&artifactType=application/none"), vec![&signature]),
        ("?artifactType=application/none".to_owned(), vec![]),
        ("?artifactType=".to_owned(), vec![]),
        // No prefix, no substring.
        (format!("?artifactType={}", &SBOM[..SBOM.len() - 1]), vec![]),
    ] {
        let answer = list(&caller, &subject, &query).await;
        let listed: BTreeSet<String> = digests(&answer).into_iter().collect();
        assert_eq!(listed, expected.into_iter().cloned().collect(), "{query}");
        answer.has("oci-filters-applied", "artifactType");
    }
    let everything = list(&caller, &subject, "").await;
    assert_eq!(everything.header("oci-filters-applied"), None);
    assert_eq!(digests(&everything).len(), 3);
}

#[tokio::test]
async fn a_long_list_comes_in_pages_with_every_descriptor_exactly_once() {
    let (_t, caller, subject) = with_subject().await;
    let kinds = [Some(SBOM), Some(SIGNATURE), None];
    let mut pushed = BTreeSet::new();
    for n in 0..12 {
        pushed.insert(push(&caller, &referrer(&subject, kinds[n % 3], n)).await);
    }
    for n in [1, 2, 3, 5, 11, 12, 13] {
        let (seen, pages) = follow(&caller, &subject, &format!("?n={n}")).await;
        assert_eq!(seen.len(), 12, "n={n}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), pushed, "n={n}");
        assert_eq!(pages, 12_usize.div_ceil(n), "n={n}");
        let types = format!("?artifactType={SIGNATURE}&n={n}&artifactType={SBOM}");
        let (seen, pages) = follow(&caller, &subject, &types).await;
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 8, "n={n}");
        assert_eq!((seen.len(), pages), (8, 8_usize.div_ceil(n)), "n={n}");
    }
}

/// Clients read a list as they read a manifest, and not more than 4 MiB of it.
#[tokio::test]
async fn no_page_is_larger_than_a_manifest_may_be() {
    let (_t, caller, subject) = with_subject().await;
    let mut pushed = BTreeSet::new();
    for (n, size) in [100, 1_900_000, 2_500_000, 1_900_000, 3_900_000, 100].into_iter().enumerate() {
        let mut manifest = referrer(&subject, Some(SBOM), n);
        manifest["annotations"]["large"] = "x".repeat(size).into();
        pushed.insert(push(&caller, &manifest).await);
    }
    let mut seen = Vec::new();
    let mut next = Some(format!("/v2/a/referrers/{subject}"));
    while let Some(path) = next {
        let page = caller.get(&path).send().await.status(200);
        assert!(page.body.len() <= 4 << 20, "a page of {} bytes", page.body.len());
        seen.extend(digests(&page));
        next = page.next();
    }
    assert_eq!(seen.len(), pushed.len());
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), pushed);
}

/// The type is part of the link to the next page, so a client must be able to send it back.
#[tokio::test]
async fn an_artifact_type_that_no_link_could_carry_is_refused() {
    let (_t, caller, subject) = with_subject().await;
    let longest = format!("application/{}", "x".repeat(243));
    for n in 0..3 {
        push(&caller, &referrer(&subject, Some(&longest), n)).await;
    }
    assert_eq!(follow(&caller, &subject, "?n=1").await.1, 3);
    let too_long = referrer(&subject, Some(&"x".repeat(20_000)), 4);
    put_manifest(&caller, "a", "x", &too_long).await.error(400, "MANIFEST_INVALID");
    assert_eq!(digests(&list(&caller, &subject, "").await).len(), 3);
}

#[tokio::test]
async fn a_last_that_no_link_gave_is_400() {
    let (_t, caller, subject) = with_subject().await;
    for last in ["x", "", "@", "x@sha256:abc", "x@"] {
        let path = format!("/v2/a/referrers/{subject}?last={last}");
        caller.get(&path).send().await.error(400, "UNSUPPORTED");
    }
}

#[tokio::test]
async fn a_deleted_referrer_is_not_listed_and_those_of_a_deleted_subject_are() {
    let (_t, caller, subject) = with_subject().await;
    let [one, two] = [referrer(&subject, Some(SBOM), 1), referrer(&subject, None, 2)];
    let [one, two] = [push(&caller, &one).await, push(&caller, &two).await];
    caller.delete(&format!("/v2/a/manifests/{one}")).send().await.status(202);
    assert_eq!(digests(&list(&caller, &subject, "").await), [two.as_str()]);
    caller.delete(&format!("/v2/a/manifests/{subject}")).send().await.status(202);
    assert_eq!(digests(&list(&caller, &subject, "").await), [two.as_str()]);
    caller.delete(&format!("/v2/a/manifests/{two}")).send().await.status(202);
    assert!(digests(&list(&caller, &subject, "").await).is_empty());
}

#[tokio::test]
async fn a_tag_of_a_referrer_makes_no_second_entry() {
    let (_t, caller, subject) = with_subject().await;
    let manifest = referrer(&subject, Some(SBOM), 1);
    for reference in ["x", "y", &sha256(&bytes(&manifest)), "x"] {
        put_manifest(&caller, "a", reference, &manifest).await.status(201).has("oci-subject", &subject);
    }
    assert_eq!(digests(&list(&caller, &subject, "").await), [sha256(&bytes(&manifest))]);
}

/// "Referrers Tag Schema": clients that have never heard of the API keep the list themselves, as an
/// index under a tag made of the subject's digest.
#[tokio::test]
async fn referrers_pushed_under_the_tag_schema_are_found_too() {
    let (_t, caller, subject) = with_subject().await;
    let tag = subject.replace(':', "-");
    caller.get(&format!("/v2/a/manifests/{tag}")).send().await.error(404, "MANIFEST_UNKNOWN");
    let mut kept = Vec::new();
    let mut pushed = BTreeSet::new();
    for n in 0..3 {
        let manifest = referrer(&subject, Some(SBOM), n);
        pushed.insert(push(&caller, &manifest).await);
        let mut entry = descriptor(MANIFEST, &bytes(&manifest));
        entry["artifactType"] = SBOM.into();
        entry["annotations"] = manifest["annotations"].clone();
        kept.push(entry);
        let mut list = index(&[]);
        list["manifests"] = json!(kept);
        put_manifest(&caller, "a", &tag, &list).await.status(201);
    }
    let own = caller.get(&format!("/v2/a/manifests/{tag}")).send().await.status(200).json();
    let mut from_tag = own["manifests"].as_array().cloned().unwrap();
    let mut from_api = list(&caller, &subject, "").await.json()["manifests"].as_array().cloned().unwrap();
    let by_digest = |descriptor: &Value| descriptor["digest"].to_string();
    from_tag.sort_by_key(by_digest);
    from_api.sort_by_key(by_digest);
    assert_eq!(from_api, from_tag);
    assert_eq!(from_api.len(), pushed.len());
}
