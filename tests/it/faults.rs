//! Responses to every kind of request while the disk fails, and recovery afterwards: the real program on a failing disk.

pub mod shim;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;

use crate::support::content::{bytes, image, noise, push_blob, push_image, put_manifest, sha256, start_upload};
use crate::support::http::{Answer, Caller, Request};
use crate::support::process::{ADMIN, Program, Running};
use shim::{CREATE, Faults, OPEN, OPEN_TO_WRITE, READ, REMOVE, RENAME, SYNC, WRITE};

/// A fault.
struct Fault {
    name: &'static str,
    operations: u32,
    error: Errno,
    /// On files with this in their path.
    path: &'static str,
    /// The expected response to each of [`REQUESTS`].
    statuses: [u16; 14],
}

/// The answer breaks off: its status was sent before anything failed.
const BROKEN: u16 = 0;

/// The kinds of request, in the order of the columns below.
const REQUESTS: [&str; 14] = [
    "GET blob",
    "HEAD blob",
    "GET manifest",
    "GET tags",
    "POST upload",
    "PATCH upload",
    "PUT upload",
    "PUT manifest",
    "mount",
    "DELETE tag",
    "DELETE blob",
    "sign in",
    "make a key",
    "readyz",
];

/// Content is served while it can be read. A failed write gives 507 if there is no space and 503 if waiting may help, and
/// changes nothing. `PATCH` and `POST` sync nothing, because they promise nothing.
#[rustfmt::skip] // a table is read down its columns
const TABLE: [Fault; 9] = [
    //                                                                           blob      manif.    POST      PUT       mount     DELETE    sign key  ready
    //                                                                           GET  HEAD GET  tags      PATCH     manif.    tag  blob in
    fault("no space",               WRITE | CREATE, Errno::NOSPC, "/data/",     [200, 200, 200, 200, 507, 507, 507, 507, 507, 507, 507, 507, 507, 200]),
    fault("no quota",               WRITE | CREATE, Errno::DQUOT, "/data/",     [200, 200, 200, 200, 507, 507, 507, 507, 507, 507, 507, 507, 507, 200]),
    fault("read-only file system",  CHANGES,        Errno::ROFS,  "/data/",     [200, 200, 200, 200, 503, 503, 503, 503, 503, 503, 503, 503, 503, 200]),
    fault("writes fail",            WRITE,          Errno::IO,    "/data/",     [200, 200, 200, 200, 202, 503, 503, 503, 503, 503, 503, 503, 503, 200]),
    fault("syncs fail",             SYNC,           Errno::IO,    "/data",      [200, 200, 200, 200, 202, 202, 503, 503, 503, 503, 503, 503, 503, 200]),
    fault("renames fail",           RENAME,         Errno::IO,    "/data/",     [200, 200, 200, 200, 202, 202, 503, 201, 201, 202, 202, 200, 201, 200]),
    fault("blobs cannot be read",   READ,           Errno::IO,    "/blobs/",    [BROKEN, 200, 200, 200, 202, 202, 201, 201, 201, 202, 202, 200, 201, 200]),
    fault("no file handles",        OPEN,           Errno::MFILE, "/data/",     [503, 200, 200, 200, 503, 503, 503, 201, 201, 202, 202, 200, 201, 200]),
    fault("the database is broken", WRITE,          Errno::IO,    "/coracle.",  [200, 200, 200, 200, 202, 202, 503, 503, 503, 503, 503, 503, 503, 200]),
];

const CHANGES: u32 = WRITE | RENAME | CREATE | REMOVE | OPEN_TO_WRITE;

const fn fault(name: &'static str, operations: u32, error: Errno, path: &'static str, statuses: [u16; 14]) -> Fault {
    Fault { name, operations, error, path, statuses }
}

/// Everything is fine, and how it is then.
struct Scene {
    root: PathBuf,
    running: Running,
    faults: Faults,
    admin: Caller,
    /// Makes content differ.
    number: u64,
}

/// A request, and what it is answered when nothing fails.
struct Asked {
    request: Request,
    fine: u16,
}

