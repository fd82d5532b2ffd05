//! `GET /v2/_zot/ext/mgmt`: the ways to sign in, in zot's form. zot's web page asks before a user has signed in.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Serialize;

use crate::AccessPolicy;
use crate::http::error::ApiError;
use crate::http::response::json_response;
use crate::http::{Context, HandlerResult};

/// The version of the distribution specification that zot announces.
const SPECIFICATION: &str = "1.1.1";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManagementBody {
    dist_spec_version: &'static str,
    commit: &'static str,
    release_tag: &'static str,
    binary_type: &'static str,
    http: HttpBody,
}

#[derive(Serialize)]
struct HttpBody {
    auth: AuthBody,
}

/// Absent fields are ways that the registry does not offer.
#[derive(Default, Serialize)]
struct AuthBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    htpasswd: Option<EmptyBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bearer: Option<BearerBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openid: Option<OpenIdBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    apikey: Option<bool>,
}

#[derive(Serialize)]
struct EmptyBody {}

#[derive(Serialize)]
struct BearerBody {
    realm: String,
    service: String,
}

#[derive(Serialize)]
struct OpenIdBody {
    providers: BTreeMap<String, ProviderBody>,
}

#[derive(Serialize)]
struct ProviderBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// The ways to sign in. Not offered without search, as in zot.
pub(in crate::http) fn management(context: &Context<'_>) -> HandlerResult {
    if !context.registry.has_search() {
        return Err(ApiError::nothing_here());
    }
    let body = ManagementBody {
        dist_spec_version: SPECIFICATION,
        commit: concat!("coracle-", env!("CARGO_PKG_VERSION")),
        release_tag: concat!("v", env!("CARGO_PKG_VERSION")),
        binary_type: "coracle",
        http: HttpBody { auth: ways(context) },
    };
    Ok(json_response(StatusCode::OK, &body))
}

fn ways(context: &Context<'_>) -> AuthBody {
    let registry = context.registry;
    // zot's web page takes an empty object for a registry without authentication.
    if registry.policy().grants == AccessPolicy::Open {
        return AuthBody::default();
    }
    let providers = registry.providers().list().iter();
    let providers: BTreeMap<_, _> = providers
        .map(|one| {
            (one.name.clone(), ProviderBody { name: Some(one.title.clone()).filter(|title| *title != one.name) })
        })
        .collect();
    AuthBody {
        htpasswd: Some(EmptyBody {}),
        bearer: registry
            .external_issuer()
            .map(|issuer| BearerBody { realm: issuer.realm.clone(), service: issuer.service.clone() }),
        openid: (!providers.is_empty()).then_some(OpenIdBody { providers }),
        apikey: registry.has_api_keys().then_some(true),
    }
}
