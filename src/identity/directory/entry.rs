//! [`Entry`]: a user of the directory, read from the attributes of an entry.

use std::collections::HashMap;

/// The names of one user's groups that are used, at most. The rest is dropped, and the log says so.
const GROUP_NAMES_MAX: usize = 4000;
/// The longest group name, in bytes. Longer ones are dropped.
const GROUP_BYTES_MAX: usize = 255;
/// Attributes that identify an entry for ever, also when its name is given to another one: of RFC 4530, Active Directory,
/// `FreeIPA` and 389 Directory Server.
pub(super) const IDENTIFIERS: [&str; 4] = ["entryUUID", "objectGUID", "ipaUniqueID", "nsUniqueId"];
/// Attributes that say that an administrator has locked a user.
pub(super) const LOCKS: [&str; 4] = ["pwdAccountLockedTime", "nsAccountLock", "loginDisabled", "userAccountControl"];
/// The time in `pwdAccountLockedTime` of a user whom an administrator has locked. Another time is a pause after wrong
/// passwords, which anyone can cause.
const LOCKED_BY_ADMINISTRATOR: &str = "000001010000Z";
/// The bit of a disabled account in `userAccountControl`.
const ACCOUNT_DISABLE: u32 = 2;

/// A user of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name, as the directory writes it.
    pub(crate) name: String,
    /// Identifies the user.
    pub(crate) subject: String,
    /// The names of the groups, sorted.
    pub(crate) groups: Vec<String>,
}

/// The attributes of an entry, by their lower-case names.
#[derive(Debug, Default)]
pub(super) struct Attributes(HashMap<String, Vec<Vec<u8>>>);

impl Attributes {
    /// Adds values.
    pub(super) fn add(&mut self, name: &str, values: impl IntoIterator<Item = Vec<u8>>) {
        // Active Directory sends some attributes with options, as in `member;range=0-1499`.
        let name = name.split(';').next().unwrap_or(name);
        self.0.entry(name.to_ascii_lowercase()).or_default().extend(values);
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0.get(&name.to_ascii_lowercase()).into_iter().flatten().map(Vec::as_slice)
    }

    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values(name).filter_map(|value| str::from_utf8(value).ok())
    }

    fn is_locked(&self) -> bool {
        let [password_policy, account_lock, login_disabled, account_control] = LOCKS;
        let is_true = |name| self.texts(name).any(|value| value.eq_ignore_ascii_case("true"));
        self.texts(password_policy).any(|value| value == LOCKED_BY_ADMINISTRATOR)
            || is_true(account_lock)
            || is_true(login_disabled)
            || self
                .texts(account_control)
                .filter_map(|value| value.parse::<u32>().ok())
                .any(|bits| bits & ACCOUNT_DISABLE != 0)
    }
}

impl Entry {
    /// Reads an entry that the search for `wanted` has found. Returns `None` if it is locked, or has another name.
    pub(super) fn read(
        wanted: &str,
        dn: &str,
        attributes: &Attributes,
        user_attribute: &str,
        group_attribute: Option<&str>,
    ) -> Option<Self> {
        // Directories also ignore spaces. Case is all that a user may write otherwise.
        let name = attributes.texts(user_attribute).find(|value| value.eq_ignore_ascii_case(wanted))?;
        if attributes.is_locked() {
            return None;
        }
        let identifier = IDENTIFIERS.iter().find_map(|name| {
            let value = attributes.values(name).next()?;
            Some(match str::from_utf8(value) {
                Ok(text) if *name != "objectGUID" => format!("{name}:{text}"),
                _ => format!("{name}:{}", hex::encode(value)),
            })
        });
        let groups = group_attribute.map(|name| group_names(attributes.texts(name))).unwrap_or_default();
        Some(Self {
            name: name.to_owned(),
            subject: identifier.unwrap_or_else(|| format!("dn:{}", dn.to_ascii_lowercase())),
            groups,
        })
    }
}

