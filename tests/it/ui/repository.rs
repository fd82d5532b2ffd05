//! The pages of repositories: lists, search, one repository, one manifest, deletion and restoration.

use serde_json::json;

use super::client::Client;
use super::furnished::{chart, push_chart, push_deleted, push_file, push_index};
use crate::support::TestRegistry;
use crate::support::content::{
    CONFIG, LAYER, MANIFEST, bytes, descriptor, image, push_blob, push_image, put_manifest, sha256,
};
use crate::support::registry::{ALICE, BOB};

#[tokio::test]
async fn repositories_are_listed_as_a_list_and_as_folders_and_are_found() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let manifest = push_image(&alice, "alice/team/app", "1.10", 1).await;
    push_image(&alice, "alice/team/web", "1.9", 3).await;
    push_image(&alice, "alice/tool", "latest", 5).await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let list = client.get("/ui/").await.status(200).text();
    for name in ["alice/team/app", "alice/team/web", "alice/tool"] {
        assert!(list.contains(&format!("href=\"/ui/r/{name}\"")), "{name} is missing: {list}");
    }
    let list = client.get("/ui/?q=web&sort=size").await.status(200).text();
    assert!(list.contains("alice/team/web") && !list.contains("alice/tool"), "{list}");
    let tree = client.get("/ui/?view=tree&path=alice").await.status(200).text();
    assert!(tree.contains("2 repositories") && tree.contains("href=\"/ui/r/alice/tool\""), "{tree}");
    let digest = sha256(&bytes(&manifest));
    for (text, expected) in [
        ("team/", "/ui/r/alice/team/app\""),
        ("app%3A1.1", "/ui/r/alice/team/app/-/tag/1.10"),
        (&digest[7..19], &*format!("/ui/r/alice/team/app/-/manifest/{digest}")),
    ] {
        let found = client.get(&format!("/ui/search?q={text}")).await.status(200).text();
        assert!(found.contains(expected), "{text}: {found}");
    }
    // Another user finds nothing of it.
    let mut bob = Client::signed_in(&t, BOB).await;
    for path in
        ["/ui/", "/ui/?view=tree", "/ui/search?q=team", "/ui/search?q=app%3A1.1", &format!("/ui/search?q={digest}")]
    {
        let page = bob.get(path).await.status(200).text();
        assert!(!page.contains("/ui/r/") && !page.contains("team/app"), "{path}: {page}");
    }
}

#[tokio::test]
async fn a_repository_of_another_user_looks_like_none() {
    let t = TestRegistry::with_users().await;
    let manifest = push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let (digest, config) = (sha256(&bytes(&manifest)), manifest["config"]["digest"].as_str().unwrap().to_owned());
    let mut bob = Client::signed_in(&t, BOB).await;
    for place in [
        String::new(),
        "/-/untagged".into(),
        "/-/history".into(),
        "/-/description".into(),
        "/-/settings".into(),
        "/-/delete".into(),
        "/-/deleted".into(),
        format!("/-/restore-manifest/{digest}"),
        "/-/tag/1".into(),
        "/-/restore/1".into(),
        "/-/delete-tags?tag=1".into(),
        format!("/-/manifest/{digest}"),
        format!("/-/delete-manifest/{digest}"),
        format!("/-/blob/{config}"),
    ] {
        let hidden = bob.get(&format!("/ui/r/alice/app{place}")).await.status(404).text();
        let absent = bob.get(&format!("/ui/r/alice/none{place}")).await.status(404).text();
        assert_eq!(hidden, absent, "{place}");
        let nothing = bob.get("/ui/nothing").await.status(404).text();
        assert_eq!(hidden, nothing, "{place}");
        let sent = t.anonymous().get(&format!("/ui/r/alice/app{place}")).send().await.status(303);
        assert!(sent.location().starts_with("/ui/sign-in?next="), "{place}");
    }
}

