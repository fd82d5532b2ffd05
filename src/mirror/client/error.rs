//! [`Error`]: why a request to an upstream failed.

use std::time::Duration;

use hyper::StatusCode;

use crate::kit::outgoing::causes;

/// A limit of requests that ends within this time is waited for.
const LIMITED_SHORTLY: Duration = Duration::from_secs(30);

/// The credentials of a request that an upstream refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// There are no credentials for the upstream.
    Nothing,
    Credentials,
    /// An access token for the credentials. So the token service has accepted them.
    Token,
}

impl Presented {
    /// The object of a sentence about an upstream that requires credentials.
    const fn required(self) -> &'static str {
        match self {
            Self::Nothing => "credentials",
            Self::Credentials | Self::Token => "other credentials",
        }
    }
}

/// Why a request failed. Clones are shared by all who waited for the same request.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The configured URL is unusable.
    #[error("{0}")]
    Url(String),
    /// The certificates to trust, or the client's own certificate, cannot be read.
    #[error("{0}")]
    Trust(String),
    /// The log has the reason.
    #[error("the credentials for {host} cannot be read")]
    Credentials { host: String },
    /// Too many requests wait for the upstream.
    #[error("too many requests to {host} are in progress")]
    Busy { host: String },
    /// The host has no address, or no address responds.
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    /// The certificate of the host is not trusted, not valid now, or names another host. `fault` says which.
    #[error("the certificate of {host} {fault}")]
    Certificate { host: String, fault: String, is_untrusted: bool },
    #[error("{host} did not respond within {} s", after.as_secs_f32())]
    Timeout { host: String, after: Duration },
    /// The connection broke.
    #[error("the connection to {host} broke: {cause}")]
    Broken { host: String, cause: String },
    #[error("{host} requires {}{}", presented.required(), after_colon(message))]
    Unauthorized { host: String, presented: Presented, message: String },
    #[error("{host} denies access{}", after_colon(message))]
    Denied { host: String, presented: Presented, message: String },
    #[error("{host} limits requests{}", after_colon(message))]
    RateLimited { host: String, retry_after: Option<Duration>, message: String },
    #[error("{host} failed with status {}{}", status.as_u16(), after_colon(message))]
    Failed { host: String, status: StatusCode, retry_after: Option<Duration>, message: String },
    #[error("{host} responded with status {}{}", status.as_u16(), after_colon(message))]
    Unexpected { host: String, status: StatusCode, message: String },
    /// The upstream does not have what was requested.
    #[error("not found")]
    NotFound,
    /// The response breaks the distribution specification, or has another digest.
    #[error("the response of {host} is invalid: {cause}")]
    Invalid { host: String, cause: String },
    #[error("the response of {host} has more than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("{host} redirects {why}")]
    Redirect { host: String, why: String },
    /// The upstream failed a moment ago, and no request is sent.
    #[error("{error} (not tried again for {} s)", left.as_secs().max(1))]
    BackedOff { error: Box<Self>, left: Duration },
}

fn after_colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

impl Error {
    /// A connection or a body that ended early.
    pub(super) fn broken(host: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Broken { host: host.to_owned(), cause: causes(error) }
    }

    /// Whether the same request may succeed a little later.
    pub(crate) const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::Broken { .. }
                | Self::RateLimited { .. }
                | Self::Failed { .. }
                | Self::Busy { .. }
                | Self::BackedOff { .. }
        )
    }

    /// Whether the whole upstream failed, and not only this request.
    pub(crate) const fn is_of_host(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Certificate { .. }
                | Self::Timeout { .. }
                | Self::Broken { .. }
                | Self::RateLimited { .. }
                | Self::Failed { .. }
        )
    }

    /// Whether the upstream responded with 5xx.
    pub(crate) fn has_server_status(&self) -> bool {
        match self {
            Self::Failed { .. } => true,
            Self::BackedOff { error, .. } => error.has_server_status(),
            _ => false,
        }
    }

    /// How long the upstream asks to wait.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Failed { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// How long no request is sent because the upstream limits them.
    pub(crate) fn limited_for(&self) -> Option<Duration> {
        match self {
            Self::BackedOff { error, left } if matches!(**error, Self::RateLimited { .. }) => Some(*left),
            _ => None,
        }
    }

    /// Whether the upstream limits requests and says that it takes some again soon.
    pub(crate) fn is_limited_shortly(&self) -> bool {
        let again = match self {
            Self::RateLimited { retry_after, .. } => *retry_after,
            error => error.limited_for(),
        };
        again.is_some_and(|again| again <= LIMITED_SHORTLY)
    }

    /// Whether there is no connection to the upstream, or there was none a moment ago.
    pub(crate) fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Certificate { .. } | Self::Timeout { .. } => true,
            Self::BackedOff { error, .. } => error.is_unreachable(),
            _ => false,
        }
    }

    /// Whether the upstream has no bytes at the requested offset.
    pub(crate) fn is_range(&self) -> bool {
        matches!(self, Self::Unexpected { status, .. } if *status == StatusCode::RANGE_NOT_SATISFIABLE)
    }

    /// Whether the upstream does not support the method.
    pub(crate) fn is_method(&self) -> bool {
        matches!(self, Self::Unexpected { status, .. } if *status == StatusCode::METHOD_NOT_ALLOWED)
    }

    /// Whether the content of the upstream is unusable, and will be so the next time.
    pub(crate) const fn is_invalid(&self) -> bool {
        matches!(self, Self::Invalid { .. } | Self::TooLarge { .. })
    }

    /// Whether too many requests of ours wait, and the upstream is not the reason.
    pub(crate) const fn is_busy(&self) -> bool {
        matches!(self, Self::Busy { .. })
    }

    /// Whether the upstream took too long, rather than failed.
    pub(crate) fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::BackedOff { error, .. } => error.is_timeout(),
            _ => false,
        }
    }
}
