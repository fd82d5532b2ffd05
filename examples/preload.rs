//! A registry that has content from the start: the images of an OCI image layout, as `skopeo copy …
//! oci:<directory>` or `buildah push … oci:<directory>` write it. Serves them until ctrl-c.
//!
//! ```text
//! cargo run --example preload -- <directory>
//! ```
//!
//! Without a directory it makes a small layout, to be tried at once.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use coracle::oci::{Algorithm, Digest, MediaType};
use coracle::{AccessPolicy, Registry};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sample = tempfile::tempdir()?;
    let layout = if let Some(given) = env::args_os().nth(1) {
        PathBuf::from(given)
    } else {
        write_sample(sample.path())?;
        sample.path().to_owned()
    };

    // Everybody may pull it, without a password; and push, but what is pushed goes with the registry.
    let registry =
        Registry::builder().temporary().policy(AccessPolicy::Open).preload(&"preloaded".parse()?, layout).open()?;
    let running = registry.spawn_local().await?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    println!("{}", running.url());
    eprintln!("tags: curl {}/v2/preloaded/tags/list", running.url());

    interrupt.recv().await;
    running.shutdown().await;
    Ok(())
}

/// An image layout with one image of one layer, tagged `1`.
fn write_sample(layout: &Path) -> io::Result<()> {
    let config = blob(layout, "application/vnd.oci.image.config.v1+json", b"{}")?;
    let layer = blob(layout, "text/plain", b"Hello!")?;
    let image = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut entry = blob(layout, MediaType::OCI_MANIFEST, image.to_string().as_bytes())?;
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "1" });
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [entry] }).to_string())?;
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
}

/// Writes a blob where a layout has it, and describes it.
fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
    let digest = Digest::of(Algorithm::Sha256, bytes);
    let directory = layout.join("blobs/sha256");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(digest.hex()), bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() }))
}