#[tokio::test]
async fn the_platform_of_an_index_can_be_chosen() {
    let t = TestRegistry::with_users().await;
    let (_, images) = push_index(&t.user(ALICE), "alice/app", "1").await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let page = client.get("/ui/r/alice/app/-/tag/1").await.status(200).text();
    assert!(page.contains("linux/amd64") && page.contains("linux/arm64"), "{page}");
    let [amd, arm] = [0, 1].map(|at| images[at]["layers"][0]["digest"].as_str().unwrap().to_owned());
    assert!(page.contains(&format!("/-/blob/{amd}")) && !page.contains(&format!("/-/blob/{arm}")), "{page}");
    assert!(page.contains("docker pull 127.0.0.1:"), "{page}");
    let other = sha256(&bytes(&images[1]));
    let page = client.get(&format!("/ui/r/alice/app/-/tag/1?platform={other}")).await.status(200).text();
    assert!(!page.contains(&format!("/-/blob/{amd}")) && page.contains(&format!("/-/blob/{arm}")), "{page}");
    assert!(!page.contains("hunter2"), "the value of a variable is shown");
    let untagged = client.get("/ui/r/alice/app/-/untagged").await.status(200).text();
    assert!(untagged.contains("part of") && untagged.contains(&other), "{untagged}");
    let blob = client.get(&format!("/ui/r/alice/app/-/blob/{amd}")).await.status(200);
    assert_eq!(blob.header("content-disposition"), Some("attachment"));
    assert_eq!(blob.header("content-security-policy"), Some("default-src 'none'; sandbox"));
    assert_eq!(blob.body, "layer of amd64");
}

#[tokio::test]
async fn tags_are_deleted_after_a_question_and_restored() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    for (tag, seed) in [("1", 1), ("2", 3), ("3", 5)] {
        push_image(&alice, "alice/app", tag, seed).await;
    }
    let mut client = Client::signed_in(&t, ALICE).await;
    let question = client.get("/ui/r/alice/app/-/delete-tags?tag=1&tag=2").await.status(200);
    let text = question.text();
    assert!(text.contains("Delete 2 tags?") && text.contains("Will be freed") && text.contains("until"), "{text}");
    // Without the proof of the page nothing happens.
    client.post("/ui/r/alice/app/-/delete-tags", &[("tag", "1")]).await.status(403);
    alice.get("/v2/alice/app/manifests/1").send().await.status(200);
    let sent = client.submit(&question, "/ui/r/alice/app/-/delete-tags", &[]).await.status(303);
    assert_eq!(sent.location(), "/ui/r/alice/app?notice=tags-deleted");
    alice.get("/v2/alice/app/manifests/1").send().await.status(404);
    alice.get("/v2/alice/app/manifests/2").send().await.status(404);
    alice.get("/v2/alice/app/manifests/3").send().await.status(200);
    let history = client.get("/ui/r/alice/app/-/history?tag=1").await.status(200).text();
    let restore =
        history.split("href=\"").find(|rest| rest.starts_with("/ui/r/alice/app/-/restore/1?digest=")).unwrap();
    let question = client.get(restore.split('"').next().unwrap()).await.status(200);
    let sent = client.submit(&question, "/ui/r/alice/app/-/restore/1", &[]).await.status(303);
    assert_eq!(sent.location(), "/ui/r/alice/app/-/tag/1?notice=tag-restored");
    alice.get("/v2/alice/app/manifests/1").send().await.status(200);
    // A repeated form says what is wrong, and the page of a tag that is gone does not exist.
    client.get("/ui/r/alice/app/-/tag/2").await.status(404);
    let logs = client.get("/api/v1/user/logs").await;
    if logs.status == 200 {
        let text = logs.text();
        assert!(text.contains("delete_tag") && text.contains("revert_tag"), "{text}");
    }
}

