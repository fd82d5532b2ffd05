//! The Python package `oras`: artifacts that are no images, from Python.
//!
//! The library has no referrers, and its deletion is of the manifest that a tag names.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::content::{self, HEAVY_BYTES, noise};
use super::curl::Curl;
use super::home::{CLIENT_MINUTES_MAX, Home, attempt, finish, needs, says_unauthorized};
use super::image::{Image, OCI_MANIFEST, compare};
use super::python::needs_packages;
use super::target::{Target, guarded, targets};

/// The release that is known to do what is asked of it here.
pub(super) const ORAS: &[&str] = &["oras==0.2.43"];

/// The library with its own home.
pub(crate) struct Oras<'a> {
    python: PathBuf,
    pub(crate) home: &'a Home,
    target: &'a Target,
    /// How it signs in: `token`, its default, or `basic`.
    backend: &'static str,
}

impl<'a> Oras<'a> {
    pub(crate) fn signed_in(python: &Path, home: &'a Home, target: &'a Target) -> Self {
        let credentials = target.credentials.as_ref().map(|(user, password)| (&**user, &**password));
        Self::with_token(python, home, target, credentials)
    }

    /// The library with its default settings and these credentials.
    pub(crate) fn with_token(
        python: &Path,
        home: &'a Home,
        target: &'a Target,
        credentials: Option<(&str, &str)>,
    ) -> Self {
        let oras = Self { python: python.to_owned(), home, target, backend: "token" };
        if let Some((user, password)) = credentials {
            oras.say(&json!(["login", user, password]));
        }
        oras
    }

    /// Runs one command of the script and gives its result.
    pub(crate) fn say(&self, command: &Value) -> Value {
        let (status, output) = finish(&mut self.command(command), "", CLIENT_MINUTES_MAX);
        assert!(status.success(), "{command} gave {status}:\n{}", output.stderr);
        output.json()
    }

    /// Runs one command of the script, which may fail. An error is what it said.
    pub(crate) fn attempt(&self, command: &Value) -> Result<(), String> {
        attempt(&mut self.command(command), "").map(drop)
    }

    /// Runs one command of the script, which has to fail.
    pub(crate) fn fails(&self, command: &Value) -> String {
        let (status, output) = finish(&mut self.command(command), "", CLIENT_MINUTES_MAX);
        assert_eq!(status.code(), Some(1), "{command} had to fail:\n{output:?}");
        output.stderr
    }

    fn command(&self, command: &Value) -> Command {
        let mut python = self.home.command(&self.python);
        python.env("ORAS_HOST", &self.target.host_port).env("ORAS_BACKEND", self.backend);
        python.env("ORAS_INSECURE", if self.target.is_https() { "0" } else { "1" });
        python.arg(self.home.write("oras_commands.py", include_str!("oras_commands.py"))).arg(command.to_string());
        python
    }

    /// The name of something in the registry.
    pub(crate) fn at(&self, name: &str) -> String {
        self.target.image(name)
    }
}

#[test]
fn files_are_pushed_listed_pulled_back_and_deleted() {
    needs!(PYTHON, CURL);
    let python = &needs_packages!(ORAS);
    for target in targets() {
        let home = Home::beside(&target);
        let oras = Oras::signed_in(python, &home, &target);
        let files = [home.write("notes.txt", "a note\n"), home.write("noise.bin", noise(300_000))];
        let paths: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
        let digest = oras.say(&json!(["push", oras.at("oras/files:one"), false, paths]));
        oras.say(&json!(["push", oras.at("oras/files:two"), true, &paths[..1]]));
        let listed: BTreeSet<String> =
            serde_json::from_value(oras.say(&json!(["tags", oras.at("oras/files"), null]))).unwrap();
        assert_eq!(listed, ["one", "two"].map(str::to_owned).into());

        let down = home.path("down");
        let pulled = oras.say(&json!(["pull", oras.at("oras/files:one"), down]));
        assert_eq!(pulled.as_array().map(Vec::len), Some(2), "{pulled}");
        for file in &files {
            let got = fs::read(down.join(file.file_name().unwrap())).unwrap();
            assert!(got == fs::read(file).unwrap(), "{} came back differently", file.display());
        }
        let curl = Curl::of(&home, &target);
        let image = curl.download("oras/files", "one");
        assert_eq!(digest, image.root.digest);

        assert_eq!(oras.say(&json!(["delete", oras.at("oras/files"), "one"])), true);
        curl.is_gone("oras/files", "one", &image.root);
        assert_eq!(oras.say(&json!(["delete", oras.at("oras/files"), "one"])), false);
        assert_eq!(oras.say(&json!(["tags", oras.at("oras/files"), null])), json!(["two"]));
        oras.fails(&json!(["pull", oras.at("oras/files:one"), home.path("gone")]));
    }
}

