//! The namespaces of users.
//!
//! A row names the owner of a namespace. The transaction that creates a user also gives the user the namespace of the
//! name. A new user gets no namespace that others already use, and none that the configuration gives to others. A
//! removed user owns nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};

use super::{Account, Accounts, Error, Origin};
use crate::content::rows::{AccountRole, NamespaceConflict, Rows, SETTING_OWNERS_UNKNOWN, WriteTx};
use crate::oci::is_component;

/// The longest namespace that is derived from a name. A repository name needs room for its other components.
const MADE_MAX: usize = 128;
/// How many characters of a name appear in a namespace that is derived from its hash.
const READABLE_MAX: usize = 40;
/// Namespaces with a meaning to clients. Only an administrator assigns one.
const RESERVED: [&str; 1] = ["library"];

/// The namespace of a user name. Different names have different namespaces.
///
/// A name that is a valid first component of a repository name is its own namespace. In other names `@`, `+` and `$`
/// become `__at__`, `__plus__` and `__dollar__`. Capital letters become small ones, and their positions follow at the
/// end (`Alice` has `alice__c1`). All other names get `__x` and 32 digits of their hash.
fn namespace_for(name: &str) -> String {
    if is_component(name) && name.len() <= MADE_MAX && !looks_made(name) {
        return name.to_owned();
    }
    written_out(name).unwrap_or_else(|| hashed(name))
}

/// Whether a component has the form of a derived namespace.
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

/// Replaces the characters that a namespace cannot have. `None` if the result is invalid or ambiguous.
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

/// The readable characters of the name and its hash.
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

/// The namespaces that access rules name, and the users to whom they give rights there.
pub(crate) type Granted = BTreeMap<String, BTreeSet<String>>;

/// The namespaces that only an administrator assigns.
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
    /// Others use it.
    Conflict(NamespaceConflict),
    /// The rules of `http.accessControl` give others rights in it.
    Granted,
    /// It has a meaning to clients.
    Reserved,
    /// It is free now, but was not when the user was created.
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
            Self::Unclaimed => f.write_str("it was not free when the user was created"),
        }
    }
}

impl Accounts {
    /// Sets the namespaces that access rules name.
    pub(crate) fn reserve_namespaces(&self, granted: Granted) {
        *self.reserved.0.write() = granted;
    }

    /// Why a new user of this name may not own a namespace, regardless of its content.
    fn is_kept_from(&self, namespace: &str, name: &str) -> Option<NotOwned> {
        if RESERVED.contains(&namespace) {
            return Some(NotOwned::Reserved);
        }
        let granted = self.reserved.0.read();
        let others = granted.get(namespace).is_some_and(|users| !users.contains(name));
        others.then_some(NotOwned::Granted)
    }

    /// The namespace of a new user. Call it before the transaction that creates the user.
    pub(super) fn namespace_claim(&self, name: &str) -> NamespaceClaim {
        let namespace = namespace_for(name);
        NamespaceClaim { kept: self.is_kept_from(&namespace, name), name: name.to_owned(), namespace }
    }

    /// The namespace of a user's name and why the user does not own it. `None` if the user owns a namespace.
    fn not_owned(&self, account: &Account) -> Result<Option<(String, NotOwned)>, Error> {
        if account.namespace.is_some() {
            return Ok(None);
        }
        let claim = self.namespace_claim(&account.name);
        let held = self.database.read(|tx| claim.refused(tx))?;
        Ok(Some((claim.namespace, held.unwrap_or(NotOwned::Unclaimed))))
    }

    /// The namespace for repositories that a user creates without naming one.
    pub(crate) fn default_namespace(account: &Account) -> String {
        account.namespace.clone().unwrap_or_else(|| namespace_for(&account.name))
    }

    /// The namespaces that these users own.
    pub(crate) fn namespaces_of(&self, users: &[Account]) -> Result<Vec<Option<String>>, Error> {
        self.database.read(|tx| users.iter().map(|user| Ok(tx.namespace_of(&user.name)?)).collect())
    }