#[tokio::test]
async fn a_manifest_without_a_tag_is_restored_on_its_page_and_by_the_api() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let deleted = push_deleted(&alice, "alice/app").await;
    let (manifest, api) = (format!("/v2/alice/app/manifests/{deleted}"), "/api/v1/repository/alice/app");
    let mut client = Client::signed_in(&t, ALICE).await;
    let list = client.get("/ui/r/alice/app/-/deleted").await.status(200).text();
    let path = format!("/ui/r/alice/app/-/restore-manifest/{deleted}");
    assert!(list.contains(&path) && list.contains("until 20"), "{list}");
    let listed = client.get(&format!("{api}/deletedmanifest/")).await.status(200).json();
    assert_eq!(
        (listed["manifests"].as_array().unwrap().len(), &listed["manifests"][0]["digest"]),
        (1, &json!(deleted))
    );
    let question = client.get(&path).await.status(200);
    client.post(&path, &[]).await.status(403);
    alice.get(&manifest).send().await.status(404);
    let sent = client.submit(&question, &path, &[]).await.status(303);
    assert_eq!(sent.location(), format!("/ui/r/alice/app/-/manifest/{deleted}?notice=manifest-restored"));
    assert!(client.get(&sent.location()).await.status(200).text().contains("The manifest is restored."));
    alice.get(&manifest).send().await.status(200);
    client.get(&path).await.status(404);
    // A repeated form does no harm.
    client.submit(&question, &path, &[]).await.status(303);

    alice.delete(&manifest).send().await.status(202);
    let (bob, key) = (t.user(BOB), alice_key(&t).await);
    bob.post(&format!("{api}/manifest/{deleted}/restore")).send().await.status(403);
    let by_key = |path: &str| t.anonymous().post(path).header("authorization", format!("Bearer {key}"));
    by_key(&format!("{api}/manifest/{deleted}/restore")).send().await.status(200);
    alice.get(&manifest).send().await.status(200);
    by_key(&format!("{api}/manifest/sha256:{}/restore", "0".repeat(64))).send().await.status(404);
    client.get(&format!("{api}/deletedmanifest/?next_page=x")).await.status(400);
}

#[tokio::test]
async fn the_pages_of_a_locked_tag_say_so_and_offer_no_deletion() {
    const WHY: &str = "The tag 1 is locked, and can be neither moved nor deleted.";
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let manifest = push_image(&alice, "alice/app", "1", 1).await;
    push_image(&alice, "alice/app", "2", 3).await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let page = client.get("/ui/r/alice/app/-/tag/1").await.status(200).text();
    assert!(page.contains("Delete the tag…") && !page.contains("immutable"), "{page}");
    let question = client.get("/ui/r/alice/app/-/delete-tags?tag=1").await.status(200);
    let whole = client.get("/ui/r/alice/app/-/delete").await.status(200);
    let lock = t.anonymous().put("/api/v1/repository/alice/app/tag/1");
    let lock = lock.header("authorization", format!("Bearer {}", alice_key(&t).await));
    lock.body(json!({ "immutable": true }).to_string()).send().await.status(201);

    let digest = sha256(&bytes(&manifest));
    let page = client.get("/ui/r/alice/app/-/tag/1").await.status(200).text();
    assert!(page.contains(">immutable</span>") && page.contains(WHY), "{page}");
    assert!(!page.contains("/-/delete-tags"), "{page}");
    let page = client.get(&format!("/ui/r/alice/app/-/manifest/{digest}")).await.status(200).text();
    assert!(page.contains(WHY) && !page.contains("/-/delete-manifest/"), "{page}");
    for (path, others) in [
        ("delete-tags?tag=1", false),
        ("delete-tags?tag=1&tag=2", true),
        (&*format!("delete-manifest/{digest}"), false),
        ("delete", false),
    ] {
        let page = client.get(&format!("/ui/r/alice/app/-/{path}")).await.status(200).text();
        assert!(page.contains(WHY) && !page.contains("Will be freed"), "{path}: {page}");
        assert!(!page.contains("class=\"danger\" type=\"submit\"") && !page.contains("to confirm"), "{path}: {page}");
        assert_eq!(page.contains("select only the others"), others, "{path}: {page}");
    }
    // The forms of pages that were open before are refused.
    let refused = client.submit(&whole, "/ui/r/alice/app/-/delete", &[("confirm", "alice/app")]).await.status(409);
    assert!(refused.text().contains(WHY), "{}", refused.text());
    client.submit(&question, "/ui/r/alice/app/-/delete-tags", &[]).await.status(409);
    let page = client.get("/ui/r/alice/app/-/tag/2").await.status(200).text();
    assert!(page.contains("Delete the tag…") && !page.contains("immutable"), "{page}");
}

