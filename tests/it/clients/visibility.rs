//! A public and a private repository in one registry, for every client: with the right password everything works,
//! without one pulls of what is public work, and with a wrong password nothing does that needs one.
//!
//! In both profiles, over plain HTTP and over TLS. What a client may do here depends on how it was challenged by its
//! first requests, and each kind of client goes by other ones.

use std::thread;

use oci_client::RegistryOperation;
use oci_client::secrets::RegistryAuth;
use reqwest::Version;
use serde_json::json;

use super::content;
use super::ctr::Containerd;
use super::curl::Curl;
use super::docker::{Engine, needs_engine};
use super::go::GoClient;
use super::home::{Home, needs};
use super::oci_client::{OciClient, spoken, wait};
use super::oras::{ORAS, Oras};
use super::python::needs_packages;
use super::target::{Target, Transport, start, write_htpasswd};
use crate::support::is_long_form;

/// A name and a password; `None` for an anonymous caller.
pub(super) type Credentials<'a> = Option<(&'a str, &'a str)>;

const RIGHT: (&str, &str) = ("alice", "the right password");
const WRONG: (&str, &str) = ("alice", "a wrong password");

/// The image that docker pushes under other names.
const LOADED: &str = "local/image:one";

/// One client with one user's credentials. An error is what the client said when it failed.
pub(super) trait Participant {
    /// Signs in; `None` if the client has no command that tries a password.
    fn sign_in(&self) -> Option<Result<(), String>>;
    fn pull(&self, repository: &str, tag: &str) -> Result<(), String>;
    fn push(&self, repository: &str, tag: &str) -> Result<(), String>;
}

/// Makes a registry that is reached by a transport.
type MakeSetting = fn(Transport) -> Setting;

/// A registry with a public and a private repository, both of which [`RIGHT`] may push to.
struct Setting {
    what: String,
    target: Target,
    public: &'static str,
    private: &'static str,
}

impl Setting {
    /// As zot's users have it: by rules.
    fn by_rules(transport: Transport) -> Self {
        let all = "['read', 'create', 'update', 'delete']";
        let config = format!(
            "profile = 'zot'\nhttp.accessControl.repositories.'base/**' = {{ anonymousPolicy = ['read'], defaultPolicy = {all} }}\n\
             http.accessControl.repositories.'service/**' = {{ defaultPolicy = {all} }}\n"
        );
        Self::new("zot", transport, &config, ("base/hello", "service/hello"))
    }

    /// As Quay's users have it: the owner says so of a repository.
    fn by_visibility(transport: Transport) -> Self {
        let setting = Self::new("coracle", transport, "", ("alice/public", "alice/private"));
        let home = Home::beside(&setting.target);
        let curl = Curl::of(&home, &setting.target);
        let key = curl.send("/zot/auth/apikey", &["--request", "POST", "--data", "{}"]).is(201).json();
        let key = format!("Authorization: Bearer {}", key["apiKey"].as_str().unwrap());
        let body = json!({ "visibility": "public" }).to_string();
        let request =
            ["--request", "POST", "--header", "Content-Type: application/json", "--header", &key, "--data", &body];
        let path = format!("/api/v1/repository/{}/changevisibility", setting.public);
        Curl::stranger(&home, &setting.target).send(&path, &request).is(200);
        setting
    }

    fn new(profile: &str, transport: Transport, config: &str, names: (&'static str, &'static str)) -> Self {
        let (user, password) = RIGHT;
        let target = start(transport, |root| format!("{config}{}", write_htpasswd(root, user, password)));
        let target = target.signed_in_as(user, password);
        let home = Home::beside(&target);
        let (public, private) = names;
        for repository in [public, private] {
            let curl = Curl::of(&home, &target);
            curl.push(&content::busybox(), repository, "one");
            curl.push(&content::artifact(&home, &content::busybox().root), repository, "note");
        }
        Self { what: format!("profile {profile}, {transport:?}"), target, public, private }
    }

