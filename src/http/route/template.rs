//! The paths of routes, with the names of their values in place of the values.

use super::Route;

impl Route {
    /// The path, for traces. Few paths exist, so that spans can be grouped by it.
    pub(crate) const fn template(&self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Live => "/livez",
            Self::Ready => "/readyz",
            Self::Started => "/startupz",
            Self::Metrics => "/metrics",
            Self::Ping => "/v2/",
            Self::Catalog { .. } => "/v2/_catalog",
            Self::Tags { .. } => "/v2/{name}/tags/list",
            Self::Referrers { .. } => "/v2/{name}/referrers/{digest}",
            Self::GetManifest { .. }
            | Self::HeadManifest { .. }
            | Self::PutManifest { .. }
            | Self::DeleteManifest { .. } => "/v2/{name}/manifests/{reference}",
            Self::GetBlob { .. } | Self::HeadBlob { .. } | Self::DeleteBlob { .. } => "/v2/{name}/blobs/{digest}",
            Self::StartUpload { .. } | Self::PushBlob { .. } | Self::MountBlob { .. } => "/v2/{name}/blobs/uploads/",
            Self::UploadStatus { .. }
            | Self::UploadChunk { .. }
            | Self::FinishUpload { .. }
            | Self::CancelUpload { .. } => "/v2/{name}/blobs/uploads/{id}",
            Self::GetToken { .. } | Self::PostToken => "/v2/auth",
            Self::ExchangeToken { .. } => "/zot/auth/token",
            Self::TokenKeys => "/.well-known/jwks.json",
            Self::AcmeChallenge(_) => "/.well-known/acme-challenge/{token}",
            Self::ListKeys | Self::CreateKey | Self::RevokeKey { .. } => "/zot/auth/apikey",
            Self::Preflight => "*",
            Self::Discover => "/v2/_oci/ext/discover",
            Self::Management => "/v2/_zot/ext/mgmt",
            Self::GetSearch { .. } | Self::PostSearch => "/v2/_zot/ext/search",
            Self::TogglePreference { .. } => "/v2/_zot/ext/userprefs",
            Self::Login { .. } => "/zot/auth/login",
            Self::Callback { .. } => "/zot/auth/callback/{provider}",
            Self::Confirm => "/zot/auth/confirm",
            Self::Logout => "/zot/auth/logout",
        }
    }
}
