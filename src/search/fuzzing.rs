//! Fuzzing of requests: each is refused with errors or answered, within the limits.

use serde_json::Value;

use super::{ERRORS_MAX, Engine, Request, lenient};
use crate::content::repository::browse::Viewer;
use crate::content::repository::{SearchScope, fuzz_stores};

thread_local! {
    /// Shared by all inputs, because reading the schema takes longer than a query.
    static ENGINE: Engine = Engine::default();
}

/// Runs a request, as JSON or only the query.
pub(crate) fn request(input: &[u8]) {
    let request = serde_json::from_slice::<Request>(input).unwrap_or_else(|_| Request {
        query: std::str::from_utf8(input).ok().map(str::to_owned),
        ..Request::default()
    });
    if let Some(query) = &request.query {
        assert_eq!(lenient::without_empty_parentheses(query).len(), query.len(), "places in errors stay right");
    }
    ENGINE.with(|engine| {
        let response = match engine.prepare(request) {
            Err(refused) => refused,
            Ok(prepared) => {
                let mut answered = None;
                fuzz_stores(|stores| {
                    let (scope, sees, deletes) = (SearchScope::All, |_: &str| true, |_: &_| true);
                    let viewer = Viewer { user: Some("user"), scope: &scope, sees: &sees, deletes: &deletes };
                    answered = Some(stores.gallery(&viewer, |gallery| engine.run(&prepared, gallery)));
                });
                answered.expect("the function is called").expect("the rows can be read")
            }
        };
        let body: Value = serde_json::from_slice(&response.body).expect("a response is JSON");
        let errors = body.get("errors").and_then(Value::as_array).map_or(0, Vec::len);
        assert!(errors <= ERRORS_MAX && (response.is_valid || errors > 0 && body["data"].is_null()));
    });
}
