//! The files of a Helm chart that people read: `Chart.yaml` and the README, from its gzipped tar archive.
//!
//! The archive is of a stranger: its sizes, the number of its entries and the texts that are kept are limited, and nothing
//! of it is written anywhere.

use std::io::{self, Read};
use std::path::Component;

use flate2::read::GzDecoder;

/// A larger archive is not read, in compressed bytes.
pub(crate) const ARCHIVE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The most bytes that are decompressed.
const UNPACKED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The most entries that are looked at.
const ENTRIES_MAX: usize = 2_000;
/// The most bytes of each file that are kept.
const METADATA_BYTES_MAX: u64 = 32 * 1024;
const README_BYTES_MAX: u64 = 128 * 1024;

/// The texts of a chart. A text is empty if the chart has no such file within the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChartTexts {
    /// `Chart.yaml`
    pub(crate) metadata: String,
    /// `README.md`
    pub(crate) readme: String,
}

impl ChartTexts {
    /// Reads an archive until both files are found. Blocks.
    pub(crate) fn read(archive: impl Read) -> io::Result<Self> {
        let mut texts = Self::default();
        let unpacked = GzDecoder::new(archive.take(ARCHIVE_BYTES_MAX)).take(UNPACKED_BYTES_MAX);
        let mut archive = tar::Archive::new(unpacked);
        for entry in archive.entries()?.take(ENTRIES_MAX) {
            let entry = entry?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                continue;
            }
            // The files of the chart itself are in one folder. Those of its dependencies are deeper.
            let parts: Option<Vec<String>> = entry.path()?.components().map(plain).collect();
            let (text, limit) = match parts.as_deref() {
                Some([_, file]) if file == "Chart.yaml" => (&mut texts.metadata, METADATA_BYTES_MAX),
                Some([_, file]) if file.eq_ignore_ascii_case("README.md") => (&mut texts.readme, README_BYTES_MAX),
                _ => continue,
            };
            let mut bytes = Vec::new();
            entry.take(limit).read_to_end(&mut bytes)?;
            *text = String::from_utf8_lossy(&bytes).into_owned();
            if !texts.metadata.is_empty() && !texts.readme.is_empty() {
                break;
            }
        }
        Ok(texts)
    }
}

/// A part of a path that is a plain name.
fn plain(part: Component<'_>) -> Option<String> {
    match part {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn the_texts_of_the_chart_itself_are_read() {
        let bytes = archive(&[
            ("app/charts/db/Chart.yaml", b"name: db"),
            ("app/charts/db/README.md", b"# db"),
            ("app/values.yaml", b"a: 1"),
            ("app/Readme.md", b"# app"),
            ("app/Chart.yaml", b"name: app"),
        ]);
        let texts = ChartTexts::read(&bytes[..]).unwrap();
        assert_eq!(texts, ChartTexts { metadata: "name: app".to_owned(), readme: "# app".to_owned() });
        assert_eq!(ChartTexts::read(&archive(&[("app/values.yaml", b"")])[..]).unwrap(), ChartTexts::default());
    }

    #[test]
    fn a_hostile_archive_is_read_within_limits() {
        let large = vec![b'x'; 1024 * 1024];
        let texts =
            ChartTexts::read(&archive(&[("a/README.md", &large), ("a/Chart.yaml", &[0xff, b'a'])])[..]).unwrap();
        assert_eq!(texts.readme.len() as u64, README_BYTES_MAX);
        assert_eq!(texts.metadata, "\u{fffd}a");
        // Zeros that become large, and text that is no archive.
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..64 {
            bomb.write_all(&large).unwrap();
        }
        assert!(ChartTexts::read(&bomb.finish().unwrap()[..]).is_err());
        assert!(ChartTexts::read(&b"not an archive"[..]).is_err());
        let many: Vec<(String, &[u8])> = (0..=ENTRIES_MAX).map(|number| (format!("a/{number}"), &b""[..])).collect();
        let mut files: Vec<(&str, &[u8])> = many.iter().map(|(path, bytes)| (path.as_str(), *bytes)).collect();
        files.push(("a/Chart.yaml", b"name: late"));
        assert_eq!(ChartTexts::read(&archive(&files)[..]).unwrap(), ChartTexts::default());
    }
}
