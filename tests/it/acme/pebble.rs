//! Debian's pebble, the ACME authority that Let's Encrypt makes for tests, and a name server whose names lead here.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client;
use crate::clients::home::find;

/// How long the authority may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// The name that the authority refuses.
pub const BLOCKED: &str = "blocked.example";
/// The id and the key of an external account.
pub const EXTERNAL: (&str, &str) = ("kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W");

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An authority. Its certificate, and that of [`super::front::Front`], are of one authority of this test.
pub struct Pebble {
    root: TempDir,
    names: Names,
    pub port: u16,
    management: u16,
    settings: Value,
    server: Option<Child>,
}

impl Pebble {
    /// Starts an authority that connects to these ports of the registry.
    pub fn start(tls: u16, http: u16) -> Self {
        Self::start_with(tls, http, &json!({}))
    }

    /// The same with more settings.
    pub fn start_with(tls: u16, http: u16, more: &Value) -> Self {
        let mut pebble = Self::new(tls, http, more);
        pebble.begin();
        pebble
    }

    /// An authority that does not run yet.
    pub fn new(tls: u16, http: u16, more: &Value) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (port, management) = (free_port(), free_port());
        let mut settings = json!({
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": root.path().join("server.pem"),
            "privateKey": root.path().join("server.key"),
            "httpPort": http,
            "tlsPort": tls,
            "domainBlocklist": [BLOCKED],
            "externalAccountMACKeys": { EXTERNAL.0: EXTERNAL.1 },
        });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let pebble = Self { names: Names::start(), port, management, settings, server: None, root };
        pebble.certify();
        pebble
    }

    /// Makes the certificate of the server, and its authority.
    fn certify(&self) {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority of pebble");
        let authority_key = KeyPair::generate().unwrap();
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(authority, authority_key);
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        for (file, text) in
            [("ca.pem", authority_certificate.pem()), ("server.pem", server.pem()), ("server.key", key.serialize_pem())]
        {
            fs::write(self.root.path().join(file), text).unwrap();
        }
    }

    /// Starts the server, at the port that it had before. It has forgotten every account.
    pub fn begin(&mut self) {
        let config = self.root.path().join("pebble.json");
        fs::write(&config, json!({ "pebble": self.settings }).to_string()).unwrap();
        let log = fs::File::create(self.root.path().join("log")).unwrap();
        let server = Command::new(find("pebble").unwrap())
            .arg("-config")
            .arg(config)
            .args(["-strict", "-dnsserver", &format!("127.0.0.1:{}", self.names.port)])
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_WFE_NONCEREJECT", "0"), ("PEBBLE_AUTHZREUSE", "0")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.server = Some(server.unwrap());
        let begun = Instant::now();
        for port in [self.port, self.management] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(begun.elapsed() < PATIENCE, "pebble does not start: {}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Stops the server.
    pub fn end(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.path().join("log")).unwrap_or_default()
    }

    /// The file with the authority of its own certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.root.path().join("ca.pem")
    }

    pub fn ca(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.ca_file()).unwrap()
    }

    /// The certificate and the key of its server.
    pub fn identity(&self) -> [PathBuf; 2] {
        ["server.pem", "server.key"].map(|file| self.root.path().join(file))
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The root of the certificates that it issues.
    pub async fn issuer(&self) -> CertificateDer<'static> {
        let address = ([127, 0, 0, 1], self.management).into();
        let stream = client::connect(address, "localhost", &[self.ca()], &[]).await.unwrap();
        let (status, body) = client::get(stream, "localhost", "/roots/0").await.unwrap();
        assert_eq!(status, 200);
        CertificateDer::from_pem_slice(&body).unwrap()
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            eprintln!("pebble: {}", self.log());
        }
    }
}

/// A name server that gives every name the address 127.0.0.1.
struct Names {
    port: u16,
    ended: Arc<AtomicBool>,
}

impl Names {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (port, ended) = (socket.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let until = Arc::clone(&ended);
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while !until.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(answer) = answer(&buffer[..length]) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { port, ended }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// The answer to a question about one name (RFC 1035, 4.1). Names have no other records.
fn answer(question: &[u8]) -> Option<Vec<u8>> {
    const HEAD: usize = 12;
    let name = question.get(HEAD..)?.iter().position(|byte| *byte == 0)?;
    let end = HEAD + name + 1 + 4;
    let kind = question.get(end - 4..end - 2)?;
    let has_address = kind == [0, 1];
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(has_address), 0, 0, 0, 0]);
    answer.extend(&question[HEAD..end]);
    if has_address {
        // The name of the question, an address of the Internet for a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
