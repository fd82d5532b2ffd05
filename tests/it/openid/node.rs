//! npm packages: installed once from the lock file in `tests/openid`, and kept in Cargo's directory for tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::clients::home::finish;

/// The directory of the lock file and of the script that uses the packages.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openid")
}

/// How long the download of the packages may take.
const INSTALL_MINUTES_MAX: Duration = Duration::from_mins(5);

/// Skips a test on a machine that cannot install the packages. Returns their directory otherwise.
macro_rules! needs_node {
    () => {{
        fn here() {}
        let test = $crate::clients::home::around(std::any::type_name_of_val(&here));
        if !$crate::clients::home::installed(test, &[$crate::clients::home::NODE, $crate::clients::home::NPM]) {
            return;
        }
        match $crate::openid::node::installed() {
            Ok(directory) => directory,
            Err(why) => {
                let why = format!("oidc-provider cannot be installed (npm ci): {why}");
                return $crate::clients::home::skipped(test, &why);
            }
        }
    }};
}
pub(crate) use needs_node;

/// The directory with `node_modules`, or why it is missing.
pub fn installed() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(install).as_deref().map_err(Clone::clone)
}

fn install() -> Result<PathBuf, String> {
    let lock = fs::read(sources().join("package-lock.json")).unwrap();
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&base).unwrap();
    let name = format!("oidc-provider-{}", &hex::encode(Sha256::digest(lock))[..16]);
    let waiting = File::create(base.join(format!("{name}.lock"))).unwrap();
    waiting.lock().unwrap(); // one process installs, others wait for it
    let directory = base.join(name);
    let complete = directory.join("complete");
    if complete.exists() {
        return Ok(directory);
    }
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).unwrap();
    for file in ["package.json", "package-lock.json"] {
        fs::copy(sources().join(file), directory.join(file)).unwrap();
    }
    // The user's own environment has the settings of the package index. No install scripts run.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&directory);
    let (status, output) = finish(&mut npm, "", INSTALL_MINUTES_MAX);
    if !status.success() {
        return Err(output.stderr.trim().lines().next_back().unwrap_or_default().to_owned());
    }
    File::create(complete).unwrap();
    Ok(directory)
}
