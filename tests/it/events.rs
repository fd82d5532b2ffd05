//! `extensions.events`: every change is sent to the sinks, in order and at least once, and no refused request is.

mod receiver;

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coracle::Registry;
use hmac::{Hmac, KeyInit as _, Mac as _};
use receiver::Receiver;
use sha2::Sha256;

use crate::support::content::{bytes, image, push_blob, push_image, put_manifest, sha256};
use crate::support::process::{ADMIN, Program, Running};
use crate::support::registry::{ALICE, BOB, ROOT};
use crate::support::{TestRegistry, is_long_form};

/// A registry whose events go to a receiver. `more` are settings of the sink.
async fn registry(receiver: &Receiver, more: &str) -> TestRegistry {
    let text = config(receiver, more);
    let config = coracle::config::Config::from_toml_str(&text).unwrap().config;
    let builder = Registry::builder().config(config).superuser(ROOT.0, ROOT.1);
    TestRegistry::start(builder.user(ALICE.0, ALICE.1).user(BOB.0, BOB.1)).await
}

fn config(receiver: &Receiver, more: &str) -> String {
    format!(
        "[extensions.events]\nenable = true\n[[extensions.events.sinks]]\nname = 'hook'\ntype = 'http'\naddress = '{}'\n\
         retryDelay = '10ms'\nmaxRetryDelay = '50ms'\n{more}",
        receiver.url()
    )
}

async fn metric(t: &TestRegistry, name: &str) -> u64 {
    let text = t.user(ROOT).get("/metrics").send().await.status(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).parse().unwrap()
}

#[tokio::test]
async fn changes_are_sent_in_order_with_the_fields_of_zot() {
    let receiver = Receiver::start().await;
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, format!("whsec_{}\n", STANDARD.encode("a secret of 24 bytes...."))).unwrap();
    let more = format!(
        "channel = 'images'\nheaders = {{ X-Team = 'platform' }}\nsecretFile = '{}'\n\
         credentials = {{ username = 'hook', password = 'hidden' }}\n",
        secret.display()
    );
    let t = registry(&receiver, &more).await;
    let alice = t.user(ALICE);
    let manifest = push_image(&alice, "alice/app", "1", 1).await;
    let digest = sha256(&bytes(&manifest));
    put_manifest(&alice, "alice/app", &digest, &manifest).await.status(201);
    put_manifest(&alice, "alice/app", "2", &manifest).await.status(201);
    let second = push_image(&alice, "alice/app", "1", 2).await;
    alice.delete("/v2/alice/app/manifests/2").send().await.status(202);
    alice.delete(&format!("/v2/alice/app/manifests/{}", sha256(&bytes(&second)))).send().await.status(202);
    // Refused: without rights, with an invalid manifest, with an unknown tag.
    put_manifest(&t.user(BOB), "alice/app", "3", &manifest).await.status(403);
    alice.put("/v2/alice/app/manifests/4").header("content-type", "application/json").body("{}").send().await;
    alice.delete("/v2/alice/app/manifests/nothing").send().await.status(404);
    push_image(&alice, "alice/last", "1", 3).await;

    let taken = receiver
        .until("the last push is sent", |lines| lines.iter().any(|line| line == "image.updated alice/last 1"))
        .await;
    let last = format!("image.deleted alice/app {}", sha256(&bytes(&second)));
    assert_eq!(
        receiver.lines(),
        [
            "repository.created alice/app",
            "image.updated alice/app 1",
            "image.updated alice/app 2",
            "image.updated alice/app 1",
            "image.deleted alice/app 2",
            "image.deleted alice/app 1",
            &last,
            "repository.created alice/last",
            "image.updated alice/last 1",
        ]
    );
    let push = &taken[1];
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-source", "zotregistry.dev"),
        ("ce-channel", "images"),
        ("content-type", "application/json"),
        ("x-team", "platform"),
        ("authorization", &format!("Basic {}", STANDARD.encode("hook:hidden"))),
    ] {
        assert_eq!(push.header(name), value, "{name}");
    }
    assert!(push.header("ce-time").starts_with("20"), "{}", push.header("ce-time"));
    let data = push.data();
    assert_eq!(data["name"], "alice/app");
    assert_eq!(data["reference"], "1");
    assert_eq!(data["digest"], digest.as_str());
    assert_eq!(data["mediaType"], manifest["mediaType"]);
    assert_eq!(data["manifest"].as_str().unwrap().as_bytes(), bytes(&manifest));
    assert_eq!(data["actor"]["name"], "alice");
    assert_eq!((&data["request"]["addr"], &data["request"]["method"]), (&"127.0.0.1".into(), &"PUT".into()));
    assert_eq!(taken[4].data()["request"]["method"], "DELETE");

    let ids: HashSet<&str> = taken.iter().map(|event| event.header("ce-id")).collect();
    assert_eq!(ids.len(), taken.len(), "each event has its own id");
    for event in &taken {
        let id = event.header("webhook-id");
        assert_eq!(id, event.header("ce-id"));
        let mut mac = Hmac::<Sha256>::new_from_slice(b"a secret of 24 bytes....").unwrap();
        mac.update(format!("{id}.{}.", event.header("webhook-timestamp")).as_bytes());
        mac.update(&event.body);
        let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(event.header("webhook-signature"), signature);
    }
    assert_eq!(metric(&t, "coracle_events_delivered_total{sink=\"hook\"}").await, taken.len() as u64);
}

