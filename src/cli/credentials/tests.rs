//! Entries are put into files as docker and podman have them, byte for byte, and what is there stays.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const HOST: &str = "registry.example:5000";

fn entry() -> Entry {
    Entry { user: "alice".to_owned(), secret: Zeroizing::new("zak_1".to_owned()) }
}

/// `alice:zak_1`.
const AUTH: &str = "YWxpY2U6emFrXzE=";

fn place(tool: Tool, directory: &Path, content: Option<&str>) -> Place {
    let file = directory.join("auth.json");
    if let Some(content) = content {
        fs::write(&file, content).unwrap();
    }
    Place { tool, file }
}

fn text(place: &Place) -> String {
    fs::read_to_string(&place.file).unwrap()
}

#[tokio::test]
async fn what_else_is_in_a_file_stays_as_it_was_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    // As docker writes it, with a number that a float would change, and in no order of the alphabet.
    let before = "{\n\t\"psFormat\": \"z\\u0041\",\n\t\"auths\": {\n\t\t\"https://index.docker.io/v1/\": {\n\t\t\t\"auth\": \
                  \"eA==\",\n\t\t\t\"more\": 12345678901234567890.10\n\t\t},\n\t\t\"a.example\": {}\n\t},\n\t\"proxies\": {\n\t\t\"x\": [1,  \
                  2]\n\t}\n}";
    let place = place(Tool::Docker, directory.path(), Some(before));
    assert_eq!(place.put(HOST, &entry()).await.unwrap(), place.file.display().to_string());
    let added = format!(",\n\t\t\"{HOST}\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}}");
    let expected = before.replace("\"a.example\": {}", &format!("\"a.example\": {{}}{added}"));
    assert_eq!(text(&place), expected);
    let kept = place.get(HOST).await.unwrap().unwrap();
    assert_eq!((kept.user.as_str(), kept.secret.as_str()), ("alice", "zak_1"));
    // The same again is the same, and taking it away brings back what was there.
    place.put(HOST, &entry()).await.unwrap();
    assert_eq!(text(&place), expected);
    assert!(place.remove(HOST).await.unwrap());
    assert_eq!(text(&place), before);
    assert!(!place.remove(HOST).await.unwrap());
    assert!(place.get(HOST).await.unwrap().is_none());
}

#[tokio::test]
async fn a_file_that_is_not_there_is_made_for_its_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place { tool: Tool::Podman, file: directory.path().join("containers/deep/auth.json") };
    place.put(HOST, &entry()).await.unwrap();
    assert_eq!(
        text(&place),
        format!("{{\n\t\"auths\": {{\n\t\t\"{HOST}\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}}\n\t}}\n}}")
    );
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.file), 0o600);
    assert_eq!(mode(place.file.parent().unwrap()), 0o700);
    // One that everybody could read is no more.
    fs::set_permissions(&place.file, fs::Permissions::from_mode(0o644)).unwrap();
    place.put(HOST, &entry()).await.unwrap();
    assert_eq!(mode(&place.file), 0o600);
}

#[tokio::test]
async fn an_entry_takes_the_place_of_all_of_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    // docker would go on with the token otherwise.
    let before =
        format!("{{\"auths\": {{\"{HOST}\": {{\"auth\": \"eA==\", \"identitytoken\": \"t\"}}, \"b\": {{}}}}}}\n");
    let place = place(Tool::Docker, directory.path(), Some(&before));
    place.put(HOST, &entry()).await.unwrap();
    assert_eq!(
        text(&place),
        format!(
            "{{\n\t\"auths\": {{\n\t\t\"{HOST}\": {{\n\t\t\t\"auth\": \"{AUTH}\"\n\t\t}},\n\t\t\"b\": {{}}\n\t}}\n}}\n"
        )
    );
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left() {
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
        let place = place(Tool::Docker, directory.path(), Some(content));
        let error = place.check(HOST).unwrap_err();
        assert!(error.contains(&place.file.display().to_string()), "{error}");
        assert!(place.put(HOST, &entry()).await.is_err(), "{content}");
        assert!(place.remove(HOST).await.is_err(), "{content}");
        assert_eq!(text(&place), content);
    }
    let directory = tempfile::tempdir().unwrap();
    for content in ["", " \n", "{}", "{\"auths\": null, \"credHelpers\": null, \"credsStore\": \"\"}"] {
        let place = place(Tool::Docker, directory.path(), Some(content));
        assert_eq!(place.check(HOST), Ok(()), "{content}");
        place.put(HOST, &entry()).await.unwrap();
        assert!(text(&place).contains(AUTH), "{content}");
    }
}

#[tokio::test]
async fn a_file_that_is_a_link_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real.json");
    fs::write(&real, "{\"auths\": {}}").unwrap();
    let place = place(Tool::Docker, directory.path(), None);
    std::os::unix::fs::symlink(&real, &place.file).unwrap();
    place.put(HOST, &entry()).await.unwrap();
    assert!(fs::symlink_metadata(&place.file).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains(AUTH));
    // Nothing else lies about.
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn a_name_that_leads_elsewhere_is_no_program() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["../../tmp/x", "/bin/sh", "a\\\\b"] {
        let place = place(Tool::Docker, directory.path(), Some(&format!("{{\"credsStore\": \"{name}\"}}")));
        assert!(place.check(HOST).is_err(), "{name}");
    }
}

#[test]
fn files_are_those_of_docker_and_of_podman() {
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
        // A variable that leads nowhere: podman writes nothing then, and reads what is in the home directory.
        (
            Environment { runtime_dir: Some(home.join("no")), system_runtime: there.clone(), ..nothing() },
            vec![docker(), home.join(".config/containers/auth.json")],
        ),
        (
            Environment { system_runtime: Some(home.join("r/0")), ..nothing() },
            vec![docker(), home.join("r/0/auth.json")],
        ),
        // podman reads docker's file alone then.
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
        let found: Vec<_> = places(&environment, None).unwrap().into_iter().map(|place| place.file).collect();
        assert_eq!(found, expected, "{environment:?}");
        let named = places(&environment, Some(Path::new("/x"))).unwrap();
        assert_eq!(named, [Place { tool: Tool::Podman, file: "/x".into() }]);
    }
    let homeless = Environment { home: None, ..nothing() };
    assert!(places(&homeless, None).is_err());
}
