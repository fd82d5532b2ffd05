//! Which files docker and podman read and write.
//!
//! docker: `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`.
//!
//! podman, skopeo and buildah: `$REGISTRY_AUTH_FILE`; or if `DOCKER_CONFIG` is set, docker's file; or on Linux
//! `$XDG_RUNTIME_DIR/containers/auth.json`, and without that variable `/run/containers/<uid>/auth.json`; elsewhere
//! `~/.config/containers/auth.json`. They read `$XDG_CONFIG_HOME/containers/auth.json` and docker's file after it.
//! (containers/common `pkg/auth`, containers/image `pkg/docker/config`.)

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{CredentialFile, Tool, make_private};
use crate::cli::Error;

/// The environment that the paths depend on.
#[derive(Debug)]
pub(in crate::cli) struct Environment {
    pub(in crate::cli) home: Option<PathBuf>,
    pub(in crate::cli) docker_config: Option<PathBuf>,
    pub(in crate::cli) registry_auth_file: Option<PathBuf>,
    pub(in crate::cli) runtime_dir: Option<PathBuf>,
    pub(in crate::cli) config_home: Option<PathBuf>,
    /// The user's directory in `/run`, where podman uses one.
    pub(in crate::cli) system_runtime: Option<PathBuf>,
}

impl Environment {
    /// Reads the environment of this process.
    pub(in crate::cli) fn read() -> Self {
        let variable =
            |name: &str| std::env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
        let linux = cfg!(target_os = "linux");
        Self {
            home: dirs::home_dir(),
            docker_config: variable("DOCKER_CONFIG"),
            registry_auth_file: variable("REGISTRY_AUTH_FILE"),
            runtime_dir: variable("XDG_RUNTIME_DIR").filter(|_| linux),
            config_home: variable("XDG_CONFIG_HOME"),
            system_runtime: linux
                .then(|| Path::new("/run/containers").join(rustix::process::getuid().as_raw().to_string())),
        }
    }
}

/// The files to write: the named one, or docker's and podman's, each once.
pub(in crate::cli) fn credential_files(
    environment: &Environment,
    named: Option<&Path>,
) -> Result<Vec<CredentialFile>, Error> {
    if let Some(file) = named {
        return Ok(vec![CredentialFile { tool: Tool::Podman, file: file.to_owned() }]);
    }
    let home =
        || environment.home.clone().ok_or_else(|| Error::failed("no home directory: name a file with --authfile"));
    let docker = match &environment.docker_config {
        Some(directory) => directory.join("config.json"),
        None => home()?.join(".docker").join("config.json"),
    };
    let mut files = vec![CredentialFile { tool: Tool::Docker, file: docker }];
    let podman = match environment {
        Environment { registry_auth_file: Some(file), .. } => Some(file.clone()),
        Environment { docker_config: Some(_), .. } => None,
        // podman reads this file even where it refuses to write it.
        Environment { runtime_dir: Some(directory), .. } if directory.is_dir() => Some(auth_file(directory)),
        Environment { runtime_dir: None, system_runtime: Some(directory), .. } if make_private(directory).is_ok() => {
            Some(directory.join("auth.json"))
        }
        Environment { config_home: Some(directory), .. } => Some(auth_file(directory)),
        _ => Some(auth_file(&home()?.join(".config"))),
    };
    let podman = podman.map(|file| CredentialFile { tool: Tool::Podman, file });
    files.extend(podman.filter(|file| file.file != files[0].file));
    Ok(files)
}

fn auth_file(directory: &Path) -> PathBuf {
    directory.join("containers").join("auth.json")
}
