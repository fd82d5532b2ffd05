//! Sign-in with the browser of this machine (RFC 8252, RFC 7636).
//!
//! The browser opens a page of the registry, and returns to a local port of this program with a code. Only this program
//! can use the code.

use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::api::{Api, Failure, Provider};
use crate::web::{Standalone, Style};

/// The time that the user has.
const WAIT: Duration = Duration::from_mins(10);
/// Limits of the browser's requests: time, size, and number of connections. Browsers open connections that they do not
/// use.
const REQUEST_WAIT: Duration = Duration::from_secs(20);
const REQUEST_BYTES_MAX: usize = 16 * 1024;
const CONNECTIONS_MAX: usize = 16;
/// The wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

const DONE: Standalone = Standalone { title: "Continue in the terminal", text: "You can close this window." };
const NOT_HERE: Standalone = Standalone {
    title: "Page not found",
    text: "This address serves one sign-in of coracle login. Look into the terminal.",
};

/// The result that the browser returns with.
#[derive(Debug, PartialEq, Eq)]
enum Returned {
    Code(String),
    Denied,
}

/// Whether this machine has a browser and a screen.
pub(super) fn is_there() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    cfg!(target_os = "macos") || set("BROWSER") || set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// Starts a session through a provider.
pub(super) async fn sign_in(api: &mut Api, provider: &Provider, open: bool) -> Result<(), Failure> {
    let other = |error: &dyn std::fmt::Display| Failure::Other(format!("cannot listen for the browser: {error}"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|error| other(&error))?;
    let port = listener.local_addr().map_err(|error| other(&error))?.port();
    // Neither another program on this machine nor a page in the browser can guess the path.
    let path = format!("/{}", hex::encode(rand::random::<[u8; 16]>()));
    let verifier = Zeroizing::new(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let address = format!(
        "{}/zot/auth/login?provider={}&callback_ui={}&code_challenge={challenge}&code_challenge_method=S256",
        api.url(),
        encoded(&provider.name),
        encoded(&format!("http://127.0.0.1:{port}{path}")),
    );
    let how = if open {
        format!("Sign in with {} in the browser. If no window opens, open this address:", provider.title)
    } else {
        format!("To sign in with {}, open this address in a browser on this machine:", provider.title)
    };
    // One write, so that another program reads it whole.
    let how = format!("{how}\n\n  {address}\n\n");
    eprint!("{how}");
    let _browser = open.then(|| open_browser(&address)).flatten();
    let returned = tokio::time::timeout(WAIT, wait(listener, path)).await;
    match returned.map_err(|_| Failure::Other("the browser did not return within 10 minutes".to_owned()))? {
        Returned::Code(code) => {
            let body = json!({ "code": code, "code_verifier": *verifier });
            api.post("/api/v1/signin/code", &body).await.map(drop)
        }
        Returned::Denied => Err(Failure::Other("the sign-in was refused in the browser".to_owned())),
    }
}

/// Opens $BROWSER, or the default browser of the system. It stays open after the program ends.
fn open_browser(address: &str) -> Option<Child> {
    let chosen = std::env::var("BROWSER").ok().and_then(|list| list.split(':').next().map(str::to_owned));
    let system = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let program = chosen.filter(|program| !program.is_empty()).unwrap_or_else(|| system.to_owned());
    Command::new(program).arg(address).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Answers requests until the browser returns from the registry.
async fn wait(listener: TcpListener, path: String) -> Returned {
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if requests.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    let path = path.clone();
                    requests.spawn(async move {
                        tokio::time::timeout(REQUEST_WAIT, answer(stream, &path)).await.ok().flatten()
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(request) = requests.join_next() => {
                if let Ok(Some(returned)) = request {
                    return returned;
                }
            }
        }
    }
}

/// Answers one request.
async fn answer(mut stream: TcpStream, path: &str) -> Option<Returned> {
    let mut request = Zeroizing::new(Vec::new());
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut *request).await.ok()? == 0 {
            return None;
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().and_then(|line| std::str::from_utf8(line).ok());
    let returned = line.and_then(|line| read(line, path));
    let (status, page) = if returned.is_some() { ("200 OK", DONE) } else { ("404 Not Found", NOT_HERE) };
    let page = page.to_string();
    let style = STANDARD.encode(Sha256::digest(Style::text()));
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\
         Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'; style-src 'sha256-{style}'; base-uri \
         'none'; form-action 'none'; frame-ancestors 'none'\r\n\
         Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\r\n{page}",
        page.len()
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
    returned
}

/// Parses a request line. Returns `None` if it is for another path.
fn read(line: &str, path: &str) -> Option<Returned> {
    let target = line.strip_prefix("GET ")?.strip_suffix(" HTTP/1.1")?;
    let (found, query) = target.split_once('?')?;
    if found != path {
        return None;
    }
    let value = |wanted: &str| {
        let mut values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == wanted);
        let (_, value) = values.next().filter(|_| values.next().is_none())?;
        percent_decode_str(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    match (value("code"), value("error")) {
        (Some(code), None) => Some(Returned::Code(code)),
        (None, Some(_)) => Some(Returned::Denied),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_path_returns_a_code() {
        let code = || Some(Returned::Code("a b".to_owned()));
        for (line, expected) in [
            ("GET /x?code=a%20b HTTP/1.1", code()),
            ("GET /x?state=s&code=a%20b HTTP/1.1", code()),
            ("GET /x?error=access_denied HTTP/1.1", Some(Returned::Denied)),
            ("GET /x?code=a&code=b HTTP/1.1", None),
            ("GET /x?code=a&error=b HTTP/1.1", None),
            ("GET /x HTTP/1.1", None),
            ("GET /?code=a HTTP/1.1", None),
            ("GET /x/?code=a HTTP/1.1", None),
            ("POST /x?code=a HTTP/1.1", None),
            ("GET /favicon.ico HTTP/1.1", None),
        ] {
            assert_eq!(read(line, "/x"), expected, "{line}");
        }
    }
}
