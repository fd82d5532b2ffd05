//! A configuration that was written for zot and does not say which profile is meant.
//!
//! The same keys grant other rights in the two profiles, so such a file must not pass in silence.

use super::keys::{self, Status};
use super::settings::Settings;
use super::walk::Findings;

const PROFILE: &str = "profile";
const ACCESS_CONTROL: &str = "http.accessControl";
const HTPASSWD: &str = "http.auth.htpasswd.path";

/// Warns if the file looks like one of zot's and has no `profile`.
pub(super) fn warn(file: &str, settings: &Settings, findings: &mut Findings) {
    if settings.given(PROFILE).is_some() {
        return;
    }
    let Some(sign) = sign(file, settings) else { return };
    let difference = if settings.given(ACCESS_CONTROL).is_some() {
        "users may do everything in the repositories under their own name here, besides what http.accessControl \
         grants, and zot grants nothing else"
    } else {
        "users may push and pull only in the repositories under their own name here, and zot lets every user who has \
         signed in do everything"
    };
    let [zot, coracle] = ["zot", "coracle"].map(|profile| line(file, profile));
    findings.warning(
        PROFILE,
        format!(
            "is missing, and {sign} is a key of zot's configurations: {difference}; add {zot} for the rights of zot, or \
             {coracle} for those of coracle"
        ),
    );
}

/// The key by which a configuration of zot is recognised: one that has no meaning here, or one about rights in a format
/// that zot's documentation uses.
fn sign(file: &str, settings: &Settings) -> Option<&'static str> {
    let is_zots = |status| matches!(status, Status::NoEffect(_));
    let by_key = keys::all().find(|row| is_zots(row.status) && settings.given(row.key).is_some()).map(|row| row.key);
    let about_rights = [ACCESS_CONTROL, HTPASSWD].into_iter().find(|key| settings.given(key).is_some());
    by_key.or(about_rights.filter(|_| !is_toml(file)))
}

fn line(file: &str, profile: &str) -> String {
    match file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
        Some("json") => format!("`\"profile\": \"{profile}\"`"),
        Some("yaml" | "yml") => format!("`profile: {profile}`"),
        _ => format!("`profile = \"{profile}\"`"),
    }
}

fn is_toml(file: &str) -> bool {
    !["json", "yaml", "yml"].iter().any(|extension| file.to_ascii_lowercase().ends_with(&format!(".{extension}")))
}
