//! `coracle access …` and `coracle token …`.

use super::administer::{Report, operations};
use crate::admin::{ExplainAccess, RotateSigningKey, SigningKey};
use crate::identity::accounts::Action;
use crate::registry::Explanation;

operations! {
    /// Explain access decisions (the registry may be running or stopped)
    ///
    /// A running registry explains by its own rules. For a stopped one, name its configuration with --config.
    Access: AccessCommand { Explain(ExplainAccess) }
}

operations! {
    /// Manage the token service (the registry may be running or stopped)
    Token: TokenCommand { RotateKey(RotateSigningKey) }
}

impl Report for Explanation {
    fn print(&self) {
        let user = self.user.as_deref().unwrap_or("an anonymous caller");
        let words = |actions: &[Action]| actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        let actions = if self.actions.is_empty() { "do nothing".to_owned() } else { words(&self.actions) };
        println!("{user} may {actions} in {}", self.repository);
        let owned = self.namespace.as_ref().filter(|namespace| *namespace != user);
        let owned = owned.map(|namespace| format!("{user} owns {namespace}/…"));
        for note in [&self.note, &owned, &self.namespace_note].into_iter().flatten() {
            println!("  {note}");
        }
        for reason in &self.because {
            println!("  {}: {}", words(&reason.grants), reason.rule);
        }
    }
}

impl Report for SigningKey {
    fn print(&self) {
        println!("new access tokens are signed with the key {}", self.id);
    }
}
