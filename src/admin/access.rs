//! Operations on access: the explanation of a user's rights, and the key that signs access tokens.

use serde::{Deserialize, Serialize};

use super::{Call, Failure, Operation};
use crate::identity::accounts::{Error, Origin};
use crate::oci::RepositoryName;
use crate::registry::Explanation;

/// Explain a user's rights in a repository and the rules that grant them
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct ExplainAccess {
    /// The name of the user, or "-" for an anonymous caller
    user: String,
    /// The repository, which need not exist
    repository: RepositoryName,
}

impl Operation for ExplainAccess {
    type Answer = Explanation;

    fn perform(self, call: &Call<'_>) -> Result<Explanation, Failure> {
        let user = Some(self.user.as_str()).filter(|user| *user != "-");
        Ok(call.registry.explain(user, &self.repository)?)
    }
}

/// Sign new access tokens with a new key; issued tokens stay valid until they expire
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct RotateSigningKey {}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SigningKey {
    pub(crate) id: String,
}

impl Operation for RotateSigningKey {
    type Answer = SigningKey;

    fn perform(self, call: &Call<'_>) -> Result<SigningKey, Failure> {
        let id = call.registry.tokens().rotate().map_err(Error::from)?;
        call.accounts().note("rotate_signing_key", &id, &[], &Origin::local())?;
        Ok(SigningKey { id })
    }
}
