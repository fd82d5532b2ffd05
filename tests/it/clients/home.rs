//! Temporary homes for clients.
//!
//! A [`Home`] is a directory with everything that a client would look for in the user's home: configuration, credentials,
//! image storage, caches, sockets, temporary files. The environment of a client is made from it, so that a test neither
//! depends on the machine's configuration nor changes it.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::target::Target;

/// The timeout of one command. The slowest known command, a push over a slow link, needs a quarter of it on an idle machine.
pub(crate) const CLIENT_MINUTES_MAX: Duration = Duration::from_mins(5);

/// The credentials of skopeo, podman and buildah. It must be their default path, because podman 4.3 ignores the path in the
/// environment when it lists the tags for `pull --all-tags`.
const AUTH_JSON: &str = "run/containers/auth.json";

/// The configuration of registries.
const REGISTRIES_CONF: &str = ".config/containers/registries.conf";

/// A program that tests need, and its Debian package.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    program: &'static str,
    package: &'static str,
}

pub(crate) const BUILDAH: Client = Client { program: "buildah", package: "buildah" };
pub(crate) const BUSYBOX: Client = Client { program: "busybox", package: "busybox-static" };
pub(crate) const CHROMEDRIVER: Client = Client { program: "chromedriver", package: "chromium-driver" };
pub(crate) const CHROMIUM: Client = Client { program: "chromium", package: "chromium" };
pub(crate) const CONTAINERD: Client = Client { program: "containerd", package: "containerd" };
pub(crate) const CTR: Client = Client { program: "ctr", package: "containerd" };
pub(crate) const CURL: Client = Client { program: "curl", package: "curl" };
pub(crate) const DOCKER: Client = Client { program: "docker", package: "docker.io" };
pub(crate) const DOCKERD: Client = Client { program: "dockerd", package: "docker.io" };
pub(crate) const DOCKER_REGISTRY: Client = Client { program: "docker-registry", package: "docker-registry" };
pub(crate) const HAPROXY: Client = Client { program: "haproxy", package: "haproxy" };
pub(crate) const GO: Client = Client { program: "go", package: "golang-go" };
pub(crate) const JQ: Client = Client { program: "jq", package: "jq" };
pub(crate) const LDAPMODIFY: Client = Client { program: "ldapmodify", package: "ldap-utils" };
pub(crate) const NGINX: Client = Client { program: "nginx", package: "nginx-light" };
pub(crate) const NODE: Client = Client { program: "node", package: "nodejs" };
pub(crate) const NPM: Client = Client { program: "npm", package: "npm" };
pub(crate) const PEBBLE: Client = Client { program: "pebble", package: "pebble" };
pub(crate) const PODMAN: Client = Client { program: "podman", package: "podman" };
pub(crate) const PYTHON: Client = Client { program: "python3", package: "python3-venv" };
pub(crate) const SKOPEO: Client = Client { program: "skopeo", package: "skopeo" };
pub(crate) const SLAPADD: Client = Client { program: "slapadd", package: "slapd" };
pub(crate) const UMOCI: Client = Client { program: "umoci", package: "umoci" };

/// Ends a test if its clients are missing: with a clear line, or with a failure in CI.
macro_rules! needs {
    ($($client:ident),+) => {{
        fn here() {}
        let test = $crate::clients::home::around(std::any::type_name_of_val(&here));
        if !$crate::clients::home::installed(test, &[$($crate::clients::home::$client),+]) {
            return;
        }
    }};
}
pub(crate) use needs;

/// The name of the test, from the name of a function inside it.
pub(crate) fn around(inner: &'static str) -> &'static str {
    inner.trim_end_matches("::here").trim_end_matches("::{{closure}}")
}

/// Whether all of these are installed. Reports the missing ones.
pub(crate) fn installed(test: &str, clients: &[Client]) -> bool {
    let missing: Vec<&Client> = clients.iter().filter(|client| find(client.program).is_none()).collect();
    let [programs, packages] = [|client: &&Client| client.program, |client: &&Client| client.package]
        .map(|name| missing.iter().map(name).collect::<Vec<_>>().join(" "));
    match missing.len() {
        0 => return true,
        1 => skipped(test, &format!("{programs} is not installed (apt-get install {packages})")),
        _ => skipped(test, &format!("{programs} are not installed (apt-get install {packages})")),
    }
    false
}

/// Reports a skipped test with the reason, past the output capture of the test harness. Fails the test if `CI` is set.
pub(crate) fn skipped(test: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{test}: {why}, and CI runs every test");
    #[expect(clippy::explicit_write, reason = "what eprintln! writes is captured, and shown only when a test fails")]
    writeln!(std::io::stderr(), "SKIPPED {test}: {why}").unwrap();
}

/// The path of a program, as the shell of root finds it.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let more = Path::new("/usr/sbin").to_owned();
    std::env::split_paths(&path).chain([more]).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Whether a client reports missing or wrong credentials. Each client has its own words, and may quote the registry.
pub(crate) fn says_unauthorized(said: &str) -> bool {
    let said = said.to_lowercase();
    ["unauthorized", "authentication required", "authorization failed", "no basic auth", "http 401"]
        .iter()
        .any(|words| said.contains(words))
}

/// The output of a finished client.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Output {
    /// The standard output of a client that writes text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The standard output, word by word.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.text().split_whitespace().collect()
    }

    /// The standard output of a client that writes JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("{error} in {:?}", self.stdout))
    }
}

