//! Problems of a whole text or file.

use std::fs;
use std::path::PathBuf;

use super::load;
use crate::config::source::Format;
use crate::config::{Config, Tls};

#[test]
fn a_syntax_error_has_a_position() {
    let cases = [
        (Format::Toml, "a = 1\nb = \n", "f:2:5: string values must be quoted, expected literal string"),
        (Format::Toml, "a = inf", "f:1:5: infinity and not-a-number are not supported"),
        (Format::Toml, "a = 99999999999999999999", "f:1:5: the number is too large"),
        (Format::Json, "{\"a\":\n1,}", "f:2:3: trailing comma"),
        (Format::Json, "{} x", "f:1:4: trailing characters"),
        (Format::Json, "[1]", "f: expected a table of keys as the whole content"),
        (Format::Yaml, "a: [1\nb: 2", "f:2:2: illegal placement of ':' indicator"),
        (Format::Yaml, "---\na: 1\n---\nb: 2\n", "f:4:1: only single YAML document expected but multiple found"),
    ];
    for (format, text, problem) in cases {
        let error = load(format, text).expect_err("the text is broken");
        assert_eq!(error.to_string(), problem, "{text:?}");
    }
}

#[test]
fn the_extension_of_a_file_determines_its_format() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let write = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("a file can be written there");
        path
    };
    for (name, text) in [
        ("a.toml", "http.port = 5000"),
        ("a.JSON", r#"{"http": {"port": "5000"}}"#),
        ("a.yaml", "http: {port: 5000}"),
        ("a.yml", "http:\n  port: '5000'\n"),
    ] {
        let loaded = Config::load(&write(name, text.as_bytes())).expect(name);
        assert_eq!(loaded.config.http.port, 5000, "{name}");
    }
    let failures: [(PathBuf, &str); 6] = [
        (write("a.conf", b""), ": expected a name ending in .toml, .json, .yaml or .yml"),
        (write("toml", b""), ": expected a name ending in .toml, .json, .yaml or .yml"),
        (dir.path().join("none.toml"), ": cannot be read: No such file or directory (os error 2)"),
        (write("b.toml", b"# \xc3\xa4\n# \xc3\xa4\xff"), ":2:4: not UTF-8 text"),
        (write("c.toml", &vec![b' '; (1 << 20) + 1]), ": is larger than 1048576 bytes"),
        (write("d.toml", b"http.port = ["), ":1:14: unclosed array, expected `]`"),
    ];
    for (path, problem) in failures {
        let error = Config::load(&path).expect_err("the file cannot be used");
        assert_eq!(error.to_string(), format!("{}{problem}", path.display()));
    }
    let [cert, key] = ["c.pem", "k.pem"].map(|name| write(name, b"pem"));
    let text = format!("[http.tls]\ncert = {cert:?}\nkey = {key:?}");
    let loaded = Config::from_toml_str(&text).expect("both files are there");
    assert_eq!(loaded.config.http.tls, Some(Tls { cert, key: key.clone() }));
    let text = format!("[http.tls]\ncert = {:?}\nkey = {key:?}", dir.path());
    let error = Config::from_toml_str(&text).expect_err("a directory is not a certificate");
    let expected = format!("configuration: http.tls.cert: cannot read {:?}: it is not a file", dir.path());
    assert_eq!(error.to_string(), expected);
}
