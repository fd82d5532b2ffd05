//! Whether providers still know those who came from them.
//!
//! Whoever is removed at a provider must not go on here with a key for ever. What must hold: only the provider's own
//! word keeps somebody out; that it is away, or does not know the registry, changes nothing.

use std::collections::HashSet;

use super::Shared;
use crate::accounts::DueOutsider;
use crate::providers::{Asked, Error, Lasting};

/// At most as many are asked about in one go.
const AT_ONCE_MAX: usize = 50;
/// For what a token of a provider's is sealed, besides issuer and subject.
const TOKEN_PURPOSE: &str = "token of a provider";

impl Shared {
    /// What a token is sealed with that says whether a provider still knows somebody.
    pub(crate) fn seal_lasting(&self, issuer: &str, subject: &str, lasting: &Lasting) -> Vec<u8> {
        self.providers().sealer().seal(&[TOKEN_PURPOSE, issuer, subject], lasting.to_text().as_bytes())
    }

    fn open_lasting(&self, who: &DueOutsider) -> Option<Lasting> {
        let opened = self.providers().sealer().open(&[TOKEN_PURPOSE, &who.issuer, &who.subject], &who.sealed)?;
        Lasting::from_text(str::from_utf8(&opened).ok()?)
    }

    /// Whether providers are asked again at all.
    pub(crate) fn rechecks_outsiders(&self) -> bool {
        self.config.http.auth.openid.as_ref().is_some_and(|openid| openid.recheck.is_some())
    }

    /// The users about whom a provider is to be asked now.
    pub(crate) fn due_outsiders(&self) -> Result<Vec<DueOutsider>, crate::accounts::Error> {
        let every = self.config.http.auth.openid.as_ref().and_then(|openid| openid.recheck);
        every.map_or_else(|| Ok(Vec::new()), |every| self.accounts.due_outsiders(every, AT_ONCE_MAX))
    }

    /// Asks about these, one after another. Gives what became of each, for [`note_outsiders`](Self::note_outsiders).
    pub(crate) async fn ask_about_outsiders(&self, due: Vec<DueOutsider>) -> Vec<(DueOutsider, Asked)> {
        let (mut away, mut outcomes) = (HashSet::new(), Vec::new());
        for who in due {
            // One that does not answer is not asked about everybody.
            if away.contains(&who.provider) {
                continue;
            }
            let Some(provider) = self.providers().get(&who.provider).filter(|known| known.issuer() == who.issuer)
            else {
                continue;
            };
            let Some(lasting) = self.open_lasting(&who) else { continue };
            match provider.ask_again(&who.subject, lasting, self.now()).await {
                Ok(asked) => outcomes.push((who, asked)),
                Err(error) => {
                    tracing::warn!(provider = who.provider, %error, "it cannot be found out who is gone");
                    if matches!(error, Error::Away { .. }) {
                        away.insert(who.provider);
                    }
                }
            }
        }
        outcomes
    }

    /// Writes down what providers have said.
    pub(crate) fn note_outsiders(&self, outcomes: Vec<(DueOutsider, Asked)>) -> Result<(), crate::accounts::Error> {
        for (who, asked) in outcomes {
            match asked {
                Asked::Known { groups, lasting } => {
                    let sealed = lasting.map(|lasting| self.seal_lasting(&who.issuer, &who.subject, &lasting));
                    self.accounts.outsider_is_known(&who, groups, sealed)?;
                }
                Asked::Gone => {
                    tracing::info!(
                        user = who.name,
                        provider = who.provider,
                        "a provider does not know a user any more"
                    );
                    self.accounts.outsider_is_gone(&who)?;
                }
            }
        }
        Ok(())
    }
}