/// An API key of alice's.
async fn alice_key(t: &TestRegistry) -> String {
    let made = t.user(ALICE).post("/zot/auth/apikey").body("{\"label\":\"a\"}").send().await.status(201);
    made.json()["apiKey"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_manifest_and_a_repository_are_deleted_after_a_question() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let (index, images) = push_index(&alice, "alice/app", "1").await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let child = sha256(&bytes(&images[0]));
    let question = client.get(&format!("/ui/r/alice/app/-/delete-manifest/{child}")).await.status(200).text();
    assert!(
        question.contains("An index lists this manifest") && !question.contains("Delete the manifest</button>"),
        "{question}"
    );
    let path = format!("/ui/r/alice/app/-/delete-manifest/{}", sha256(&bytes(&index)));
    let question = client.get(&path).await.status(200);
    assert!(question.text().contains("3 manifests"), "{}", question.text());
    client.submit(&question, &path, &[]).await.status(303);
    alice.get("/v2/alice/app/manifests/1").send().await.status(404);
    let path = "/ui/r/alice/app/-/delete";
    let question = client.get(path).await.status(200);
    client.submit(&question, path, &[("confirm", "alice/other")]).await.status(400);
    alice.get("/v2/alice/app/tags/list").send().await.status(200);
    let sent = client.submit(&question, path, &[("confirm", "alice/app")]).await.status(303);
    assert_eq!(sent.location(), "/ui/?notice=repository-deleted");
    client.get("/ui/r/alice/app").await.status(404);
}

#[tokio::test]
async fn the_owner_describes_a_repository_and_gives_roles() {
    let t = TestRegistry::with_users().await;
    push_image(&t.user(ALICE), "alice/app", "1", 1).await;
    let (mut alice, mut bob) = (Client::signed_in(&t, ALICE).await, Client::signed_in(&t, BOB).await);
    bob.get("/ui/r/alice/app").await.status(404);
    let settings = "/ui/r/alice/app/-/settings";
    let page = alice.get(settings).await.status(200);
    // The first form of the page changes the visibility, so the fields of the last one are sent by themselves.
    let token =
        page.text().split("name=\"_csrf_token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let role =
        |name| [("_csrf_token", &*token), ("change", "set-role"), ("kind", "user"), ("name", name), ("role", "read")];
    let wrong = alice.post(settings, &role("unknown-user")).await.status(400);
    assert!(wrong.text().contains("role=\"alert\""), "{}", wrong.text());
    // After a mistake the form has what the user chose.
    let chosen = [&role("unknown-user")[..4], &[("role", "admin")]].concat();
    let wrong = alice.post(settings, &chosen).await.status(400).text();
    assert!(wrong.contains("\"user\" selected") && wrong.contains("\"admin\" selected"), "{wrong}");
    alice.post(settings, &role("bob")).await.status(303);
    let page = bob.get("/ui/r/alice/app").await.status(200).text();
    assert!(
        !page.contains("/-/description") && !page.contains("/-/settings") && !page.contains("type=\"checkbox\""),
        "{page}"
    );
    bob.get(settings).await.status(404);
    let remove = [("_csrf_token", &*token), ("change", "remove-role"), ("kind", "user"), ("name", "bob")];
    alice.post(settings, &remove).await.status(303);
    bob.get("/ui/r/alice/app").await.status(404);
    let page = alice.get(settings).await.status(200);
    let unsure = alice.submit(&page, settings, &[]).await.status(400).text();
    assert!(unsure.contains("Confirm that anyone may pull"), "{unsure}");
    t.anonymous().get("/ui/r/alice/app").send().await.status(303);
    let sent = alice.submit(&page, settings, &[("sure", "yes")]).await.status(303);
    assert_eq!(sent.location(), "/ui/r/alice/app/-/settings?notice=saved");
    let page = t.anonymous().get("/ui/r/alice/app").send().await.status(200).text();
    // Without an account no one learns the names of users.
    assert!(page.contains(">public<") && !page.contains("by alice"), "{page}");
    let tag = t.anonymous().get("/ui/r/alice/app/-/tag/1").send().await.status(200).text();
    assert!(!tag.contains("by alice") && alice.get("/ui/r/alice/app").await.text().contains("by alice"), "{tag}");
    let path = "/ui/r/alice/app/-/description";
    let page = alice.get(path).await.status(200);
    alice.submit(&page, path, &[("description", &"x".repeat(5000))]).await.status(400);
    alice.submit(&page, path, &[("description", "# Hello\r\n\r\nan *app*")]).await.status(303);
    let page = bob.get("/ui/r/alice/app").await.status(200).text();
    assert!(page.contains("<h3>Hello</h3>") && page.contains("<em>app</em>"), "{page}");
}

#[tokio::test]
async fn a_chart_shows_its_texts_and_an_artifact_its_files() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let archive = chart(&[("app/Chart.yaml", b"name: app\nversion: 1.0.0\n"), ("app/README.md", b"# The chart\n")]);
    push_chart(&alice, "alice/chart", "1.0.0", &archive).await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let page = client.get("/ui/r/alice/chart/-/tag/1.0.0").await.status(200).text();
    assert!(page.contains("<h3>The chart</h3>") && page.contains("version: 1.0.0"), "{page}");
    assert!(page.contains("helm pull oci://") && page.contains("--version 1.0.0 --plain-http"), "{page}");
    push_file(&alice, "alice/files", "1", "note.txt").await;
    let page = client.get("/ui/r/alice/files/-/tag/1").await.status(200).text();
    assert!(page.contains("download=\"note.txt\"") && page.contains("oras pull"), "{page}");
}

/// Texts that would do something if they were markup, a link or a path.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "https://ok.example/\" onclick=\"alert(1)",
    "</textarea></pre></code><svg onload=alert(1)>",
    "{{ layout.csrf_token }}",
    "<style>*{display:none}</style>",
    "[click](javascript:alert(1)) ![x](https://evil.example/x.png) <iframe src=//evil.example></iframe>",
    "\u{202e}\u{0}\u{7}evil",
    "<a href=/ui/sign-out>sign out</a><form action=//evil.example><input name=_csrf_token></form>",
];

