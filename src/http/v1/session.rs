//! Sign-in and sign-out with a password, from a browser or from curl with a cookie jar; and the sessions of a user.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{self, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{Answer, Header, NoContent, SET_COOKIE, Success, WithHeaders};
use super::endpoint::{Endpoint, delete, future, get, post, sync};
use super::input::{Call, NoQuery, PathValue};
use super::values::{QuayTime, Switch};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::ext::logout::nothing_to_end;
use crate::http::response::value;
use crate::identity::access::{Refusal, Requires};
use crate::identity::accounts::{Account, Error, NotSignedIn, Password, SessionId, SignedIn};

/// The endpoints of this file.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get("/csrf_token", Requires::Anyone, &sync(get_csrf_token))
        .named("getCsrfToken", "Get the token that a browser's unsafe requests carry")
        .headers(&[SET_COOKIE]),
    post("/api/v1/signin", Requires::Anyone, &future(sign_in))
        .named("signinUser", "Start a session with a password")
        .headers(&[NEXT_TOKEN, SET_COOKIE])
        .refuses(&[StatusCode::TOO_MANY_REQUESTS]),
    post("/api/v1/signin/verify", Requires::Session, &future(verify_password))
        .named("verifyUser", "Repeat the password, for operations that need a recent sign-in")
        .headers(&[NEXT_TOKEN])
        .refuses(&[StatusCode::TOO_MANY_REQUESTS]),
    post("/api/v1/signout", Requires::Anyone, &future(sign_out))
        .named("logout", "End this session, or with everywhere=true all sessions of the user")
        .headers(&[SET_COOKIE]),
    get("/api/v1/user/sessions", Requires::UserAdmin, &sync(list_sessions))
        .named("listUserSessions", "List the user's sessions"),
    delete("/api/v1/user/sessions/{session_id}", Requires::UserAdmin, &future(end_session))
        .named("endUserSession", "End one of the user's sessions"),
];

const NEXT_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-next-csrf-token");
const CSRF_TOKEN: &str = "^[A-Za-z0-9_-]{64}$";

/// The CSRF token for the next request of the session.
const NEXT_TOKEN: Header = Header { name: "X-Next-CSRF-Token", pattern: Some(CSRF_TOKEN), required: true };
/// The same, if the answer starts a session.
pub(super) const NEXT_TOKEN_IF_STARTED: Header = Header { required: false, ..NEXT_TOKEN };

#[derive(Debug, Serialize, JsonSchema)]
struct CsrfToken {
    #[schemars(regex(pattern = CSRF_TOKEN))]
    csrf_token: String,
}

