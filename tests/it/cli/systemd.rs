//! The service under systemd: a socket that systemd opens, reports of its state, and the first password.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::support::content::push_image;
use crate::support::process::{ADMIN, Program};

const CORACLE: &str = env!("CARGO_BIN_EXE_coracle");

/// The next report of the service.
#[track_caller]
fn report(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 4096];
    let length = socket.recv(&mut bytes).expect("the service reports its state");
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

#[tokio::test]
async fn the_service_reports_its_start_its_life_and_its_stop() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let program = Program::serve(&root.path().join("data")).with_admin();
    let running = program.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "20000").start();
    assert_eq!(report(&socket), format!("READY=1\nSTATUS=listening on {}", running.url()));
    for _ in 0..3 {
        assert_eq!(report(&socket), "WATCHDOG=1");
    }
    running.stop();
    let mut last = String::new();
    while last != "STOPPING=1" {
        last = report(&socket);
        assert!(matches!(last.as_str(), "STOPPING=1" | "WATCHDOG=1"), "{last}");
    }
}

/// Opens a socket, as systemd does for a socket unit, and becomes the program.
const ACTIVATE: &str = "import os, socket, sys\n\
                        s = socket.socket(); s.bind(('127.0.0.1', 0))\n\
                        if sys.argv[1] == 'listen': s.listen()\n\
                        if s.fileno() != 3: os.dup2(s.fileno(), 3)\n\
                        os.set_inheritable(3, True)\n\
                        os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
                        os.execv(sys.argv[2], sys.argv[2:])\n";

#[tokio::test]
async fn the_service_takes_the_socket_that_systemd_opens() {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: python3 is missing");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let activate = |state: &str| {
        let program = Program::of("python3", ["-c", ACTIVATE, state, CORACLE, "serve", "--root"]).arg(root.path());
        // Another program may use this port. It does not matter.
        program.env("CORACLE_HTTP_PORT", "1").with_admin()
    };
    let running = activate("listen").start();
    assert_ne!(running.address().port(), 1);
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    running.stop();
    let refused = activate("bind only").run();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("the socket of the socket unit: it does not listen"), "{refused:?}");
}

#[tokio::test]
async fn the_first_password_goes_to_a_file_if_the_log_goes_to_the_journal() {
    let root = tempfile::tempdir().unwrap();
    let script = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec \"$@\"";
    let program = Program::of("sh", ["-c", script, "sh", CORACLE, "serve", "--port", "0", "--root"]).arg(root.path());
    let running = program.start();
    let file = root.path().join("first-password");
    let log = running.wait_for(&format!("whose password is in {}", file.display()));
    let password = std::fs::read_to_string(&file).unwrap();
    assert!(password.trim().len() > 15 && !log.contains(password.trim()), "{log}");
    let found = file.metadata().unwrap();
    assert_eq!((found.permissions().mode() & 0o777, found.uid()), (0o600, rustix::process::geteuid().as_raw()));
    running.user(("admin", password.trim())).get("/v2/").send().await.status(200);
    running.stop();
    // A variable of another process does not count.
    let other = tempfile::tempdir().unwrap();
    let running = Program::serve(other.path()).env("JOURNAL_STREAM", "1:2").start();
    running.wait_for("created the superuser admin with the password ");
    assert!(!other.path().join("first-password").exists());
}
