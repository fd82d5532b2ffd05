//! The user's identity from ID token and `UserInfo` claims, at sign-in and at later checks.

use openidconnect::core::CoreGenderClaim;
use openidconnect::{AccessToken, SubjectIdentifier, UserInfoClaims, UserInfoError};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::{Error, RecheckOutcome, groups, is_text};
use super::{Claims, Metadata, OpenId, invalid};
use crate::identity::accounts::FederatedUser;
use crate::kit::outgoing;

impl OpenId {
    /// The claims of the `UserInfo` endpoint, if the provider has one.
    pub(super) async fn user_info(
        &self,
        metadata: &Metadata,
        access: &AccessToken,
        subject: &str,
    ) -> Result<Option<Map<String, Value>>, Error> {
        self.request_user_info(metadata, access, subject).await.transpose().map_err(|error| match error {
            UserInfoError::ClaimsVerification(error) => invalid(&error),
            error => unavailable(&error),
        })
    }

    async fn request_user_info(
        &self,
        metadata: &Metadata,
        access: &AccessToken,
        subject: &str,
    ) -> Option<Result<Map<String, Value>, UserInfoError<outgoing::Error>>> {
        let client = self.client(metadata);
        let subject = SubjectIdentifier::new(subject.to_owned());
        let request = client.user_info(access.clone(), Some(subject)).ok()?;
        let claims: Result<UserInfoClaims<Claims, CoreGenderClaim>, _> = request.request_async(&self.http).await;
        Some(claims.map(|claims| as_map(&claims)))
    }

    /// Reads name, e-mail address and groups. `UserInfo` takes precedence over the ID token, as in zot.
    pub(super) fn user(
        &self,
        subject: String,
        claims: &Map<String, Value>,
        user_info: Option<&Map<String, Value>>,
    ) -> Result<FederatedUser, Error> {
        let sources = || user_info.into_iter().chain([claims]);
        let claim = |name: &str| sources().find_map(|source| text(source, name)).map(str::to_owned);
        let email = claim("email").filter(|email| is_text(email));
        let unverified = sources().any(|source| source.get("email_verified") == Some(&Value::Bool(false)));
        let own_name = claim(&self.username_claim).filter(|_| self.username_claim != "email");
        let name = match own_name {
            Some(name) => name,
            // As in zot, the e-mail address replaces an empty claim.
            None if unverified && email.is_some() => return Err(Error::UnverifiedEmail),
            None => email.clone().ok_or_else(|| Error::MissingClaim { claim: self.username_claim.clone() })?,
        };
        Ok(FederatedUser {
            provider: String::new(),
            issuer: self.issuer.as_str().to_owned(),
            subject,
            name,
            email: email.filter(|_| !unverified),
            groups: self.groups(sources()),
        })
    }

    /// The groups of all sources. A source has a list or one text.
    fn groups<'a>(&self, sources: impl Iterator<Item = &'a Map<String, Value>>) -> Vec<String> {
        let values = sources.filter_map(|source| source.get(&self.groups_claim));
        let texts = values.flat_map(|value| match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::String(text) => vec![text.as_str()],
            _ => Vec::new(),
        });
        groups(texts.map(str::to_owned).collect())
    }

    /// Checks whether the provider still knows a user.
    pub(in crate::identity::providers) async fn recheck(
        &self,
        subject: &str,
        access: &AccessToken,
    ) -> Result<RecheckOutcome, Error> {
        let metadata = self.metadata().await?;
        match self.request_user_info(&metadata, access, subject).await {
            None => Ok(RecheckOutcome::Known { groups: None }),
            Some(Ok(claims)) => {
                // Some providers have groups in ID tokens only.
                let has_groups = claims.contains_key(&self.groups_claim);
                Ok(RecheckOutcome::Known { groups: has_groups.then(|| self.groups([&claims].into_iter())) })
            }
            Some(Err(UserInfoError::Response(status, ..))) if [401, 403].contains(&status.as_u16()) => {
                Ok(RecheckOutcome::Gone)
            }
            Some(Err(error)) => Err(unavailable(&error)),
        }
    }
}

pub(super) fn as_map(claims: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(claims) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// A text claim that is not empty.
pub(super) fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn unavailable(error: &UserInfoError<outgoing::Error>) -> Error {
    let cause = match error {
        UserInfoError::Request(error) => error.to_string(),
        UserInfoError::Response(status, ..) => format!("status {status}"),
        UserInfoError::Parse(error) => format!("invalid response at {}", error.path()),
        other => other.to_string(),
    };
    Error::Unavailable { cause: format!("UserInfo: {cause}") }
}