#[tokio::test]
async fn no_text_of_a_client_becomes_markup() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    let mut client = Client::signed_in(&t, ALICE).await;
    for (number, text) in HOSTILE.iter().enumerate() {
        let name = format!("alice/hostile{number}");
        let config = json!({
            "os": text, "architecture": text, "variant": text, "created": text, "author": text,
            "config": {
                "Entrypoint": [text], "Cmd": [text], "Env": [format!("{text}=1")], "User": text, "WorkingDir": text,
                "ExposedPorts": { *text: {} }, "Volumes": { *text: {} }, "Labels": { *text: text, "url": text },
            },
            "history": [{ "created_by": text, "comment": text }],
        });
        let config = config.to_string().into_bytes();
        let archive = chart(&[("a/Chart.yaml", text.as_bytes()), ("a/README.md", text.as_bytes())]);
        push_blob(&alice, &name, &config).await;
        push_blob(&alice, &name, &archive).await;
        let mut image = image(&config, &[&archive]);
        image["annotations"] = json!({
            *text: text, "org.opencontainers.image.title": text, "org.opencontainers.image.description": text,
            "org.opencontainers.image.url": text, "org.opencontainers.image.source": text,
        });
        put_manifest(&alice, &name, "1", &image).await.status(201);
        // A chart with the same archive, an artifact with a file of that name, and a referrer.
        let mut layer = descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &archive);
        layer["annotations"] = json!({ "org.opencontainers.image.title": text });
        let chart = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": [layer],
            "config": descriptor("application/vnd.cncf.helm.config.v1+json", &config),
        });
        put_manifest(&alice, &name, "chart", &chart).await.status(201);
        let mut file = descriptor(LAYER, &archive);
        file["mediaType"] = json!("text/x");
        file["annotations"] = json!({ "org.opencontainers.image.title": text });
        let artifact = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/spdx+json", "layers": [file],
            "config": descriptor(CONFIG, &config), "annotations": { *text: text },
            "subject": descriptor(MANIFEST, &bytes(&image)),
        });
        put_manifest(&alice, &name, "artifact", &artifact).await.status(201);
        let path = format!("/ui/r/{name}/-/description");
        let page = client.get(&path).await.status(200);
        client.submit(&page, &path, &[("description", text)]).await.status(303);
        for place in [
            "",
            "/-/tag/1",
            "/-/tag/chart",
            "/-/tag/artifact",
            "/-/untagged",
            "/-/history",
            "/-/description",
            "/-/settings",
            "/-/delete-tags?tag=1",
        ] {
            let page = client.get(&format!("/ui/r/{name}{place}")).await.status(200).text();
            assert_harmless(&page, &format!("{text:?} at {place}"));
        }
        for path in ["/ui/", "/ui/?view=tree&path=alice", "/ui/search?q=hostile"] {
            assert_harmless(&client.get(path).await.status(200).text(), &format!("{text:?} at {path}"));
        }
        let encoded = percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        for path in [
            "/ui/?q=",
            "/ui/search?q=",
            "/ui/?view=tree&path=",
            &format!("/ui/r/{name}?q="),
            &format!("/ui/r/{name}/-/history?tag="),
            &format!("/ui/r/{name}/-/restore/1?digest="),
        ] {
            assert_harmless(
                &client.get(&format!("{path}{encoded}")).await.status(200).text(),
                &format!("{text:?} at {path}"),
            );
        }
    }
}

