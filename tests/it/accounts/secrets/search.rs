//! Search for secrets in every form in which they could have been stored.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::http::Answer;

/// As many bytes of a form are looked up at once; no form is shorter.
const BEGINNING: usize = 8;

/// The planted secrets, and the places where they must not be.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// By the first bytes of a form: the whole form, and what it is a form of.
    forms: HashMap<[u8; BEGINNING], Vec<(Vec<u8>, String)>>,
    secrets: Vec<String>,
    /// The places to search, with their content.
    places: Vec<(String, Vec<u8>)>,
}

/// Base64 of a text that contains the secret, such as `user:password`. The secret begins at one of three positions in a
/// group, and the characters at both ends share bits with the neighbouring text.
fn base64_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for (before, mixed) in [(0, 0), (1, 2), (2, 3)] {
        let whole = [&b"\0\0"[..before], bytes].concat();
        for encoded in [STANDARD_NO_PAD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
            forms.push(encoded.as_bytes()[mixed..whole.len() * 8 / 6].to_vec());
        }
    }
    forms
}

/// Every form of a secret that is no text.
fn forms_of_bytes(raw: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = base64_of(raw);
    forms.push(hex::encode(raw).into_bytes());
    forms.push(format!("{raw:?}").trim_matches(['[', ']']).as_bytes().to_vec());
    forms.push(raw.to_vec());
    forms
}

/// Every form of a secret.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut forms = vec![
        bytes.to_vec(),
        hex::encode(bytes).into_bytes(),
        hex::encode_upper(bytes).into_bytes(),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string().into_bytes(),
        serde_json::to_vec(secret).unwrap()[1..].strip_suffix(b"\"").unwrap().to_vec(),
        // The form of bytes in `{:?}`.
        format!("{bytes:?}").trim_matches(['[', ']']).as_bytes().to_vec(),
    ];
    forms.extend(base64_of(bytes));
    // The bytes that a key's digits and a session's letters stand for, and those as others would write them.
    let digits = secret.strip_prefix("zak_");
    let raw = digits.and_then(|digits| hex::decode(digits).ok()).or_else(|| URL_SAFE_NO_PAD.decode(secret).ok());
    forms.extend(raw.filter(|raw| raw.len() >= 16).into_iter().flat_map(|raw| forms_of_bytes(&raw)));
    forms.sort_unstable();
    forms.dedup();
    forms
}

impl Search {
    /// A secret that nothing may be found of.
    pub(super) fn plant(&mut self, what: &str, secret: &str) {
        self.add(what, forms(secret));
        self.secrets.push(secret.to_owned());
    }

    /// The same for one that is no text.
    pub(super) fn plant_bytes(&mut self, what: &str, secret: &[u8]) {
        self.add(what, forms_of_bytes(secret));
    }

    fn add(&mut self, what: &str, forms: Vec<Vec<u8>>) {
        for form in forms {
            let beginning = form[..BEGINNING].try_into().unwrap_or_else(|_| panic!("{what} is too short"));
            self.forms.entry(beginning).or_default().push((form, what.to_owned()));
        }
    }

    /// Something in which nothing may be found.
    pub(super) fn place(&mut self, place: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.places.push((place.into(), content.into()));
    }

    /// An answer in which nothing may be found.
    pub(super) fn answer(&mut self, answer: &Answer) {
        self.shows(answer, &[]);
    }

    /// A response that shows new secrets, each exactly once, and no other secret.
    pub(super) fn shows(&mut self, answer: &Answer, new: &[(&str, &str)]) {
        let once: Vec<(&str, &str, usize)> = new.iter().map(|(what, secret)| (*what, *secret, 1)).collect();
        self.shows_times(answer, &once);
    }

    /// An answer that shows new secrets, each exactly so many times.
    pub(super) fn shows_times(&mut self, answer: &Answer, new: &[(&str, &str, usize)]) {
        let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
            format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()))
        };
        let mut text: String = answer.headers.iter().map(header).collect();
        text += &answer.text();
        for (what, secret, times) in new {
            assert_eq!(text.matches(secret).count(), *times, "{what} is shown {times} times: {text}");
            text = text.replace(secret, "");
            self.plant(what, secret);
        }
        self.place(format!("answer {} with {}", self.places.len(), answer.status), text);
    }

    /// Which of the planted secrets are found in something.
    pub(super) fn in_bytes(&self, content: &[u8]) -> Vec<&str> {
        let mut found = Vec::new();
        for (at, beginning) in content.windows(BEGINNING).enumerate() {
            let Some(forms) = self.forms.get(beginning) else { continue };
            found.extend(
                forms.iter().filter(|(form, _)| content[at..].starts_with(form)).map(|(_, what)| what.as_str()),
            );
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Fails with every place in which something is found.
    pub(super) fn finds_nothing(&self) {
        // A search that cannot find anything shows nothing.
        for secret in &self.secrets {
            for control in [secret.clone(), URL_SAFE_NO_PAD.encode(format!("user:{secret}!")), hex::encode(secret)] {
                assert!(!self.in_bytes(format!("a{control}b").as_bytes()).is_empty(), "{control} was not found");
            }
        }
        let found = self.places.iter().map(|(place, content)| (place, self.in_bytes(content), content));
        let found: Vec<String> = found
            .filter(|(_, secrets, _)| !secrets.is_empty())
            .map(|(place, secrets, content)| {
                format!("{place}: {secrets:?}: {}", content[..content.len().min(600)].escape_ascii())
            })
            .collect();
        assert!(found.is_empty(), "{} places have secrets:\n{}", found.len(), found.join("\n"));
    }

    /// How many places were looked at, and how many secrets were looked for.
    pub(super) fn extent(&self) -> (usize, usize) {
        (self.places.len(), self.secrets.len())
    }
}
