//! [`Directory`]: asks the directory about one user, over a connection of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, Scope, SearchEntry, SearchOptions, StdStream, ldap_escape,
};
use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::entry::{Attributes, Entry, IDENTIFIERS, LOCKS};
use super::{DirectoryState, Security, Settings, Unavailable, result_name, transport};
use crate::kit::log_limit::LogLimit;

/// How long one question may take, with connection, search and bind. docker gives up after 15 seconds.
const DEADLINE: Duration = Duration::from_secs(8);
/// After a failure, questions fail at once for this long, so that clients do not wait one after another.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// Result codes of RFC 4511, 4.1.9, and appendix A.
const SUCCESS: u32 = 0;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
/// The codes of a bind with the wrong password, or of a user who may not sign in: constraint violation,
/// inappropriate authentication, invalid credentials, insufficient rights, unwilling to perform, no such entry.
const REFUSED: [u32; 6] = [19, 32, 48, 49, 50, 53];
/// A name that no user has, to check a directory.
const NO_USER: &str = "coracle-doctor";
/// The library takes the address of a socket that is open already.
const LOCAL: &str = "ldapi:///";

/// A directory. A clone is the same directory.
#[derive(Clone)]
pub(crate) struct Directory(Arc<Shared>);

struct Shared {
    settings: Settings,
    issuer: String,
    tls: Option<Arc<ClientConfig>>,
    /// Until when questions fail at once, and why.
    away: Mutex<Option<(Instant, Unavailable)>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    /// Limits the log lines about names with several entries.
    ambiguous: LogLimit,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Directory").field(&self.0.settings).finish()
    }
}

/// Why a text is not a filter (RFC 4515).
pub(crate) fn filter_problem(filter: &str) -> Option<&'static str> {
    let is_filter = ldap3::parse_filter(parenthesised(filter)).is_ok();
    (!is_filter).then_some("expected a filter such as \"(objectClass=inetOrgPerson)\"")
}

impl Directory {
    /// Reads the trusted certificates. Sends nothing.
    pub(crate) fn open(settings: Settings) -> Result<Self, String> {
        let tls = (settings.security != Security::None).then(|| settings.trust.client_config()).transpose();
        let tls = tls.map_err(|error| error.to_string())?.map(Arc::new);
        let issuer = format!("ldap:{}", settings.base.to_ascii_lowercase());
        let [accepted, refused, failed] = std::array::from_fn(|_| AtomicU64::new(0));
        let (away, ambiguous) = (Mutex::default(), LogLimit::default());
        Ok(Self(Arc::new(Shared { settings, issuer, tls, away, accepted, refused, failed, ambiguous })))
    }

    /// Identifies the directory by its base, so that users stay the same when its host changes.
    pub(crate) fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// How the directory does.
    pub(crate) fn state(&self) -> DirectoryState {
        let Shared { away, accepted, refused, failed, .. } = &*self.0;
        let [accepted, refused, failed] = [accepted, refused, failed].map(|count| count.load(Ordering::Relaxed));
        let away = away.lock().as_ref().map(|(_, why)| why.to_string());
        DirectoryState { accepted, refused, failed, away }
    }

    /// Fails if the directory cannot be reached, or does not let the registry search.
    pub(crate) async fn check(&self) -> Result<(), Unavailable> {
        self.find(NO_USER).await.map(drop)
    }

    /// Finds a user, and verifies the password. `None` if there is no such user or the password is wrong.
    pub(crate) async fn verify(&self, name: &str, password: &str) -> Result<Option<Entry>, Unavailable> {
        // A directory takes a bind without a password for an anonymous one, and accepts it (RFC 4513, 5.1.2).
        if password.is_empty() {
            return Ok(None);
        }
        self.ask(name, Some(Zeroizing::new(password.to_owned()))).await
    }

