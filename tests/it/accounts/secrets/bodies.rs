//! Invalid bodies in which a secret is planted. The errors must not quote them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use super::{DORAS, Subject, planted};
use crate::accounts::browser::Browser;

/// Bodies of sign-ins. In all these lists `$S` is a secret and `$N` a secret that is a number.
const SIGNINS: &[&str] = &[
    r#"{"username": "dora", "password": "$S""#,
    r#"{"username": "dora", "password": "$S",}"#,
    r#"{"username": "dora", "password": $S}"#,
    "{\"username\": \"dora\", \"password\": \"$S\u{1}\"}",
    r#"{"username": "dora", "password": "$S\x"}"#,
    r#"{"username": "dora", "password": "$S"} $S"#,
    "{'username': 'dora', 'password': '$S'}",
    r#""$S""#,
    r#"["$S"]"#,
    r#"{"password": "$S"}"#,
    r#"{"username": "dora", "password": ["$S"]}"#,
    r#"{"username": "dora", "password": {"$S": 1}}"#,
    r#"{"username": "dora", "password": $N}"#,
    r#"{"username": "dora", "password": -$N}"#,
    r#"{"username": "dora", "password": $N.5}"#,
    r#"{"username": true, "password": "$S"}"#,
    r#"{"username": "dora", "password": "$S", "password": "$S"}"#,
    r#"{"$S": "dora"}"#,
    r#"{"user": "dora", "pass": "$S"}"#,
    "username=dora&password=$S",
    "$S",
];
const PASSWORDS: &[&str] = &[
    r#"{"password": $N}"#,
    r#"{"password": ["$S"]}"#,
    r#""$S""#,
    "$N",
    r#"{"password": "$S"#,
    r#"{"password": {"new": "$S"}}"#,
];
const CHANGES: &[&str] = &[
    r#"{"password": "$S with a blank"}"#,
    r#"{"email": $N}"#,
    r#"{"email": ["$S"]}"#,
    r#"{"password": true, "email": "$S"}"#,
];
const ANY_CHANGES: &[&str] = &[r#"{"enabled": "$S"}"#, r#"{"groups": "$S"}"#, r#"{"password": "$S with a blank"}"#];
const KEYS: &[&str] = &[
    r#"{"label": $N}"#,
    r#"{"label": ["$S"]}"#,
    r#"{"scopes": "$S"}"#,
    r#"{"scopes": [$N]}"#,
    r#"{"expirationDate": "$S"}"#,
    r#"{"expirationDate": $N}"#,
    r#""$S""#,
    "label=x&key=$S",
];
const TOKENS: &[&str] =
    &[r#"{"title": $N}"#, r#"{"title": "x", "scopes": "$S"}"#, r#"{"title": "x", "expiration": "$S"}"#, r#""$S""#];
const USERS: &[&str] =
    &[r#"{"username": $N}"#, r#"{"username": ["$S"]}"#, r#"{"username": "x", "email": "$S"}"#, r#""$S""#];

impl Subject<'_> {
    /// Sends every invalid body to its route, and invalid requests to the admin socket.
    pub(super) async fn bodies(&mut self, session: &mut Browser, admin: &mut Browser) {
        let rows = [
            ("/api/v1/signin", SIGNINS),
            ("/api/v1/signin", PASSWORDS),
            ("/api/v1/signin/verify", PASSWORDS),
            ("/api/v1/user/apptoken", TOKENS),
        ];
        for (path, bodies) in rows {
            for body in bodies {
                let request = session.caller.post(path).body(planted(&mut self.search, body));
                let answer = session.send(request).await;
                assert!(answer.status.is_client_error(), "{path} {body}: {}", answer.text());
                self.search.answer(&answer);
            }
        }
        let dora = self.running.user(("dora", DORAS[0]));
        for (path, method, bodies) in [
            ("/api/v1/user/", "PUT", PASSWORDS),
            ("/api/v1/user/", "PUT", CHANGES),
            ("/api/v1/superuser/users/dora", "PUT", PASSWORDS),
            ("/api/v1/superuser/users/dora", "PUT", ANY_CHANGES),
            ("/api/v1/superuser/users/", "POST", USERS),
            ("/zot/auth/apikey", "POST", KEYS),
        ] {
            for body in bodies {
                let body = planted(&mut self.search, body);
                let caller = if path.starts_with("/zot") { &dora } else { &admin.caller };
                let request = caller.request(method.parse().unwrap(), path).body(body.clone());
                let answer = if path.starts_with("/zot") { request.send().await } else { admin.send(request).await };
                assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text());
                self.search.answer(&answer);
            }
        }
        // Requests to the admin socket that no command sends.
        for line in [
            r#"{"command": "add-user", "name": "x", "password": $N, "superuser": false, "read_only_superuser": false, "groups": []}"#,
            r#"{"command": "set-password", "name": "dora", "password": ["$S"]}"#,
            r#"{"command": "set-password", "name": "dora", "password": "$S"#,
            r#"{"command": "$S"}"#,
            r#""$S""#,
        ] {
            let line = planted(&mut self.search, line);
            let mut socket = UnixStream::connect(self.root.join("admin.sock")).unwrap();
            writeln!(socket, "{line}").unwrap();
            let mut answer = String::new();
            BufReader::new(socket).read_line(&mut answer).unwrap();
            assert!(answer.contains("\"error\""), "{line}: {answer}");
            self.search.place("answer of the socket", answer);
        }
    }
}
