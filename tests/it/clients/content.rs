//! The images that clients push: made once a run, from real content, by the programs that people make images with.
//!
//! They lie below Cargo's directory for the files of tests, in one that this process has for itself while it
//! runs and that the next one empties.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::home::{Home, find};
use super::image::{BLOBS, Descriptor, Image, OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST, digest};
use crate::support::is_long_form;

/// The platforms of [`index`], and what the file `/etc/platform` of each says.
pub(crate) const PLATFORMS: [&str; 2] = ["amd64", "arm64"];

/// The number of layers of [`many_layers`].
pub(crate) fn layers() -> usize {
    if is_long_form() { 200 } else { 40 }
}

/// The bytes inside the one layer of [`heavy`], which do not compress.
pub(crate) const HEAVY_BYTES: usize = 64 << 20;

/// The kind of artifact that [`artifact`] is.
pub(crate) const ARTIFACT_TYPE: &str = "application/vnd.coracle.test.note";

/// A root file system with busybox in two layers, for amd64. Needs umoci and busybox.
pub(crate) fn busybox() -> Image {
    Image::in_layout(umoci_layout(), PLATFORMS[0])
}

/// The same for arm64, which shares its larger layer with [`busybox`]. Needs umoci and busybox.
pub(crate) fn busybox_arm64() -> Image {
    Image::in_layout(umoci_layout(), PLATFORMS[1])
}

/// An index of both. Needs umoci and busybox.
pub(crate) fn index() -> Image {
    Image::in_layout(umoci_layout(), "index")
}

/// The tree that [`busybox`] was made from.
pub(crate) fn busybox_tree() -> PathBuf {
    umoci_layout();
    directory().join("tree")
}

/// [`busybox`] as Docker has it: a schema 2 manifest. Needs skopeo besides.
pub(crate) fn docker() -> Image {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let path = MADE.get_or_init(|| {
        let path = directory().join("docker");
        let target = format!("dir:{}", path.display());
        Home::alone().run("skopeo", &["copy", "--quiet", "--format=v2s2", &busybox().source(), &target]);
        path
    });
    Image::in_directory(path)
}

/// An image of many layers, each with one small file of its own.
pub(crate) fn many_layers() -> Image {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let path = MADE.get_or_init(|| {
        let layers = (0..layers()).map(|n| layer(&format!("layers/{n}"), format!("layer {n}\n").as_bytes()));
        image_layout("many", layers)
    });
    Image::in_layout(path, "many")
}

/// An image with one layer of 64 MiB that does not compress.
pub(crate) fn heavy() -> Image {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    let path = MADE.get_or_init(|| image_layout("heavy", [layer("noise", &noise(HEAVY_BYTES))]));
    Image::in_layout(path, "heavy")
}

/// An artifact with this subject: a note about it, which is no image. It lies in a layout of its own.
pub(crate) fn artifact(home: &Home, subject: &Descriptor) -> Image {
    let layout = new_layout(home.fresh("artifact"));
    let config = put(&layout, OCI_EMPTY, b"{}");
    let note = put(&layout, "text/plain", format!("a note about {}\n", subject.digest).as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": ARTIFACT_TYPE,
        "config": config.json(), "layers": [note.json()], "subject": subject.json(),
        "annotations": { "org.opencontainers.image.created": "2026-01-01T00:00:00Z" },
    });
    let root = put(&layout, OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    tag(&layout, "artifact", &root);
    Image::in_layout(&layout, "artifact")
}

/// Bytes that do not compress, the same in every run (xorshift64*).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes()
    });
    words.flatten().take(length).collect()
}

/// The directory for generated content. It is locked while this process runs, and the next process empties it.
fn directory() -> &'static Path {
    static MADE: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _lock) = MADE.get_or_init(|| {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
        fs::create_dir_all(&base).unwrap();
        (0..)
            .find_map(|n| {
                let lock = File::create(base.join(format!("content-{n}.lock"))).unwrap();
                lock.try_lock().ok()?;
                let path = base.join(format!("content-{n}"));
                let _ = fs::remove_dir_all(&path);
                fs::create_dir(&path).unwrap();
                Some((path, lock))
            })
            .unwrap()
    });
    path
}

