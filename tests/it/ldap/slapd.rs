//! Debian's LDAP server with a small directory.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::clients::home::find;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// The password of the name that the registry searches with.
pub const BIND_PASSWORD: &str = "the-password-of-the-registry";

/// A directory, and the server that answers for it.
pub struct Slapd {
    root: TempDir,
    port: u16,
    tls_port: u16,
    server: Option<Child>,
}

/// The entry of a person whose password is `secret of <name>`.
pub fn person(name: &str, unit: &str, more: &str) -> String {
    format!(
        "dn: uid={name},ou={unit},dc=example\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\n\
         userPassword: secret of {name}\n{more}\n"
    )
}

pub fn secret_of(name: &str) -> String {
    format!("secret of {name}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Slapd {
    /// Starts a server with these people, and with ann, who is in the group dev, and bob.
    pub fn start(people: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut slapd = Self { port: free_port(), tls_port: free_port(), root, server: None };
        slapd.issue_certificate();
        let path = slapd.root.path().display();
        fs::create_dir(slapd.root.path().join("db")).unwrap();
        let config = format!(
            "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
             include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
             moduleload ppolicy\nmoduleload memberof\nTLSCertificateFile {path}/server.pem\n\
             TLSCertificateKeyFile {path}/server.key\ndatabase mdb\nsuffix dc=example\nrootdn cn=root,dc=example\n\
             rootpw root\ndirectory {path}/db\nmaxsize 33554432\noverlay ppolicy\noverlay memberof\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
        );
        fs::write(slapd.root.path().join("slapd.conf"), config).unwrap();
        let mut entries = String::from(
            "dn: dc=example\nobjectClass: dcObject\nobjectClass: organization\no: example\ndc: example\n\n\
             dn: ou=people,dc=example\nobjectClass: organizationalUnit\nou: people\n\n\
             dn: ou=others,dc=example\nobjectClass: organizationalUnit\nou: others\n\n",
        );
        write!(
            entries,
            "dn: cn=registry,dc=example\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
             cn: registry\nuserPassword: {BIND_PASSWORD}\n\n{}{}{people}",
            person("ann", "people", "memberOf: cn=dev,ou=groups,dc=example\n"),
            person("bob", "people", "")
        )
        .unwrap();
        let mut adding = slapd.command("slapadd").arg("-q").stdin(Stdio::piped()).spawn().unwrap();
        adding.stdin.take().unwrap().write_all(entries.as_bytes()).unwrap();
        assert!(adding.wait().unwrap().success());
        let credentials = format!(r#"{{"bindDN": "cn=registry,dc=example", "bindPassword": "{BIND_PASSWORD}"}}"#);
        fs::write(slapd.root.path().join("credentials.json"), credentials).unwrap();
        slapd.begin();
        slapd
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program).unwrap());
        command.arg("-f").arg(self.root.path().join("slapd.conf")).stdin(Stdio::null());
        command
    }

    /// Starts the server, at the ports that it had before.
    pub fn begin(&mut self) {
        let places = format!("ldap://127.0.0.1:{} ldaps://127.0.0.1:{}", self.port, self.tls_port);
        self.server = Some(self.command("slapd").args(["-h", &places, "-d", "0"]).spawn().unwrap());
        let begun = Instant::now();
        for port in [self.port, self.tls_port] {
            while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
                assert!(begun.elapsed() < PATIENCE, "slapd does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Stops the server.
    pub fn end(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// Changes the directory with LDIF.
    pub fn modify(&self, changes: &str) {
        let url = format!("ldap://127.0.0.1:{}", self.port);
        let mut modifying = Command::new(find("ldapmodify").unwrap())
            .args(["-x", "-H", &url, "-D", "cn=root,dc=example", "-w", "root"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        modifying.stdin.take().unwrap().write_all(changes.as_bytes()).unwrap();
        assert!(modifying.wait().unwrap().success(), "{changes}");
    }

    /// The authority of the server's certificate.
    pub fn authority(&self) -> PathBuf {
        self.root.path().join("ca.pem")
    }

    /// The configuration of a registry without TLS, with more keys of `http.auth.ldap`.
    pub fn plain(&self, more: &str) -> String {
        self.config(&format!("address = '127.0.0.1'\nport = {}\ninsecure = true\n{more}", self.port))
    }

    /// The configuration of a registry with TLS.
    pub fn protected(&self, start_tls: bool, more: &str) -> String {
        let port = if start_tls { self.port } else { self.tls_port };
        let how = if start_tls { "insecure = true\nstartTLS = true\n" } else { "" };
        self.config(&format!("address = 'localhost'\nport = {port}\n{how}{more}"))
    }

    fn config(&self, more: &str) -> String {
        format!(
            "[http.auth.ldap]\nbaseDN = 'dc=example'\nsubtreeSearch = true\nuserAttribute = 'uid'\n\
             userGroupAttribute = 'memberOf'\ncredentialsFile = '{}/credentials.json'\n{more}\n",
            self.root.path().display()
        )
    }

    fn issue_certificate(&self) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the authority");
        fs::write(self.authority(), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        fs::write(self.root.path().join("server.pem"), certificate.pem()).unwrap();
        fs::write(self.root.path().join("server.key"), key.serialize_pem()).unwrap();
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.end();
        }
    }
}
