//! Findings about the registries to mirror.

use super::{lines, load};
use crate::config::source::Format;

/// The findings about one registry with these keys, without the place of the registry.
fn findings(keys: &str) -> Vec<String> {
    let text = format!("[[extensions.sync.registries]]\n{keys}\n");
    let found = match load(Format::Toml, &text) {
        Ok(loaded) => lines(&loaded.warnings),
        Err(error) => lines(error.problems()),
    };
    let place = "extensions.sync.registries[0].";
    found.into_iter().map(|line| line.split_once(place).map_or(line.clone(), |(_, rest)| rest.to_owned())).collect()
}

#[test]
fn a_schedule_is_accepted_or_refused_with_the_reason() {
    let example = "urls = ['https://registry.example']";
    let hub = "urls = ['https://registry-1.docker.io']";
    for (keys, expected) in [
        (format!("{example}\nonDemand = true"), &[][..]),
        (example.to_owned(), &["onDemand: without it and without pollInterval, nothing is mirrored"]),
        (format!("{example}\npollInterval = '6h'\ncontent = [{{ prefix = 'team/**' }}]"), &[]),
        (
            format!("{example}\npollInterval = '6h'\nonDemand = true\ncontent = [{{ prefix = '**' }}]"),
            &["content: the whole registry is synchronised: name its repositories in content.*.prefix to limit it"],
        ),
        (
            format!("{example}\npollInterval = '5s'\ncontent = [{{ prefix = 'a/b' }}]"),
            &["pollInterval: every tag costs a request each time: an hour or more is usual"],
        ),
        (format!("{hub}\npollInterval = '6h'\ncontent = [{{ prefix = 'library/{{nginx,redis}}' }}]"), &[]),
        (
            format!("{hub}\npollInterval = '6h'\ncontent = [{{ prefix = 'library/**' }}]"),
            &["content: this registry does not list its repositories: name those to synchronise in content.*.prefix \
               without wildcards"],
        ),
        (format!("{hub}\nonDemand = true\ncontent = [{{ prefix = 'library/**' }}]"), &[]),
        ("urls = []\nonDemand = true".to_owned(), &["urls: is empty: name a URL of the registry"]),
        (
            format!("{example}\nonDemand = true\nplatforms = ['linux/amd64']\nonlySigned = true"),
            &["platforms: applies to synchronisation only, and pollInterval is not set"],
        ),
        (
            format!("{example}\nonDemand = true\nhost = 'registry.example:5000'"),
            &[
                "host: \"registry.example:5000\" has a port, and clients cannot name images below it: set host, such as \
               \"registry.example\", and urls in extensions.sync.registries instead",
            ],
        ),
        (
            format!(
                "{example}\npollInterval = '6h'\nplatforms = ['amd64']\ncontent = [{{ prefix = 'a', platforms = ['x/'] }}]"
            ),
            &[
                "content[0].platforms[0]: \"x/\" is not a platform, such as linux/amd64 or linux/arm/v7",
                "platforms[0]: \"amd64\" is not a platform, such as linux/amd64 or linux/arm/v7",
            ],
        ),
    ] {
        let mut found = findings(&keys);
        found.sort_unstable();
        assert_eq!(found, expected, "{keys}");
    }
}

#[test]
fn a_directory_without_certificates_is_reported() {
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = place.path();
    let found = || findings(&format!("urls = ['https://a.example']\nonDemand = true\ncertDir = {directory:?}"));
    let why = format!(
        "certDir: {directory:?} has no effect: it contains neither *.crt, which are trusted, nor client.cert with \
         client.key, which this registry sends"
    );
    assert_eq!(found(), [why.as_str()]);
    // These are not read.
    for name in ["ca.pem", "client.key", "crt"] {
        std::fs::write(directory.join(name), "").expect("a file can be written there");
    }
    assert_eq!(found(), [why.as_str()]);
    for name in ["client.cert", "ca.crt"] {
        std::fs::write(directory.join(name), "").expect("a file can be written there");
        assert_eq!(found(), [""; 0], "{name}");
        std::fs::remove_file(directory.join(name)).expect("a file can be removed");
    }
    // The start reports it.
    std::fs::remove_dir_all(directory).expect("a directory can be removed");
    assert_eq!(found(), [""; 0]);
}
