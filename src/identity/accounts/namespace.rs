//! Which namespace is a user's own.
//!
//! The owner of a namespace is a row, and not a comparison of names. A user gets the namespace of its name in the
//! transaction that makes the user. What must hold: a claim gets no namespace in which there is anything of others,
//! and keeps out of the namespaces that the configuration gives to others; a removed user leaves no ownership behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use super::{Account, Accounts, Error, Origin};
use crate::content::rows::{NamespaceConflict, Rows, SETTING_OWNERS_UNKNOWN, WriteTx};
use crate::oci::is_component;

/// The longest namespace that is made from a name: there must be room for the rest of a repository's name.
const MADE_MAX: usize = 128;
/// As much of a name is kept for people where a namespace is made from its hash.
const READABLE_MAX: usize = 40;
/// Namespaces that mean something to clients: only an administrator gives one away.
const RESERVED: [&str; 1] = ["library"];

/// The namespace that a name stands for: always the same one, and no two names have the same.
///
/// A name that can be the first part of a repository's name is its own namespace. In others `@`, `+` and `$` become
/// `__at__`, `__plus__` and `__dollar__`; capital letters become small ones, and their places are listed at the end
/// (`Alice` has `alice__c1`). What cannot be written so ends in `__x` and 32 digits of the name's hash.
fn namespace_for(name: &str) -> String {
    if is_component(name) && name.len() <= MADE_MAX && !looks_made(name) {
        return name.to_owned();
    }
    written_out(name).unwrap_or_else(|| hashed(name))
}

/// Whether a component has the form of a namespace that is made from another name.
fn looks_made(component: &str) -> bool {
    let mut words = component.split("__").skip(1).peekable();
    let mut made = false;
    while let Some(word) = words.next() {
        let is_last = words.peek().is_none();
        made |= matches!(word, "at" | "plus" | "dollar") || is_last && (is_places(word) || is_hash(word));
    }
    made
}

fn is_places(word: &str) -> bool {
    word.strip_prefix('c').is_some_and(|places| places.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'-')))
}

fn is_hash(word: &str) -> bool {
    word.strip_prefix('x').is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The name with words for what no namespace can have; nothing if that is no namespace, or could be another name's.
fn written_out(name: &str) -> Option<String> {
    if name.contains("__") || !name.is_ascii() {
        return None;
    }
    let mut made = String::with_capacity(name.len() + 16);
    for letter in name.chars() {
        match letter {
            '@' => made.push_str("__at__"),
            '+' => made.push_str("__plus__"),
            '$' => made.push_str("__dollar__"),
            letter => made.push(letter.to_ascii_lowercase()),
        }
    }
    let capitals = (1_usize..).zip(name.chars()).filter(|(_, letter)| letter.is_ascii_uppercase());
    for (number, (place, _)) in capitals.enumerate() {
        made.push_str(if number == 0 { "__c" } else { "-" });
        made.push_str(&place.to_string());
    }
    (made.len() <= MADE_MAX && is_component(&made)).then_some(made)
}

/// What is readable of the name, and its hash.
fn hashed(name: &str) -> String {
    let mut readable = String::new();
    for letter in name.chars().map(|letter| letter.to_ascii_lowercase()).take(READABLE_MAX) {
        if letter.is_ascii_alphanumeric() {
            readable.push(letter);
        } else if !readable.is_empty() && !readable.ends_with('-') {
            readable.push('-');
        }
    }
    let readable = readable.trim_end_matches('-');
    let readable = if readable.is_empty() { "user" } else { readable };
    format!("{readable}__x{}", hex::encode(&Sha256::digest(name)[..16]))
}

/// Which namespaces the configuration gives rights in, by user or group, and to which users.
pub(crate) type Granted = BTreeMap<String, BTreeSet<String>>;

/// What only an administrator may give away.
#[derive(Debug)]
pub(super) struct Reserved(RwLock<Granted>);

impl Reserved {
    pub(super) fn new(granted: Granted) -> Self {
        Self(RwLock::new(granted))
    }
}

/// Why a user does not own the namespace of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NotOwned {
    /// Something of others is in it.
    Conflict(NamespaceConflict),
    /// The rules of `http.accessControl` give others rights in it.
    Granted,
    /// It means something to clients.
    Reserved,
    /// Nothing is in the way now; something was when the user was made.
    Unclaimed,
}