    /// Tries everything with one client.
    fn check<'a>(&'a self, client: &str, participant: &dyn Participant, credentials: Credentials<'a>) {
        let what = format!("{client} with {credentials:?}, {}", self.what);
        let may = credentials == Some(RIGHT);
        let check = |what: &str, result: Result<(), String>, expected: bool| match result {
            Ok(()) => assert!(expected, "{what} had to fail"),
            Err(said) => assert!(!expected, "{what} failed: {said}"),
        };
        if credentials.is_some()
            && let Some(result) = participant.sign_in()
        {
            check(&format!("sign-in of {what}"), result, may);
        }
        // Some clients send credentials only if they have to, so a wrong password need not be noticed here.
        if credentials != Some(WRONG) {
            check(&format!("public pull of {what}"), participant.pull(self.public, "one"), true);
        }
        check(&format!("private pull of {what}"), participant.pull(self.private, "one"), may);
        let home = Home::beside(&self.target);
        let curl = Curl::of(&home, &self.target);
        let tag = format!("by-{client}");
        for repository in [self.public, self.private] {
            if !may {
                curl.delete(&format!("/v2/{repository}/manifests/{tag}"));
            }
            check(&format!("push to {repository} of {what}"), participant.push(repository, &tag), may);
            curl.manifest(repository, &tag).is(if may { 200 } else { 404 });
        }
    }
}

/// Tries every kind of credentials in every setting, for the client that `start` makes. The short form has each profile
/// and each transport once. The wrong credentials come last, so that the registry does not slow down the right ones.
fn everywhere(
    client: &str,
    start: impl for<'a> Fn(&'a Home, &'a Target, Credentials<'a>) -> Box<dyn Participant + 'a> + Sync,
) {
    thread::scope(|scope| {
        let settings: [(MakeSetting, Transport); 4] = [
            (Setting::by_rules, Transport::Http),
            (Setting::by_visibility, Transport::Https),
            (Setting::by_rules, Transport::Https),
            (Setting::by_visibility, Transport::Http),
        ];
        for (setting, transport) in settings.into_iter().take(if is_long_form() { 4 } else { 2 }) {
            let start = &start;
            scope.spawn(move || {
                let setting = setting(transport);
                for credentials in [Some(RIGHT), None, Some(WRONG)] {
                    let home = Home::beside(&setting.target);
                    setting.check(client, &*start(&home, &setting.target, credentials), credentials);
                }
            });
        }
    });
}

/// `user:password`, as most clients take it.
fn pair(credentials: Credentials) -> Option<String> {
    credentials.map(|(user, password)| format!("{user}:{password}"))
}

/// skopeo and podman: the same library, and nearly the same commands.
struct Containers<'a> {
    program: &'static str,
    home: &'a Home,
    target: &'a Target,
    credentials: Credentials<'a>,
    /// The pushed image: a layout for skopeo, an image in the storage for podman.
    image: String,
}

impl Containers<'_> {
    fn attempt(&self, arguments: &[&str]) -> Result<(), String> {
        self.home.attempt(self.program, arguments, "").map(drop)
    }

    fn at(&self, repository: &str, tag: &str) -> String {
        format!("docker://{}", self.target.image(&format!("{repository}:{tag}")))
    }

    /// The option that says who asks.
    fn by(&self, side: &str) -> Option<String> {
        pair(self.credentials).map(|pair| format!("--{side}creds={pair}"))
    }
}