#[tokio::test]
async fn a_receiver_that_is_away_delays_no_push_and_gets_everything_later() {
    let mut receiver = Receiver::start().await;
    let t = registry(&receiver, "timeout = '200ms'\n").await;
    receiver.stop().await;
    let mut expected = Vec::new();
    for n in 0..20 {
        push_image(&t.user(ALICE), "alice/app", &format!("t{n}"), n).await;
        expected.push(format!("image.updated alice/app t{n}"));
    }
    let failures = Instant::now();
    while metric(&t, "coracle_events_failures_total{sink=\"hook\"}").await < 3 {
        assert!(failures.elapsed() < Duration::from_secs(30), "no attempt fails");
    }
    assert_eq!(metric(&t, "coracle_events_failing{sink=\"hook\"}").await, 1);
    // It comes back slow: each answer is later than the sink waits for. Then it works again.
    receiver.delay(Duration::from_secs(5));
    receiver.restart();
    tokio::time::sleep(Duration::from_millis(300)).await;
    receiver.delay(Duration::ZERO);
    let done = |lines: &[String]| lines.iter().any(|line| line == "image.updated alice/app t19");
    receiver.until("the last push is sent", done).await;
    let mut lines = receiver.lines();
    lines.retain(|line| line.contains(" t"));
    lines.dedup();
    assert_eq!(lines, expected, "in order, and some perhaps twice");
}

#[tokio::test]
async fn a_refused_event_is_set_aside_and_can_be_sent_again() {
    let receiver = Receiver::start().await;
    let root = tempfile::tempdir().unwrap();
    let running = serve(root.path(), &config(&receiver, "maxRetries = 2\n"));
    receiver.refuse(Some((500, "poison")));
    for tag in ["first", "poison", "last"] {
        push_image(&running.user(ADMIN), "admin/app", tag, 1).await;
    }
    receiver.until("the event after it is sent", |lines| lines.iter().any(|line| line.ends_with("last"))).await;
    assert!(!receiver.lines().iter().any(|line| line.ends_with("poison")));
    let command = |arguments: &[&str]| {
        let file = root.path().join("coracle.toml");
        Program::new(arguments).arg("--config").arg(file).arg("--root").arg(root.path().join("data")).run()
    };
    let list = command(&["events", "--json", "list"]);
    let list: serde_json::Value = serde_json::from_str(&list.stdout).unwrap_or_else(|_| panic!("{list:?}"));
    let refused = &list["sinks"][0]["refused"];
    assert_eq!(refused.as_array().unwrap().len(), 1, "{list}");
    assert_eq!((&refused[0]["reference"], &refused[0]["attempts"]), (&"poison".into(), &3.into()));
    assert!(refused[0]["why"].as_str().unwrap().contains("500"), "{list}");
    let shown = command(&["events", "list"]);
    let rows: Vec<Vec<&str>> = shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["SINK", "WAITING", "DELIVERED", "REFUSED", "STATE"], "{shown:?}");
    assert_eq!((rows[1][..2].to_vec(), rows[1][3]), (vec!["hook", "0"], "1"), "{shown:?}");
    assert!(rows[3].starts_with(&["REFUSED", "EVENT", "SINK", "TIME"]) && rows[4].contains(&"poison"), "{shown:?}");

    receiver.refuse(None);
    let wrong = command(&["events", "redeliver", "00000000-0000-0000-0000-000000000000"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    let again = command(&["events", "redeliver", refused[0]["id"].as_str().unwrap()]);
    assert_eq!(again.stdout, "1 event is sent again; events that wait are tried now\n", "{again:?}");
    let taken = receiver.until("it is sent again", |lines| lines.iter().any(|line| line.ends_with("poison"))).await;
    assert_eq!(taken.last().unwrap().header("ce-id"), refused[0]["id"].as_str().unwrap());
    assert_eq!(taken.last().unwrap().data()["actor"]["name"], "admin");
    // A stopped registry lists as well.
    running.stop();
    let list = command(&["events", "list"]);
    let row: Vec<&str> = list.stdout.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["hook", "0", "0", "0", "ok"], "{list:?}");
}

