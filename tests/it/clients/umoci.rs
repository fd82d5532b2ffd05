//! umoci: no client of a registry, but the judge of whether what one gave back is still the file system that went in.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::content;
use super::home::{Home, needs};
use super::skopeo::Skopeo;
use super::target::targets;

/// The files of a tree: what each holds, or where it points.
fn files(tree: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(tree).unwrap().to_str().unwrap().to_owned();
            if path.is_symlink() {
                found.insert(name, fs::read_link(path).unwrap().into_os_string().into_encoded_bytes());
            } else if path.is_dir() {
                directories.push(path);
            } else {
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[test]
fn a_pulled_image_unpacks_to_the_files_it_was_made_from() {
    needs!(SKOPEO, UMOCI, BUSYBOX);
    for target in targets() {
        let home = Home::beside(&target);
        let skopeo = Skopeo::signed_in(&home, &target);
        skopeo.push(&content::index(), "umoci/box:one");
        let pulled = skopeo.pull("umoci/box:one");
        assert_eq!(pulled.manifest(), content::index().manifest());
        for platform in content::PLATFORMS {
            let layout = home.fresh("platform");
            let to = format!("oci:{}:one", layout.display());
            home.run("skopeo", &["--override-arch", platform, "copy", "--quiet", &pulled.source(), &to]);
            let bundle = home.fresh("bundle");
            let image = format!("{}:one", layout.display());
            home.run("umoci", &["unpack", "--rootless", "--image", &image, bundle.to_str().unwrap()]);

            let mut expected = files(&content::busybox_tree());
            expected.insert("etc/platform".to_owned(), format!("{platform}\n").into_bytes());
            let unpacked = files(&bundle.join("rootfs"));
            let names: Vec<&String> = unpacked.keys().collect();
            assert_eq!(names, expected.keys().collect::<Vec<_>>());
            assert!(names.len() >= 6 && unpacked == expected, "the files of {platform} differ");
        }
    }
}
