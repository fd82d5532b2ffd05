//! Warns of a configuration that was written for zot and has no `profile`.
//!
//! The same keys grant different rights in the two profiles.

use super::keys::{self, Status};
use super::settings::Settings;
use super::walk::Findings;

const PROFILE: &str = "profile";
const ACCESS_CONTROL: &str = "http.accessControl";
const HTPASSWD: &str = "http.auth.htpasswd.path";

/// Warns if the file looks like a configuration of zot and has no `profile`.
pub(super) fn warn(file: &str, settings: &Settings, findings: &mut Findings) {
    if settings.given(PROFILE).is_some() {
        return;
    }
    let Some(key) = key_of_zot(file, settings) else { return };
    let difference = if settings.given(ACCESS_CONTROL).is_some() {
        "in coracle, users also have all rights in the repositories under their own name, and in zot only the rights \
         that http.accessControl grants"
    } else {
        "in coracle, users may push and pull only in the repositories under their own name, and in zot every signed-in \
         user has all rights"
    };
    let [zot, coracle] = ["zot", "coracle"].map(|profile| line(file, profile));
    findings.warning(
        PROFILE,
        format!(
            "is missing, although {key} is a key of zot: {difference}; add {zot} for the rights of zot, or {coracle} \
             for those of coracle"
        ),
    );
}

/// The key that shows that a configuration was written for zot: a key that has no effect in coracle, or a key about
/// rights in a format that zot's documentation uses.
fn key_of_zot(file: &str, settings: &Settings) -> Option<&'static str> {
    let mut ignored = keys::all().filter(|row| matches!(row.status, Status::NoEffect(_))).map(|row| row.key);
    let about_rights = [ACCESS_CONTROL, HTPASSWD].into_iter().find(|key| settings.given(key).is_some());
    let is_toml = !matches!(extension(file).as_str(), "json" | "yaml" | "yml");
    ignored.find(|key| settings.given(key).is_some()).or(about_rights.filter(|_| !is_toml))
}

/// The line that sets the profile, in the format of the file.
fn line(file: &str, profile: &str) -> String {
    match extension(file).as_str() {
        "json" => format!("`\"profile\": \"{profile}\"`"),
        "yaml" | "yml" => format!("`profile: {profile}`"),
        _ => format!("`profile = \"{profile}\"`"),
    }
}

fn extension(file: &str) -> String {
    file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}
