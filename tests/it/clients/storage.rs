//! podman and buildah where they are the same: two programs over one library, one kind of storage and the same
//! commands.
//!
//! Both keep manifests and configurations as they are, but layers unpacked, from which they make the same layers
//! again; so the layers of what they pulled are compared by what is inside their compression.

use std::collections::BTreeSet;
use std::fs;

use super::home::{Home, Output};
use super::image::{Image, digest};
use super::target::Target;

/// One of the two programs in somebody's home, with a storage of its own.
pub(crate) struct Storage<'a> {
    program: &'static str,
    home: &'a Home,
    target: &'a Target,
}

impl<'a> Storage<'a> {
    /// Signs in, if the registry asks for it.
    pub(crate) fn signed_in(program: &'static str, home: &'a Home, target: &'a Target) -> Self {
        home.sign_in(program, target);
        Self { program, home, target }
    }

    /// Runs the program and gives its output without the last line's end.
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        self.home.run(self.program, arguments).text().trim().to_owned()
    }

    /// Runs the program, which has to fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> Output {
        self.home.fails(self.program, arguments)
    }

    /// What the programs call an image in the registry, where they push it.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("docker://{}", self.target.image(name))
    }

    /// Takes an image into the storage and gives its identity, which is the digest of its configuration.
    pub(crate) fn load(&self, image: &Image) -> String {
        self.say(&["pull", "--quiet", &image.source()])
    }

    /// Pushes an image of the storage and gives the digest of the manifest that was made for it.
    pub(crate) fn push(&self, identity: &str, name: &str, options: &[&str]) -> String {
        let file = self.home.fresh("digest");
        let to = self.at(name);
        self.say(&[&["push", "--quiet", "--digestfile", file.to_str().unwrap()], options, &[identity, &to]].concat());
        fs::read_to_string(file).unwrap()
    }

    /// Pulls an image of the registry and gives its identity.
    pub(crate) fn pull(&self, name: &str) -> String {
        self.say(&["pull", "--quiet", &self.target.image(name)])
    }

    /// Forgets every image.
    pub(crate) fn empty(&self) {
        self.say(&["rmi", "--all", "--force"]);
    }

    /// The digests of all files that are kept beside the unpacked layers: manifests and configurations.
    pub(crate) fn kept(&self) -> BTreeSet<String> {
        let images = fs::read_dir(self.home.path("storage/vfs-images")).unwrap();
        let directories = images.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let files = directories.flat_map(|path| fs::read_dir(path).unwrap()).map(|entry| entry.unwrap().path());
        files.map(|file| digest(&fs::read(file).unwrap())).collect()
    }

    /// The digests of the layers of an image, as they are when they are not compressed.
    pub(crate) fn layers(&self, identity: &str) -> Vec<String> {
        let layout = self.home.fresh("layers");
        self.say(&["push", "--quiet", "--format=oci", identity, &format!("oci:{}:layers", layout.display())]);
        Image::in_layout(&layout, "layers").uncompressed()
    }

    /// Fails the test unless this is in the storage: manifest, configuration, and what is in its layers.
    pub(crate) fn has(&self, identity: &str, image: &Image) {
        assert_eq!(identity, image.config().hex());
        let kept = self.kept();
        for part in [&image.root, &image.config()] {
            assert!(kept.contains(&part.digest), "no file has the bytes of {part:?}");
        }
        let layers = image.uncompressed();
        assert!(!layers.is_empty(), "an image without layers shows nothing");
        assert_eq!(self.layers(identity), layers);
    }
}
