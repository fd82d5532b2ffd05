//! [`ForeignStore`]: finds the store of another registry in a directory.
//!
//! A registry that is started there by mistake would be empty, and would mix its files with those of the other one.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

/// The number of entries that are examined. A store is recognised near its top.
const ENTRIES_MAX: usize = 10_000;
/// The depth to which repositories of zot are searched for.
const DEPTH_MAX: usize = 4;

/// The store of another registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignStore {
    /// The program that has made it.
    pub(crate) program: &'static str,
    /// The path by which it was recognised.
    pub(crate) sign: PathBuf,
}

impl ForeignStore {
    /// Searches a directory.
    pub(crate) fn find(root: &Path) -> Option<Self> {
        let at_top = [
            ("docker/registry/v2", "the registry of Docker (distribution)"),
            ("_trivy", "zot"),
            ("cache.db", "zot"),
            ("meta.db", "zot"),
        ];
        let known = at_top.iter().find(|(sign, _)| root.join(sign).exists());
        let known = known.map(|(sign, program)| Self { program, sign: root.join(sign) });
        known.or_else(|| Some(Self { program: "zot", sign: layout(root)? }))
    }
}

/// The first OCI image layout in a directory. zot has one for each repository.
fn layout(root: &Path) -> Option<PathBuf> {
    let (mut waiting, mut entries) = (VecDeque::from([(root.to_owned(), 0)]), 0);
    while let Some((directory, depth)) = waiting.pop_front() {
        let is_layout = directory.join("oci-layout").is_file() && directory.join("index.json").is_file();
        if is_layout {
            return Some(directory);
        }
        // The other registry could not read it either.
        let Ok(read) = fs::read_dir(&directory) else { continue };
        for entry in read.flatten() {
            entries += 1;
            if entries > ENTRIES_MAX {
                return None;
            }
            if depth < DEPTH_MAX && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push_back((entry.path(), depth + 1));
            }
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_store_of_another_registry_is_recognised() {
        let cases: [(&[&str], Option<&str>); 7] = [
            (&["docker/registry/v2/repositories/"], Some("the registry of Docker (distribution)")),
            (&["cache.db"], Some("zot")),
            (&["_trivy/"], Some("zot")),
            (&["team/app/oci-layout", "team/app/index.json", "team/app/blobs/sha256/"], Some("zot")),
            (&["oci-layout", "index.json"], Some("zot")),
            (&["blobs/sha256/", "uploads/", "manifests.log"], None),
            (&["lost+found/", "notes/oci-layout", "coracle.toml"], None),
        ];
        for (paths, expected) in cases {
            let root = tempfile::tempdir().unwrap();
            for path in paths {
                let path = root.path().join(path);
                fs::create_dir_all(if path.to_string_lossy().ends_with('/') { &path } else { path.parent().unwrap() })
                    .unwrap();
                if !path.is_dir() {
                    fs::write(path, b"").unwrap();
                }
            }
            assert_eq!(ForeignStore::find(root.path()).map(|foreign| foreign.program), expected, "{paths:?}");
        }
    }
}
