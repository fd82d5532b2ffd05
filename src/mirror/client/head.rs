//! Questions about the content of an upstream, without its bytes: by HEAD, or by GET if the upstream refuses HEAD.
//!
//! Some registries answer 404 or 405 to HEAD although they have the content. The client notices when GET succeeds
//! ([`HeadSupport`]).

use std::time::{Duration, Instant};

use hyper::Method;
use hyper::header::HeaderMap;
use parking_lot::Mutex;

use super::headers::{announced_digest, content_length};
use super::{Answered, Ask, Client, Effort, Error, FetchedManifest, Subject};
use crate::oci::{Digest, Reference, RepositoryName};

/// How long an upstream that refused HEAD is asked by GET.
const REFUSED: Duration = Duration::from_hours(1);
/// After how many wrong answers in a row an upstream refuses HEAD. A tag may come between HEAD and GET.
const WRONG_MAX: u32 = 3;

/// Whether an upstream answers HEAD.
#[derive(Debug, Default)]
pub(super) struct HeadSupport(Mutex<Observed>);

#[derive(Debug, Default)]
struct Observed {
    /// How often in a row it answered 404, although it has the content.
    wrong: u32,
    refused_until: Option<Instant>,
}

impl HeadSupport {
    fn is_refused(&self) -> bool {
        self.0.lock().refused_until.is_some_and(|until| until > Instant::now())
    }

    /// Notes that the upstream answered 405.
    fn note_refused(&self) {
        *self.0.lock() = Observed { wrong: 0, refused_until: Some(Instant::now() + REFUSED) };
    }

    /// Notes that the upstream answered 404, and GET succeeded.
    fn note_wrong(&self) {
        let mut observed = self.0.lock();
        observed.wrong += 1;
        let is_refused = observed.wrong >= WRONG_MAX;
        drop(observed);
        if is_refused {
            self.note_refused();
        }
    }

    /// Notes that the upstream has answered.
    fn note_right(&self) {
        self.0.lock().wrong = 0;
    }
}

/// The state of a manifest at the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManifestState {
    /// It has the digest that the caller knows.
    Unchanged,
    /// It has this digest, or the upstream does not say which.
    Changed(Option<Digest>),
}

/// The result of comparing a stored tag with the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refreshed {
    Unchanged,
    Changed(FetchedManifest),
}

impl Client {
    /// Asks for the state of a manifest by HEAD only. Returns `None` if the upstream does not have it, according to its
    /// response to HEAD.
    pub(crate) async fn manifest_state(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        known: Option<Digest>,
        effort: Effort,
    ) -> Result<Option<ManifestState>, Error> {
        let ask = self.ask(Method::HEAD, repository, &format!("manifests/{reference}")).accepts_manifests();
        let ask = known.into_iter().fold(ask, Ask::unless);
        let Some(answered) = self.head(&ask, effort).await? else { return Ok(None) };
        Ok(Some(match known.filter(|known| answered.has(*known)) {
            Some(_) => ManifestState::Unchanged,
            None => ManifestState::Changed(announced_digest(answered.response.headers())),
        }))
    }

    /// Asks whether a tag still names the known manifest, and fetches the manifest if not. That costs one HEAD if nothing
    /// has changed. Returns `None` if the upstream does not have the tag.
    pub(crate) async fn refresh(
        &self,
        repository: &RepositoryName,
        tag: &Reference,
        known: Digest,
        effort: Effort,
    ) -> Result<Option<Refreshed>, Error> {
        let mut head_found = None;
        if !self.shared.head_support.is_refused() {
            let state = self.manifest_state(repository, tag, Some(known), effort).await?;
            if state == Some(ManifestState::Unchanged) {
                return Ok(Some(Refreshed::Unchanged));
            }
            head_found = Some(state.is_some());
        }
        let ask = self.ask(Method::GET, repository, &format!("manifests/{tag}")).accepts_manifests().unless(known);
        let Some(answered) = self.send(&ask, effort).await? else { return Ok(None) };
        if head_found == Some(false) {
            self.shared.head_support.note_wrong();
        }
        if answered.has(known) {
            return Ok(Some(Refreshed::Unchanged));
        }
        let manifest = self.read_manifest(answered, tag, effort).await?;
        Ok(Some(if manifest.digest == known { Refreshed::Unchanged } else { Refreshed::Changed(manifest) }))
    }

    /// Asks whether the upstream lets the credentials pull a manifest. Returns `None` if it does not have the manifest.
    pub(crate) async fn has_manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        effort: Effort,
    ) -> Result<Option<()>, Error> {
        let asks_head = !self.shared.head_support.is_refused();
        if asks_head && self.manifest_state(repository, reference, None, effort).await?.is_some() {
            return Ok(Some(()));
        }
        let found = self.manifest(repository, reference, effort).await?;
        if asks_head && found.is_some() {
            self.shared.head_support.note_wrong();
        }
        Ok(found.map(drop))
    }

    /// Returns the size of a blob, or `None` if the upstream does not have it.
    pub(crate) async fn blob_size(
        &self,
        repository: &RepositoryName,
        digest: Digest,
        effort: Effort,
    ) -> Result<Option<u64>, Error> {
        let ask = self.ask(Method::HEAD, repository, &format!("blobs/{digest}"));
        if let Some(Answered { response, .. }) = self.head(&ask, effort).await? {
            let size = content_length(response.headers());
            return size.map(Some).ok_or_else(|| self.invalid("a blob has no Content-Length".to_owned()));
        }
        if !self.shared.head_support.is_refused() {
            return Ok(None);
        }
        // The response has the size. Its body is not read.
        Ok(self.blob(repository, digest, 0, None, effort).await?.map(|download| download.size))
    }

    /// Fails unless the upstream accepts the credentials, for the pull of a repository. An upstream that asks for none
    /// accepts all.
    pub(crate) async fn check_login(&self, repository: &RepositoryName, effort: Effort) -> Result<(), Error> {
        let (path, headers) = (String::new(), HeaderMap::new());
        let ask = Ask { method: Method::GET, path, subject: Subject::Repository(repository), headers };
        self.send(&ask, effort).await?.map(drop).ok_or(Error::NotFound)
    }

    /// Sends HEAD. Returns `None` if the upstream does not have the content, or refuses HEAD.
    async fn head(&self, ask: &Ask<'_>, effort: Effort) -> Result<Option<Answered>, Error> {
        match self.send(ask, effort).await {
            Err(error) if error.is_method() => {
                self.shared.head_support.note_refused();
                Ok(None)
            }
            Ok(Some(answered)) => {
                self.shared.head_support.note_right();
                Ok(Some(answered))
            }
            answered => answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_wrong_answers_in_a_row_are_a_refusal() {
        let support = HeadSupport::default();
        for _ in 0..3 {
            support.note_wrong();
            support.note_wrong();
            assert!(!support.is_refused());
            support.note_right();
        }
        for _ in 0..WRONG_MAX {
            support.note_wrong();
        }
        assert!(support.is_refused());
        support.0.lock().refused_until = Some(Instant::now());
        assert!(!support.is_refused(), "HEAD is tried again later");
        support.note_refused();
        assert!(support.is_refused());
    }
}
