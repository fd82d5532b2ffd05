//! [`Problem`]: the body of an error in API v1.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{ApiError, Content, Headers, error_type_of};

/// An error in Quay's form. Its clients look for the same value in different fields.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::http) struct Problem {
    #[schemars(range(min = 400, max = 599))]
    status: u16,
    title: &'static str,
    error_type: &'static str,
    r#type: String,
    detail: String,
    error_message: String,
    message: String,
    /// The id of the request, if the log says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool", extend("enum" = [false]))]
    session_required: Option<bool>,
    #[serde(flatten)]
    fields: ProblemFields,
}

/// The fields that only some errors have.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct ProblemFields {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) error: Option<&'static str>,
    #[serde(rename = "invalidCredentials", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) invalid_credentials: Option<bool>,
    #[serde(rename = "needsEmailVerification", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub(super) needs_email_verification: Option<bool>,
}

impl ApiError {
    /// Makes the body in Quay's form.
    pub(super) fn into_problem(self, request_id: &str, base: &str) -> (Value, Headers) {
        let Content { status, message, headers, cause, fields, title, .. } = *self.0;
        let title = title.unwrap_or_else(|| error_type_of(status));
        let problem = Problem {
            status: status.as_u16(),
            title,
            error_type: title,
            r#type: format!("{base}/api/v1/error/{title}"),
            detail: message.clone(),
            error_message: message.clone(),
            message,
            request_id: cause.map(|_| request_id.to_owned()),
            session_required: (title == "invalid_token").then_some(false),
            fields,
        };
        (json!(problem), headers)
    }
}
