//! Large blobs with curl, as people use it: over plain HTTP, and over TLS with HTTP/1.1 and HTTP/2.
//!
//! curl reads in blocking calls and sleeps between them, so the registry pays for waking it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::server::Server;
use super::support::content::{Content, Noise};
use super::{Done, Extent, Meter};

/// The version of HTTP that curl uses.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Http {
    One,
    Two,
}

/// A blob in a file, where curl reads it.
struct Source {
    directory: tempfile::TempDir,
    content: Content,
}

impl Source {
    fn new(length: usize, name: (usize, usize, usize)) -> Self {
        let noise = Noise::new();
        let content = noise.content(length, name);
        let directory = super::support::directory();
        let mut file = std::fs::File::create(directory.path().join("blob")).unwrap();
        for piece in noise.pieces(&content) {
            std::io::Write::write_all(&mut file, piece).unwrap();
        }
        Self { directory, content }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("blob")
    }

    fn sent(&self, server: &Server, http: Http, repository: &str) {
        let location = start(server, http, repository);
        // The location of docker-registry names how much has arrived, so each response has another one.
        let location = location_of(&wait(send(server, http, &location, &self.path()), "202 "));
        finish(server, http, &location, &self.content);
    }
}

fn curl(server: &Server, http: Http) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--insecure", "--output", "/dev/null"]);
    command.arg(match http {
        Http::One => "--http1.1",
        Http::Two => "--http2",
    });
    // The registry, and not a proxy of the environment.
    command.args(["--noproxy", "*", "--connect-to", &format!("::{}", server.address)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Waits for curl. `expected` is printed by it.
fn wait(child: Child, expected: &str) -> String {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.starts_with(expected), "{text}");
    text
}

/// Begins an upload. Returns the path of its location.
fn start(server: &Server, http: Http, repository: &str) -> String {
    let mut command = curl(server, http);
    command.args(["--request", "POST", "--data", "", "--write-out", "%{http_code} %header{location}"]);
    command.arg(server.url(&format!("/v2/{repository}/blobs/uploads/")));
    location_of(&wait(command.spawn().unwrap(), "202 "))
}

/// The path of the location that curl printed after the status.
fn location_of(text: &str) -> String {
    let location = &text[4..];
    location.find("/v2/").map_or(location, |at| &location[at..]).to_owned()
}

fn send(server: &Server, http: Http, location: &str, file: &Path) -> Child {
    let mut command = curl(server, http);
    command.args(["--request", "PATCH", "--header", "content-type: application/octet-stream", "--header", "expect:"]);
    command.args(["--write-out", "%{http_code} %header{location}", "--upload-file"]);
    command.arg(file).arg(server.url(location));
    command.spawn().unwrap()
}

fn finish(server: &Server, http: Http, location: &str, content: &Content) {
    let mut command = curl(server, http);
    command.args(["--request", "PUT", "--data", "", "--header", "content-type: application/octet-stream"]);
    let separator = if location.contains('?') { '&' } else { '?' };
    let path = format!("{location}{separator}digest={}", content.digest());
    command.args(["--write-out", "%{http_code}"]).arg(server.url(&path));
    wait(command.spawn().unwrap(), "201");
}

fn received(server: &Server, http: Http, repository: &str, content: &Content) {
    let mut command = curl(server, http);
    command.args(["--write-out", "%{http_code} %{size_download}"]);
    command.arg(server.url(&format!("/v2/{repository}/blobs/{}", content.digest())));
    let text = wait(command.spawn().unwrap(), "200 ");
    assert_eq!(text[4..], content.length().to_string());
}

/// The upload of a new blob, of `clients` at once.
pub(crate) fn push(server: &Server, extent: Extent, round: usize, http: Http, clients: usize) -> Done {
    let length = extent.mib * (1 << 20) / clients;
    let sources: Vec<_> = (0..clients).map(|number| Source::new(length, (round, number, 7))).collect();
    server.empty_page_cache();
    let meter = Meter::begin(server);
    std::thread::scope(|scope| {
        for source in &sources {
            scope.spawn(|| source.sent(server, http, "curl/push"));
        }
    });
    meter.done((length * clients) as f64)
}

/// The first download of a blob that was just uploaded.
pub(crate) fn pull_first(server: &Server, extent: Extent, round: usize, http: Http) -> Done {
    let source = Source::new(extent.mib * (1 << 20), (round, 0, 8));
    source.sent(server, http, "curl/first");
    let meter = Meter::begin(server);
    received(server, http, "curl/first", &source.content);
    meter.done(source.content.length() as f64)
}

/// A download of a blob that was downloaded before.
pub(crate) fn pull(server: &Server, extent: Extent, round: usize, http: Http) -> Done {
    let content = if round == 0 {
        let source = Source::new(extent.mib * (1 << 20), (0, 0, 9));
        source.sent(server, http, "curl/pull");
        source.content
    } else {
        Noise::new().content(extent.mib * (1 << 20), (0, 0, 9))
    };
    let meter = Meter::begin(server);
    received(server, http, "curl/pull", &content);
    meter.done(content.length() as f64)
}
