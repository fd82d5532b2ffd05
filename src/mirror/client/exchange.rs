//! One request with the credentials that the upstream wants.
//!
//! A challenge that led to credentials is remembered, so that later requests bring them at once ([`Remembered`]). If its
//! token cannot be fetched any more, the challenge is forgotten: the token service may have moved, or the upstream may
//! need no token now. The upstream is asked without one, and its response says what to do. An upstream that works gets no
//! further request.
//!
//! A registry with public repositories sends no challenge with their list, and others are missing there. So the request for
//! the list meets the challenge of `/v2/` if there are credentials, and fails if they cannot be used.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::challenge::Challenge;
use super::{Ask, Client, Error, Login, Presented, Shared, Subject};

/// When a request must have its response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    /// The whole time that the request has, for messages.
    wait: Duration,
}

impl Deadline {
    pub(super) fn after(wait: Duration) -> Self {
        Self { at: Instant::now() + wait, wait }
    }

    fn has_passed(&self) -> bool {
        self.at <= Instant::now()
    }
}

/// The challenges of an upstream.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// The last one that led to credentials.
    met: Mutex<Option<Challenge>>,
    /// The one at `/v2/`.
    announced: Mutex<Option<Challenge>>,
}

impl Remembered {
    /// The last challenge that led to credentials.
    pub(super) fn get(&self) -> Option<Challenge> {
        self.met.lock().clone()
    }

    /// The same, or the one at `/v2/`.
    pub(super) fn any(&self) -> Option<Challenge> {
        self.get().or_else(|| self.announced.lock().clone())
    }

    pub(super) fn announce(&self, challenge: Option<Challenge>) {
        *self.announced.lock() = challenge;
    }

    fn set(&self, challenge: Challenge) {
        *self.met.lock() = Some(challenge);
    }

    /// Forgets a challenge, unless another request has replaced it.
    fn forget(&self, challenge: &Challenge) {
        let mut remembered = self.met.lock();
        if remembered.as_ref() == Some(challenge) {
            *remembered = None;
        }
    }
}

/// Forgets a challenge when it is dropped, also if the request is given up while the token service does not respond.
struct Doubt<'a> {
    remembered: &'a Remembered,
    challenge: Option<&'a Challenge>,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        if let Some(challenge) = self.challenge {
            self.remembered.forget(challenge);
        }
    }
}

impl Client {
    /// Sends a request once, with the credentials that the upstream wants.
    pub(super) async fn exchange(&self, ask: &Ask<'_>, deadline: Deadline) -> Result<Response<Incoming>, Error> {
        let remembered = &self.shared.challenge;
        let is_list = matches!(ask.subject, Subject::Catalog);
        let known = if is_list && self.presented(ask.subject).await != Presented::Nothing {
            remembered.any()
        } else {
            remembered.get()
        };
        let (sent, failure) = match self.known_authorization(known.as_ref(), ask, deadline).await {
            Ok(sent) => (sent, None),
            Err(error) if deadline.has_passed() || is_list => return Err(error),
            Err(error) => (None, Some(error)),
        };
        let mut response = self.follow(ask, sent.as_ref()).await?;
        if let Some(known) = known.as_ref().filter(|_| sent.is_some())
            && response.status() == StatusCode::UNAUTHORIZED
            && Challenge::strongest(response.headers()).is_none()
        {
            // It refuses the old token, and says what it wants only without one.
            remembered.forget(known);
            let again = self.follow(ask, None).await?;
            if is_list && again.status().is_success() {
                return self.classify(ask, response).await;
            }
            response = again;
        }
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.classify(ask, response).await;
        }
        let Some(challenge) = Challenge::strongest(response.headers()) else {
            return self.classify(ask, response).await;
        };
        if let Some(failure) = failure
            && known.as_ref() == Some(&challenge)
        {
            // The token service has not changed. It may refuse only this repository.
            remembered.set(challenge);
            return Err(failure);
        }
        // A token that was refused is not used again.
        let authorization = self.authorization(&challenge, ask, sent.as_ref(), deadline).await?;
        if authorization.is_none() || authorization == sent {
            return self.classify(ask, response).await;
        }
        remembered.set(challenge);
        let response = self.follow(ask, authorization.as_ref()).await?;
        self.classify(ask, response).await
    }

    /// The credentials that the upstream gets for a subject, if it wants them.
    pub(super) async fn presented(&self, subject: Subject<'_>) -> Presented {
        let Shared { settings, host, challenge, .. } = &*self.shared;
        // If the token service had refused the credentials, the request would have failed before it was sent.
        let has_token = matches!(challenge.get(), Some(Challenge::Bearer(_)));
        match settings.credentials.of(host, subject.repository()).await {
            Ok(None) => Presented::Nothing,
            Ok(Some(Login::Password { .. } | Login::IdentityToken(_))) if has_token => Presented::Token,
            Ok(Some(_)) | Err(_) => Presented::Credentials,
        }
    }

    /// The `Authorization` for a challenge of an earlier request, which is forgotten if there is no token.
    async fn known_authorization(
        &self,
        known: Option<&Challenge>,
        ask: &Ask<'_>,
        deadline: Deadline,
    ) -> Result<Option<HeaderValue>, Error> {
        let Some(challenge) = known else { return Ok(None) };
        let mut doubt = Doubt { remembered: &self.shared.challenge, challenge: known };
        let authorization = self.authorization(challenge, ask, None, deadline).await?;
        doubt.challenge = None;
        Ok(authorization)
    }

    /// The `Authorization` of a request. `refused` is one that the upstream did not accept.
    async fn authorization(
        &self,
        challenge: &Challenge,
        ask: &Ask<'_>,
        refused: Option<&HeaderValue>,
        deadline: Deadline,
    ) -> Result<Option<HeaderValue>, Error> {
        let Shared { settings, host, tokens, .. } = &*self.shared;
        match challenge {
            Challenge::Basic => {
                let (credentials, repository) = (&settings.credentials, ask.subject.repository());
                let login = match refused {
                    None => credentials.of(host, repository).await?,
                    Some(_) => {
                        credentials.other_than(host, repository, |login| login.basic().as_ref() == refused).await?
                    }
                };
                Ok(login.as_ref().and_then(Login::basic))
            }
            Challenge::Bearer(bearer) => {
                let token = timeout_at(deadline.at, tokens.get(self, bearer, ask.subject, refused)).await;
                // The token service took too long, and not the upstream.
                let host = || bearer.host().unwrap_or_else(|| host.clone());
                token.unwrap_or_else(|_| Err(Error::Timeout { host: host(), after: deadline.wait }))
            }
        }
    }
}