/// The token of the cookie in the request, or of a new cookie. Nothing is stored for a visitor.
#[expect(clippy::unnecessary_wraps, reason = "the handlers of all endpoints return results")]
fn get_csrf_token(context: &Context<'_>, _: Call) -> Result<WithHeaders<CsrfToken>, ApiError> {
    let known = context.cookie();
    let is_new = known.is_none();
    let id = known.unwrap_or_else(SessionId::generate);
    let signed_in = context.caller.credential.session().map(|grant| grant.signed_in);
    let csrf_token = context.registry.accounts().csrf_token(&id, signed_in);
    let answer = WithHeaders::new(CsrfToken { csrf_token }).with(header::VARY, value("Cookie"));
    Ok(if is_new { answer.with(header::SET_COOKIE, context.cookies().session(&id, false)) } else { answer })
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SignInBody {
    username: String,
    password: String,
}

async fn sign_in(context: &Context<'_>, call: Call<(), NoQuery, SignInBody>) -> Result<WithHeaders<Success>, ApiError> {
    let SignInBody { username, password } = call.body;
    let account = checked_password(context, &username, &password, None).await?;
    with_session(context, &account, Success::DONE).await
}

#[derive(Debug, Deserialize, JsonSchema)]
struct PasswordBody {
    password: String,
}

/// After this the session may, for some minutes, use the endpoints that need a recent sign-in.
async fn verify_password(
    context: &Context<'_>,
    call: Call<(), NoQuery, PasswordBody>,
) -> Result<WithHeaders<Success>, ApiError> {
    let (Some(grant), Some(cookie)) = (context.caller.credential.session(), context.cookie()) else {
        return Err(Refusal::Denied.into());
    };
    checked_password(context, &grant.user, &call.body.password, context.caller.name()).await?;
    let (hash, accounts, origin) = (grant.hash, Arc::clone(context.registry.accounts()), context.origin());
    let signed_in = context.blocking(move || accounts.refresh_session(hash, &origin)).await?;
    let token = context.registry.accounts().csrf_token(&cookie, Some(signed_in));
    Ok(WithHeaders::new(Success::DONE).with(NEXT_CSRF_TOKEN, value(token)))
}

#[derive(Debug, Deserialize, JsonSchema)]
struct SignOutQuery {
    everywhere: Option<Switch>,
}

async fn sign_out(context: &Context<'_>, call: Call<(), SignOutQuery>) -> Result<WithHeaders<Success>, ApiError> {
    let everywhere = call.query.everywhere == Some(Switch(true));
    if let Some(grant) = context.caller.credential.session() {
        let accounts = Arc::clone(context.registry.accounts());
        let (user, this, origin) = (grant.user.clone(), grant.hash, context.origin());
        context
            .blocking(move || accounts.end_sessions(&user, move |hash, _| everywhere || *hash == this, &origin))
            .await?;
    } else {
        nothing_to_end(context)?;
    }
    Ok(WithHeaders::new(Success::DONE).with(header::SET_COOKIE, context.cookies().no_session()))
}

#[derive(Debug, Serialize, JsonSchema)]
struct Sessions {
    sessions: Vec<Session>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Session {
    id: Uuid,
    /// Whether the request came with this session.
    current: bool,
    created: QuayTime,
    last_used: QuayTime,
    ip: Option<String>,
    user_agent: String,
}

fn list_sessions(context: &Context<'_>, _: Call) -> Result<Sessions, ApiError> {
    let this = context.caller.credential.session().map(|grant| grant.id);
    let sessions = context.registry.accounts().sessions(context.user()?)?.into_iter();
    let sessions = sessions.map(|session| Session {
        id: session.id,
        current: this == Some(session.id),
        created: QuayTime(session.created),
        last_used: QuayTime(session.last_used.at),
        ip: session.last_used.address,
        user_agent: session.last_used.agent,
    });
    Ok(Sessions { sessions: sessions.collect() })
}

#[derive(Clone, Copy, Debug, JsonSchema)]
#[schemars(inline)]
struct SessionNumber(Uuid);

impl PathValue for SessionNumber {
    fn parse(text: &str) -> Result<Self, ApiError> {
        Ok(Self(text.parse().map_err(|_| Error::SessionUnknown)?))
    }
}

async fn end_session(context: &Context<'_>, call: Call<SessionNumber>) -> Result<NoContent, ApiError> {
    let SessionNumber(wanted) = call.path;
    let accounts = Arc::clone(context.registry.accounts());
    let (user, origin) = (context.user()?.to_owned(), context.origin());
    let ended = context.blocking(move || accounts.end_sessions(&user, move |_, id| id == wanted, &origin)).await?;
    if ended == 0 { Err(Error::SessionUnknown.into()) } else { Ok(NoContent) }
}

/// Verifies a password, and returns its user. Quay answers a wrong password with 403.
async fn checked_password(
    context: &Context<'_>,
    user: &str,
    password: &str,
    performer: Option<&str>,
) -> Result<Arc<Account>, ApiError> {
    let accounts = Arc::clone(context.registry.accounts());
    let origin = context.info.origin(performer);
    let verified = accounts.sign_in(user, Password::new(password), context.info.address, || origin.clone()).await;
    match verified {
        Ok(SignedIn { account, .. }) => Ok(account),
        Err(NotSignedIn::Wrong) => Err(ApiError::wrong_password()),
        Err(other) => Err(other.into()),
    }
}

/// Starts a session, and adds its cookie and its CSRF token to the answer.
pub(super) async fn with_session<A: Answer>(
    context: &Context<'_>,
    account: &Arc<Account>,
    answer: A,
) -> Result<WithHeaders<A>, ApiError> {
    let (id, grant) = context.start_session(account).await?;
    let token = context.registry.accounts().csrf_token(&id, Some(grant.signed_in));
    let answer = WithHeaders::new(answer).with(header::SET_COOKIE, context.cookies().session(&id, true));
    Ok(answer.with(NEXT_CSRF_TOKEN, value(token)))
}
