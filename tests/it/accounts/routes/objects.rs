//! The objects of the requests: the values of a path and the body, created for the request if it changes something.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::callers::{SPARE, User, World};
use super::pages::PAGES;
use super::{API_V1, NAME, OTHER};
use crate::support::content::{INDEX, MANIFEST, bytes, noise, push_blob, put_manifest, sha256, start_upload};

/// The object of a request: the values of its path, and its body.
#[derive(Default)]
pub(super) struct Target {
    pub(super) values: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    pub(super) content_type: &'static str,
}

impl Target {
    pub(super) fn value(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    /// The fields of a page's form.
    pub(super) fn form(mut self, fields: &[(&str, &str)]) -> Self {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let fields = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value)));
        self.body = fields.collect::<Vec<_>>().join("&").into_bytes();
        self
    }

    fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.content_type = "application/json";
        self
    }
}

impl World {
    /// The object of the request, created for it if the request changes something.
    pub(super) async fn target(&self, route: &'static str, user: &User) -> Target {
        let (alice, target) = (&self.alice, Target::default());
        let content = noise(100, self.next());
        let (_, path) = route.split_once(' ').unwrap();
        match route {
            "PUT /v2/{name}/manifests/{tag}" => Target { body: bytes(&self.image), content_type: MANIFEST, ..target },
            "DELETE /v2/{name}/manifests/{digest}" => target.value("{digest}", self.new_manifest().await),
            "DELETE /v2/{absent}/manifests/{digest}" => target.value("{digest}", sha256(&content)),
            "DELETE /v2/{name}/blobs/{digest}" => target.value("{digest}", push_blob(alice, NAME, &content).await),
            "POST /v2/{name}/blobs/uploads/?digest={digest}" => {
                Target { body: content.to_vec(), ..target.value("{digest}", sha256(&content)) }
            }
            "POST /v2/{name}/blobs/uploads/?mount={digest}" => {
                target.value("{digest}", push_blob(alice, OTHER, &content).await)
            }
            _ if path.contains("/blobs/uploads/{id}") => {
                let upload = start_upload(alice, NAME).await;
                let id = upload.rsplit('/').next().unwrap().to_owned();
                let body = if route.starts_with('P') { content.to_vec() } else { Vec::new() };
                Target { body, ..target.value("{id}", id).value("{digest}", sha256(&content)) }
            }
            _ if path.starts_with("/v2/{") => {
                target.value("{digest}", self.image["config"]["digest"].as_str().unwrap())
            }
            "POST /zot/auth/apikey" | "POST /v2/_zot/ext/apikey" => target.json(&json!({ "label": "made here" })),
            "POST /v2/_zot/ext/search" => target.json(&json!({ "query": "{__typename}" })),
            "POST /api/v1/user/apptoken" => target.json(&json!({ "title": "made here" })),
            "POST /v2/auth" => {
                let form = format!("grant_type=password&username={}&password={}", user.name, user.password);
                Target { body: form.into_bytes(), content_type: "application/x-www-form-urlencoded", ..target }
            }
            "POST /api/v1/repository" => target.json(&json!({
                "namespace": "alice", "repository": format!("made{}", self.next()), "visibility": "private", "description": "",
            })),
            "DELETE /api/v1/user/refreshtoken/{token_uuid}" => target.value("{token_uuid}", self.new_refresh_token().await),
            _ if path.contains("{token_uuid}") => target.value("{token_uuid}", self.new_key().await),
            _ if path.contains("{session_id}") => target.value("{session_id}", self.new_session().await),
            "POST /ui/r/{name}/-/description" => target.form(&[("description", "text")]),
            "POST /ui/r/{name}/-/settings" => target.form(&[("change", "visibility"), ("visibility", "private")]),
            "POST /ui/r/{name}/-/delete-tags" => {
                let tag = format!("gone{}", self.next());
                put_manifest(alice, NAME, &tag, &self.image).await.status(201);
                target.form(&[("tag", &tag)])
            }
            "POST /ui/r/{name}/-/delete-manifest/{digest}" => {
                target.value("{digest}", self.new_manifest().await).form(&[])
            }
            _ if path.ends_with("/-/restore-manifest/{digest}") => {
                let digest = self.new_manifest().await;
                alice.delete(&format!("/v2/{NAME}/manifests/{digest}")).send().await.status(202);
                target.value("{digest}", digest)
            }
            // The tag points there already, so that other requests find it unchanged.
            "POST /ui/r/{name}/-/restore/{tag}" => target.form(&[("digest", &sha256(&bytes(&self.image)))]),
            "POST /ui/r/{name}/-/delete" => target.form(&[("confirm", "another name")]),
            _ if path.ends_with("/blob/{digest}") => {
                target.value("{digest}", self.image["config"]["digest"].as_str().unwrap())
            }
            _ if path.starts_with("/ui/r/{") => target.value("{digest}", sha256(&bytes(&self.image))),
            "POST /ui/sign-in" => target.form(&[("user", &user.name), ("password", &user.password)]),
            "POST /ui/confirm-password" => target.form(&[("password", &user.password)]),
            "POST /ui/account/keys/new" => {
                target.form(&[("label", "made here"), ("lifetime", "7"), ("limit", "all")])
            }
            "POST /ui/account/sessions" => target.form(&[("end", &self.new_session().await)]),
            "POST /ui/account/clients" => target.form(&[("end", &self.new_refresh_token().await)]),
            "POST /ui/account/password" => {
                target.form(&[("password", "another-password"), ("again", "another-password")])
            }
            "POST /ui/admin/users/-/new" => target.form(&[("name", &format!("made{}", self.next()))]),
            "POST /ui/admin/users/{username}" => target.value("{username}", SPARE).form(&[("groups", "team")]),
            "POST /ui/admin/groups/-/new" => {
                target.form(&[("name", &format!("made{}", self.next())), ("role", "read")])
            }
            _ if path.starts_with("/ui/admin/users/{username}") && route.starts_with("POST") => {
                target.value("{username}", SPARE)
            }
            "POST /ui/admin/maintenance" => target.form(&[("work", "scrub"), ("act", "start")]),
            _ if path.contains("{work}") => target.value("{work}", "collection"),
            "POST /api/v1/signin" => target.json(&json!({ "username": user.name, "password": user.password })),
            "POST /api/v1/signin/device" => target.json(&json!({ "provider": "oidc" })),
            "POST /api/v1/signin/device/token" => target.json(&json!({ "handle": "unknown" })),
            "POST /api/v1/signin/code" => target.json(&json!({ "code": "unknown", "code_verifier": "a" })),
            "POST /api/v1/signin/verify" => target.json(&json!({ "password": user.password })),
            "PUT /api/v1/user/" => target.json(&json!({ "email": format!("user{}@example.org", self.next()) })),
            "POST /api/v1/superuser/users/" => target.json(&json!({ "username": format!("made{}", self.next()) })),
            _ if path.contains("{username}") => {
                let name = if route.starts_with("DELETE") { self.spare_user().await } else { "bob".to_owned() };
                target.value("{username}", name).json(&json!({ "email": "another@example.org" }))
            }
            _ => target.value("{error_type}", "invalid_token"),
        }
    }