#[test]
fn nobody_gets_in_with_a_wrong_password_or_without_one() {
    needs!(PYTHON);
    let python = &needs_packages!(ORAS);
    let target = guarded();
    let home = Home::beside(&target);
    let oras = Oras::signed_in(python, &home, &target);
    let file = home.write("mine.txt", "mine\n");
    let push = |name: &str| json!(["push", oras.at(name), false, [file]]);
    oras.say(&push("oras/mine:one"));
    let (user, _) = target.credentials.as_ref().unwrap();
    for password in [None, Some("wrong")] {
        let other = Home::beside(&target);
        let stranger = Oras { python: python.clone(), home: &other, target: &target, backend: "basic" };
        if let Some(password) = password {
            stranger.say(&json!(["login", user, password]));
        }
        for command in [push("oras/theirs:one"), json!(["tags", oras.at("oras/mine"), null])] {
            let said = stranger.fails(&command);
            // Without a password, the library fails when it looks for the one it was just asked for.
            let clear = match password {
                Some(_) => says_unauthorized(&said),
                None => said.contains("no attribute '_basic_auth'"),
            };
            assert!(clear, "{command}: {said}");
        }
        stranger.fails(&json!(["pull", oras.at("oras/mine:one"), other.path("stolen")]));
        assert!(!other.path("stolen/mine.txt").exists());
    }
    oras.say(&json!(["pull", oras.at("oras/mine:one"), home.path("back")]));
    assert_eq!(fs::read_to_string(home.path("back/mine.txt")).unwrap(), "mine\n");
}

#[test]
fn a_password_is_sent_with_every_request_if_the_user_wants_that() {
    needs!(PYTHON, CURL);
    let python = &needs_packages!(ORAS);
    let target = guarded();
    let home = Home::beside(&target);
    let challenge = Curl::stranger(&home, &target).get("/v2/").is(401);
    assert!(challenge.header("WWW-Authenticate").unwrap().starts_with("Bearer "));
    let file = home.write("basic.txt", "by password\n");
    let oras = Oras { backend: "basic", ..Oras::signed_in(python, &home, &target) };
    oras.say(&json!(["push", oras.at("oras/basic:one"), false, [file]]));
    oras.say(&json!(["pull", oras.at("oras/basic:one"), home.path("back")]));
    assert_eq!(fs::read_to_string(home.path("back/basic.txt")).unwrap(), "by password\n");
    assert_eq!(oras.say(&json!(["delete", oras.at("oras/basic"), "one"])), true);
}

#[test]
fn an_artifact_is_attached_to_an_image() {
    needs!(PYTHON, CURL, UMOCI, BUSYBOX);
    let python = &needs_packages!(ORAS);
    for target in targets() {
        let home = Home::beside(&target);
        let curl = Curl::of(&home, &target);
        let subject = content::busybox().root;
        curl.push(&content::busybox(), "oras/subject", "image");
        let oras = Oras::signed_in(python, &home, &target);
        let file = home.write("signature.txt", "signed\n");
        let command = json!(["attach", oras.at("oras/subject:note"), file, OCI_MANIFEST, subject.digest, subject.size]);
        let made = oras.say(&command);
        let artifact = curl.download("oras/subject", "note");
        assert_eq!(artifact.root.digest, made[0]);
        assert_eq!(artifact.manifest_json()["subject"], subject.json());
        assert_eq!(made[1], subject.digest, "the registry says that it has seen the subject");
        let path = format!("/v2/oras/subject/referrers/{}", subject.digest);
        let listed = curl.get(&path).is(200).json();
        assert_eq!(listed["manifests"][0]["digest"], artifact.root.digest);
    }
}

#[test]
fn a_layout_is_pushed_whole_or_in_chunks_and_pulled_back() {
    needs!(PYTHON);
    let python = &needs_packages!(ORAS);
    let target = guarded();
    let home = Home::beside(&target);
    let oras = Oras::signed_in(python, &home, &target);
    let image = content::heavy();
    let layout = image.source().split(':').nth(1).unwrap().to_owned();
    for (name, chunked) in [("oras/whole:one", false), ("oras/chunks:one", true)] {
        let pushed = oras.say(&json!(["push_layout", layout, image.tag, oras.at(name), chunked]));
        assert_eq!(pushed, image.root.digest);
        let down = home.fresh("layout");
        oras.say(&json!(["pull_layout", down, oras.at(name)]));
        let pulled = Image::in_layout(&down, "pulled");
        compare(&image, |part| pulled.store.get(part)).at_least(1, 2, HEAVY_BYTES as u64);
    }
}

#[test]
fn tags_are_listed_over_several_pages() {
    needs!(PYTHON, CURL);
    let python = &needs_packages!(ORAS);
    let target = guarded();
    let home = Home::beside(&target);
    let curl = Curl::of(&home, &target);
    let image = content::artifact(&home, &content::many_layers().root);
    curl.push(&image, "oras/pages", "v0");
    for n in 1..10 {
        curl.push_manifest("oras/pages", &format!("v{n}"), OCI_MANIFEST, &image.manifest());
    }
    let oras = Oras::signed_in(python, &home, &target);
    for limit in [3, 10, 50] {
        let listed = oras.say(&json!(["tags", oras.at("oras/pages"), limit]));
        let expected: Vec<String> = (0..limit.min(10)).map(|n| format!("v{n}")).collect();
        assert_eq!(listed, json!(expected));
    }
}