    /// Tells a user that the namespace of the name belongs to someone else. `None` if the user owns a namespace. Only
    /// superusers learn why, because the reason may reveal a private repository.
    pub(crate) fn own_namespace_note(&self, account: &Account) -> Result<Option<String>, Error> {
        if account.role != AccountRole::Ordinary {
            return self.namespace_note(account);
        }
        let claim = self.namespace_claim(&account.name);
        Ok(account.namespace.is_none().then(|| note(account, &claim.namespace, &NotOwned::Unclaimed)))
    }

    /// Explains why the namespace of a user's name belongs to someone else. `None` if the user owns a namespace.
    pub(crate) fn namespace_note(&self, account: &Account) -> Result<Option<String>, Error> {
        Ok(self.not_owned(account)?.map(|(namespace, why)| note(account, &namespace, &why)))
    }

    /// Assigns a namespace to a user instead of the previous one, regardless of its content. Fails if another user
    /// owns it.
    pub(crate) fn set_namespace(&self, user: &str, namespace: &str, origin: &Origin) -> Result<(), Error> {
        check_namespace(namespace)?;
        if self.account(user)?.is_none() {
            return Err(Error::UserUnknown { name: user.to_owned() });
        }
        let audit = origin.row("user_change_namespace", user, &[("namespace", namespace)]);
        let (user, namespace) = (user.to_owned(), namespace.to_owned());
        self.audited_change(audit, move |tx, _| {
            must_be_free(tx, &namespace, &user)?;
            Ok(tx.set_namespace(&user, Some(&namespace))?)
        })
    }

    /// Assigns namespaces in a database from before owners were stored. Users whose name is a namespace keep it.
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
            // Also adds the rows of the address index.
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

fn note(account: &Account, namespace: &str, why: &NotOwned) -> String {
    format!(
        "the repositories {namespace}/… do not belong to {}: {why}. An administrator can assign it on the machine of the \
         registry: coracle user namespace {} {namespace}",
        account.name, account.name
    )
}

/// Refuses a text that cannot be a namespace.
pub(super) fn check_namespace(namespace: &str) -> Result<(), Error> {
    let valid = is_component(namespace) && namespace.len() <= MADE_MAX;
    if valid { Ok(()) } else { Err(Error::InvalidNamespace { name: namespace.chars().take(80).collect() }) }
}

/// Refuses a namespace that another user owns.
pub(super) fn must_be_free(tx: &Rows, namespace: &str, user: &str) -> Result<(), Error> {
    match tx.owner_of(namespace)?.filter(|owner| owner != user) {
        Some(owner) => Err(Error::NamespaceTaken { namespace: namespace.to_owned(), owner }),
        None => Ok(()),
    }
}

/// The namespace that a new user is about to get.
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

    /// Removes the rights of an earlier user of this name, then takes the namespace.
    pub(super) fn start_fresh(self, tx: &mut WriteTx) -> Result<(), Error> {
        self.remove_earlier(tx)?;
        self.take(tx)
    }

    /// Removes the rights of an earlier user of this name.
    pub(super) fn remove_earlier(&self, tx: &mut WriteTx) -> Result<(), Error> {
        tx.remove_user_data(&self.name)?;
        Ok(tx.remove_file_user(&self.name)?)
    }

    /// Makes the user the owner of the namespace, if others do not use it.
    pub(super) fn take(self, tx: &mut WriteTx) -> Result<(), Error> {
        let refused = self.refused(tx)?;
        let Self { name, namespace, .. } = self;
        let Some(why) = refused else { return Ok(tx.set_namespace(&name, Some(&namespace))?) };
        tracing::warn!(
            user = name,
            namespace,
            %why,
            "a new user does not own the namespace of its name: assign it with `coracle user namespace USER NAMESPACE`"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn every_name_has_a_different_namespace() {
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
