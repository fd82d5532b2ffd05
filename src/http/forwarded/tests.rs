//! Tests of the values that trusted proxies report, and of clients that try to forge them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hyper::Request;

use super::*;

/// Reads a request that a trusted proxy passed on. Returns the client, the URL, and whether the headers contradict.
fn read(lines: &[(&str, &[u8])]) -> (String, String, bool) {
    let trusted: Vec<Network> = ["127.0.0.1", "10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap()).into();
    let mut request = Request::builder().uri("/v2/").header("host", "own.example");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    let connection = crate::http::fuzzing::connection("127.0.0.1:999".parse().unwrap());
    let reached = ClientInfo::read(&trusted, &connection, &head);
    let contradict = reached.notice == Some(Notice::Contradiction);
    (reached.address.unwrap().to_string(), reached.url(false), contradict)
}

#[test]
fn an_address_is_read_as_proxies_write_it() {
    for (entry, expected) in [
        ("203.0.113.7", Some("203.0.113.7")),
        ("203.0.113.7:5000", Some("203.0.113.7")),
        ("203.0.113.7:_hidden", Some("203.0.113.7")),
        (" \"203.0.113.7:5000\" ", Some("203.0.113.7")),
        ("2001:db8::7", Some("2001:db8::7")),
        ("[2001:db8::7]", Some("2001:db8::7")),
        ("[2001:db8::7]:443", Some("2001:db8::7")),
        ("\"[2001:db8::7]:443\"", Some("2001:db8::7")),
        ("fe80::1%eth0", Some("fe80::1")),
        ("[fe80::1%25eth0]:1", Some("fe80::1")),
        ("::ffff:203.0.113.7", Some("203.0.113.7")),
        ("unknown", None),
        ("_hidden", None),
        ("unix:", None),
        ("localhost", None),
        ("203.0.113.7:", None),
        ("203.0.113.7:x", None),
        ("203.0.113.7:123456", None),
        ("[203.0.113.7]", None),
        ("[2001:db8::7", None),
        ("[2001:db8::7]x", None),
        ("203.0.113.007", None),
        ("\u{ff}", None),
    ] {
        assert_eq!(list::address(entry.as_bytes()).map(|address| address.to_string()).as_deref(), expected, "{entry}");
    }
}

#[test]
fn the_last_address_that_is_no_trusted_proxy_is_the_client() {
    for (value, client) in [
        (&b"203.0.113.7"[..], "203.0.113.7"),
        (b"198.51.100.1, 203.0.113.7", "203.0.113.7"),
        (b"198.51.100.1, 203.0.113.7:80, 10.1.2.3:90", "203.0.113.7"),
        (b"203.0.113.7, [fd00::1]:443,10.0.0.1", "203.0.113.7"),
        (b"203.0.113.7,, ,", "203.0.113.7"),
        (b"unknown, 203.0.113.7", "203.0.113.7"),
        (b"\xff\xfe, 203.0.113.7", "203.0.113.7"),
        (b"\", 203.0.113.7", "203.0.113.7"),
        (b"10.0.0.2, 10.0.0.1", "10.0.0.2"),
        // If the proxy does not name its client, the client cannot name itself.
        (b"198.51.100.1, unknown", "127.0.0.1"),
        (b"198.51.100.1, _hidden, 10.0.0.1", "10.0.0.1"),
        (b"", "127.0.0.1"),
        (b" , ", "127.0.0.1"),
    ] {
        let shown = String::from_utf8_lossy(value);
        assert_eq!(read(&[("x-forwarded-for", value)]).0, client, "{shown}");
    }
    let lines: [(&str, &[u8]); 2] = [("x-forwarded-for", b"198.51.100.1"), ("x-forwarded-for", b"203.0.113.7")];
    assert_eq!(read(&lines).0, "203.0.113.7");
}

#[test]
fn the_standard_header_is_read_as_well() {
    let own = "http://own.example";
    for (value, client, url) in [
        (&b"for=203.0.113.7"[..], "203.0.113.7", own),
        (b"For=\"203.0.113.7:4711\"", "203.0.113.7", own),
        (b"for=\"[2001:db8::7]:443\";proto=https;by=10.0.0.1", "2001:db8::7", "https://own.example"),
        (b"for=203.0.113.7 ; proto=HTTPS ; host=registry.example", "203.0.113.7", "https://registry.example"),
        (b"host=\"registry.example:8443\";for=203.0.113.7", "203.0.113.7", "http://registry.example:8443"),
        (b"for=198.51.100.1;host=evil.example, for=203.0.113.7", "203.0.113.7", own),
        (
            b"for=203.0.113.7;proto=https;host=a.example, for=10.0.0.1;proto=http;host=b",
            "203.0.113.7",
            "https://a.example",
        ),
        (b"for=203.0.113.7;ext=\"a,b;c\\\"d\";proto=https", "203.0.113.7", "https://own.example"),
        // An open quote of a client does not hide the entries after it.
        (b"for=\", for=203.0.113.7", "203.0.113.7", own),
        (b"for=\"\\, for=\"203.0.113.7:1\"", "203.0.113.7", own),
        (b"for=198.51.100.1, for=unknown", "127.0.0.1", own),
        (b"for=198.51.100.1, for=_hidden, for=10.0.0.1", "10.0.0.1", own),
        (b"for=198.51.100.1, proto=https", "127.0.0.1", "https://own.example"),
        (b"for=203.0.113.7;for=203.0.113.8", "127.0.0.1", own),
        (b"203.0.113.7", "127.0.0.1", own),
        (b"for=\"203.0.113.7", "127.0.0.1", own),
        (b"", "127.0.0.1", own),
    ] {
        let shown = String::from_utf8_lossy(value);
        assert_eq!(read(&[("forwarded", value)]), (client.to_owned(), url.to_owned(), false), "{shown}");
    }
    let lines: [(&str, &[u8]); 2] = [("forwarded", b"for=198.51.100.1"), ("forwarded", b"for=203.0.113.7")];
    assert_eq!(read(&lines).0, "203.0.113.7");
}

#[test]
fn headers_that_contradict_do_not_count() {
    let both =
        |own: &str, standard: &str| read(&[("x-forwarded-for", own.as_bytes()), ("forwarded", standard.as_bytes())]);
    assert_eq!(both("203.0.113.7", "for=198.51.100.1"), ("127.0.0.1".into(), "http://own.example".into(), true));
    assert_eq!(both("203.0.113.7, 10.0.0.1", "for=\"203.0.113.7:80\"").0, "203.0.113.7");
    let lines: [(&str, &[u8]); 3] = [
        ("x-forwarded-proto", b"https"),
        ("x-forwarded-host", b"a.example"),
        ("forwarded", b"for=203.0.113.7;proto=http;host=b.example"),
    ];
    assert_eq!(read(&lines), ("203.0.113.7".into(), "http://own.example".into(), true));
}

#[test]
fn a_forwarded_host_that_is_invalid_is_refused() {
    for (name, value) in [("x-forwarded-host", "a\"b/../c"), ("forwarded", "for=203.0.113.7;host=\"a b\"")] {
        let trusted: [Network; 1] = ["127.0.0.1".parse().unwrap()];
        let request = Request::builder().uri("/v2/").header("host", "own.example").header(name, value);
        let (head, ()) = request.body(()).unwrap().into_parts();
        let peer = |text: &str| crate::http::fuzzing::connection(text.parse().unwrap());
        assert_eq!(ClientInfo::read(&trusted, &peer("127.0.0.1:1"), &head).check(), Err(InvalidHost::Forwarded));
        let unknown = ClientInfo::read(&trusted, &peer("127.0.0.2:1"), &head);
        assert_eq!((unknown.check(), unknown.notice), (Ok(()), Some(Notice::UntrustedProxy)));
    }
}
