//! Entries are written as docker and podman write them. The rest of a file stays the same, byte for byte.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const HOST: &str = "registry.example:5000";

fn entry() -> Entry {
    Entry { user: "alice".to_owned(), secret: Zeroizing::new("zak_1".to_owned()) }
}

/// `alice:zak_1`.
const AUTH: &str = "YWxpY2U6emFrXzE=";

fn file(tool: Tool, directory: &Path, content: Option<&str>) -> CredentialFile {
    let file = directory.join("auth.json");
    if let Some(content) = content {
        fs::write(&file, content).unwrap();
    }
    CredentialFile { tool, file }
}

fn text(file: &CredentialFile) -> String {
    fs::read_to_string(&file.file).unwrap()
}

#[tokio::test]
async fn the_rest_of_a_file_stays_the_same_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    // As docker writes it, unsorted, and with a number that a float would change.
    let before = "{\n\t\"psFormat\": \"z\\u0041\",\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \
                  \"eA==\",\n\t\t\t\"more\": 12345678901234567890.10\n\t\t},\n\t\t\"a.example\": {}\n\t},\n\t\"proxies\": {\n\t\t\"x\": [1,  \
                  2]\n\t}\n}";
    let file = file(Tool::Docker, directory.path(), Some(before));
    assert_eq!(file.put(HOST, &entry()).await.unwrap(), file.file.display().to_string());
    let added = format!(",\n\t\t\"{HOST}\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}}");
    let expected = before.replace("\"a.example\": {}", &format!("\"a.example\": {{}}{added}"));
    assert_eq!(text(&file), expected);
    let kept = file.get(HOST).await.unwrap().unwrap();
    assert_eq!((kept.user.as_str(), kept.secret.as_str()), ("alice", "zak_1"));
    // Storing the entry again changes nothing. Removing it restores the file.
    file.put(HOST, &entry()).await.unwrap();
    assert_eq!(text(&file), expected);
    assert!(file.remove(HOST).await.unwrap());
    assert_eq!(text(&file), before);
    assert!(!file.remove(HOST).await.unwrap());
    assert!(file.get(HOST).await.unwrap().is_none());
}

#[tokio::test]
async fn a_missing_file_is_created_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = CredentialFile { tool: Tool::Podman, file: directory.path().join("containers/deep/auth.json") };
    file.put(HOST, &entry()).await.unwrap();
    assert_eq!(
        text(&file),
        format!("{{\n\t\"auths\": {{\n\t\t\"{HOST}\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}}\n\t}}\n}}")
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file.file), 0o600);
    assert_eq!(mode(file.file.parent().unwrap()), 0o700);
    // A file that others could read becomes private.
    fs::set_permissions(&file.file, fs::Permissions::from_mode(0o644)).unwrap();
    file.put(HOST, &entry()).await.unwrap();
    assert_eq!(mode(&file.file), 0o600);
}

