//! [`Path`]: the path of a request, and its dialect.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::identity::access::Surface;

/// The beginning of the path of a challenge HTTP-01 (RFC 8555, 8.3).
pub(super) const ACME_CHALLENGE: &str = "/.well-known/acme-challenge/";

/// The path of a request, decoded once for everything that looks at it.
#[derive(Debug)]
pub(crate) struct Path<'a> {
    /// `None` if it is not UTF-8, and so not one of ours.
    text: Option<Cow<'a, str>>,
    has_pages: bool,
}

impl<'a> Path<'a> {
    /// Decodes a path as it was sent. Nothing else is normalised: `//api/v1` is not `/api/v1`.
    pub(crate) fn decode(sent: &'a str) -> Self {
        Self { text: percent_decode_str(sent).decode_utf8().ok(), has_pages: true }
    }

    /// The same path, where there are pages or not.
    pub(crate) fn with_pages(self, has_pages: bool) -> Self {
        Self { has_pages, ..self }
    }

    /// The decoded path; `None` if it is not UTF-8, and so not one of ours.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The dialect of the path.
    pub(crate) fn surface(&self) -> Surface {
        match self.as_str() {
            Some(path) if path.starts_with("/api/") || path == "/csrf_token" => Surface::ApiV1,
            // The registry's small pages, such as errors of sign-in, load these files too.
            Some(path) if path.starts_with("/ui/assets/") => Surface::Pages,
            Some(path) if self.has_pages && (path == "/ui" || path.starts_with("/ui/")) => Surface::Pages,
            _ => Surface::Registry,
        }
    }

    /// Whether it is the path of a health probe.
    pub(crate) fn is_probe(&self) -> bool {
        matches!(self.as_str(), Some("/livez" | "/readyz" | "/startupz"))
    }

    /// Whether the path is one of the challenges of an ACME authority.
    pub(crate) fn is_acme_challenge(&self) -> bool {
        self.as_str().is_some_and(|path| path.starts_with(ACME_CHALLENGE))
    }

    /// Whether the distribution specification knows the path.
    pub(crate) fn is_in_v2(&self) -> bool {
        self.as_str().is_some_and(|path| path == "/v2" || path.starts_with("/v2/"))
    }
}
