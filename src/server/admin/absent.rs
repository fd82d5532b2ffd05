//! The socket of local administration in a build without the feature `cli`: it is never created.

use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::registry::Shared;

pub(super) fn bind(_: &Shared) -> Option<UnixListener> {
    None
}

pub(super) async fn listen(_: UnixListener, _: Arc<Shared>, _: watch::Receiver<bool>) {}