impl Scene {
    /// Waits until something can be pushed.
    async fn until_it_goes_on(&self) {
        let path = format!("/v2/app/blobs/uploads/?digest={}", sha256(b"alive"));
        for _ in 0..100 {
            if self.admin.post(&path).body("alive").send().await.status == 201 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing can be pushed when the fault is gone: {}", self.running.stderr());
    }

    /// Prepares a kind of request while nothing fails, and returns the request.
    async fn prepare(&mut self, kind: &str) -> impl Fn(&Caller) -> Asked + use<> {
        self.until_it_goes_on().await;
        self.number += 1;
        let (admin, number) = (&self.admin, self.number);
        let layer = noise(2000, 1000 + number);
        let (mut path, mut body, mut fine) = (String::new(), Bytes::new(), 200);
        match kind {
            "GET blob" | "HEAD blob" | "mount" | "DELETE blob" => {
                let digest = push_blob(admin, "app", &layer).await;
                path = format!("/v2/app/blobs/{digest}");
                if kind == "mount" {
                    path = format!("/v2/other/blobs/uploads/?mount={digest}&from=app");
                    fine = 201;
                }
            }
            "GET manifest" | "DELETE tag" => {
                push_image(admin, "app", &format!("t{number}"), number).await;
                path = format!("/v2/app/manifests/t{number}");
            }
            "GET tags" => "/v2/app/tags/list".clone_into(&mut path),
            "POST upload" => (path, fine) = ("/v2/app/blobs/uploads/".to_owned(), 202),
            "PATCH upload" => (path, body, fine) = (start_upload(admin, "app").await, layer, 202),
            "PUT upload" => {
                let upload = start_upload(admin, "app").await;
                admin.patch(&upload).body(layer.clone()).send().await.status(202);
                (path, fine) = (format!("{upload}?digest={}", sha256(&layer)), 201);
            }
            "PUT manifest" => {
                let config = b"{}";
                push_blob(admin, "app", config).await;
                push_blob(admin, "app", &layer).await;
                body = bytes(&image(config, &[&layer])).into();
                (path, fine) = (format!("/v2/app/manifests/t{number}"), 201);
            }
            "sign in" => "/v2/".clone_into(&mut path),
            "make a key" => {
                body = Bytes::from(format!("{{\"label\": \"{number}\"}}"));
                (path, fine) = ("/zot/auth/apikey".to_owned(), 201);
            }
            _ => "/readyz".clone_into(&mut path),
        }
        let kind = kind.to_owned();
        move |caller: &Caller| {
            let (method, _) = kind.split_once(' ').unwrap_or_default();
            let request = match method {
                "HEAD" => caller.head(&path),
                "POST" => caller.post(&path),
                "PATCH" => caller.patch(&path),
                "PUT" => caller.put(&path),
                "DELETE" => caller.delete(&path),
                _ if kind == "mount" || kind == "make a key" => caller.post(&path),
                _ => caller.get(&path),
            };
            let request = if kind == "sign in" { request.header("x-zot-api-client", "zot-ui") } else { request };
            let fine = if method == "DELETE" { 202 } else { fine };
            Asked { request: request.body(body.clone()), fine }
        }
    }

    /// Asks while something fails; then again, for as long as it takes to work, which is not long.
    async fn ask(&mut self, fault: &Fault, kind: &str, expected: u16) -> Option<String> {
        let asked = self.prepare(kind).await;
        // Where there is no disk below the memory, nothing is read from one.
        let in_memory = fault.operations & READ > 0 && !forget(&self.root);
        let expected = if in_memory && expected == BROKEN { 200 } else { expected };
        self.faults.plant(fault.operations, fault.error, fault.path);
        let answer = asked(&self.admin).request.try_send().await;
        let said = answer.as_ref().map_or(BROKEN, |answer| answer.status.as_u16());
        let wrong = check(answer.as_ref().ok(), kind, expected, said);
        self.faults.lift();
        // A completed request stays done. A failed one succeeds now.
        let is_done = (200..300).contains(&said) && kind.starts_with("DELETE");
        for _ in 0..100 {
            let Asked { request, fine } = asked(&self.admin);
            let again = request.send().await.status.as_u16();
            // An upload that could not be synced is gone, so that no client believes it durable.
            let has_gone = again == 404 && kind == "PUT upload" && (fault.operations & SYNC > 0 || said == 201);
            if again == fine || has_gone || (is_done && again == 404) || (said == 202 && again == 416) {
                return wrong;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(format!("{kind} does not work when the fault is gone"))
    }
}

/// Drops the page cache of the blobs, so that they are read from the disk. Returns whether there is any blob.
#[cfg(target_os = "linux")]
fn forget(root: &Path) -> bool {
    use rustix::fs::{Advice, fadvise, statfs};
    const TMPFS: i64 = 0x0102_1994;
    for blob in std::fs::read_dir(root.join("blobs/sha256")).unwrap() {
        let file = std::fs::File::open(blob.unwrap().path()).unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    }
    statfs(root).unwrap().f_type != TMPFS
}

/// There are no faults on other systems.
#[cfg(not(target_os = "linux"))]
fn forget(_root: &Path) -> bool {
    false
}

/// The fault of a response.
fn check(answer: Option<&Answer>, kind: &str, expected: u16, said: u16) -> Option<String> {
    if said != expected {
        return Some(format!("{kind}: {said}, not {expected}: {:?}", answer.map(Answer::text)));
    }
    let answer = answer?;
    if matches!(said, 503 | 507) {
        let code = kind == "HEAD blob" || answer.json()["errors"][0]["code"] == "UNKNOWN";
        if !code || answer.header("retry-after").is_none() {
            return Some(format!("{kind}: {:?} {}", answer.headers, answer.text()));
        }
    }
    None
}

async fn row(fault: &Fault, faults: Faults, root: PathBuf) -> Vec<String> {
    let running = {
        let program = faults.under(Program::serve(&root).with_admin());
        tokio::task::spawn_blocking(move || program.start()).await.unwrap()
    };
    let admin = running.user(ADMIN);
    let mut scene = Scene { root, running, faults, admin, number: 0 };
    let manifest = push_image(&scene.admin, "app", "kept", 77).await;
    let (mut wrong, mut failed) = (Vec::new(), 0);
    for (kind, expected) in REQUESTS.iter().zip(fault.statuses) {
        wrong.extend(scene.ask(fault, kind, expected).await.map(|what| format!("{}: {what}", fault.name)));
        failed += usize::from(expected >= 500);
    }
    // Existing content is unchanged, and the log has a line for every failure.
    scene.until_it_goes_on().await;
    let kept = scene.admin.get("/v2/app/manifests/kept").send().await.status(200);
    assert_eq!(kept.body, bytes(&manifest));
    put_manifest(&scene.admin, "app", "after", &manifest).await.status(201);
    let ended = scene.running.stop();
    let lines = ended.stderr.matches("a request failed").count();
    if lines < failed || ended.code != Some(0) || ended.stderr.contains("panicked") {
        wrong.push(format!("{}: {failed} requests have failed, and the log has {lines} lines: {ended:?}", fault.name));
    }
    wrong
}

#[tokio::test]
async fn what_fails_is_told_and_is_over_when_the_fault_is() {
    let directory = tempfile::tempdir().unwrap();
    let name = "faults::what_fails_is_told_and_is_over_when_the_fault_is";
    let Some(faults) = Faults::prepare(name, directory.path()) else { return };
    let (mut wrong, mut asked) = (Vec::new(), 0);
    let rows = TABLE.iter().enumerate().map(|(at, fault)| {
        let own = directory.path().join(at.to_string());
        std::fs::create_dir_all(&own).unwrap();
        asked += REQUESTS.len();
        row(fault, faults.another(&own.join("faults")), own.join("data"))
    });
    for found in futures_util::future::join_all(rows).await {
        wrong.extend(found);
    }
    println!("{} faults, {asked} requests", TABLE.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// After a failed write the database is reopened. If that fails, nothing can be read, not even the caller's account.
#[tokio::test]
async fn a_database_that_cannot_be_read_is_told_and_read_again_when_it_can() {
    let directory = tempfile::tempdir().unwrap();
    let name = "faults::a_database_that_cannot_be_read_is_told_and_read_again_when_it_can";
    let Some(faults) = Faults::prepare(name, directory.path()) else { return };
    let running = faults.under(Program::serve(&directory.path().join("data")).with_admin()).start();
    let admin = running.user(ADMIN);
    let manifest = push_image(&admin, "app", "1", 1).await;
    faults.plant(READ | WRITE, Errno::IO, "/coracle.");
    for (request, kind) in [
        (admin.put("/v2/app/manifests/2").body(bytes(&manifest)), "PUT manifest"),
        (admin.get("/v2/app/manifests/1"), "GET manifest"),
        (admin.get("/v2/app/tags/list"), "GET tags"),
        (running.anonymous().get("/readyz"), "readyz"),
    ] {
        let answer = request.send().await;
        let said = answer.status.as_u16();
        assert_eq!(check(Some(&answer), kind, 503, said), None);
    }
    running.anonymous().get("/livez").send().await.status(200);
    faults.lift();
    let again = async {
        while running.anonymous().get("/readyz").send().await.status != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("ready when the fault is gone");
    admin.get("/v2/app/manifests/1").send().await.status(200);
    admin.get("/v2/app/manifests/2").send().await.error(404, "MANIFEST_UNKNOWN");
    let again = async { while put_manifest(&admin, "app", "2", &manifest).await.status != 201 {} };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("writable when the fault is gone");
}

/// A changed blob file is noticed when it is used, and pushing the blob again repairs it.
#[tokio::test]
async fn a_blob_whose_file_is_cut_short_altered_or_gone_is_not_there_until_it_is_pushed_again() {
    let directory = tempfile::tempdir().unwrap();
    let running = Program::serve(directory.path()).with_admin().start();
    let admin = running.user(ADMIN);
    let content = noise(5000, 5);
    let digest = push_blob(&admin, "app", &content).await;
    let path = directory.path().join("blobs").join(digest.replace(':', "/"));
    let damages: [fn(&Path); 4] = [
        |path| std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(100).unwrap(),
        |path| std::fs::write(path, [0; 6000]).unwrap(),
        |path| std::fs::write(path, [0; 5000]).unwrap(),
        |path| std::fs::remove_file(path).unwrap(),
    ];
    for damage in damages {
        damage(&path);
        let refused = admin.get(&format!("/v2/app/blobs/{digest}")).send().await.error(404, "BLOB_UNKNOWN");
        assert!(refused.text().contains("damaged"), "{}", refused.text());
        running.wait_for("a blob is damaged");
        // Clients ask first whether they need to push it.
        admin.head(&format!("/v2/app/blobs/{digest}")).send().await.status(404);
        admin.get("/readyz").send().await.status(200);
        assert_eq!(push_blob(&admin, "app", &content).await, digest);
        let served = admin.get(&format!("/v2/app/blobs/{digest}")).send().await.status(200);
        assert_eq!(served.body, content);
    }
}

/// The registry tries to store the users several times a second.
#[tokio::test]
async fn a_failure_to_store_htpasswd_users_is_logged_once() {
    let directory = tempfile::tempdir().unwrap();
    let name = "faults::a_failure_to_store_htpasswd_users_is_logged_once";
    let Some(faults) = Faults::prepare(name, directory.path()) else { return };
    let (data, file) = (directory.path().join("data"), directory.path().join("users"));
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(&file, "").unwrap();
    let config = format!("[http.auth.htpasswd]\npath = '{}'\n", file.display());
    let running = faults.under(Program::serve_with(&data, &config).with_admin()).start();
    faults.plant(WRITE, Errno::ROFS, "/data/");
    std::fs::write(&file, format!("dave:{}\n", bcrypt::hash("one", 4).unwrap())).unwrap();
    running.wait_for("cannot store the users of the htpasswd file");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(running.stderr().matches("cannot store the users of the htpasswd file").count(), 1);
    faults.lift();
    let dave = running.user(("dave", "one"));
    let stored = async { while dave.post("/zot/auth/apikey").body("{}").send().await.status != 201 {} };
    tokio::time::timeout(Duration::from_secs(30), stored).await.expect("dave is stored when the fault is gone");
}