    /// Finds a user.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Entry>, Unavailable> {
        self.ask(name, None).await
    }

    async fn ask(&self, name: &str, password: Option<Zeroizing<String>>) -> Result<Option<Entry>, Unavailable> {
        let answer = self.ask_uncounted(name, password).await;
        let Shared { accepted, refused, failed, .. } = &*self.0;
        let count = match &answer {
            Ok(Some(_)) => accepted,
            Ok(None) => refused,
            Err(_) => failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    async fn ask_uncounted(
        &self,
        name: &str,
        password: Option<Zeroizing<String>>,
    ) -> Result<Option<Entry>, Unavailable> {
        if let Some((until, why)) = &*self.0.away.lock()
            && Instant::now() < *until
        {
            return Err(why.clone());
        }
        let (shared, name) = (Arc::clone(&self.0), name.to_owned());
        // A task, because the library panics if an answer is not what it expects.
        let asking = tokio::spawn(async move {
            let password = password.as_ref().map(|password| password.as_str());
            timeout(DEADLINE, shared.exchange(&name, password)).await.unwrap_or_else(|_| {
                let late = shared.unavailable(format!("did not answer within {DEADLINE:?}"));
                Err(shared.away(late))
            })
        });
        asking.await.unwrap_or_else(|_| Err(self.0.unavailable("sent an answer that cannot be read")))
    }
}

impl Shared {
    fn unavailable(&self, why: impl fmt::Display) -> Unavailable {
        Unavailable(format!("{}:{} {why}", self.settings.host, self.settings.port))
    }

    /// An error of the library. Its text has no data that was sent.
    fn broken(&self, error: &LdapError) -> Unavailable {
        match error {
            LdapError::FilterParsing => self.unavailable("cannot be asked: the filter of users is invalid"),
            _ => self.unavailable("closed the connection, or sent an answer that cannot be read"),
        }
    }

    /// Records that the directory cannot be asked by anyone. An answer about one user does not mean that: clients could
    /// cause it.
    fn away(&self, why: Unavailable) -> Unavailable {
        *self.away.lock() = Some((Instant::now() + AWAY_PAUSE, why.clone()));
        why
    }

    async fn exchange(self: &Arc<Self>, name: &str, password: Option<&str>) -> Result<Option<Entry>, Unavailable> {
        let shared = Arc::clone(self);
        let bind = tokio::task::spawn_blocking(move || (shared.settings.bind)()).await;
        let bind = bind.unwrap_or_else(|error| Err(error.to_string())).map_err(Unavailable)?;
        let mut connection = self.connect().await.map_err(|why| self.away(why))?;
        if let Some(bind) = bind {
            let code = connection.bind(&bind.dn, &bind.password).await;
            let code = code.map_err(|error| self.away(self.broken(&error)))?;
            if code != SUCCESS {
                let why = self.unavailable(format!("refuses the bindDN of the registry: {}", result_name(code)));
                return Err(self.away(why));
            }
        }
        *self.away.lock() = None;
        let Some((dn, entry)) = self.search(&mut connection, name).await? else { return Ok(None) };
        let Some(password) = password else { return Ok(Some(entry)) };
        match connection.bind(&dn, password).await.map_err(|error| self.broken(&error))? {
            SUCCESS => Ok(Some(entry)),
            code if REFUSED.contains(&code) => Ok(None),
            code => Err(self.unavailable(format!("cannot verify a password: {}", result_name(code)))),
        }
    }

    async fn connect(&self) -> Result<Connection, Unavailable> {
        let (stream, carrying) = transport::connect(&self.settings, self.tls.as_ref()).await?;
        let mut tasks = Tasks(vec![carrying]);
        let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(stream));
        let (driver, ldap) =
            LdapConnAsync::with_settings(settings, LOCAL).await.map_err(|error| self.broken(&error))?;
        tasks.0.push(tokio::spawn(driver.drive()).abort_handle());
        Ok(Connection { ldap, _tasks: tasks })
    }

    /// Searches the entry of a user. Several entries are refused, because the password would decide between them.
    async fn search(&self, connection: &mut Connection, name: &str) -> Result<Option<(String, Entry)>, Unavailable> {
        let Settings { base, subtree, user_attribute, user_filter, group_attribute, .. } = &self.settings;
        let scope = if *subtree { Scope::Subtree } else { Scope::OneLevel };
        let filter = filter(user_attribute, user_filter.as_deref(), name);
        let mut wanted = vec![user_attribute.as_str()];
        wanted.extend(group_attribute.as_deref());
        wanted.extend(IDENTIFIERS.into_iter().chain(LOCKS));
        let broken = |error| self.broken(&error);
        let limit = i32::try_from(DEADLINE.as_secs()).unwrap_or(i32::MAX);
        connection.ldap.with_search_options(SearchOptions::new().sizelimit(2).timelimit(limit));
        let mut found = connection.ldap.streaming_search(base, scope, &filter, wanted).await.map_err(broken)?;
        let mut entries = Vec::new();
        while let Some(answer) = found.next().await.map_err(broken)? {
            // A referral is not followed: another server would get the password.
            if !answer.is_ref() && !answer.is_intermediate() && entries.len() < 2 {
                entries.push(SearchEntry::construct(answer));
            }
        }
        let code = found.finish().await.rc;
        if entries.len() > 1 || code == SIZE_LIMIT_EXCEEDED {
            if let Some(count) = self.ambiguous.pass() {
                tracing::warn!(
                    user = name,
                    count,
                    "several entries of the directory have the name of a user, who is refused"
                );
            }
            return Ok(None);
        }
        if code != SUCCESS {
            return Err(self.unavailable(format!("cannot search under {base:?}: {}", result_name(code))));
        }
        // A bind with an empty name is anonymous, with any password.
        let Some(found) = entries.pop().filter(|entry| !entry.dn.is_empty()) else { return Ok(None) };
        let mut attributes = Attributes::default();
        for (name, values) in found.attrs {
            attributes.add(&name, values.into_iter().map(String::into_bytes));
        }
        for (name, values) in found.bin_attrs {
            attributes.add(&name, values);
        }
        let entry = Entry::read(name, &found.dn, &attributes, user_attribute, group_attribute.as_deref());
        Ok(entry.map(|entry| (found.dn, entry)))
    }
}

