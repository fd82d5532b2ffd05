//! `coracle login` and `coracle logout` with the credential files and credential helpers of docker and podman.

use serde_json::{Value, json};

use super::person::{Person, keys};
use crate::support::TestRegistry;
use crate::support::process::Finished;
use crate::support::registry::ALICE;

/// A program that keeps credentials in files of its own, and writes down what it was asked: the word, and all of its
/// input.
const HELPER: &str = r#"#!/bin/sh
input=$(cat)
printf '%s %s\n' "$1" "$input" >> "$HOME/asked"
kept="$HOME/kept-$(basename "$0")"
case "$1" in
store) printf '%s' "$input" > "$kept" ;;
get) [ -f "$kept" ] || { echo 'credentials not found in native keychain'; exit 1; }; cat "$kept" ;;
erase) rm "$kept" ;;
esac
"#;

async fn login(person: &Person, host: &str, more: &[&str]) -> Finished {
    let arguments = [&["login", host, "--username", ALICE.0, "--password-stdin"], more].concat();
    person.run(&arguments, ALICE.1).await
}

async fn start() -> (TestRegistry, String, Person) {
    let t = TestRegistry::with_users().await;
    let host = t.running.address().to_string();
    (t, host, Person::new())
}

fn read(file: &std::path::Path) -> String {
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn a_credential_helper_is_called_as_docker_calls_it() {
    for (setting, tool) in [("credsStore", "all"), ("credHelpers", "one")] {
        let (t, host, person) = start().await;
        let named = if tool == "all" { json!(tool) } else { json!({ &host: tool, "other.example": "absent" }) };
        person.write(
            &person.docker(),
            &json!({ "auths": { "other.example": { "auth": "eA==" } }, setting: named }).to_string(),
        );
        person.install(&format!("docker-credential-{tool}"), HELPER);
        let done = login(&person, &host, &[]).await;
        assert_eq!(done.code, Some(0), "{setting}: {}", done.stderr);
        assert!(done.stderr.contains(&format!("docker-credential-{tool}")), "{}", done.stderr);

        let kept: Value = serde_json::from_str(&read(&person.path(&format!("kept-docker-credential-{tool}")))).unwrap();
        let key = kept["Secret"].as_str().unwrap();
        assert_eq!(kept, json!({ "ServerURL": host, "Username": "alice", "Secret": key }));
        t.user(("alice", key)).get("/v2/").send().await.status(200);
        let document: Value = serde_json::from_str(&read(&person.docker())).unwrap();
        // docker leaves an empty entry for a registry whose credentials a helper has.
        assert_eq!(document["auths"], json!({ "other.example": { "auth": "eA==" }, &host: {} }));
        assert!(!read(&person.docker()).contains(key));
        // podman does not use docker's helper for all registries.
        assert_eq!(person.entry(&person.podman(), &host).unwrap().1, key);

        let done = person.run(&["logout", &host], "").await;
        assert_eq!(done.code, Some(0), "{setting}: {}", done.stderr);
        assert!(keys(&t.user(ALICE)).await.is_empty());
        let asked = read(&person.path("asked"));
        let words: Vec<&str> = asked.lines().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(words, ["get", "store", "get", "erase"], "{asked}");
        assert!(asked.contains(&format!("get {host}\n")) && asked.ends_with(&format!("erase {host}\n")), "{asked}");
        let document: Value = serde_json::from_str(&read(&person.docker())).unwrap();
        assert_eq!(document["auths"], json!({ "other.example": { "auth": "eA==" } }));
    }
}

#[tokio::test]
async fn a_helper_in_podmans_file_stores_podmans_credentials() {
    let (t, host, person) = start().await;
    let before = json!({ "credHelpers": { &host: "pod" } }).to_string();
    person.write(&person.podman(), &before);
    person.install("docker-credential-pod", HELPER);
    assert_eq!(login(&person, &host, &[]).await.code, Some(0));
    assert_eq!(read(&person.podman()), before);
    let kept: Value = serde_json::from_str(&read(&person.path("kept-docker-credential-pod"))).unwrap();
    assert_eq!(kept["Secret"], person.entry(&person.docker(), &host).unwrap().1);
    assert_eq!(person.run(&["logout"], "").await.code, Some(0));
    assert!(!person.path("kept-docker-credential-pod").exists());
    assert!(keys(&t.user(ALICE)).await.is_empty());
}

#[tokio::test]
async fn a_helper_that_fails_or_is_missing_leaves_no_key() {
    let failing = "#!/bin/sh\n[ \"$1\" = get ] && { echo 'credentials not found in native keychain'; exit 1; }\n\
                   echo 'the \u{1b}[2Jkeychain is locked'; exit 1\n";
    for (script, said) in [(Some(failing), "keychain is locked"), (None, "docker-credential-x")] {
        let (t, host, person) = start().await;
        // The file that was written before the failure is restored.
        let before = "{\"auths\": {\"a\": {}}}";
        person.write(&person.podman(), &json!({ "credHelpers": { &host: "x" } }).to_string());
        person.write(&person.docker(), before);
        if let Some(script) = script {
            person.install("docker-credential-x", script);
        }
        let done = login(&person, &host, &[]).await;
        assert_eq!(done.code, Some(1), "{}", done.stdout);
        assert!(done.stderr.contains(said) && !done.stderr.contains('\u{1b}'), "{}", done.stderr);
        assert!(keys(&t.user(ALICE)).await.is_empty(), "{}", done.stderr);
        assert_eq!(person.entry(&person.docker(), &host), None);
        assert!(!person.path("config/coracle/logins.json").exists());
    }
}

#[tokio::test]
async fn a_damaged_file_stops_a_login_before_anything_changes() {
    let (t, host, person) = start().await;
    for file in [person.docker(), person.podman(), person.path("config/coracle/logins.json")] {
        person.write(&file, "{\"auths\": {\"a\": ");
        let done = login(&person, &host, &[]).await;
        assert_eq!(done.code, Some(1), "{}", done.stdout);
        assert!(done.stderr.contains(&file.display().to_string()), "{}", done.stderr);
        assert_eq!(read(&file), "{\"auths\": {\"a\": ");
        std::fs::remove_file(&file).unwrap();
    }
    assert!(keys(&t.user(ALICE)).await.is_empty());
    assert!(!person.docker().exists() && !person.podman().exists());
}

#[tokio::test]
async fn a_file_that_is_named_is_the_only_one() {
    let (t, host, person) = start().await;
    let file = person.path("here/auth.json");
    let named = file.display().to_string();
    assert_eq!(login(&person, &host, &["--authfile", &named]).await.code, Some(0));
    let (user, key) = person.entry(&file, &host).unwrap();
    let auth = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("{user}:{key}"));
    assert_eq!(
        read(&file),
        format!("{{\n\t\"auths\": {{\n\t\t\"{host}\": {{\n\t\t\t\"auth\": \"{auth}\"\n\t\t}}\n\t}}\n}}")
    );
    assert!(!person.docker().exists() && !person.podman().exists());
    // logout remembers it.
    assert_eq!(person.run(&["logout"], "").await.code, Some(0));
    assert_eq!(read(&file), "{\n\t\"auths\": {}\n}");
    assert!(keys(&t.user(ALICE)).await.is_empty());
}

#[tokio::test]
async fn what_is_remembered_has_no_key_in_it_and_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_t, host, person) = start().await;
    assert_eq!(login(&person, &host, &[]).await.code, Some(0));
    let (_, key) = person.entry(&person.docker(), &host).unwrap();
    let file = person.path("config/coracle/logins.json");
    let remembered: Value = serde_json::from_str(&read(&file)).unwrap();
    assert_eq!(
        (&remembered[&host]["url"], &remembered[&host]["user"]),
        (&json!(format!("http://{host}")), &json!("alice"))
    );
    assert!(!read(&file).contains(&key[4..]));
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}
