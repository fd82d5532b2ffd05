//! Credentials from files and programs.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use super::*;

fn find(file: &Path, host: &str) -> Result<Found, String> {
    file::find(file, &names(host, Some("team/app")))
}

/// The login for a host in a file with this text, in one word.
fn login(text: &str, host: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials.json");
    std::fs::write(&file, text).unwrap();
    find(&file, host).unwrap().login.map(|login| match login {
        Login::Password { user, password } => format!("{user}:{}", password.as_str()),
        Login::IdentityToken(token) => format!("identity {}", token.as_str()),
        Login::AccessToken(token) => format!("access {}", token.as_str()),
    })
}

#[test]
fn files_of_zot_docker_and_podman_are_read() {
    let zot = r#"{"a.example": {"username": "u", "password": "p:q"}}"#;
    assert_eq!(login(zot, "a.example").as_deref(), Some("u:p:q"));
    assert_eq!(login(zot, "b.example"), None);
    let docker = r#"{"auths": {"a.example:5000": {"auth": "dTpw"}, "https://index.docker.io/v1/": {"auth": "aHVi"},
        "https://c.example/": {"auth": "dTpw", "email": "x"}, "https://old.example/v1/": {"auth": "dTpw"},
        "d.example": {"auth": "dTo=", "identitytoken": "i"}, "e.example": {"registrytoken": "r"},
        "f.example": {"username": "u", "password": "p"}, "g.example": {}, "h.example": {"auth": "dTpw"},
        "h.example/team": {"auth": "dGVhbTpw"}, "h.example/team/other": {"auth": "eDp5"}}}"#;
    for (host, found) in [
        ("a.example:5000", Some("u:p")),
        ("c.example", Some("u:p")),
        ("old.example", Some("u:p")),
        ("a.example", None),
        ("d.example", Some("identity i")),
        ("e.example", Some("access r")),
        ("f.example", Some("u:p")),
        ("g.example", None),
        ("h.example", Some("team:p")),
    ] {
        assert_eq!(login(docker, host).as_deref(), found, "{host}");
    }
    let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
    assert_eq!(login(hub, "registry-1.docker.io").as_deref(), Some("u:p"));
}

#[test]
fn a_program_of_the_host_is_preferred_to_the_program_of_all() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let text = r#"{"credsStore": "secretservice", "credHelpers": {"1.dkr.ecr.example": "ecr-login", "b": ""}}"#;
    std::fs::write(&file, text).unwrap();
    let program = |host| find(&file, host).unwrap().helper.map(|helper| helper.to_string());
    assert_eq!(program("1.dkr.ecr.example").as_deref(), Some("docker-credential-ecr-login"));
    assert_eq!(program("a.example").as_deref(), Some("docker-credential-secretservice"));
    assert_eq!(program("b"), None, "an empty name means no program");
    std::fs::write(&file, r#"{"credsStore": "../../bin/sh"}"#).unwrap();
    assert!(find(&file, "a").is_err());
    assert_eq!(Helper::new("ecr").unwrap().to_string(), "docker-credential-ecr-login", "zot's name");
}

#[test]
fn an_unreadable_file_is_an_error_without_its_content() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials.json");
    assert!(find(&file, "a").is_err(), "a missing file is not an anonymous login");
    for text in ["", "secret", r#"{"a": {"username": "secret"}}"#, r#"{"auths": {"a": {"auth": "secret"}}}"#] {
        std::fs::write(&file, text).unwrap();
        let Err(error) = find(&file, "a") else { panic!("{text} was read") };
        assert!(!error.contains("secret") && error.contains("credentials.json"), "{error}");
    }
}

#[test]
fn a_login_does_not_print() {
    let login = Login::Password { user: "alice".to_owned(), password: "hunter2".to_owned().into() };
    let credentials = Credentials::login(login.clone());
    assert!(!format!("{credentials:?} {login:?} {:?}", login.basic()).contains("hunter2"));
}

/// A program that runs a script of the shell.
fn program(directory: &Path, script: &str) -> Helper {
    use std::os::unix::fs::PermissionsExt as _;
    let file = directory.join("program");
    std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    Helper::at(&file)
}