/// A connection for one question.
struct Connection {
    ldap: Ldap,
    _tasks: Tasks,
}

/// Tasks that end with their connection.
struct Tasks(Vec<AbortHandle>);

impl Connection {
    /// Binds, and returns the result code.
    async fn bind(&mut self, dn: &str, password: &str) -> Result<u32, LdapError> {
        Ok(self.ldap.simple_bind(dn, password).await?.rc)
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// The filter for a user.
fn filter(attribute: &str, more: Option<&str>, name: &str) -> String {
    let own = format!("({attribute}={})", ldap_escape(name));
    match more {
        Some(more) => format!("(&{}{own})", parenthesised(more)),
        None => own,
    }
}

fn parenthesised(filter: &str) -> String {
    let filter = filter.trim();
    if filter.starts_with('(') { filter.to_owned() } else { format!("({filter})") }
}

#[cfg(test)]
impl Directory {
    /// A directory at a port where nothing listens.
    pub(crate) fn test_away() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let settings = Settings {
            host: "127.0.0.1".to_owned(),
            port: listener.local_addr().expect("a bound socket").port(),
            security: Security::None,
            trust: crate::kit::outgoing::Trust::default(),
            base: "dc=example".to_owned(),
            subtree: true,
            user_attribute: "uid".to_owned(),
            user_filter: None,
            group_attribute: None,
            bind: Box::new(|| Ok(None)),
        };
        Self::open(settings).expect("a directory")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_filter() {
        let cases = [
            ("ann", "(uid=ann)"),
            ("*", r"(uid=\2a)"),
            ("a*n", r"(uid=a\2an)"),
            ("ann)(objectClass=*", r"(uid=ann\29\28objectClass=\2a)"),
            ("*)(|(uid=*", r"(uid=\2a\29\28|\28uid=\2a)"),
            (r"ann\2a", r"(uid=ann\5c2a)"),
            ("ann\0", r"(uid=ann\00)"),
            (r"\", r"(uid=\5c)"),
        ];
        for (name, expected) in cases {
            assert_eq!(filter("uid", None, name), expected);
            assert!(ldap3::parse_filter(filter("uid", None, name)).is_ok(), "{name}");
        }
        assert_eq!(filter("uid", Some("a=b"), "x"), "(&(a=b)(uid=x))");
        assert_eq!(filter("uid", Some(" (|(a=b)(c=d))"), "x"), "(&(|(a=b)(c=d))(uid=x))");
    }

    #[test]
    fn a_filter_must_be_complete() {
        for right in ["(a=b)", "a=b", "(|(a=b)(!(c=*)))", "(memberOf:1.2.840.113556.1.4.1941:=cn=x,dc=y)"] {
            assert_eq!(filter_problem(right), None, "{right}");
        }
        for wrong in ["", "(a=b", "a", "(a=b)(c=d)", "(&(a=b)", "(a=b))"] {
            assert!(filter_problem(wrong).is_some(), "{wrong}");
        }
    }
}
