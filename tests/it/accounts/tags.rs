//! Tags in Quay's API v1: lists, changes, and the log. [`history`] has the past of tags, [`rights`] the permissions.

mod history;
mod rights;

use coracle::Registry;
use coracle::config::Config;
use serde_json::{Value, json};

use crate::support::TestRegistry;
use crate::support::content::{bytes, index, push_image, put_manifest, sha256};
use crate::support::http::{Answer, Caller};
use crate::support::registry::{ALICE, BOB};

const TAG: &str = "/api/v1/repository/alice/app/tag";
const NOWHERE: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

/// A caller with an API key, as in Quay's scripts.
struct Script {
    caller: Caller,
    authorization: String,
}

impl Script {
    async fn new(t: &TestRegistry, user: (&str, &str), key: Value) -> Self {
        let made = t.user(user).post("/zot/auth/apikey").body(key.to_string()).send().await.status(201).json();
        Self { caller: t.anonymous(), authorization: format!("Bearer {}", made["apiKey"].as_str().unwrap()) }
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
        let request = self.caller.request(method.parse().unwrap(), path);
        request.header("authorization", &self.authorization).body(body).send().await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.send("PUT", path, body.to_string()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body.to_string()).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    /// The tags of a list, which must be all of them.
    async fn tags(&self, query: &str) -> Vec<Value> {
        let list = self.get(&format!("{TAG}/{query}")).await.status(200).json();
        assert_eq!((&list["page"], &list["has_additional"]), (&json!(1), &json!(false)), "{list}");
        list["tags"].as_array().unwrap().clone()
    }

    /// Names and digests of a list, and whether each has ended.
    async fn brief(&self, query: &str) -> Vec<(String, String, bool)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let brief = |tag: &Value| (text(&tag["name"]), text(&tag["manifest_digest"]), tag.get("end_ts").is_some());
        self.tags(query).await.iter().map(brief).collect()
    }
}

/// A registry with alice's script.
async fn scene() -> (TestRegistry, Script) {
    let t = TestRegistry::with_users().await;
    let alice = Script::new(&t, ALICE, json!({})).await;
    (t, alice)
}

/// A registry with this configuration and the users alice and bob, and alice's script.
async fn scene_with(config: &str) -> (TestRegistry, Script) {
    let config = Config::from_toml_str(config).unwrap().config;
    let t = TestRegistry::start(Registry::builder().user(ALICE.0, ALICE.1).user(BOB.0, BOB.1).config(config)).await;
    let alice = Script::new(&t, ALICE, json!({})).await;
    (t, alice)
}

/// Pushes an image to `alice/app`, and returns its digest.
async fn push(t: &TestRegistry, tag: &str, seed: u64) -> String {
    sha256(&bytes(&push_image(&t.user(ALICE), "alice/app", tag, seed).await))
}

/// Where a tag points now, by `/v2/`.
async fn pulled(t: &TestRegistry, tag: &str) -> Option<String> {
    let answer = t.user(ALICE).head(&format!("/v2/alice/app/manifests/{tag}")).send().await;
    if answer.status == 404 {
        return None;
    }
    answer.status(200).header("docker-content-digest").map(str::to_owned)
}

fn entry(name: &str, digest: &str, has_ended: bool) -> (String, String, bool) {
    (name.to_owned(), digest.to_owned(), has_ended)
}