#[tokio::test]
async fn the_output_of_a_program_is_read_within_limits() {
    let directory = tempfile::tempdir().unwrap();
    let get = async |script: &str| program(directory.path(), script).get("a.example").await;
    let found = get(r#"read -r host; echo "{\"Username\": \"$1\", \"Secret\": \"$host\"}""#).await.unwrap();
    assert!(found == Some(Login::Password { user: "get".to_owned(), password: "a.example".to_owned().into() }));
    let found = get(r#"echo '{"Username": "<token>", "Secret": "t", "ServerURL": "x"}'"#).await.unwrap();
    assert!(found == Some(Login::IdentityToken("t".to_owned().into())));
    assert!(get("echo credentials not found in native keychain; exit 1").await.unwrap().is_none());
    let error = get("echo hunter2; echo no network >&2; exit 3").await.unwrap_err();
    assert!(error.contains("no network") && !error.contains("hunter2"), "{error}");
    for script in ["echo hunter2", "while :; do echo hunter2; done"] {
        let error = get(script).await.unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(Helper::new("that-is-not-installed").unwrap().get("a").await.unwrap_err().contains("cannot run"));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_hangs_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    // The clock of the test jumps ahead, because nothing else happens.
    let error = program(directory.path(), "exec sleep 600").get("a.example").await.unwrap_err();
    assert!(error.contains("no result after 10 s"), "{error}");
}

#[tokio::test]
async fn a_slow_program_does_not_delay_other_hosts_and_runs_once() {
    let directory = tempfile::tempdir().unwrap();
    let (runs, go) = (directory.path().join("runs"), directory.path().join("go"));
    let script = format!(
        "read -r host; echo \"$host\" >> '{}'\nif [ \"$host\" = slow ]; then while [ ! -e '{}' ]; do sleep 0.05; done; fi\n\
         echo '{{\"Username\": \"u\", \"Secret\": \"s\"}}'",
        runs.display(),
        go.display()
    );
    let credentials = Credentials::helper(program(directory.path(), &script));
    let asking = credentials.clone();
    let first = tokio::spawn(async move { asking.of("slow", None).await.is_ok() });
    let has_begun = || std::fs::read_to_string(&runs).unwrap_or_default().contains("slow");
    while !has_begun() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(credentials.of("fast", None).await.unwrap().is_some());
    // The caller leaves, and the program goes on.
    first.abort();
    assert!(first.await.is_err());
    std::fs::write(&go, "").unwrap();
    for _ in 0..3 {
        assert!(credentials.of("slow", None).await.unwrap().is_some());
    }
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "slow\nfast\n");
}

#[tokio::test]
async fn the_failure_of_a_program_is_shared_by_those_who_waited() {
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    let script = format!("echo run >> '{}'; exit 3", runs.display());
    let credentials = Credentials::helper(program(directory.path(), &script));
    let asked = tokio::join!(credentials.of("a", None), credentials.of("a", None), credentials.of("a", None));
    assert!(asked.0.is_err() && asked.1.is_err() && asked.2.is_err());
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "run\n");
}

#[tokio::test]
async fn a_refused_output_is_given_up_once_and_for_its_host_only() {
    let directory = tempfile::tempdir().unwrap();
    let runs = directory.path().join("runs");
    let script = format!(
        "read -r host; echo \"$host\" >> '{}'; echo '{{\"Username\": \"u\", \"Secret\": \"s\"}}'",
        runs.display()
    );
    let credentials = Credentials::helper(program(directory.path(), &script));
    for host in ["a", "b"] {
        assert!(credentials.of(host, None).await.unwrap().is_some());
    }
    // Another request was refused, with credentials from before.
    assert!(credentials.other_than("a", None, |_| false).await.unwrap().is_some());
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "a\nb\n");
    for _ in 0..3 {
        assert!(credentials.other_than("a", None, |_| true).await.unwrap().is_some());
        assert!(credentials.of("b", None).await.unwrap().is_some());
    }
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "a\nb\na\n");
}