/// The names of groups. A distinguished name is a name as a whole, as in zot, and so is its first value: `dev` for
/// `cn=dev,ou=groups,dc=example`.
fn group_names<'a>(values: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = values
        .flat_map(|value| [Some(value.to_owned()), first_value(value)])
        .flatten()
        .filter(|name| {
            let is_blank = name.trim() != name || name.chars().any(char::is_control);
            !name.is_empty() && name.len() <= GROUP_BYTES_MAX && !is_blank
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > GROUP_NAMES_MAX {
        tracing::warn!(groups = names.len(), used = GROUP_NAMES_MAX, "a user of the directory has too many groups");
        names.truncate(GROUP_NAMES_MAX);
    }
    names
}

/// The value of the first part of a distinguished name, without the escapes of RFC 4514.
fn first_value(dn: &str) -> Option<String> {
    let (attribute, rest) = dn.split_once('=')?;
    let is_attribute = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    if attribute.is_empty() || !attribute.bytes().all(is_attribute) {
        return None;
    }
    let mut value = Vec::new();
    let mut bytes = rest.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' | b'+' => break,
            b'\\' => {
                let first = bytes.next()?;
                let high = char::from(first).to_digit(16);
                match high {
                    None => value.push(first),
                    Some(high) => {
                        let low = char::from(bytes.next()?).to_digit(16)?;
                        value.push(u8::try_from(high * 16 + low).ok()?);
                    }
                }
            }
            other => value.push(other),
        }
    }
    String::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        let mut attributes = Attributes::default();
        for (name, value) in pairs {
            attributes.add(name, [value.as_bytes().to_vec()]);
        }
        attributes
    }

    #[test]
    fn a_group_has_its_distinguished_name_and_its_first_value() {
        let cases = [
            ("cn=dev,ou=groups,dc=x", vec!["cn=dev,ou=groups,dc=x", "dev"]),
            (r"CN=a\, b\2bc\C3\A4,DC=x", vec![r"CN=a\, b\2bc\C3\A4,DC=x", "a, b+cä"]),
            ("cn=a+ou=b,dc=x", vec!["a", "cn=a+ou=b,dc=x"]),
            ("dev", vec!["dev"]),
            ("no dn = this", vec!["no dn = this"]),
            (r"cn=broken\", vec![r"cn=broken\"]),
            (r"cn=broken\4", vec![r"cn=broken\4"]),
            ("cn=,dc=x", vec!["cn=,dc=x"]),
            (" dev", vec![]),
            ("a\nb", vec![]),
        ];
        for (value, names) in cases {
            assert_eq!(group_names([value].into_iter()), names, "{value}");
        }
    }

    #[test]
    fn an_entry_is_read_from_attributes_of_any_case() {
        let read =
            |wanted, pairs: &[_]| Entry::read(wanted, "uid=Ann,dc=X", &attributes(pairs), "uid", Some("memberOf"));
        let ann = read("ANN", &[("UID", "ann"), ("MEMBEROF;range=0-1", "cn=dev,dc=x"), ("entryuuid", "1-2")]);
        let groups = vec!["cn=dev,dc=x".to_owned(), "dev".to_owned()];
        assert_eq!(ann, Some(Entry { name: "ann".to_owned(), subject: "entryUUID:1-2".to_owned(), groups }));
        assert_eq!(read("ann", &[("uid", "ann")]).map(|entry| entry.subject).as_deref(), Some("dn:uid=ann,dc=x"));
        assert_eq!(read("ann", &[("uid", "bob")]), None, "another name");
        assert_eq!(read("ann", &[("cn", "ann")]), None, "no name");
    }

    #[test]
    fn a_user_whom_an_administrator_has_locked_is_absent() {
        let cases = [
            ("pwdAccountLockedTime", "000001010000Z", true),
            ("pwdAccountLockedTime", "20260101000000Z", false),
            ("nsAccountLock", "TRUE", true),
            ("nsAccountLock", "false", false),
            ("loginDisabled", "true", true),
            ("userAccountControl", "514", true),
            ("userAccountControl", "512", false),
        ];
        for (name, value, is_locked) in cases {
            let read = Entry::read("ann", "uid=ann", &attributes(&[("uid", "ann"), (name, value)]), "uid", None);
            assert_eq!(read.is_none(), is_locked, "{name} {value}");
        }
    }
}
