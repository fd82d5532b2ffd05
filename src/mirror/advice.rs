//! [`Advice`]: the next step of an operator whose registry an upstream refuses, or shows less than it has. Texts only.

use super::client::{self, Presented};
use super::error::Error;

/// The next steps for an upstream. They name options of the command, or keys of the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Advice {
    /// There are no credentials: where they were looked for, and how to give them.
    pub(crate) no_credentials: String,
    /// The credentials are refused: where they come from.
    pub(crate) other_credentials: String,
    /// The certificate is not trusted: how to trust it.
    pub(crate) certificate: String,
}

impl Advice {
    /// The next step after an error, if there is one.
    pub(crate) fn about(&self, error: &Error) -> Option<&str> {
        match error {
            Error::Upstream(error) => self.about_request(error),
            _ => None,
        }
    }

    fn about_request(&self, error: &client::Error) -> Option<&str> {
        match error {
            client::Error::Unauthorized { presented: Presented::Nothing, .. }
            | client::Error::Denied { presented: Presented::Nothing, .. } => Some(&self.no_credentials),
            client::Error::Unauthorized { .. } | client::Error::Denied { .. } | client::Error::Credentials { .. } => {
                Some(&self.other_credentials)
            }
            client::Error::Certificate { is_untrusted: true, .. } => Some(&self.certificate),
            client::Error::BackedOff { error, .. } => self.about_request(error),
            _ => None,
        }
    }

    /// The note about a list of repositories that was requested without credentials.
    pub(super) fn about_public_list(&self) -> String {
        format!("without credentials, only public repositories were listed; {}", self.no_credentials)
    }
}
