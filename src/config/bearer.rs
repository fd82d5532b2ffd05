//! `http.auth.bearer`: tokens of other issuers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::check::{check_named_authorities, check_named_file};
use super::keys::Row;
use super::kind::Kind::{self, HeaderText, List, Path, Text, TextMap, Texts};
use super::openid::url_problem;
use super::settings::{Section, Setting, Settings, section};
use super::walk::Findings;
use crate::identity::workload::{InvalidRule, Rule, RuleSettings, is_open_to_strangers};
use crate::kit::certificate::are_certificates;

const ISSUERS: &str = "http.auth.bearer.oidc";
const ISSUER: &str = "http.auth.bearer.oidc.*.issuer";
const AUDIENCES: &str = "http.auth.bearer.oidc.*.audiences";
const CLAIM_MAPPING: &str = "http.auth.bearer.oidc.*.claimMapping";

section! {
    /// An external token issuer. Its tokens say which rights their holder has.
    Bearer {
        /// URL of the external token issuer, where clients get tokens.
        realm: String = "http.auth.bearer.realm", HeaderText, "";
        /// Name of this registry at the external token issuer.
        service: String = "http.auth.bearer.service", HeaderText, "";
        /// File that verifies its tokens: a certificate or public key in PEM, or a JWKS.
        cert: PathBuf = "http.auth.bearer.cert", Path, "";
    }
}

section! {
    /// An issuer of ID tokens for workloads, such as a CI system or a cluster.
    WorkloadIssuer {
        /// URL of the issuer, exactly as in its tokens.
        issuer: String = "http.auth.bearer.oidc.*.issuer", Text, "required";
        /// Names of this registry at the issuer. A token must be for one of them.
        audiences: Vec<String> = "http.auth.bearer.oidc.*.audiences", Texts, "required";
        /// Which tokens are accepted, and whose rights they have. The first rule that matches counts.
        rules: Vec<WorkloadRule> = "http.auth.bearer.oidc.*.rules", List, "[]";
        /// Certificate authorities of the issuer in PEM, in addition to those of the system.
        authority: Option<String> = "http.auth.bearer.oidc.*.certificateAuthority", Text, "";
        /// The same, as a file.
        authority_file: Option<PathBuf> = "http.auth.bearer.oidc.*.certificateAuthorityFile", Path, "";
        /// File with the keys of the issuer, a JWKS. Without it, the issuer is asked for them.
        keys_file: Option<PathBuf> = "http.auth.bearer.oidc.*.keysFile", Path, "";
        /// Age at which the keys are read again.
        keys_refresh: Duration = "http.auth.bearer.oidc.*.keysRefresh", Kind::duration("1s", "24h"), "5m";
        /// Longest lifetime of a token.
        max_lifetime: Duration = "http.auth.bearer.oidc.*.maxLifetime", Kind::duration("1m", "8760h"), "24h";
    }
}

section! {
    /// Which tokens of an issuer are accepted, and whose rights they have.
    WorkloadRule {
        /// Patterns of claims. All must match the whole value: * stands for any characters but / and :, and ** for any.
        claims: BTreeMap<String, String> = "http.auth.bearer.oidc.*.rules.*.claims", TextMap, "required";
        /// User whose rights the token has. Without it, the name of the token is <issuer>/<subject>.
        user: Option<String> = "http.auth.bearer.oidc.*.rules.*.user", Text, "";
        /// Groups whose rights the token has.
        groups: Vec<String> = "http.auth.bearer.oidc.*.rules.*.groups", Texts, "[]";
        /// Limits of its rights, as those of an API key, such as team/app:pull,push.
        scopes: Vec<String> = "http.auth.bearer.oidc.*.rules.*.scopes", Texts, "[]";
    }
}

impl WorkloadRule {
    /// Checks and prepares the rule.
    pub(crate) fn prepare(&self, issuer: &str) -> Result<Rule, InvalidRule> {
        let Self { claims, user, groups, scopes } = self.clone();
        Rule::new(issuer, &RuleSettings { claims, user, groups, scopes })
    }
}

/// Checks the issuers of workload tokens.
pub(super) fn check(settings: &Settings, findings: &mut Findings) {
    let Some(Setting::List(entries)) = settings.given(ISSUERS) else { return };
    let own = settings.get::<String>("http.auth.token.issuer");
    let mut seen: Vec<String> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let at = |key: &str| format!("{ISSUERS}[{index}].{key}");
        // Missing and invalid values have been reported. Without these, the entry cannot be read.
        let is_text = matches!(entry.given(ISSUER), Some(Setting::Text(_)));
        if !is_text || !matches!(entry.given(AUDIENCES), Some(Setting::Texts(_))) {
            continue;
        }
        let rules_readable = !findings.has_problem_under(&at("rules"));
        if !rules_readable {
            continue;
        }
        let issuer = WorkloadIssuer::read(entry);
        check_issuer(&issuer, &seen, &own, &at, findings);
        if issuer.rules.is_empty() && entry.given(CLAIM_MAPPING).is_none() {
            let why = "is missing: say which claims a token must have, such as rules = [{ claims = { sub = \"…\" } }]";
            findings.problem(&at("rules"), why);
        }
        for (number, rule) in issuer.rules.iter().enumerate() {
            let at = |key: &str| at(&format!("rules[{number}].{key}"));
            match rule.prepare(&issuer.issuer) {
                Err(error @ InvalidRule::Scope(_)) => findings.problem(&at("scopes"), error.to_string()),
                Err(error) => findings.problem(&at("claims"), error.to_string()),
                Ok(_) => {}
            }
            if let Some(owners) = is_open_to_strangers(&issuer.issuer, &rule.claims) {
                let why = format!(
                    "everyone can get tokens of this issuer: fix the owner in one of the claims {}",
                    owners.join(", ")
                );
                findings.problem(&at("claims"), why);
            }
        }
        seen.push(issuer.issuer);
    }
}

fn check_issuer(
    issuer: &WorkloadIssuer,
    seen: &[String],
    own: &str,
    at: &dyn Fn(&str) -> String,
    findings: &mut Findings,
) {
    let url = &issuer.issuer;
    if let Some(why) = url_problem(url) {
        findings.problem(&at("issuer"), why);
    }
    // The name of a workload begins with its issuer.
    let is_in = |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    if seen.contains(url) {
        findings.problem(&at("issuer"), "is listed twice: put its rules into one entry");
    } else if seen.iter().any(|other| is_in(url, other) || is_in(other, url)) {
        findings.problem(&at("issuer"), "is a part of another issuer, so that names of workloads could be equal");
    } else if url == own {
        findings.problem(&at("issuer"), "is http.auth.token.issuer, the issuer of this registry's own tokens");
    }
    if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
        findings.problem(&at("audiences"), "expected the name that tokens for this registry have as aud");
    }
    if let Some(pem) = &issuer.authority {
        if !are_certificates(pem) {
            findings.problem(&at("certificateAuthority"), "expected certificates in PEM");
        }
        if issuer.authority_file.is_some() {
            let why = "is given together with certificateAuthority: remove one of them";
            findings.problem(&at("certificateAuthorityFile"), why);
        }
    }
    if let Some(file) = &issuer.authority_file {
        check_named_authorities(&at("certificateAuthorityFile"), file, findings);
    }
    if let Some(file) = &issuer.keys_file {
        check_named_file(&at("keysFile"), file, findings);
    }
}