impl fmt::Display for NotOwned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict(NamespaceConflict::Owner(_)) => f.write_str("it belongs to another user"),
            Self::Conflict(NamespaceConflict::Repository(_)) => f.write_str("it has repositories of others"),
            Self::Conflict(NamespaceConflict::Permissions(_)) => f.write_str("others have permissions in it"),
            Self::Conflict(NamespaceConflict::Group) => f.write_str("a group has this name"),
            Self::Granted => f.write_str("http.accessControl gives others rights in it"),
            Self::Reserved => f.write_str("it is reserved"),
            Self::Unclaimed => f.write_str("it was not free when the user was made"),
        }
    }
}

impl Accounts {
    /// Says which namespaces the configuration gives rights in.
    pub(crate) fn reserve_namespaces(&self, granted: Granted) {
        *self.reserved.0.write() = granted;
    }

    /// Whether a claim of this name may not get a namespace, whatever is in it.
    fn is_kept_from(&self, namespace: &str, name: &str) -> Option<NotOwned> {
        if RESERVED.contains(&namespace) {
            return Some(NotOwned::Reserved);
        }
        let granted = self.reserved.0.read();
        let others = granted.get(namespace).is_some_and(|users| !users.contains(name));
        others.then_some(NotOwned::Granted)
    }

    /// What a new user's namespace is to be; to be asked before the transaction that makes the user.
    pub(super) fn namespace_claim(&self, name: &str) -> NamespaceClaim {
        let namespace = namespace_for(name);
        NamespaceClaim { kept: self.is_kept_from(&namespace, name), name: name.to_owned(), namespace }
    }

    /// Why a user does not own the namespace of its name, which is given back too; nothing if it owns one.
    fn not_owned(&self, account: &Account) -> Result<Option<(String, NotOwned)>, Error> {
        if account.namespace.is_some() {
            return Ok(None);
        }
        let claim = self.namespace_claim(&account.name);
        let held = self.database.read(|tx| claim.refused(tx))?;
        Ok(Some((claim.namespace, held.unwrap_or(NotOwned::Unclaimed))))
    }

    /// The namespace in which a user makes repositories without naming one: its own, or the one that its name stands
    /// for.
    pub(crate) fn default_namespace(account: &Account) -> String {
        account.namespace.clone().unwrap_or_else(|| namespace_for(&account.name))
    }

    /// Which namespaces these users own.
    pub(crate) fn namespaces_of(&self, users: &[Account]) -> Result<Vec<Option<String>>, Error> {
        self.database.read(|tx| users.iter().map(|user| Ok(tx.namespace_of(&user.name)?)).collect())
    }

    /// What a user is told who does not own the namespace of its name; nothing if it owns one.
    pub(crate) fn namespace_note(&self, account: &Account) -> Result<Option<String>, Error> {
        Ok(self.not_owned(account)?.map(|(namespace, why)| {
            format!(
                "the repositories {namespace}/… do not belong to {}: {why}. An administrator can assign it on the machine of the \
                 registry: coracle user namespace {} {namespace}",
                account.name, account.name
            )
        }))
    }

    /// Makes a namespace a user's, whatever is in it, in place of the one that the user had. Another user's it does
    /// not become.
    pub(crate) fn set_namespace(&self, user: &str, namespace: &str, origin: &Origin) -> Result<(), Error> {
        if !is_component(namespace) || namespace.len() > MADE_MAX {
            return Err(Error::InvalidNamespace { name: namespace.chars().take(80).collect() });
        }
        if self.account(user)?.is_none() {
            return Err(Error::UserUnknown { name: user.to_owned() });
        }
        let audit = origin.row("user_change_namespace", user, &[("namespace", namespace)]);
        let (user, namespace, now) = (user.to_owned(), namespace.to_owned(), self.clock.now());
        self.change(move |tx| {
            if let Some(owner) = tx.owner_of(&namespace)?.filter(|owner| *owner != user) {
                return Err(Error::NamespaceTaken { namespace, owner });
            }
            tx.set_namespace(&user, Some(&namespace))?;
            Ok(tx.add_audit(now, &audit)?)
        })
    }

