//! The user's sessions, and the clients that keep a refresh token of the user.

use std::sync::Arc;

use uuid::Uuid;

use super::PageCall;
use crate::http::HandlerResult;
use crate::identity::accounts::Error;
use crate::web::{ClientList, ClientRow, SessionList, SessionRow};

const SESSIONS: &str = "/ui/account/sessions";
const CLIENTS: &str = "/ui/account/clients";

/// Lists the sessions, and ends one or all others.
pub(super) async fn sessions(call: &PageCall<'_>) -> HandlerResult {
    let (context, accounts) = (call.context, call.context.registry.accounts());
    let this = context.caller.credential.session().map(|grant| grant.id);
    if call.form.is_some() {
        let wanted = call.field("end")?;
        let (accounts, user, origin) = (Arc::clone(accounts), context.user()?.to_owned(), context.origin());
        if wanted == "others" {
            context.blocking(move || accounts.end_sessions(&user, move |_, id| Some(id) != this, &origin)).await?;
            return call.redirect(SESSIONS, Some("sessions-ended"));
        }
        let wanted: Uuid = wanted.parse().map_err(|_| Error::SessionUnknown)?;
        let ended = context.blocking(move || accounts.end_sessions(&user, move |_, id| id == wanted, &origin)).await?;
        return if ended == 0 {
            Err(Error::SessionUnknown.into())
        } else {
            call.redirect(SESSIONS, Some("session-ended"))
        };
    }
    let mut sessions = accounts.sessions(context.user()?)?;
    sessions.sort_by_key(|session| std::cmp::Reverse((Some(session.id) == this, session.last_used.at)));
    let rows = sessions.into_iter().map(|session| SessionRow {
        id: session.id.to_string(),
        is_current: this == Some(session.id),
        created: call.time(session.created),
        last_used: call.last_use(session.last_used.at, session.last_used.address, session.last_used.agent),
    });
    call.render(&SessionList { sessions: rows.collect(), layout: call.account_layout("Sessions", SESSIONS) })
}

/// Lists the clients, and signs one out.
pub(super) async fn clients(call: &PageCall<'_>) -> HandlerResult {
    let (context, accounts) = (call.context, call.context.registry.accounts());
    if call.form.is_some() {
        let id: Uuid = call.field("end")?.parse().map_err(|_| Error::KeyUnknown)?;
        let (accounts, user, origin) = (Arc::clone(accounts), context.user()?.to_owned(), context.origin());
        let ended = context.blocking(move || accounts.end_refresh_tokens(&user, Some(id), &origin)).await?;
        return if ended == 0 { Err(Error::KeyUnknown.into()) } else { call.redirect(CLIENTS, Some("token-ended")) };
    }
    let rows = accounts.refresh_tokens(context.user()?)?.into_iter().map(|token| ClientRow {
        id: token.id.to_string(),
        name: if token.client.is_empty() { "unknown client".to_owned() } else { token.client },
        created: call.time(token.created),
        last_used: call.last_use(token.last_used.at, token.last_used.address, token.last_used.agent),
    });
    call.render(&ClientList { clients: rows.collect(), layout: call.account_layout("Signed-in clients", CLIENTS) })
}