    /// Pushes another manifest to [`NAME`], and returns its digest.
    async fn new_manifest(&self) -> String {
        let mut manifest = self.image.clone();
        manifest["annotations"] = json!({ "number": self.next().to_string() });
        let digest = sha256(&bytes(&manifest));
        put_manifest(&self.alice, NAME, &digest, &manifest).await.status(201);
        digest
    }

    /// The objects of requests about repositories, roles and groups: for each route a repository of alice and a group, in
    /// which bob has a role if the route shows or removes one.
    pub(super) async fn shared_target(&self, route: &'static str) -> Target {
        let number = API_V1.iter().chain(PAGES).position(|known| *known == route).unwrap();
        let (mut repository, group) = (format!("alice/for{number}"), format!("group{number}"));
        if route == "DELETE /api/v1/repository/{repository}" {
            repository = format!("alice/gone{}", self.next());
        }
        let target = Target::default().value("{repository}", &repository).value("{group}", &group);
        let mut target = target.value("{username}", "bob").value("{membername}", "bob");
        if route.contains("{repository}") {
            push_blob(&self.alice, &repository, &noise(100, self.next())).await;
        } else {
            self.tell_as_root(&format!("/api/v1/group/{group}"), &json!({ "role": "member" })).await;
            self.tell_as_root(&format!("/api/v1/group/{group}/members/bob"), &json!({})).await;
        }
        for who in ["user/bob", &format!("team/{group}")] {
            if route.contains(&format!("/permissions/{}", &who[..4])) {
                let path = format!("/api/v1/repository/{repository}/permissions/{who}");
                self.tell("alice", &path, &json!({ "role": "read" })).await;
            }
        }
        if route.contains("{digest}") {
            let manifest = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
            put_manifest(&self.alice, &repository, "1", &manifest).await.status(201);
            target = target.value("{digest}", sha256(&bytes(&manifest)));
        }
        let mut digest = String::new();
        if route.contains("{tag}") {
            // Twice, so that there is something before.
            for annotation in ["before", "now"] {
                let number = format!("{annotation} {}", self.next());
                let manifest =
                    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": { "n": number } });
                put_manifest(&self.alice, &repository, "1", &manifest).await.status(201);
                if digest.is_empty() {
                    digest = sha256(&bytes(&manifest));
                }
            }
        }
        let body = match route {
            _ if route.contains("{tag}") => json!({ "manifest_digest": digest }),
            "PUT /api/v1/repository/{repository}" => json!({ "description": "about it" }),
            "POST /api/v1/repository/{repository}/changevisibility" => json!({ "visibility": "private" }),
            "PUT /api/v1/group/{group}" => json!({ "role": "member" }),
            _ => json!({ "role": "write" }),
        };
        match route {
            _ if route.contains(" /ui/") => target.form(&[("change", "settings"), ("role", "read")]),
            _ if route.starts_with('P') => target.json(&body),
            _ => target,
        }
    }
}