impl Participant for Containers<'_> {
    fn sign_in(&self) -> Option<Result<(), String>> {
        let (user, password) = self.credentials?;
        let file = self.home.fresh("auth.json");
        let login = ["login", "--authfile", file.to_str().unwrap(), "--username", user, "--password-stdin"];
        let login = [&login[..], &[&self.target.host_port]].concat();
        Some(self.home.attempt(self.program, &login, password).map(drop))
    }

    fn pull(&self, repository: &str, tag: &str) -> Result<(), String> {
        let from = self.at(repository, tag);
        if self.program == "podman" {
            let by = self.by("");
            return self.attempt(&[&["pull", "--quiet"], &*by.as_slice_of_str(), &[&*from]].concat());
        }
        let to = format!("oci:{}:one", self.home.fresh("layout").display());
        let by = self.by("src-");
        self.attempt(&[&["copy", "--quiet"], &*by.as_slice_of_str(), &[&*from, &*to]].concat())
    }

    fn push(&self, repository: &str, tag: &str) -> Result<(), String> {
        let (command, side) = if self.program == "podman" { ("push", "") } else { ("copy", "dest-") };
        let (by, to) = (self.by(side), self.at(repository, tag));
        self.attempt(&[&[command, "--quiet"], &*by.as_slice_of_str(), &[&*self.image, &*to]].concat())
    }
}

/// An option that may be left out, as a part of a command.
trait Optional {
    fn as_slice_of_str(&self) -> Vec<&str>;
}

impl Optional for Option<String> {
    fn as_slice_of_str(&self) -> Vec<&str> {
        self.iter().map(String::as_str).collect()
    }
}

/// ctr, which has no command to sign in.
struct Ctr<'a> {
    containerd: Containerd<'a>,
    target: &'a Target,
    user: Option<String>,
}

impl Participant for Ctr<'_> {
    fn sign_in(&self) -> Option<Result<(), String>> {
        None
    }

    fn pull(&self, repository: &str, tag: &str) -> Result<(), String> {
        let name = self.target.image(&format!("{repository}:{tag}"));
        self.containerd.attempt(&["content", "fetch"], self.user.as_deref(), &[&name])
    }

    fn push(&self, repository: &str, tag: &str) -> Result<(), String> {
        let name = self.target.image(&format!("{repository}:{tag}"));
        let image = self.target.image(&format!("local/image:{}", content::busybox().tag));
        self.containerd.attempt(&["images", "push"], self.user.as_deref(), &[&name, &image])
    }
}

/// docker, with an engine.
struct Docker<'a> {
    engine: Engine<'a>,
    target: &'a Target,
    credentials: Credentials<'a>,
}

impl Participant for Docker<'_> {
    fn sign_in(&self) -> Option<Result<(), String>> {
        let (user, password) = self.credentials?;
        let said = self.engine.sign_in(user, password).map(drop);
        self.engine.remember(user, password);
        Some(said)
    }

    fn pull(&self, repository: &str, tag: &str) -> Result<(), String> {
        self.engine.attempt(&["pull", "--quiet", &self.target.image(&format!("{repository}:{tag}"))]).map(drop)
    }

    fn push(&self, repository: &str, tag: &str) -> Result<(), String> {
        let name = self.target.image(&format!("{repository}:{tag}"));
        self.engine.attempt(&["tag", &self.target.image(LOADED), &name])?;
        self.engine.attempt(&["push", "--quiet", &name]).map(drop)
    }
}

/// The `oras` library of Python with its default settings, which notices a wrong password when it needs it.
impl Participant for Oras<'_> {
    fn sign_in(&self) -> Option<Result<(), String>> {
        None
    }

    fn pull(&self, repository: &str, _tag: &str) -> Result<(), String> {
        // It takes files, and no images.
        let name = self.at(&format!("{repository}:note"));
        self.attempt(&json!(["pull", name, self.home.fresh("files")])).map(drop)
    }

    fn push(&self, repository: &str, tag: &str) -> Result<(), String> {
        let file = self.home.write("a file.txt", format!("{repository}:{tag}\n"));
        self.attempt(&json!(["push", self.at(&format!("{repository}:{tag}")), false, [file]])).map(drop)
    }
}

/// The crate. A client keeps its tokens, so each attempt has one of its own.
struct Crate<'a> {
    target: &'a Target,
    auth: RegistryAuth,
}

