//! Packages from npm: installed once, as the lock file in `tests/openid` says, and kept with Cargo's files of tests.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::clients::home::finish;

/// Where the lock file lies, and the script that uses what it names.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openid")
}

/// How long a package index may take to hand over the packages.
const INSTALL_MINUTES_MAX: Duration = Duration::from_mins(5);

/// Ends a test on a machine that cannot have the packages; gives the directory that has them otherwise.
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

/// The directory with `node_modules`; an error is why there is none.
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
    // With the user's own environment: it knows the way to a package index. No package runs anything of its own.
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&directory);
    let (status, output) = finish(&mut npm, "", INSTALL_MINUTES_MAX);
    if !status.success() {
        return Err(output.stderr.trim().lines().next_back().unwrap_or_default().to_owned());
    }
    File::create(complete).unwrap();
    Ok(directory)
}