#[tokio::test]
async fn an_image_without_mandatory_annotations_sends_only_the_event_that_zot_sends() {
    let receiver = Receiver::start().await;
    let t = registry(&receiver, "[extensions.lint]\nenable = true\nmandatoryAnnotations = ['vendor']\n").await;
    let alice = t.user(ALICE);
    let config = push_blob(&alice, "alice/app", b"{}").await;
    let mut manifest = image(b"{}", &[]);
    assert_eq!(manifest["config"]["digest"], config.as_str());
    put_manifest(&alice, "alice/app", "1", &manifest).await.error(400, "MANIFEST_INVALID");
    put_manifest(&t.user(BOB), "alice/app", "2", &manifest).await.error(403, "DENIED");
    let digest = sha256(&bytes(&manifest));
    put_manifest(&alice, "alice/app", &digest, &manifest).await.error(400, "MANIFEST_INVALID");
    let refused = bytes(&manifest);
    manifest["annotations"] = serde_json::json!({ "vendor": "x" });
    put_manifest(&alice, "alice/app", "1", &manifest).await.status(201);
    let done = |lines: &[String]| lines.iter().any(|line| line.starts_with("image.updated"));
    let taken = receiver.until("the push that is right is sent", done).await;
    let of_digest = format!("image.lint_failed alice/app {digest}");
    let lines = receiver.lines();
    assert_eq!(lines[lines.len() - 3..], ["image.lint_failed alice/app 1", &of_digest, "image.updated alice/app 1"]);
    let data = taken[lines.len() - 3].data();
    assert_eq!((&data["digest"], &data["mediaType"]), (&digest.into(), &manifest["mediaType"]));
    assert_eq!(data["manifest"].as_str().unwrap().as_bytes(), refused);
    assert_eq!((&data["actor"]["name"], &data["request"]["method"]), (&"alice".into(), &"PUT".into()));
}

#[tokio::test]
async fn too_many_events_drop_the_oldest_ones() {
    let mut receiver = Receiver::start().await;
    receiver.stop().await;
    let text = config(&receiver, "").replace("enable = true", "enable = true\noutboxLimit = 5");
    let config = coracle::config::Config::from_toml_str(&text).unwrap().config;
    let t =
        TestRegistry::start(Registry::builder().config(config).superuser(ROOT.0, ROOT.1).user(ALICE.0, ALICE.1)).await;
    for n in 0..9 {
        push_image(&t.user(ALICE), "alice/app", &format!("t{n}"), n).await;
    }
    assert_eq!(metric(&t, "coracle_events_dropped_total").await, 5, "one for the repository, nine for the images");
    receiver.restart();
    receiver.until("the last one is sent", |lines| lines.iter().any(|line| line.ends_with("t8"))).await;
    let lines = receiver.lines();
    // The first one was being sent when it was dropped.
    let kept: Vec<&String> = lines.iter().filter(|line| line.contains(" t")).collect();
    assert!(
        kept.len() <= 6
            && kept[kept.len() - 5..].iter().map(|line| &line[line.len() - 2..]).eq(["t4", "t5", "t6", "t7", "t8"]),
        "{lines:?}"
    );
}

