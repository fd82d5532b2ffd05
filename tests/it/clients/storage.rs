//! The common part of podman and buildah: the same library, storage and commands.
//!
//! Both store manifests and configs unchanged, but layers unpacked, and pack them again. So pulled layers are compared by
//! their uncompressed content.

use std::collections::BTreeSet;
use std::fs;

use super::home::{Home, Output};
use super::image::{Image, digest};
use super::target::Target;

/// One of the two programs with its own home and storage.
pub(crate) struct Storage<'a> {
    program: &'static str,
    home: &'a Home,
    target: &'a Target,
}

impl<'a> Storage<'a> {
    /// Signs in, if the registry needs it.
    pub(crate) fn signed_in(program: &'static str, home: &'a Home, target: &'a Target) -> Self {
        home.sign_in(program, target);
        Self { program, home, target }
    }

    /// Runs the program and returns its output without the final newline.
    pub(crate) fn say(&self, arguments: &[&str]) -> String {
        self.home.run(self.program, arguments).text().trim().to_owned()
    }

    /// Runs the program, which must fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> Output {
        self.home.fails(self.program, arguments)
    }

    /// The name of an image in the registry.
    pub(crate) fn at(&self, name: &str) -> String {
        format!("docker://{}", self.target.image(name))
    }

    /// Loads an image into the storage and returns its id, the digest of its config.
    pub(crate) fn load(&self, image: &Image) -> String {
        self.say(&["pull", "--quiet", &image.source()])
    }

    /// Pushes an image and returns the digest of the manifest.
    pub(crate) fn push(&self, identity: &str, name: &str, options: &[&str]) -> String {
        let file = self.home.fresh("digest");
        let to = self.at(name);
        self.say(&[&["push", "--quiet", "--digestfile", file.to_str().unwrap()], options, &[identity, &to]].concat());
        fs::read_to_string(file).unwrap()
    }

    /// Pulls an image and returns its id.
    pub(crate) fn pull(&self, name: &str) -> String {
        self.say(&["pull", "--quiet", &self.target.image(name)])
    }

    /// Removes every image.
    pub(crate) fn empty(&self) {
        self.say(&["rmi", "--all", "--force"]);
    }

    /// The digests of all stored files except the unpacked layers: manifests and configs.
    pub(crate) fn kept(&self) -> BTreeSet<String> {
        let images = fs::read_dir(self.home.path("storage/vfs-images")).unwrap();
        let directories = images.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let files = directories.flat_map(|path| fs::read_dir(path).unwrap()).map(|entry| entry.unwrap().path());
        files.map(|file| digest(&fs::read(file).unwrap())).collect()
    }

    /// The digests of the uncompressed layers of an image.
    pub(crate) fn layers(&self, identity: &str) -> Vec<String> {
        let layout = self.home.fresh("layers");
        self.say(&["push", "--quiet", "--format=oci", identity, &format!("oci:{}:layers", layout.display())]);
        Image::in_layout(&layout, "layers").uncompressed()
    }

    /// Checks that the storage has this image: manifest, config, and the content of its layers.
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
