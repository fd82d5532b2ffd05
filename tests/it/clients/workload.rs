//! Clients that sign in with the ID token of a workload, as pipelines do, and push.

use serde_json::json;

use super::content;
use super::curl::Curl;
use super::docker::{Engine, needs_engine};
use super::home::{Home, needs, says_unauthorized};
use super::skopeo::Skopeo;
use super::storage::Storage;
use super::target::{Target, guarded_as};
use crate::workload::issuer::Issuer;

const RULES: &str = "{ claims = { repository = 'org/app', ref = 'refs/heads/main' }, groups = ['ci'] }";
const RIGHTS: &str = "[http.accessControl.repositories.'team/**']\n\
                      policies = [{ groups = ['ci'], actions = ['read', 'create', 'update'] }]\n";

/// A registry of one of the two profiles, and the same for a job of the issuer.
fn target(issuer: &Issuer, profile: &str) -> Target {
    let config = format!("profile = '{profile}'\n{}{RIGHTS}", issuer.settings("", RULES));
    guarded_as(&config).signed_in_as("any", &issuer.token(&json!({})))
}

#[test]
fn skopeo_pushes_and_pulls_with_a_workload_token() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    let issuer = Issuer::start();
    for profile in ["coracle", "zot"] {
        let target = target(&issuer, profile);
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        let image = content::busybox();
        skopeo.push(&image, "team/box:1");
        assert_eq!(skopeo.pull("team/box:1").uncompressed(), image.uncompressed());
        let source = format!("docker://{}", target.image("other/box:1"));
        let said = home.fails("skopeo", &["copy", "--all", &image.source(), &source]).stderr;
        assert!(said.contains("403 (Forbidden)") || said.contains("denied"), "{said}");
    }
}

#[test]
fn podman_pushes_and_pulls_with_a_workload_token() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    let issuer = Issuer::start();
    for profile in ["coracle", "zot"] {
        let target = target(&issuer, profile);
        let home = Home::beside(&target);
        let podman = Storage::signed_in("podman", &home, &target);
        let image = content::busybox();
        let made = podman.push(&podman.load(&image), "team/box:1", &[]);
        let served = Curl::of(&home, &target).manifest("team/box", "1").is(200);
        assert_eq!(served.header("Docker-Content-Digest"), Some(&*made));
        podman.pull("team/box:1");
    }
}

/// docker signs in by itself if there is no engine.
#[test]
fn docker_signs_in_with_a_workload_token_without_an_engine() {
    needs!(DOCKER);
    let issuer = Issuer::start();
    for profile in ["coracle", "zot"] {
        let target = target(&issuer, profile);
        let home = Home::beside(&target);
        let login = ["--host", "unix:///nowhere.sock", "login", "-u", "any", "--password-stdin", &target.host_port];
        let said = home.run_fed("docker", &login, &issuer.token(&json!({})));
        assert!(said.text().contains("Login Succeeded"), "{said:?}");
        let bad = issuer.token(&json!({ "repository": "org/other" }));
        let said = home.fails_fed("docker", &login, &bad).stderr;
        assert!(said.contains("401") || said.contains("unauthorized"), "{said}");
    }
}

#[test]
fn docker_pushes_and_pulls_with_a_workload_token() {
    needs_engine!();
    let issuer = Issuer::start();
    for profile in ["coracle", "zot"] {
        let target = target(&issuer, profile);
        let home = Home::beside(&target);
        let docker = Engine::signed_in(&home, &target);
        let image = content::docker();
        docker.load(&image, "team/box:1");
        docker.push("team/box:1");
        docker.pull("team/box:1");
        let served = Curl::of(&home, &target).download("team/box", "1");
        assert_eq!(served.uncompressed(), image.uncompressed());
        docker.load(&image, "other/box:1");
        let said = docker.attempt(&["push", &target.image("other/box:1")]).unwrap_err();
        assert!(said.contains("denied"), "{said}");
        let bad = issuer.token(&json!({ "repository": "org/other" }));
        let said = docker.sign_in("any", &bad).unwrap_err();
        assert!(says_unauthorized(&said), "{said}");
    }
}

#[test]
fn clients_cannot_sign_in_with_a_token_for_another_registry() {
    needs!(SKOPEO, PODMAN);
    let issuer = Issuer::start();
    let target = target(&issuer, "coracle").signed_in_as("any", &issuer.token(&json!({ "aud": "other.example" })));
    let home = Home::beside(&target);
    home.cannot_sign_in("skopeo", &target);
    home.cannot_sign_in("podman", &target);
}
