//! [`HashCost`]: the work of hashing a password.

use argon2::password_hash::phc::{ParamsString, PasswordHash};
use argon2::{Algorithm, Argon2, Params, Version};

use super::user::StoredHash;

/// The work of hashing a password with argon2id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HashCost {
    /// The parameters that OWASP recommends and the crate defaults to: 19 MiB, two passes, one lane. They take tens of
    /// milliseconds, and half a second in a program that is built without optimisation.
    #[default]
    Usual,
    /// 64 KiB and one pass, for the users of a temporary registry. Their passwords are in the program that made the registry,
    /// and their hashes are removed with it.
    Light,
}

impl HashCost {
    /// Returns argon2id with the parameters.
    pub(super) fn argon2(self) -> Argon2<'static> {
        match self {
            Self::Usual => Argon2::default(),
            Self::Light => {
                let params = Params::new(64, 1, 1, None).expect("the smallest memory is 8 KiB");
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            }
        }
    }

    /// Verified instead of the hash of a user who does not exist: a hash of an unknown password with the parameters.
    pub(super) const fn placeholder(self) -> &'static str {
        match self {
            Self::Usual => {
                "$argon2id$v=19$m=19456,t=2,p=1$w3hP5x++p1zs87Yp+DvG0A$exLl1fDwt2hOqJR2N8wzUsvkRUugn/iahzOhXtr62AI"
            }
            Self::Light => {
                "$argon2id$v=19$m=64,t=1,p=1$w3hP5x++p1zs87Yp+DvG0A$exLl1fDwt2hOqJR2N8wzUsvkRUugn/iahzOhXtr62AI"
            }
        }
    }

    /// Whether a stored hash has other parameters. Hashes of the htpasswd file belong to the operator.
    pub(super) fn is_outdated(self, stored: &StoredHash) -> bool {
        let StoredHash::Argon2(text) = stored else { return false };
        let current = ParamsString::try_from(self.argon2().params());
        match (PasswordHash::new(text), current) {
            (Ok(stored), Ok(current)) => stored.algorithm != Algorithm::Argon2id.ident() || stored.params != current,
            _ => false,
        }
    }
}