/// A temporary home, removed when it is dropped.
pub(crate) struct Home {
    directory: TempDir,
    /// The only certificate authority that the clients trust.
    authority: Option<PathBuf>,
    names: AtomicUsize,
}

impl Home {
    /// A home that is configured for this registry, without credentials.
    pub(crate) fn beside(target: &Target) -> Self {
        let (host, insecure) = (&target.host_port, !target.is_https());
        let mut home = Self::with_registries(&format!("[[registry]]\nlocation = \"{host}\"\ninsecure = {insecure}\n"));
        let Some(authority) = &target.authority else { return home };
        // skopeo, podman and buildah look here by default, and ctr by its flag.
        let directory = home.certificates().join(host);
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("ca.crt");
        fs::copy(authority, &file).unwrap();
        let (url, ca) = (target.url(""), file.display());
        let hosts = format!("server = \"{url}\"\n[host.\"{url}\"]\nca = \"{ca}\"\n");
        fs::write(directory.join("hosts.toml"), hosts).unwrap();
        home.authority = Some(file);
        home
    }

    /// A home without a registry.
    pub(crate) fn alone() -> Self {
        Self::with_registries("")
    }

    fn with_registries(registries: &str) -> Self {
        // The name is short, because containerd's sockets are in here, and the path of a socket has at most 108 bytes.
        let home = Self {
            directory: tempfile::Builder::new().prefix("cor").tempdir().unwrap(),
            authority: None,
            names: AtomicUsize::default(),
        };
        for directory in ["tmp", "run", "config", "data", "cache", "docker", "run/containers", ".config/containers"] {
            fs::create_dir_all(home.path(directory)).unwrap();
        }
        let root = home.root().display().to_string();
        // podman does not start without it, if the environment names it.
        home.write(AUTH_JSON, "{}");
        // podman and buildah follow the environment. skopeo looks only here.
        home.write(REGISTRIES_CONF, format!("unqualified-search-registries = []\n{registries}"));
        home.write(
            "storage.conf",
            format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{root}/storage\"\nrunroot = \"{root}/run/storage\"\n\
                 rootless_storage_path = \"{root}/storage\"\n"
            ),
        );
        // Replaces podman's defaults: locks in /dev/shm, state in /run/libpod, networks in /etc, cgroups by systemd.
        home.write(
            "containers.conf",
            format!(
                "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nlock_type = \"file\"\n\
                 tmp_dir = \"{root}/run/libpod\"\nstatic_dir = \"{root}/storage/libpod\"\n\
                 volume_path = \"{root}/storage/volumes\"\nimage_copy_tmp_dir = \"{root}/tmp\"\n\
                 [network]\nnetwork_config_dir = \"{root}/networks\"\n"
            ),
        );
        // The policy in the home takes precedence over the machine's.
        home.write(".config/containers/policy.json", r#"{"default": [{"type": "insecureAcceptAnything"}]}"#);
        home
    }

