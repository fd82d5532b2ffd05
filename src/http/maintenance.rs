//! Starts and stops of background work by superusers, for API v1 and for the pages.

use std::sync::Arc;

use super::Context;
use super::error::ApiError;
use crate::registry::Work;

/// Starts work, unless it is running.
pub(super) async fn start(context: &Context<'_>, work: Work) -> Result<(), ApiError> {
    let is_new = context.registry.activity().ask(work, context.registry.now());
    let [event, _] = work.events();
    if is_new { note(context, event).await } else { Ok(()) }
}

/// Stops work, if it is running.
pub(super) async fn stop(context: &Context<'_>, work: Work) -> Result<(), ApiError> {
    let was_running = context.registry.activity().stop(work);
    let [_, event] = work.events();
    if was_running { note(context, event).await } else { Ok(()) }
}

async fn note(context: &Context<'_>, event: &'static str) -> Result<(), ApiError> {
    let (accounts, origin) = (Arc::clone(context.registry.accounts()), context.origin());
    context.blocking(move || accounts.note(event, "", &[], &origin)).await
}
