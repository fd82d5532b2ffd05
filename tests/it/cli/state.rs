//! `coracle status` and `coracle du`, on a running and on a stopped registry.

use std::path::Path;

use serde_json::Value;

use crate::support::content::{noise, push_blob, push_image, start_upload};
use crate::support::process::{ADMIN, Finished, Program};

fn coracle(root: &Path, arguments: &[&str]) -> Finished {
    Program::new(arguments).arg("--root").arg(root).run()
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[tokio::test]
async fn the_status_shows_what_runs_what_is_stored_and_what_needs_attention() {
    let place = tempfile::tempdir().unwrap();
    let root = &place.path().join("data");
    let running = Program::serve(root).with_admin().start();
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    start_upload(&running.user(ADMIN), "admin/app").await;
    let shown = coracle(root, &["status"]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    for text in [
        "coracle 0.1.0, running\n",
        &format!("  address         {}\n", running.url()),
        "  content         1 repository, 2 blobs (",
        "  uploads         1 unfinished upload (0 B)\n",
        "  scrub           not since the start\n",
        "  last backup     never: `coracle backup DIRECTORY` makes one\n",
    ] {
        assert!(shown.stdout.contains(text), "{text:?} is missing: {}", shown.stdout);
    }
    assert!(!shown.stdout.contains("warning"), "{}", shown.stdout);
    let nowhere = coracle(&place.path().join("nowhere"), &["status"]);
    for way in ["--config", "CORACLE_CONFIG", "--root"] {
        assert!(nowhere.code == Some(1) && nowhere.stderr.contains(way), "{nowhere:?}");
    }
    let backup = coracle(root, &["backup", place.path().join("backup").to_str().unwrap()]);
    assert_eq!(backup.code, Some(0), "{backup:?}");
    assert_eq!(coracle(root, &["scrub"]).code, Some(0));
    let state = json(&coracle(root, &["status", "--json"]));
    assert_eq!(state["server"]["url"], running.url(), "{state}");
    assert_eq!(state["server"]["process"], running.pid().as_raw_nonzero().get());
    assert!(state["last_backup"].as_str().is_some_and(|time| time.starts_with("20")), "{state}");
    assert_eq!((&state["repositories"], &state["uploads"], &state["read_only"]), (&1.into(), &1.into(), &false.into()));
    assert_eq!(state["maintenance"][1]["good"], true, "{state}");
    // A health check says nothing.
    let quiet = coracle(root, &["status", "--quiet"]);
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (Some(0), "", ""));
    running.stop();
    let stopped = coracle(root, &["status"]);
    assert_eq!(stopped.code, Some(1), "{stopped:?}");
    assert!(stopped.stdout.starts_with("coracle 0.1.0, stopped\n"), "{stopped:?}");
    let backup = stopped.stdout.lines().find(|line| line.starts_with("  last backup     20")).unwrap();
    assert!(backup.ends_with(" UTC"), "the time of the backup is kept, to the minute: {backup}");
    let quiet = coracle(root, &["status", "--quiet"]);
    assert_eq!((quiet.code, quiet.stdout.as_str(), quiet.stderr.as_str()), (Some(1), "", ""));
    // The backup itself was never backed up.
    let restored = place.path().join("restored");
    assert_eq!(coracle(&restored, &["restore", place.path().join("backup").to_str().unwrap()]).code, Some(0));
    assert_eq!(json(&coracle(&restored, &["status", "--json"]))["last_backup"], Value::Null);
}

#[tokio::test]
async fn the_status_warns_of_what_needs_attention() {
    let place = tempfile::tempdir().unwrap();
    let root = &place.path().join("data");
    let config = "[http]\naddress = '0.0.0.0'\n[storage]\nminFreeSpace = '4000000GiB'\n";
    let running = Program::serve_with(root, config).with_admin().start();
    running.user(ADMIN).get("/v2/").header("x-forwarded-for", "192.0.2.1").send().await.status(200);
    let shown = coracle(root, &["status"]);
    assert_eq!(shown.code, Some(0), "pulls still work: {shown:?}");
    for text in [
        "warning: pushes are refused: ",
        "warning: ignored forwarding headers of 127.0.0.1: if it is your proxy, add its address to http.trustedProxies",
        "warning: clients on other machines send passwords in clear text: configure http.tls",
    ] {
        assert!(shown.stdout.contains(text), "{text:?} is missing: {}", shown.stdout);
    }
}

/// A port where nothing listens.
fn closed() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn servers_that_are_away_and_collections_that_find_nothing_are_shown() {
    let place = tempfile::tempdir().unwrap();
    let root = &place.path().join("data");
    let (directory, sink) = (closed(), closed());
    let config = format!(
        "[http]\nlisten = ['127.0.0.1:0', '[::1]:0']\n[storage]\ngcInterval = '1s'\n[http.auth.ldap]\naddress = \
         '127.0.0.1'\nport = {}\ninsecure = true\nbaseDN = 'dc=example'\nuserAttribute = 'uid'\n[extensions.events]\nenable \
         = true\n[[extensions.events.sinks]]\nname = 'hook'\ntype = 'http'\naddress = 'http://{sink}/events'\nretryDelay = \
         '10ms'\n",
        directory.port()
    );
    std::fs::create_dir_all(root).unwrap();
    let file = root.join("coracle.toml");
    std::fs::write(&file, &config).unwrap();
    let running = Program::new(["serve", "--root"]).arg(root).arg(&file).with_admin().start();
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    running.user(("ann", "secret")).get("/v2/").send().await;
    let wanted = [
        "warning: the LDAP directory cannot be asked: 127.0.0.1:".to_owned(),
        "warning: the sink hook takes no events, and 2 events wait: ".to_owned(),
        ": Found nothing to remove.\n".to_owned(),
    ];
    let begun = std::time::Instant::now();
    let shown = loop {
        let shown = coracle(root, &["status"]);
        if wanted.iter().all(|text| shown.stdout.contains(text)) {
            break shown.stdout;
        }
        assert!(begun.elapsed() < std::time::Duration::from_mins(1), "{shown:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    let addresses = shown.lines().find(|line| line.starts_with("  address")).unwrap();
    assert!(addresses.contains("http://127.0.0.1:") && addresses.contains(", http://[::1]:"), "{addresses}");
    let metrics = running.user(ADMIN).get("/metrics").send().await.status(200).text();
    assert!(metrics.contains("\ncoracle_ldap_away 1\n"), "{metrics}");
    assert!(metrics.contains("\ncoracle_ldap_requests_total{result=\"failed\"} 1\n"), "{metrics}");
    let found = Program::new(["doctor", "--machine"])
        .arg(place.path())
        .args(&["--config", file.to_str().unwrap()])
        .arg("--root")
        .arg(root)
        .run();
    assert_eq!(found.code, Some(1), "{found:?}");
    for (check, advice) in [("LDAP", "see that the directory runs"), ("event sink", "see that its server runs")] {
        let mut lines = found.stdout.lines();
        let line = lines.find(|line| line.starts_with(&format!("problem  {check}")));
        assert!(line.is_some() && lines.next().is_some_and(|next| next.contains(advice)), "{check}: {found:?}");
    }
    running.stop();
}

#[tokio::test]
async fn the_use_of_the_disk_is_shown_by_repository() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let running = Program::serve(root).with_admin().start();
    let admin = running.user(ADMIN);
    push_image(&admin, "admin/one", "1", 1).await;
    push_image(&admin, "admin/two", "1", 1).await;
    push_blob(&admin, "admin/two", &noise(5000, 7)).await;
    push_blob(&admin, "other/large", &noise(9000, 8)).await;
    // The two blobs of the image: 10 bytes of configuration and 1000 of a layer.
    let expected = "REPOSITORY   BLOBS  LOGICAL  UNIQUE   SHARED\n\
                    other/large  1      8.7 KiB  8.7 KiB  0 B\n\
                    admin/two    3      5.8 KiB  4.8 KiB  1010 B\n\
                    admin/one    2      1010 B   0 B      1010 B\n";
    let shown = coracle(root, &["du"]);
    assert!(shown.stdout.starts_with(expected), "{}", shown.stdout);
    assert!(shown.stdout.contains("\nstored        14.6 KiB (15.6 KiB without sharing)\n"), "{}", shown.stdout);
    running.stop();
    // The same without a server.
    assert!(coracle(root, &["du"]).stdout.starts_with(expected));
    let usage = json(&coracle(root, &["du", "admin/", "--sort", "shared", "--limit", "1", "--json"]));
    assert_eq!(usage["repositories"].as_array().unwrap().len(), 1);
    assert_eq!((&usage["repositories"][0]["name"], &usage["left_out"]), (&"admin/one".into(), &1.into()));
    assert_eq!((&usage["logical_bytes"], &usage["stored_bytes"]), (&16_020.into(), &15_010.into()));
    let none = coracle(root, &["du", "zzz"]);
    assert!(none.stdout.starts_with("no repository begins with \"zzz\"\n\nstored"), "{none:?}");
    assert_eq!(coracle(root, &["du", "--sort", "colour"]).code, Some(2));
}
