//! `GET /v2/_oci/ext/discover`: the extensions that the registry offers (distribution-spec, "Extension API"), in zot's
//! order and words.

use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::http::response::json_response;
use crate::http::{Body, Context};

#[derive(Serialize)]
struct ExtensionsBody {
    extensions: Vec<ExtensionBody>,
}

#[derive(Serialize)]
struct ExtensionBody {
    name: &'static str,
    url: &'static str,
    description: &'static str,
    endpoints: Vec<&'static str>,
}

/// Lists the extensions. zot's command line looks for search here before it uses it.
pub(in crate::http) fn discover(context: &Context<'_>) -> Response<Body> {
    let registry = context.registry;
    let offered = [
        (registry.has_search(), "/v2/_zot/ext/search"),
        (registry.has_preferences(), "/v2/_zot/ext/userprefs"),
        (registry.has_search(), "/v2/_zot/ext/mgmt"),
    ];
    let endpoints: Vec<_> = offered.into_iter().filter_map(|(is_on, path)| is_on.then_some(path)).collect();
    let extension = (!endpoints.is_empty()).then_some(ExtensionBody {
        name: "_zot",
        url: "https://github.com/project-zot/zot/blob/v2.1.20/pkg/extensions/_zot.md",
        description: "zot registry extensions",
        endpoints,
    });
    json_response(StatusCode::OK, &ExtensionsBody { extensions: extension.into_iter().collect() })
}