impl Crate<'_> {
    fn attempt(
        &self,
        name: &str,
        operation: RegistryOperation,
        work: impl FnOnce(&OciClient) -> Result<(), oci_client::errors::OciDistributionError>,
    ) -> Result<(), String> {
        let client = OciClient::new(self.target, self.auth.clone(), |_| ());
        let signed_in = wait(client.client.auth(&client.at(name), &client.auth, operation));
        signed_in.and_then(|_| work(&client)).map_err(|error| error.to_string())
    }
}

impl Participant for Crate<'_> {
    fn sign_in(&self) -> Option<Result<(), String>> {
        None
    }

    fn pull(&self, repository: &str, tag: &str) -> Result<(), String> {
        let name = format!("{repository}:{tag}");
        self.attempt(&name, RegistryOperation::Pull, |client| {
            let image = content::busybox();
            let at = client.at(&name);
            wait(client.client.pull_manifest_raw(&at, &client.auth, &[&image.root.media_type]))?;
            wait(client.client.pull_blob(&at, &*image.config().digest, &mut Vec::new()))
        })
    }

    fn push(&self, repository: &str, tag: &str) -> Result<(), String> {
        let name = format!("{repository}:{tag}");
        self.attempt(&name, RegistryOperation::Push, |client| {
            let image = content::busybox();
            let at = client.at(&name);
            let config = image.store.get(&image.config());
            wait(client.client.push_blob(&at, config, &image.config().digest))?;
            wait(client.client.push_manifest_raw(&at, image.manifest(), image.root.media_type.parse().unwrap()))?;
            Ok(())
        })
    }
}

#[test]
fn skopeo() {
    needs!(SKOPEO, CURL, UMOCI, BUSYBOX);
    everywhere("skopeo", |home, target, credentials| {
        Box::new(Containers { program: "skopeo", home, target, credentials, image: content::busybox().source() })
    });
}

#[test]
fn podman() {
    needs!(PODMAN, CURL, UMOCI, BUSYBOX);
    everywhere("podman", |home, target, credentials| {
        let image = home.run("podman", &["pull", "--quiet", &content::busybox().source()]).text().trim().to_owned();
        Box::new(Containers { program: "podman", home, target, credentials, image })
    });
}

#[test]
fn ctr() {
    needs!(CTR, CONTAINERD, CURL, UMOCI, BUSYBOX);
    everywhere("ctr", |home, target, credentials| {
        let containerd = Containerd::start(home, target);
        containerd.import(&content::busybox(), "local/image");
        Box::new(Ctr { containerd, target, user: pair(credentials) })
    });
}

#[test]
fn docker() {
    needs_engine!();
    everywhere("docker", |home, target, credentials| {
        let engine = Engine::start(home, target);
        engine.load(&content::docker(), LOADED);
        Box::new(Docker { engine, target, credentials })
    });
}

#[test]
fn oras_for_python_with_its_default_settings() {
    needs!(PYTHON, CURL, UMOCI, BUSYBOX);
    let python = &needs_packages!(ORAS);
    everywhere("oras-py", |home, target, credentials| Box::new(Oras::with_token(python, home, target, credentials)));
}

#[test]
fn the_crate_oci_client() {
    needs!(CURL, UMOCI, BUSYBOX);
    everywhere("oci-client", |_, target, credentials| {
        let expected = if target.is_https() { Version::HTTP_2 } else { Version::HTTP_11 };
        assert_eq!(spoken(target), expected);
        let auth = credentials.map_or(RegistryAuth::Anonymous, |(user, password)| {
            RegistryAuth::Basic(user.to_owned(), password.to_owned())
        });
        Box::new(Crate { target, auth })
    });
}

#[test]
fn a_client_in_go_with_dockers_rules() {
    needs!(GO, CURL, UMOCI, BUSYBOX);
    everywhere("go", |home, target, credentials| Box::new(GoClient::new(home, target, credentials)));
}