/// Asserts that a page has only tags and links that its templates write.
fn assert_harmless(page: &str, what: &str) {
    for tag in page.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
        let name = tag.split(|c: char| c.is_whitespace()).next().unwrap().trim_start_matches('/').to_lowercase();
        assert!(!["img", "iframe", "style", "object", "embed", "base"].contains(&&*name), "{what}: <{tag}>");
        let names = tag.split('"').step_by(2).skip(usize::from(!tag.contains('"')));
        for attribute in names.flat_map(str::split_whitespace) {
            assert!(!attribute.to_lowercase().starts_with("on"), "{what}: <{tag}>");
        }
        let values = tag.split('"').skip(1).step_by(2);
        let links = tag
            .split('"')
            .step_by(2)
            .zip(values)
            .filter(|(name, _)| ["href=", "src=", "action="].iter().any(|link| name.trim_end().ends_with(link)));
        for (_, value) in links {
            let is_own = value.starts_with("/ui/") || value == "/api/v1/discovery" || value == "#content";
            assert!(is_own || value.starts_with("https://ok.example/"), "{what}: <{tag}>");
        }
    }
    assert_eq!(page.matches("<script").count(), 1, "{what}");
    assert_eq!(page.matches("<svg").count(), page.matches("class=\"icon\"").count(), "{what}");
}

#[tokio::test]
async fn looking_at_pages_changes_nothing_and_counts_no_pull() {
    let t = TestRegistry::with_users().await;
    let alice = t.user(ALICE);
    push_index(&alice, "alice/app", "1").await;
    push_image(&alice, "alice/app", "2", 7).await;
    let mut client = Client::signed_in(&t, ALICE).await;
    let rows = || ["coracle.redb", "coracle.wal"].map(|name| std::fs::read(t.registry.data_dir().join(name)).ok());
    // Maintenance may write the last use of the session meanwhile.
    for attempt in 0.. {
        let before = rows();
        let (mut seen, mut waiting) =
            (std::collections::HashSet::new(), vec!["/ui/".to_owned(), "/ui/?view=tree".to_owned()]);
        while let Some(path) = waiting.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let page = client.get(&path).await;
            if page.status != 200 || path.contains("/blob/") || path.contains("/assets/") {
                continue;
            }
            let text = page.text();
            let links =
                text.split("href=\"").skip(1).map(|rest| super::client::unescaped(rest.split('"').next().unwrap()));
            waiting
                .extend(links.filter(|link| {
                    link.starts_with("/ui/") && !link.contains("/admin/") && !link.contains("/account")
                }));
        }
        assert!(seen.len() > 20, "{seen:?}");
        if rows() == before {
            break;
        }
        assert!(attempt < 5, "the pages change the database");
    }
    let page = client.get("/ui/r/alice/app/-/tag/2").await.status(200).text();
    assert!(page.contains("never"), "{page}");
}