#[tokio::test]
async fn an_entry_replaces_the_whole_previous_one() {
    let directory = tempfile::tempdir().unwrap();
    // Otherwise docker would keep using the token.
    let before =
        format!("{{\"auths\": {{\"{HOST}\": {{\"auth\": \"eA==\", \"identitytoken\": \"t\"}}, \"b\": {{}}}}}}\n");
    let file = file(Tool::Docker, directory.path(), Some(&before));
    file.put(HOST, &entry()).await.unwrap();
    assert_eq!(
        text(&file),
        format!(
            "{{\n\t\"auths\": {{\n\t\t\"{HOST}\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}},\n\t\t\"b\": {{}}\n\t}}\n}}\n"
        )
    );
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_not_changed() {
    for content in [
        "{\"auths\": {",
        "[]",
        "\"auths\"",
        "{\"auths\": []}",
        "{\"auths\": {}, \"auths\": {}}",
        "{\"auths\": {\"a\": {}, \"a\": {}}}",
        "{} {}",
        "{\"credHelpers\": [\"x\"]}",
        "{\"credHelpers\": {\"registry.example:5000\": 1}}",
        "{\"credsStore\": {}}",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = file(Tool::Docker, directory.path(), Some(content));
        let error = file.check(HOST).unwrap_err().to_string();
        assert!(error.contains(&file.file.display().to_string()), "{error}");
        assert!(file.put(HOST, &entry()).await.is_err(), "{content}");
        assert!(file.remove(HOST).await.is_err(), "{content}");
        assert_eq!(text(&file), content);
    }
    let directory = tempfile::tempdir().unwrap();
    for content in ["", " \n", "{}", "{\"auths\": null, \"credHelpers\": null, \"credsStore\": \"\"}"] {
        let file = file(Tool::Docker, directory.path(), Some(content));
        assert_eq!(file.check(HOST), Ok(()), "{content}");
        file.put(HOST, &entry()).await.unwrap();
        assert!(text(&file).contains(AUTH), "{content}");
    }
}

#[tokio::test]
async fn a_symbolic_link_stays_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.json");
    fs::write(&real, "{\"auths\": {}}").unwrap();
    let file = file(Tool::Docker, directory.path(), None);
    std::os::unix::fs::symlink(&real, &file.file).unwrap();
    file.put(HOST, &entry()).await.unwrap();
    assert!(fs::symlink_metadata(&file.file).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains(AUTH));
    // No temporary file is left.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn the_name_of_a_helper_must_not_be_a_path() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["../../tmp/x", "/bin/sh", "a\\\\b"] {
        let file = file(Tool::Docker, directory.path(), Some(&format!("{{\"credsStore\": \"{name}\"}}")));
        assert!(file.check(HOST).is_err(), "{name}");
    }
}

#[test]
fn the_files_are_those_that_docker_and_podman_use() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    let nothing = || Environment {
        home: Some(home.to_owned()),
        docker_config: None,
        registry_auth_file: None,
        runtime_dir: None,
        config_home: None,
        system_runtime: None,
    };
    let there = Some(home.join("run"));
    fs::create_dir(home.join("run")).unwrap();
    let docker = || home.join(".docker/config.json");
    for (environment, expected) in [
        (nothing(), vec![docker(), home.join(".config/containers/auth.json")]),
        (
            Environment { config_home: Some(home.join("c")), ..nothing() },
            vec![docker(), home.join("c/containers/auth.json")],
        ),
        (
            Environment { runtime_dir: there.clone(), ..nothing() },
            vec![docker(), home.join("run/containers/auth.json")],
        ),
        // The variable names a missing directory: podman writes no file, and reads the one in the home directory.
        (
            Environment { runtime_dir: Some(home.join("no")), system_runtime: there.clone(), ..nothing() },
            vec![docker(), home.join(".config/containers/auth.json")],
        ),
        (
            Environment { system_runtime: Some(home.join("r/0")), ..nothing() },
            vec![docker(), home.join("r/0/auth.json")],
        ),
        // podman reads only docker's file if DOCKER_CONFIG is set.
        (
            Environment { docker_config: Some(home.join("d")), runtime_dir: there.clone(), ..nothing() },
            vec![home.join("d/config.json")],
        ),
        (
            Environment {
                docker_config: Some(home.join("d")),
                registry_auth_file: Some(home.join("a.json")),
                ..nothing()
            },
            vec![home.join("d/config.json"), home.join("a.json")],
        ),
        (Environment { registry_auth_file: Some(docker()), runtime_dir: there, ..nothing() }, vec![docker()]),
    ] {
        let found: Vec<_> = credential_files(&environment, None).unwrap().into_iter().map(|file| file.file).collect();
        assert_eq!(found, expected, "{environment:?}");
        let named = credential_files(&environment, Some(Path::new("/x"))).unwrap();
        assert_eq!(named, [CredentialFile { tool: Tool::Podman, file: "/x".into() }]);
    }
    let homeless = Environment { home: None, ..nothing() };
    assert!(credential_files(&homeless, None).is_err());
}
