//! Retention by command, by maintenance and on the page, and immutable tags: the real program with its clients.

use std::path::Path;

use serde_json::Value;

use crate::support::content::{push_image, put_manifest};
use crate::support::process::{ADMIN, Program};
use crate::ui::client::Client;

const POLICY: &str = "[[storage.retention.policies]]\nrepositories = ['ci/**']\n\
                      keepTags = [{ patterns = ['^v'] }, { mostRecentlyPushedCount = 1, pushedWithin = '1ms' }]\n";

/// The standard output of a command that must succeed.
#[track_caller]
fn done(root: &Path, config: &Path, arguments: &[&str]) -> String {
    let finished = Program::new(arguments).arg("--root").arg(root).arg("--config").arg(config).run();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished.stdout
}

fn tags(plan: &Value, list: &str) -> Vec<String> {
    let list = plan[list].as_array().unwrap().iter();
    list.map(|tag| format!("{}:{}", tag["repository"].as_str().unwrap(), tag["tag"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_and_the_page_say_what_a_run_removes_and_each_tag_can_be_restored() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("coracle.toml");
    let data = root.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(&config, POLICY).unwrap();
    let running = Program::serve_with(&data, POLICY).with_admin().start();
    let admin = running.user(ADMIN);
    for (tag, seed) in [("v1", 1), ("old", 2), ("new", 3)] {
        push_image(&admin, "ci/app", tag, seed).await;
        push_image(&admin, "prod/app", tag, seed).await;
    }
    let coracle = |arguments: &[&str]| done(&data, &config, arguments);
    let plan: Value = serde_json::from_str(&coracle(&["retention", "plan", "--json"])).unwrap();
    assert_eq!((tags(&plan, "remove"), tags(&plan, "keep").len()), (vec!["ci/app:old".to_owned()], 2), "{plan}");
    let text = coracle(&["retention", "plan", "ci/app"]);
    let cells = |line| str::split(line, "  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    let rows: Vec<Vec<&str>> = text.lines().map(cells).collect();
    assert_eq!(rows[0], ["ACTION", "TAG", "REASON", "RULE"], "{text}");
    let removed = ["remove", "ci/app:old", "meets no condition", "storage.retention.policies[0].keepTags[1]"];
    assert!(rows.iter().any(|row| *row == removed), "{text}");
    assert!(rows.iter().any(|row| row.starts_with(&["keep", "ci/app:v1", "matches the patterns"])), "{text}");
    assert!(coracle(&["retention", "plan", "prod/app"]).contains("all tags stay"));

    let mut client = Client::of(running.anonymous());
    client.sign_in(ADMIN).await;
    let page = client.get("/ui/r/ci/app").await.status(200).text();
    assert!(page.contains("The next retention run removes it: meets no condition"), "{page}");
    assert!(page.contains(">will be removed</span>"), "{page}");
    assert!(page.contains("Stays: the most recently pushed"), "{page}");
    let page = client.get("/ui/r/prod/app").await.status(200).text();
    assert!(!page.contains("retention"), "{page}");

    // A file with policies may have others than the running registry.
    let hint = |more: &[&str]| {
        let plan = Program::new(["retention", "plan"]).arg("--root").arg(&data).args(more).run();
        plan.stderr.contains("The plan follows the policies of the running registry")
    };
    assert!(hint(&["--config", config.to_str().unwrap()]) && !hint(&[]));

    assert_eq!(coracle(&["retention", "run"]), "1 tag removed, 2 tags kept\n");
    let left = admin.get("/v2/ci/app/tags/list").send().await.status(200).json();
    assert_eq!(left["tags"], serde_json::json!(["new", "v1"]));
    let left = admin.get("/v2/prod/app/tags/list").send().await.status(200).json();
    assert_eq!(left["tags"].as_array().unwrap().len(), 3);
    let log = client.get("/ui/admin/audit").await.status(200).text();
    assert!(log.contains("storage.retention.policies[0].keepTags[1]: meets no condition"), "{log}");
    let restore = Program::new(["tag", "restore", "ci/app:old"]).arg("--root").arg(&data).arg("--config").arg(&config);
    let restored = restore.run();
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let displaced = "now removes ci/app:new (storage.retention.policies[0].keepTags[1]: meets no condition)";
    assert!(restored.stderr.contains(displaced) && !restored.stderr.contains("ci/app:v1"), "{restored:?}");
    admin.get("/v2/ci/app/manifests/old").send().await.status(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_removes_tags_before_its_garbage_collection() {
    let root = tempfile::tempdir().unwrap();
    let config = format!("storage.gcInterval = '1s'\n{POLICY}");
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    let admin = running.user(ADMIN);
    for (tag, seed) in [("v1", 1), ("old", 2), ("new", 3)] {
        push_image(&admin, "ci/app", tag, seed).await;
    }
    running.wait_for("retention removed tags");
    admin.get("/v2/ci/app/manifests/new").send().await.status(200);
    admin.get("/v2/ci/app/manifests/v1").send().await.status(200);
    admin.get("/v2/ci/app/manifests/old").send().await.status(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_an_immutable_tag_is_refused_with_the_name_of_the_rule() {
    let rule = "[[storage.immutableTags]]\nname = 'releases'\nrepositories = ['prod/**']\ntags = ['v*']\n";
    let policy = "[[storage.retention.policies]]\nrepositories = ['**']\nkeepTags = [{ patterns = ['^none$'] }]\n";
    let (root, config) = (tempfile::tempdir().unwrap(), format!("{rule}{policy}"));
    let file = root.path().join("rules.toml");
    std::fs::write(&file, &config).unwrap();
    let running = Program::serve_with(root.path(), &config).with_admin().start();
    let admin = running.user(ADMIN);
    let release = push_image(&admin, "prod/app", "v1", 1).await;
    let other = push_image(&admin, "prod/app", "main", 2).await;
    let message = "the tag v1 is immutable by the rule \"releases\"";
    for refused in
        [put_manifest(&admin, "prod/app", "v1", &other).await, admin.delete("/v2/prod/app/manifests/v1").send().await]
    {
        let errors = refused.error(409, "DENIED").json();
        assert_eq!(
            (&errors["errors"][0]["message"], &errors["errors"][0]["detail"]["tag"]),
            (&message.into(), &"v1".into())
        );
    }
    put_manifest(&admin, "prod/app", "v1", &release).await.status(201);
    push_image(&admin, "other/app", "v1", 3).await;
    push_image(&admin, "other/app", "v1", 4).await;
    let mut client = Client::of(running.anonymous());
    client.sign_in(ADMIN).await;
    let page = client.get("/ui/r/prod/app").await.status(200).text();
    assert!(page.contains("immutable</span>") && page.contains("immutable by the rule"), "{page}");
    let page = client.get("/ui/r/prod/app/-/tag/v1").await.status(200).text();
    assert!(page.contains(">immutable</span>") && !page.contains("/-/delete-tags"), "{page}");
    let page = client.get("/ui/r/prod/app/-/delete-tags?tag=v1").await.status(200).text();
    assert!(page.contains("The tag v1 is immutable by the rule") && !page.contains("Will be freed"), "{page}");
    let page = client.get("/ui/r/prod/app/-/delete").await.status(200).text();
    assert!(page.contains("The tag v1 is immutable by the rule") && !page.contains("to confirm"), "{page}");
    assert_eq!(done(root.path(), &file, &["retention", "run"]), "2 tags removed, 1 tag kept\n");
    admin.get("/v2/prod/app/manifests/v1").send().await.status(200);
}
