//! Compresses the assets of the pages, names them by their content, and makes a static program smaller.
//!
//! The program contains each asset as it is and compressed. Its name has the checksum of its content, so that browsers
//! may keep it for ever.

#[cfg(feature = "ui")]
mod assets {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::path::{Path, PathBuf};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    const FOLDER: &str = "src/web/assets";
    /// The name of the constant, the name of the file and its ending.
    const ASSETS: [(&str, &str, &str); 3] =
        [("STYLE", "style", "css"), ("SCRIPT", "script", "js"), ("ICON", "icon", "svg")];

    pub(crate) fn write() {
        println!("cargo::rerun-if-changed={FOLDER}");
        println!("cargo::rerun-if-changed=templates");
        let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
        let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
        let mut constants = String::new();
        for (constant, name, ending) in ASSETS {
            let path = root.join(FOLDER).join(format!("{name}.{ending}"));
            let plain = std::fs::read(&path).expect("an asset of the list is a file");
            let compressed = out.join(format!("{name}.{ending}.gz"));
            std::fs::write(&compressed, gzip(&plain)).expect("the output folder can be written");
            let mut sum = flate2::Crc::new();
            sum.update(&plain);
            writeln!(
                constants,
                "const {constant}: Asset = Asset {{ name: \"{name}-{sum:08x}.{ending}\", \
             path: \"/ui/assets/{name}-{sum:08x}.{ending}\", plain: include_bytes!({plain:?}), \
             gzip: include_bytes!({compressed:?}) }};",
                sum = sum.sum(),
                plain = shown(&path),
                compressed = shown(&compressed),
            )
            .expect("a String takes all text");
        }
        std::fs::write(out.join("assets.rs"), constants).expect("the output folder can be written");
    }

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory takes all bytes")
    }

    fn shown(path: &Path) -> &str {
        path.to_str().expect("the path of the build is UTF-8")
    }
}

/// Stores the relocations of a static program in the compact form. The start of the program reads all of them, which is
/// 1.8 MB without it. A dynamic program would need the GNU C library 2.36 then; a static one has its own.
fn compact_relocations() {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let is_static = variable("CARGO_CFG_TARGET_FEATURE").split(',').any(|feature| feature == "crt-static");
    if is_static && variable("CARGO_CFG_TARGET_OS") == "linux" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    compact_relocations();
    #[cfg(feature = "ui")]
    assets::write();
}