    /// The directory itself.
    fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The directory with a registry's certificate authority.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.path(".config/containers/certs.d")
    }

    /// The user and group that run the tests.
    pub(crate) fn owner(&self) -> (u32, u32) {
        let directory = fs::metadata(self.root()).unwrap();
        (directory.uid(), directory.gid())
    }

    /// A path in this home.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// A new path in this home.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        self.path(&format!("{}-{name}", self.names.fetch_add(1, Ordering::Relaxed)))
    }

    /// Writes a file in this home.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs a client that must succeed.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.run_fed(program, arguments, "")
    }

    /// Runs a client that must succeed, with standard input.
    pub(crate) fn run_fed(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let (status, output) = self.finish(program, arguments, input);
        assert!(status.success(), "{} gave {status}:\n{}", line(program, arguments), streams(&output));
        output
    }

    /// Runs a client that must fail with an exit code, not by a signal.
    pub(crate) fn fails(&self, program: &str, arguments: &[&str]) -> Output {
        self.fails_fed(program, arguments, "")
    }

    /// The same with standard input.
    pub(crate) fn fails_fed(&self, program: &str, arguments: &[&str], input: &str) -> Output {
        let (status, output) = self.finish(program, arguments, input);
        let failed = status.code().is_some_and(|code| code != 0);
        assert!(failed, "{} had to fail, but gave {status}:\n{}", line(program, arguments), streams(&output));
        output
    }

    /// Runs a client that may fail with an exit code. The error is its output.
    pub(crate) fn attempt(&self, program: &str, arguments: &[&str], input: &str) -> Result<Output, String> {
        let mut command = self.command(program);
        command.args(arguments);
        attempt(&mut command, input)
    }

    /// Signs in with skopeo, podman or buildah. Does nothing for an open registry.
    pub(crate) fn sign_in(&self, program: &str, target: &Target) {
        if let Some((user, password)) = &target.credentials {
            let arguments = ["login", "--username", user, "--password-stdin", &target.host_port];
            let said = self.run_fed(program, &arguments, password);
            assert!(said.text().contains("Login Succeeded!"), "{program} said {said:?}");
        }
    }

    /// Tries to sign in with a wrong password and as an unknown user. Both must fail.
    pub(crate) fn cannot_sign_in(&self, program: &str, target: &Target) {
        let (user, password) = target.credentials.as_ref().unwrap();
        for (user, password) in [(&**user, "wrong"), ("mallory", password)] {
            let arguments = ["login", "--username", user, "--password-stdin", &target.host_port];
            let said = self.fails_fed(program, &arguments, password);
            let clear = said.stderr.contains("invalid username/password");
            assert!(clear, "{program} should have said that the password is wrong, not {}", said.stderr);
        }
    }

    /// A client's command in this home, not yet started.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path("tmp"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", self.root())
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("REGISTRY_AUTH_FILE", self.path(AUTH_JSON))
            .env("CONTAINERS_CONF", self.path("containers.conf"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("CONTAINERS_REGISTRIES_CONF", self.path(REGISTRIES_CONF))
            .env("STORAGE_DRIVER", "vfs")
            .env("BUILDAH_ISOLATION", "chroot");
        if let Some(authority) = &self.authority {
            // For curl, Python and Go.
            for variable in ["CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"] {
                command.env(variable, authority);
            }
        }
        if self.owner().0 == 0 {
            // As root, skopeo, podman and buildah always store in /var/lib/containers which registry has which blob. That
            // would outlive the test, and other tests would find blobs there. For other users it is in XDG_DATA_HOME, and
            // this variable makes the clients believe that they run as another user.
            command.env("_CONTAINERS_ROOTLESS_UID", "1000");
        }
        command
    }

    fn finish(&self, program: &str, arguments: &[&str], input: &str) -> (ExitStatus, Output) {
        let mut command = self.command(program);
        command.args(arguments);
        finish(&mut command, input, CLIENT_MINUTES_MAX)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.owner().0 == 0 {
            return;
        }
        // Only users other than root have this to clean up: the process of podman's user namespace, and read-only
        // directories of images.
        if self.path("run/libpod/pause.pid").exists() {
            let _ = self.command("podman").args(["system", "migrate"]).output();
        }
        let _ = self.command("chmod").args(["-R", "u+rwX"]).arg(self.root()).output();
    }
}

/// Runs a command to its end. After the timeout, the command is killed and the test fails.
pub(crate) fn finish(command: &mut Command, input: &str, limit: Duration) -> (ExitStatus, Output) {
    let until = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()));
    // A client that fails early does not read all of its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let mut late = false;
    let [stdout, stderr] = [stdout, stderr].map(|stream| {
        stream.recv_timeout(until.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
            late = true;
            let _ = child.kill();
            stream.recv_timeout(Duration::from_secs(1)).unwrap_or_default()
        })
    });
    let status = child.wait().unwrap();
    let output = Output { stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() };
    assert!(!late, "{} still ran after {limit:?}:\n{}", command.get_program().display(), streams(&output));
    (status, output)
}

/// Runs a command that may fail with an exit code. The error is its output.
pub(crate) fn attempt(command: &mut Command, input: &str) -> Result<Output, String> {
    let (status, output) = finish(command, input, CLIENT_MINUTES_MAX);
    match status.code() {
        Some(0) => Ok(output),
        Some(_) => Err(streams(&output)),
        None => panic!("{} gave {status}:\n{}", command.get_program().display(), streams(&output)),
    }
}

/// Reads a stream to its end in a thread, so that the client never waits.
fn collect(mut stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = send.send(bytes);
    });
    receive
}

fn line(program: &str, arguments: &[&str]) -> String {
    format!("{program} {}", arguments.join(" "))
}

fn streams(output: &Output) -> String {
    let stdout: String = String::from_utf8_lossy(&output.stdout).chars().take(2000).collect();
    format!("--- stdout\n{stdout}\n--- stderr\n{}", output.stderr)
}