/// Makes the layout with `amd64`, `arm64` and `index`, from a tree with busybox in it.
fn umoci_layout() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let home = Home::alone();
        let tree = directory().join("tree");
        for path in ["bin", "etc"] {
            fs::create_dir_all(tree.join(path)).unwrap();
        }
        fs::copy(find("busybox").unwrap(), tree.join("bin/busybox")).unwrap();
        for applet in ["sh", "ls", "cat"] {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(applet)).unwrap();
        }
        fs::write(tree.join("etc/os-release"), "NAME=coracle\nID=coracle\n").unwrap();

        let layout = directory().join("busybox");
        let umoci = |command: &[&str]| home.run("umoci", command);
        umoci(&["init", "--layout", layout.to_str().unwrap()]);
        let base = format!("{}:base", layout.display());
        umoci(&["new", "--image", &base]);
        umoci(&["insert", "--rootless", "--image", &base, tree.to_str().unwrap(), "/"]);
        umoci(&["config", "--image", &base, "--config.cmd", "/bin/sh", "--config.env", "PATH=/bin"]);
        let mut manifests = Vec::new();
        for platform in PLATFORMS {
            let file = home.write("platform", format!("{platform}\n"));
            let file = file.to_str().unwrap();
            umoci(&["insert", "--rootless", "--image", &base, "--tag", platform, file, "/etc/platform"]);
            let image = format!("{}:{platform}", layout.display());
            umoci(&["config", "--image", &image, "--architecture", platform, "--os", "linux"]);
            let mut entry = Image::in_layout(&layout, platform).root.json();
            entry["platform"] = json!({ "architecture": platform, "os": "linux" });
            manifests.push(entry);
        }
        umoci(&["rm", "--image", &base]);
        umoci(&["gc", "--layout", layout.to_str().unwrap()]);
        let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
        let index = put(&layout, OCI_INDEX, &serde_json::to_vec(&index).unwrap());
        tag(&layout, "index", &index);
        layout
    })
}

/// A layer with one file: the layer as it is pushed, and the digest of what is inside its compression.
fn layer(path: &str, content: &[u8]) -> (Vec<u8>, String) {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    let mut tar = tar::Builder::new(Vec::with_capacity(content.len() + 2048));
    tar.append_data(&mut header, path, content).unwrap();
    let tar = tar.into_inner().unwrap();
    // Stored and not squeezed: what does not compress would only take time.
    let mut gzip = GzEncoder::new(Vec::with_capacity(tar.len() + 4096), Compression::none());
    gzip.write_all(&tar).unwrap();
    (gzip.finish().unwrap(), digest(&tar))
}

/// A layout with an image of these layers, tagged with its own name.
fn image_layout(name: &str, layers: impl IntoIterator<Item = (Vec<u8>, String)>) -> PathBuf {
    let layout = new_layout(directory().join(name));
    let (mut descriptors, mut inside, mut history) = (Vec::new(), Vec::new(), Vec::new());
    for (bytes, diff_id) in layers {
        history.push(json!({ "created_by": format!("layer {}", inside.len()) }));
        descriptors.push(put(&layout, OCI_LAYER_GZIP, &bytes).json());
        inside.push(diff_id);
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": inside }, "history": history,
    });
    let config = put(&layout, OCI_CONFIG, &serde_json::to_vec(&config).unwrap());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config.json(), "layers": descriptors,
    });
    let root = put(&layout, OCI_MANIFEST, &serde_json::to_vec(&manifest).unwrap());
    tag(&layout, name, &root);
    layout
}

/// Makes an empty layout.
pub(crate) fn new_layout(path: PathBuf) -> PathBuf {
    fs::create_dir_all(path.join(BLOBS)).unwrap();
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(path.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    path
}

/// Puts a blob or manifest into a layout.
pub(crate) fn put(layout: &Path, media_type: &str, bytes: &[u8]) -> Descriptor {
    let descriptor = Descriptor::of(media_type, bytes);
    fs::write(layout.join(BLOBS).join(descriptor.hex()), bytes).unwrap();
    descriptor
}

/// Gives something in a layout a name.
pub(crate) fn tag(layout: &Path, name: &str, root: &Descriptor) {
    let path = layout.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let mut entry = root.json();
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    index["manifests"].as_array_mut().unwrap().push(entry);
    fs::write(path, serde_json::to_vec(&index).unwrap()).unwrap();
}
