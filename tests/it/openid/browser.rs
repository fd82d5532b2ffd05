//! A headless browser: Chromium, driven by its own driver over WebDriver (W3C) with a few JSON requests.
//!
//! Each browser has an empty profile in a temporary directory and reaches only this machine. All its processes end when
//! it is dropped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::HeaderMap;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::agent::{PATIENCE, fetch};
use crate::clients::home::needs;

/// How often a page is polled.
const LOOK: Duration = Duration::from_millis(25);

/// WebDriver's name of an element id.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser that is closed on drop.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    profile: TempDir,
}

impl Browser {
    pub async fn start() -> Self {
        Self::start_with(&json!({})).await
    }

    /// A browser that runs no script of any page.
    pub async fn without_scripts() -> Self {
        Self::start_with(&json!({ "profile.managed_default_content_settings.javascript": 2 })).await
    }

    async fn start_with(preferences: &Value) -> Self {
        let profile = tempfile::Builder::new().prefix("corb").tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        // In its own process group, so that all its processes can be ended.
        command.arg("--port=0").process_group(0).current_dir(profile.path());
        for directory in ["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
            command.env(directory, profile.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().unwrap();
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, rest) = line.split_once("started successfully on port ")?;
            rest.trim_end_matches('.').parse().ok()
        });
        std::thread::spawn(move || lines.for_each(drop)); // so that it never waits for its reader
        let session = String::new();
        let mut browser = Self { driver, port: port.expect("a port"), session, profile };
        let mut arguments = vec![
            "--headless=new".to_owned(),
            format!("--user-data-dir={}", browser.profile.path().join("profile").display()),
            // Pages of providers load fonts from other hosts, which must not delay a test.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1".to_owned(),
        ];
        for argument in ["--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"] {
            arguments.push(argument.to_owned());
        }
        if rustix::process::geteuid().is_root() {
            arguments.push("--no-sandbox".to_owned()); // Chromium's sandbox does not run as root
        }
        let wanted =
            json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments, "prefs": preferences } });
        let made = browser.ask(Method::POST, "/session", json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        made["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    /// One request to the driver.
    async fn try_ask(&self, method: Method, path: &str, body: &Value) -> Result<Value, Value> {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        let body = if method == Method::POST { body.to_string() } else { String::new() };
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = fetch(method, &url, &headers, body).await.unwrap().json();
        if answer["value"]["error"].is_string() { Err(answer["value"].clone()) } else { Ok(answer["value"].clone()) }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self.try_ask(method, path, &body).await;
        answer.unwrap_or_else(|error| panic!("{path} {body}: {}: {}", error["error"], error["message"]))
    }

    fn path(&self, rest: &str) -> String {
        format!("/session/{}{rest}", self.session)
    }

    /// Opens a URL and waits for the page.
    pub async fn open(&self, url: &str) {
        self.ask(Method::POST, &self.path("/url"), json!({ "url": url })).await;
    }

    /// The current URL.
    pub async fn url(&self) -> String {
        self.ask(Method::GET, &self.path("/url"), Value::Null).await.as_str().unwrap().to_owned()
    }

    /// The current page, as changed by its scripts.
    pub async fn source(&self) -> String {
        self.ask(Method::GET, &self.path("/source"), Value::Null).await.as_str().unwrap().to_owned()
    }

    /// Whether the page has such an element.
    pub async fn has(&self, css: &str) -> bool {
        self.find(css).await.is_some()
    }

    async fn find(&self, css: &str) -> Option<String> {
        let body = json!({ "using": "css selector", "value": css });
        let found = self.try_ask(Method::POST, &self.path("/element"), &body).await.ok()?;
        Some(found[ELEMENT].as_str().unwrap().to_owned())
    }

    /// Waits for the element to be there.
    async fn element(&self, css: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(element) = self.find(css).await {
                return element;
            }
            assert!(Instant::now() < deadline, "no {css} at {}: {}", self.url().await, self.source().await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the page has such an element.
    pub async fn shows(&self, css: &str) {
        self.element(css).await;
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, text: &str) {
        let element = self.element(css).await;
        self.ask(Method::POST, &self.path(&format!("/element/{element}/value")), json!({ "text": text })).await;
    }

    /// Clicks and waits for the page that follows.
    pub async fn click(&self, css: &str) {
        let element = self.element(css).await;
        self.ask(Method::POST, &self.path(&format!("/element/{element}/click")), json!({})).await;
    }

    /// Presses keys one after the other, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let stroke = |key: char| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key }));
        let strokes: Vec<Value> = keys.chars().flat_map(stroke).collect();
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        self.ask(Method::POST, &self.path("/actions"), body).await;
    }

    /// Waits until the URL begins with this text and returns it.
    pub async fn arrives(&self, beginning: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let url = self.url().await;
            if url.starts_with(beginning) {
                return url;
            }
            assert!(Instant::now() < deadline, "at {url} and not at {beginning}: {}", self.source().await);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The cookies of the current page, as WebDriver describes them.
    pub async fn cookies(&self) -> Vec<Value> {
        let cookies = self.ask(Method::GET, &self.path("/cookie"), Value::Null).await;
        cookies.as_array().unwrap().clone()
    }

    /// A cookie of the current page.
    pub async fn cookie(&self, name: &str) -> Option<Value> {
        self.cookies().await.into_iter().find(|cookie| cookie["name"] == name)
    }

    /// The status and text that the page's `fetch` gets, as a script of the registry's page would.
    pub async fn fetch(&self, method: &str, path: &str, headers: &Value, body: Option<&str>) -> (u64, String) {
        let script = "const [path, how, done] = arguments;
            fetch(path, how).then(async (answer) => done([answer.status, await answer.text()]), (e) => done([0, `${e}`]));";
        let how = json!({ "method": method, "headers": headers, "body": body });
        let body = json!({ "script": script, "args": [path, how] });
        let answer = self.ask(Method::POST, &self.path("/execute/async"), body).await;
        (answer[0].as_u64().unwrap(), answer[1].as_str().unwrap().to_owned())
    }

    /// Sets the width of the window, and the colours that the user prefers.
    pub async fn looks(&self, width: u32, dark: bool) {
        let set = async |command: &str, parameters: Value| {
            let body = json!({ "cmd": command, "params": parameters });
            self.ask(Method::POST, &self.path("/goog/cdp/execute"), body).await;
        };
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        set("Emulation.setDeviceMetricsOverride", size).await;
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        set("Emulation.setEmulatedMedia", json!({ "features": [scheme] })).await;
    }

    /// Runs a script that calls its last argument with the result.
    pub async fn script_that_waits(&self, script: &str) -> Value {
        self.ask(Method::POST, &self.path("/execute/async"), json!({ "script": script, "args": [] })).await
    }

    /// Runs a script on the page and returns its result.
    pub async fn script(&self, script: &str) -> Value {
        self.ask(Method::POST, &self.path("/execute/sync"), json!({ "script": script, "args": [] })).await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver closes the browser and ends.
        if let Ok(mut socket) = std::net::TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = socket.write_all(b"GET /shutdown HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
            let _ = socket.read(&mut [0; 1024]);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.driver.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = kill_process_group(Pid::from_child(&self.driver), Signal::KILL);
        let _ = self.driver.wait();
    }
}

/// Tests the browser without a registry.
#[tokio::test]
async fn the_browser_fills_in_forms_keeps_cookies_and_runs_scripts() {
    needs!(CHROMIUM, CHROMEDRIVER);
    let page = "<form action=/next method=post><input name=who><button>go</button></form>";
    let server = super::player::Player::start(move |asked| {
        let answer = match &*asked.path {
            "/next" => super::player::Answer::text(200, &asked.form("who")),
            "/data" => super::player::Answer::text(418, &asked.header("cookie")),
            _ => super::player::Answer::html(200, page).header("set-cookie", "a=b; HttpOnly; SameSite=Lax; Path=/"),
        };
        answer.into()
    })
    .await;
    let browser = Browser::start().await;
    browser.open(&format!("{}/form", server.url())).await;
    browser.fill("input[name=who]", "Zoë & <co>").await;
    browser.click("button").await;
    assert_eq!(browser.arrives(&format!("{}/next", server.url())).await, format!("{}/next", server.url()));
    assert!(browser.source().await.contains("Zoë &amp; &lt;co&gt;"), "{}", browser.source().await);
    let cookie = browser.cookie("a").await.unwrap();
    assert_eq!(
        (&cookie["httpOnly"], &cookie["sameSite"], &cookie["value"]),
        (&json!(true), &json!("Lax"), &json!("b"))
    );
    assert_eq!(browser.fetch("GET", "/data", &json!({}), None).await, (418, "a=b".to_owned()));
    assert_eq!(browser.script("return document.cookie").await, json!(""));
}
