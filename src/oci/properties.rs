//! Properties of every value of these types, and of every text.

use std::fmt::Display;
use std::str::FromStr;

use proptest::prelude::*;

use super::*;

/// An accepted text prints unchanged: a value has one text.
fn prints_as_read<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text);
    }
}

/// Every value is read back from what it prints.
fn reads_as_printed<T>(value: &T)
where
    T: FromStr<Err: std::fmt::Debug + PartialEq> + Display + PartialEq + std::fmt::Debug,
{
    assert_eq!(value.to_string().parse::<T>().as_ref(), Ok(value));
}

/// Texts that are similar to values.
fn near_misses() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-f0-9A-Z._/:@+-]{0,40}",
        "(sha256|sha512|SHA256|sha1)[:;]?[0-9a-fA-F]{62,66}",
        "[a-z]{1,9}/[a-z.+*-]{0,20}[; ]?",
        "[0-9a-f]{8}-?[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-fA-F]{12}",
        "\\PC{0,20}",
    ]
}

/// `<name>` as the specification writes it.
fn names() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,9}((\\.|_|__|-{1,4})[a-z0-9]{1,9}){0,3}(/[a-z0-9]{1,9}((\\.|_|__|-{1,4})[a-z0-9]{1,9}){0,3}){0,3}"
}

proptest! {
    #[test]
    fn an_accepted_text_prints_unchanged(text in near_misses()) {
        prints_as_read::<Algorithm>(&text);
        prints_as_read::<Digest>(&text);
        prints_as_read::<RepositoryName>(&text);
        prints_as_read::<Tag>(&text);
        prints_as_read::<Reference>(&text);
        prints_as_read::<UploadId>(&text);
        prints_as_read::<MediaType>(&text);
    }

    #[test]
    fn a_digest_survives_its_text_and_its_key(content: Vec<u8>, cut: prop::sample::Index) {
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, &content);
            reads_as_printed(&algorithm);
            reads_as_printed(&digest);
            assert_eq!(Digest::from_key(digest.key()), Some(digest));
            // The parts in which the content arrives do not matter.
            let (first, rest) = content.split_at(cut.index(content.len() + 1));
            let mut hasher = Hasher::new(algorithm);
            hasher.update(first);
            hasher.update(rest);
            assert_eq!(hasher.finish(), digest);
        }
    }

    #[test]
    fn every_name_of_the_grammar_is_accepted(text in names()) {
        let name = text.parse::<RepositoryName>().expect("a name of the grammar");
        assert!(text.starts_with(name.namespace()));
        reads_as_printed(&name);
    }

    #[test]
    fn every_tag_of_the_grammar_is_accepted(text in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
        reads_as_printed(&text.parse::<Tag>().expect("a tag of the grammar"));
        reads_as_printed(&text.parse::<Reference>().expect("a tag of the grammar"));
    }

    #[test]
    fn every_upload_id_is_read_back(bytes: [u8; 16]) {
        reads_as_printed(&UploadId::new(bytes));
    }

    #[test]
    fn every_media_type_is_read_from_a_header_in_any_case(text in "[a-z0-9]{1,30}/[a-z0-9][a-z0-9.+^_!#$&-]{0,60}") {
        let media_type = text.parse::<MediaType>().expect("a media type of the grammar");
        reads_as_printed(&media_type);
        let header = format!(" {} ; charset=utf-8", text.to_uppercase());
        assert_eq!(MediaType::from_content_type(&header), Ok(media_type));
    }

    #[test]
    fn a_chunk_is_as_long_as_its_range(first in 0..u64::MAX, length in 1..u64::MAX) {
        let last = first.saturating_add(length - 1).min(u64::MAX - 1);
        let range = ChunkRange::parse(&format!("{first}-{last}")).expect("a range");
        assert_eq!((range.first(), range.length()), (first, last - first + 1));
    }

    #[test]
    fn a_range_is_never_beyond_the_content(
        text in prop_oneof!["bytes=([0-9]{0,3}-[0-9]{0,3},? ?){0,20}", "\\PC{0,20}"],
        size in 0..500_u64,
    ) {
        let _ = ChunkRange::parse(&text);
        if let RangeRequest::Parts(parts) = RangeRequest::parse(&text, size) {
            assert!(!parts.is_empty());
            assert!(parts.iter().all(|part| part.first <= part.last && part.last < size));
            assert!(parts.len() == 1 || parts.iter().map(|part| part.length()).sum::<u64>() <= size);
        }
    }

    /// Changes one byte of a manifest.
    #[test]
    fn every_input_is_read_or_refused_as_a_manifest(at: prop::sample::Index, byte: u8, noise: Vec<u8>) {
        let digest = Digest::of(Algorithm::Sha256, b"");
        let descriptor = format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":0}}"#);
        let mut bytes = format!(
            r#"{{"schemaVersion":2,"config":{descriptor},"layers":[{descriptor}],"subject":{descriptor},"annotations":{{"a":"b"}}}}"#
        )
        .into_bytes();
        let manifest = Manifest::read(&bytes, None).expect("a good manifest");
        assert_eq!((manifest.blobs(), manifest.subject()), (&[digest][..], Some(digest)));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        for bytes in [bytes, noise] {
            if let Ok(manifest) = Manifest::read(&bytes, None) {
                let shown = manifest.referrer_descriptor(digest, 1);
                serde_json::from_slice::<serde_json::Value>(&shown).expect("JSON");
            }
        }
    }
}
