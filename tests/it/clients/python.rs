//! Programs and libraries in Python, from the package index.
//!
//! Each list of packages is installed once, into Cargo's directory for the files of tests, and stays there. Where
//! that is impossible, tests that need them are skipped like those of a missing client.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::home::finish;

/// How long a package index may take to hand over the packages.
const INSTALL_MINUTES_MAX: Duration = Duration::from_mins(5);

/// Ends a test on a machine that cannot have the packages; gives the Python that has them otherwise.
macro_rules! needs_packages {
    ($packages:expr) => {{
        fn here() {}
        let test = $crate::clients::home::around(std::any::type_name_of_val(&here));
        match $crate::clients::python::installed($packages) {
            Ok(python) => python,
            Err(why) => {
                let packages = $packages.join(" and ");
                let why = format!("{packages} cannot be installed (python3-venv, PyPI): {why}");
                return $crate::clients::home::skipped(test, &why);
            }
        }
    }};
}
pub(crate) use needs_packages;

/// A Python with these packages and versions, or the reason why it is missing.
pub(crate) fn installed(packages: &'static [&'static str]) -> Result<PathBuf, String> {
    static MADE: Mutex<BTreeMap<&[&str], Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(packages).or_insert_with(|| install(packages)).clone()
}

fn install(packages: &[&str]) -> Result<PathBuf, String> {
    let name = packages.join("+").replace("==", "-");
    let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&base).unwrap();
    let lock = File::create(base.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap(); // one process installs, others wait for it
    let venv = base.join(name);
    let python = venv.join("bin/python");
    let complete = venv.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    let _ = fs::remove_dir_all(&venv);
    // The user's environment stays, because it configures the package index.
    let run = |command: &mut Command| {
        let (status, output) = finish(command, "", INSTALL_MINUTES_MAX);
        if status.success() { Ok(()) } else { Err(output.stderr.lines().last().unwrap_or_default().to_owned()) }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(&python).args(pip).args(packages))?;
    File::create(complete).unwrap();
    Ok(python)
}