    /// Gives the users of a database from before there were owners what they have had: the namespace of their name.
    /// The others get one now.
    pub(super) fn find_owners(&self) -> Result<(), Error> {
        if self.database.read(|tx| tx.setting(SETTING_OWNERS_UNKNOWN))?.is_none() {
            return Ok(());
        }
        let mut names = Vec::new();
        self.database.read(|tx| {
            tx.each_user("", |name, row| {
                names.push((name.to_owned(), row));
                ControlFlow::Continue(())
            })
        })?;
        let claims: Vec<_> = names.iter().map(|(name, _)| self.namespace_claim(name)).collect();
        self.change(move |tx| {
            // Written once more for the index of addresses.
            for (name, row) in &names {
                tx.index_address(name, row)?;
                if is_component(name) {
                    tx.set_namespace(name, Some(name))?;
                }
            }
            for claim in claims.into_iter().filter(|claim| !is_component(&claim.name)) {
                claim.take(tx)?;
            }
            Ok(tx.remove_setting(SETTING_OWNERS_UNKNOWN)?)
        })
    }
}

/// A user that is being made.
#[derive(Debug)]
pub(super) struct NamespaceClaim {
    name: String,
    namespace: String,
    kept: Option<NotOwned>,
}

impl NamespaceClaim {
    fn refused(&self, tx: &Rows) -> Result<Option<NotOwned>, Error> {
        if let Some(kept) = &self.kept {
            return Ok(Some(kept.clone()));
        }
        Ok(tx.namespace_conflict(&self.namespace, &self.name)?.map(NotOwned::Conflict))
    }

    /// Begins with nothing of a former user of this name, and makes the namespace the claim's.
    pub(super) fn start_fresh(self, tx: &mut WriteTx) -> Result<(), Error> {
        tx.remove_user_data(&self.name)?;
        self.take(tx)
    }

    /// Makes the namespace the claim's, if nothing of others is in it.
    pub(super) fn take(self, tx: &mut WriteTx) -> Result<(), Error> {
        let refused = self.refused(tx)?;
        let Self { name, namespace, .. } = self;
        let Some(why) = refused else { return Ok(tx.set_namespace(&name, Some(&namespace))?) };
        tracing::warn!(
            user = name,
            namespace,
            %why,
            "a new user does not own the namespace of its name: `coracle user namespace USER NAMESPACE` makes it the \
             user's if that is meant"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_name_has_a_namespace_and_no_other_name_has_the_same() {
        for (name, namespace) in [
            ("alice", "alice"),
            ("a.b-c_d__e", "a.b-c_d__e"),
            ("carol@example.com", "carol__at__example.com"),
            ("Alice", "alice__c1"),
            ("Carol.B@Example.com", "carol.b__at__example.com__c1-7-9"),
            ("robot$ci", "robot__dollar__ci"),
            ("team+ci", "team__plus__ci"),
        ] {
            assert_eq!(namespace_for(name), namespace);
        }
        let long = "x".repeat(300);
        let names = [
            "carol__at__example.com",
            "alice__c1",
            "a__c",
            "a__c1-2",
            "a__x0123456789abcdef0123456789abcdef",
            "A__B",
            "a__B",
            "_",
            "-",
            "a_",
            "a-",
            "a..b",
            "a._b",
            "a.@b",
            "a_@b",
            "@",
            "a@",
            "a@@b",
            "müller",
            "Müller",
            "ALICE",
            "aLICE",
            "alice",
            "Alice",
            "alice__c1-2",
            "a@b",
            "a+b",
            "a$b",
            "a__at__b",
            "a__plus__b",
            "A@b",
            "a__at__b__c1",
            "a b",
            "a\u{1}b",
            &long,
            &long[..200],
            &long.to_uppercase(),
        ];
        let mut seen: HashMap<String, &str> = HashMap::new();
        for name in names {
            let namespace = namespace_for(name);
            assert!(is_component(&namespace) && namespace.len() <= 255, "{name:?}: {namespace}");
            assert_eq!(namespace_for(name), namespace);
            if let Some(other) = seen.insert(namespace.clone(), name) {
                panic!("{name:?} and {other:?} are both {namespace}");
            }
        }
    }
}