#[tokio::test]
async fn a_list_has_what_tags_point_at_and_pointed_at_in_quays_shape() {
    let (t, alice) = scene().await;
    let first = push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let second = push(&t, "1", 2).await;
    // The same content once more is nothing new.
    assert_eq!(push(&t, "1", 2).await, second);
    let list = index(&[&first]);
    put_manifest(&t.user(ALICE), "alice/app", "list", &list).await.status(201);

    let [listed, present, past] = &alice.tags("").await[..] else { panic!("three are listed") };
    let (start, end) = (past["start_ts"].as_u64().unwrap(), past["end_ts"].as_u64().unwrap());
    let config = "{\"seed\":1}".len();
    assert_eq!(
        *past,
        json!({
            "name": "1", "reversion": false, "immutable": false, "start_ts": start, "end_ts": end,
            "manifest_digest": sha256(&bytes(&first)), "is_manifest_list": false,
            "size": bytes(&first).len() + config + 1000,
            "last_modified": past["last_modified"], "expiration": past["expiration"],
        })
    );
    assert_eq!(
        *present,
        json!({
            "name": "1", "reversion": false, "immutable": false, "start_ts": end, "manifest_digest": second,
            "is_manifest_list": false, "size": present["size"], "last_modified": past["expiration"],
        })
    );
    // The size of an index includes its images.
    let size = bytes(&list).len() + bytes(&first).len() + config + 1000;
    assert_eq!((&listed["is_manifest_list"], &listed["size"]), (&json!(true), &json!(size)));
    // `Sun, 22 Nov 2026 01:39:28 -0000`, and of our time.
    let text = past["last_modified"].as_str().unwrap();
    assert!(text.len() == 31 && text.ends_with(" -0000") && text[4..].starts_with(' '), "{text}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(start <= end && end.abs_diff(now) < 600, "{start} {end} {now}");
}

#[tokio::test]
async fn a_list_is_filtered_and_comes_in_pages() {
    let (t, alice) = scene().await;
    let mut digests = Vec::new();
    for (seed, tag) in ["v1", "v2", "v1", "stable"].into_iter().enumerate() {
        digests.push(push(&t, tag, seed as u64 * 10).await);
    }
    let [old, v2, v1, stable] = &digests[..] else { panic!("four were pushed") };
    let all = [entry("stable", stable, false), entry("v1", v1, false), entry("v2", v2, false), entry("v1", old, true)];
    assert_eq!(alice.brief("").await, all);
    assert_eq!(alice.brief("?onlyActiveTags=true").await, all[..3]);
    assert_eq!(alice.brief("?onlyActiveTags=false&limit=1000").await, all);
    assert_eq!(alice.brief("?specificTag=v1").await, [all[1].clone(), all[3].clone()]);
    assert_eq!(alice.brief("?specificTag=v1&onlyActiveTags=true").await, all[1..2]);
    assert_eq!(alice.brief("?filter_tag_name=eq:v1").await, [all[1].clone(), all[3].clone()]);
    assert_eq!(alice.brief("?filter_tag_name=like:v").await, all[1..]);
    assert_eq!(alice.brief("?filter_tag_name=like:tab").await, all[..1]);
    assert_eq!(alice.brief("?specificTag=v1&filter_tag_name=like:2").await, []);
    for nothing in ["?specificTag=v", "?specificTag=..%2F", "?filter_tag_name=eq:v", "?filter_tag_name=like:V1"] {
        assert_eq!(alice.brief(nothing).await, [], "{nothing}");
    }
    for (filter, wanted) in [("", &all[..]), ("&specificTag=v1", &[all[1].clone(), all[3].clone()][..])] {
        let mut paged = Vec::new();
        for page in 1..=wanted.len() {
            let list = alice.get(&format!("{TAG}/?limit=1&page={page}{filter}")).await.status(200).json();
            assert_eq!(list["page"], page);
            assert_eq!(list["has_additional"], page < wanted.len(), "{list}");
            assert_eq!(list["tags"].as_array().unwrap().len(), 1);
            paged.push(list["tags"][0]["manifest_digest"].clone());
        }
        assert_eq!(paged, wanted.iter().map(|(_, digest, _)| json!(digest)).collect::<Vec<_>>());
    }
    let behind = alice.get(&format!("{TAG}/?page=18446744073709551615")).await.status(200).json();
    assert_eq!((&behind["tags"], &behind["has_additional"]), (&json!([]), &json!(false)));
    for bad in ["?filter_tag_name=v1", "?filter_tag_name=re:v", "?onlyActiveTags=yes", "?page=-1", "?limit=x"] {
        alice.get(&format!("{TAG}/{bad}")).await.status(400);
    }
    alice.get("/api/v1/repository/alice/absent/tag/").await.status(404);
}

#[tokio::test]
async fn a_tag_is_made_and_moved_without_a_push() {
    let (t, alice) = scene().await;
    let (first, second) = (push(&t, "1", 1).await, push(&t, "2", 2).await);
    for digest in [&first, &second, &second] {
        let answer = alice.put(&format!("{TAG}/new"), json!({ "manifest_digest": digest })).await.status(201);
        assert_eq!(answer.json(), "Updated");
        assert_eq!(pulled(&t, "new").await.as_ref(), Some(digest));
    }
    assert_eq!(alice.brief("?specificTag=new").await, [entry("new", &second, false), entry("new", &first, true)]);
    alice.put(&format!("{TAG}/new"), json!({})).await.status(201);
    alice.put(&format!("{TAG}/absent"), json!({})).await.status(404);
    alice.put(&format!("{TAG}/absent"), json!({ "expiration": null })).await.status(404);
    alice.put(&format!("{TAG}/new"), json!({ "manifest_digest": NOWHERE })).await.status(404);
    let elsewhere = "/api/v1/repository/alice/absent/tag/new";
    alice.put(elsewhere, json!({ "manifest_digest": first })).await.status(404);
    // A repository whose name looks like a path of this API.
    push_image(&t.user(ALICE), "alice/tag/x", "1", 3).await;
    let odd = alice.get("/api/v1/repository/alice/tag/x/tag/").await.status(200).json();
    assert_eq!(odd["tags"][0]["name"], "1");
    assert_eq!(pulled(&t, "new").await, Some(second));
}

#[tokio::test]
async fn what_is_wrong_with_a_change_is_said_and_nothing_is_changed() {
    let (t, alice) = scene().await;
    let digest = push(&t, "1", 1).await;
    let other = push(&t, "2", 2).await;
    let path = format!("{TAG}/1");
    for (body, said) in [
        (json!({ "manifest_digest": other, "expiration": 1 }), "expiration"),
        (json!({ "manifest_digest": other, "expiration": -1 }), "expiration"),
        (json!({ "manifest_digest": other, "expiration": 1e300 }), "expiration"),
        (json!({ "manifest_digest": other, "expiration": "tomorrow" }), "expiration"),
        (json!({ "manifest_digest": "sha256:abc" }), "manifest_digest"),
        (json!({ "manifest_digest": 1 }), "string"),
    ] {
        let problem = alice.put(&path, body).await.status(400).json();
        assert!(problem["detail"].as_str().unwrap().contains(said), "{problem}");
    }
    alice.send("PUT", &path, "{").await.status(400);
    alice.send("PUT", &path, "").await.status(400);
    for bad in ["-x", ".x", "x%20y", "%C3%A4", &"x".repeat(129)] {
        let path = format!("{TAG}/{bad}");
        let problem = alice.put(&path, json!({ "manifest_digest": other })).await.status(400).json();
        assert!(
            problem["message"].as_str().unwrap().starts_with("Invalid tag: must match [A-Za-z0-9_.-]"),
            "{problem}"
        );
        alice.delete(&path).await.status(400);
        alice.post(&format!("{path}/restore"), json!({ "manifest_digest": other })).await.status(400);
        alice.post(&format!("{path}/expire"), json!({})).await.status(400);
    }
    assert_eq!(alice.brief("").await, [entry("2", &other, false), entry("1", &digest, false)]);
}

#[tokio::test]
async fn what_was_done_to_tags_stands_in_the_log_and_what_was_not_does_not() {
    let (t, alice) = scene().await;
    let (first, second) = (push(&t, "1", 1).await, push(&t, "2", 2).await);
    let path = format!("{TAG}/new");
    let point = |digest: &str| json!({ "manifest_digest": digest });
    alice.put(&path, point(&first)).await.status(201);
    alice.put(&path, point(&second)).await.status(201);
    // The next two change nothing, so the log has no entries for them.
    alice.put(&path, point(&second)).await.status(201);
    alice.put(&path, point(NOWHERE)).await.status(404);
    alice.put(&path, json!({ "expiration": 4_000_000_000_u64 })).await.status(201);
    alice.delete(&path).await.status(204);
    alice.delete(&path).await.status(404);
    alice.post(&format!("{path}/restore"), point(&first)).await.status(200);
    alice.post(&format!("{path}/restore"), point(NOWHERE)).await.status(404);
    alice.post(&format!("{path}/expire"), point(&second)).await.status(200);

    let logs = alice.get("/api/v1/user/logs").await.status(200).json();
    let of_tags = |entry: &&Value| entry["metadata"]["tag"] == "new";
    let entries: Vec<&Value> = logs["logs"].as_array().unwrap().iter().filter(of_tags).collect();
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    let newest_first =
        ["permanently_delete_tag", "revert_tag", "delete_tag", "change_tag_expiration", "move_tag", "create_tag"];
    assert_eq!(kinds, newest_first);
    let moved = json!({
        "repo": "alice/app", "tag": "new", "manifest_digest": second, "original_manifest_digest": first,
    });
    assert_eq!(entries[4]["metadata"], moved);
    assert_eq!(entries[4]["performer"]["name"], "alice");
    assert_eq!(entries[3]["metadata"]["old_expiration_date"], "none");
}