#[tokio::test]
async fn without_a_sink_nothing_is_written() {
    let root = tempfile::tempdir().unwrap();
    let running = serve(root.path(), "[extensions.events]\nenable = true\n");
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    let file = root.path().join("coracle.toml");
    let list =
        Program::new(["events", "list", "--config"]).arg(&file).arg("--root").arg(root.path().join("data")).run();
    assert!(list.stderr.contains("this registry sends no events"), "{list:?}");
    running.stop();
    // A sink that is added later gets nothing from before.
    let receiver = Receiver::start().await;
    let running = serve(root.path(), &config(&receiver, ""));
    push_image(&running.user(ADMIN), "admin/app", "2", 2).await;
    receiver.until("the new push is sent", |lines| lines == ["image.updated admin/app 2"]).await;
}

fn serve(root: &Path, config: &str) -> Running {
    std::fs::write(root.join("coracle.toml"), config).unwrap();
    let program = Program::serve(&root.join("data")).arg(root.join("coracle.toml"));
    program.with_admin().start()
}

/// The program is killed under load, again and again. Every acknowledged push is sent, and no refused one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_change_is_sent_although_the_registry_is_killed() {
    let kills = if is_long_form() { 200 } else { 3 };
    let receiver = Receiver::start().await;
    let root = tempfile::tempdir().unwrap();
    let config = config(&receiver, "");
    let mut acknowledged: Vec<String> = Vec::new();
    let mut running = serve(root.path(), &config);
    push_image(&running.user(ADMIN), "admin/app", "base", 1).await;
    let manifest = push_image(&running.user(ADMIN), "admin/app", "base", 2).await;
    let (body, media_type) = (bytes(&manifest), manifest["mediaType"].as_str().unwrap().to_owned());
    for round in 0..kills {
        let caller = running.user(ADMIN);
        let clients: Vec<_> = (0..3)
            .map(|client| {
                let (caller, body, media_type) = (caller.clone(), body.clone(), media_type.clone());
                tokio::spawn(async move {
                    let mut done = Vec::new();
                    for n in 0.. {
                        let tag = format!("r{round}c{client}n{n}");
                        let put = |tag: &str, body: Vec<u8>| {
                            let path = format!("/v2/admin/app/manifests/{tag}");
                            caller.put(&path).header("content-type", &media_type).body(body).try_send()
                        };
                        match put(&tag, body.clone()).await {
                            Ok(answer) if answer.status == 201 => done.push(tag.clone()),
                            Ok(answer) => panic!("{}", answer.text()),
                            Err(_) => return done,
                        }
                        match put(&format!("refused-{tag}"), b"{\"schemaVersion\":2}".to_vec()).await {
                            Ok(answer) => assert_eq!(answer.status, 400, "{}", answer.text()),
                            Err(_) => return done,
                        }
                    }
                    done
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(50_000 + round * 7919 % 90_000)).await;
        running.kill();
        for client in clients {
            acknowledged.extend(client.await.unwrap());
        }
        running = serve(root.path(), &config);
    }
    let all = |lines: &[String]| {
        let sent: HashSet<&str> =
            lines.iter().filter_map(|line| line.strip_prefix("image.updated admin/app ")).collect();
        acknowledged.iter().all(|tag| sent.contains(tag.as_str()))
    };
    receiver.until("every acknowledged push is sent", all).await;
    let (lines, ids) = (
        receiver.lines(),
        receiver.taken().iter().map(|event| event.header("ce-id").to_owned()).collect::<HashSet<_>>(),
    );
    assert!(!lines.iter().any(|line| line.contains("refused")), "{lines:?}");
    assert!(!acknowledged.is_empty());
    let repeated = lines.len() - ids.len();
    println!(
        "{kills} kills, {} acknowledged pushes, {} events, {repeated} of them again",
        acknowledged.len(),
        lines.len()
    );
}
