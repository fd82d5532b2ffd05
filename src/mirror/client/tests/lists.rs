//! Lists of repositories of registries that show everyone a part of them.

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::*;

/// How the upstream challenges at `/v2/`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Basic,
    Bearer,
    /// It has no users.
    Nothing,
}

/// An upstream with a public and a private repository. It lists the public one to everyone, without a challenge.
async fn upstream(at: At, status: u16, service: Arc<Mutex<u16>>) -> SocketAddr {
    let tokens = serve(move |request| {
        let is_user = request.method() == Method::POST || has(request, header::AUTHORIZATION, BASIC);
        let token = if is_user { "user" } else { "anonymous" };
        Some(reply(*service.lock(), &format!(r#"{{"token": "{token}", "expires_in": 5}}"#)))
    })
    .await;
    serve(move |request| {
        if request.uri().path() == "/v2/" {
            let challenge = match at {
                At::Basic => "Basic realm=\"here\"".to_owned(),
                At::Bearer => format!("Bearer realm=\"http://{tokens}/token\",service=\"here\""),
                At::Nothing => return Some(reply(200, "{}")),
            };
            let mut response = reply(status, "{}");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
            return Some(response);
        }
        let authorization =
            request.headers().get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
        Some(match authorization.as_deref() {
            Some(BASIC | "Bearer user") => reply(200, r#"{"repositories": ["private", "public"]}"#),
            None | Some("Bearer anonymous") => reply(200, r#"{"repositories": ["public"]}"#),
            Some(_) => reply(401, ""),
        })
    })
    .await
}

fn alice(password: &str) -> Login {
    Login::Password { user: "alice".to_owned(), password: Zeroizing::new(password.to_owned()) }
}

/// The number of repositories, and whether the list may lack private ones.
async fn list(client: &Client) -> Result<(usize, bool), Error> {
    client
        .repositories(Effort { insists: true, ..QUICK })
        .await
        .map(|catalog| catalog.unwrap())
        .map(|catalog| (catalog.names.len(), catalog.is_public))
}

#[tokio::test]
async fn credentials_are_used_although_the_list_does_not_ask_for_them() {
    for (at, status) in [(At::Basic, 401), (At::Basic, 200), (At::Bearer, 401), (At::Bearer, 200)] {
        let client = client(upstream(at, status, Arc::new(Mutex::new(200))).await);
        assert_eq!(list(&client).await.unwrap(), (1, true), "{at:?} {status}");
        assert_eq!(list(&client.with_login(alice("secret"))).await.unwrap(), (2, false), "{at:?} {status}");
        if at == At::Bearer {
            let login = Login::IdentityToken(Zeroizing::new("refresh".to_owned()));
            assert_eq!(list(&client.with_login(login)).await.unwrap(), (2, false), "{status}");
        }
    }
    let client = client(upstream(At::Nothing, 200, Arc::default()).await);
    assert_eq!(list(&client).await.unwrap(), (1, false), "without users there is nothing private");
}

#[tokio::test]
async fn the_public_list_does_not_stand_for_one_with_credentials() {
    // The upstream refuses them without a challenge.
    let client = client(upstream(At::Basic, 401, Arc::default()).await).with_login(alice("wrong"));
    let error = list(&client).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { presented: Presented::Credentials, .. }), "{error}");

    let service = Arc::new(Mutex::new(503));
    let client = self::client(upstream(At::Bearer, 401, Arc::clone(&service)).await).with_login(alice("secret"));
    assert!(matches!(list(&client).await.unwrap_err(), Error::Failed { .. }));
    *service.lock() = 200;
    assert_eq!(list(&client).await.unwrap(), (2, false));
    // The token has expired, and the challenge that led to it is known.
    *service.lock() = 503;
    assert!(matches!(list(&client).await.unwrap_err(), Error::Failed { .. }));
}
