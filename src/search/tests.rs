//! Requests that are refused before they run.

use serde_json::{Value, json};

use super::*;
use crate::content::repository::browse::{Limits, Viewer};
use crate::content::repository::{SearchScope, fuzz_stores};

fn refused(query: &str) -> Value {
    let request = Request { query: Some(query.to_owned()), ..Request::default() };
    let response = Engine::default().prepare(request).expect_err(query);
    assert!(!response.is_valid);
    let body: Value = serde_json::from_slice(&response.body).expect("the body is JSON");
    assert_eq!(body["data"], Value::Null);
    assert!(body["errors"][0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    body["errors"][0]["extensions"]["code"].clone()
}

#[test]
fn invalid_queries_are_refused_by_their_phase() {
    for query in ["{", "x", "{Image(image:\"", "{Image(image: ) {Tag}}", "\u{0}"] {
        assert_eq!(refused(query), "GRAPHQL_PARSE_FAILED", "{query}");
    }
    for query in [
        "",
        "  ",
        "{absent}",
        "{Image{Tag}}",
        "{Image(image:1){Tag}}",
        "{Image(image:\"a:1\"){absent}}",
        "{Image(image:\"a:1\")}",
        "{GlobalSearch(query:\"\", requestedPage:{sortBy:BEAUTY}){Page{TotalCount}}}",
        "mutation{a}",
        "subscription{a}",
        "query a{__typename} query b{__typename}",
        "{...f} fragment f on Query{...f}",
        "query($a:String){Image(image:\"a:1\"){Tag}}",
    ] {
        assert_eq!(refused(query), "GRAPHQL_VALIDATION_FAILED", "{query}");
    }
}

#[test]
fn queries_beyond_a_limit_are_refused() {
    let deep: String = format!("{}{}", "{a".repeat(100), "}".repeat(100));
    assert_eq!(refused(&deep), "GRAPHQL_PARSE_FAILED");
    let values = format!("{{a(b:{}1{})}}", "[".repeat(100_000 / 10), "]".repeat(100_000 / 10));
    assert_eq!(refused(&values), "GRAPHQL_PARSE_FAILED");
    let aliases = (0..10_000).map(|number| format!("a{number}:__typename ")).collect::<Vec<_>>().concat();
    assert_eq!(refused(&format!("{{{aliases}}}")), "GRAPHQL_PARSE_FAILED");
    assert_eq!(refused(&"{a}".repeat(400_000)), "GRAPHQL_PARSE_FAILED");
    // Nothing beyond the limits is looked at, so the work does not depend on the size of the request.
    for query in [deep, values, format!("{{{aliases}}}"), "{a}".repeat(400_000)] {
        let mut parser = parser();
        assert!(parser.parse_ast(query, "query").is_err());
        let (tokens, depth) = (parser.tokens_reached(), parser.recursion_reached());
        assert!(tokens <= TOKENS_MAX + 1 && depth <= DEPTH_MAX + 1, "{tokens} tokens, depth {depth}");
    }
    let nine = (0..9).map(|number| format!("a{number}:Image(image:\"a:1\"){{Tag}} ")).collect::<Vec<_>>().concat();
    assert_eq!(refused(&format!("{{{nine}}}")), "GRAPHQL_VALIDATION_FAILED");
    let fragments = (0..9).map(|number| format!("...f{number} ")).collect::<Vec<_>>().concat();
    let definitions = (0..9)
        .map(|number| format!("fragment f{number} on Query{{a{number}:__typename}}"))
        .collect::<Vec<_>>()
        .concat();
    assert_eq!(refused(&format!("{{{fragments}}}{definitions}")), "GRAPHQL_VALIDATION_FAILED");
    let schema = "{__schema{types{fields{type{fields{type{fields{type{fields{name}}}}}}}}}}";
    assert_eq!(refused(schema), "GRAPHQL_VALIDATION_FAILED");
}

#[test]
fn requests_are_read_with_unknown_fields() {
    let body = json!({ "query": "{a}", "operationName": null, "variables": null, "extensions": { "a": 1 } });
    let request: Request = serde_json::from_value(body).expect("it is a request");
    assert_eq!((request.query.as_deref(), request.operation_name, request.variables), (Some("{a}"), None, None));
}

/// Runs a query over one repository.
fn run(query: &str, limits: Limits) -> Response {
    let mut response = None;
    fuzz_stores(|stores| {
        let (scope, sees, deletes) = (SearchScope::All, |_: &str| true, |_: &_| true);
        let viewer = Viewer { user: None, scope: &scope, sees: &sees, deletes: &deletes };
        let engine = Engine::default();
        let request = Request { query: Some(query.to_owned()), ..Request::default() };
        let prepared = engine.prepare(request).expect("the query is valid");
        response = stores.gallery_within(limits, &viewer, |gallery| engine.run(&prepared, gallery)).ok();
    });
    response.expect("the rows can be read")
}

/// A field under many aliases.
fn aliases(count: usize, field: &str) -> String {
    (0..count).map(|number| format!("a{number}:{field} ")).collect::<Vec<_>>().concat()
}

#[test]
fn introspection_is_limited_by_its_response() {
    for count in [12, 60] {
        let [types, fields, names] = ["types{...T}", "fields{...F}", "name"].map(|field| aliases(count, field));
        let query = format!(
            "{{__schema{{...S}}}} fragment S on __Schema{{{types}}} fragment T on __Type{{{fields}}} fragment F on __Field{{{names}}}"
        );
        assert_eq!(refused(&query), "GRAPHQL_VALIDATION_FAILED", "{count}");
    }
    let types = aliases(80, "__type(name:\"ImageSummary\"){...T}");
    let query = format!("{{...Q}} fragment Q on Query{{{types}}} fragment T on __Type{{name}}");
    assert_eq!(refused(&query), "GRAPHQL_VALIDATION_FAILED");
    // The query of GraphiQL and other editors.
    let of_type = "kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name ofType{kind name}}}}}}}";
    let editor = format!(
        "query IntrospectionQuery{{__schema{{queryType{{name}} mutationType{{name}} subscriptionType{{name}} types{{...FullType}} directives{{name description locations args{{...InputValue}}}}}}}} fragment FullType on __Type{{kind name description fields(includeDeprecated:true){{name description args{{...InputValue}} type{{...TypeRef}} isDeprecated deprecationReason}} inputFields{{...InputValue}} interfaces{{...TypeRef}} enumValues(includeDeprecated:true){{name description isDeprecated deprecationReason}} possibleTypes{{...TypeRef}}}} fragment InputValue on __InputValue{{name description type{{...TypeRef}} defaultValue}} fragment TypeRef on __Type{{{of_type}}}"
    );
    let response = run(&editor, Limits::default());
    assert!(response.is_valid && response.body.len() > 10_000);
}

#[test]
fn an_alias_has_a_limited_length() {
    assert_eq!(refused(&format!("{{{}:__typename}}", "a".repeat(101))), "GRAPHQL_VALIDATION_FAILED");
    assert!(run(&format!("{{{}:__typename}}", "a".repeat(100)), Limits::default()).is_valid);
}

#[test]
fn objects_and_values_of_one_repository_are_counted() {
    for leaf in ["Count", "__typename"] {
        let (images, objects) = (aliases(60, "NewestImage{...I}"), aliases(60, "Vulnerabilities{...V}"));
        let long = format!("a{}", "b".repeat(90));
        let leaves = aliases(150, leaf).replace(':', &format!("{long}:"));
        let query = format!(
            "{{RepoListWithNewestImage{{Results{{{images}}}}}}} fragment I on ImageSummary{{{objects}}} fragment V on ImageVulnerabilitySummary{{{leaves}}}"
        );
        let response = run(&query, Limits::default());
        let body: Value = serde_json::from_slice(&response.body).expect("the body is JSON");
        let message = body["errors"][0]["message"].as_str().unwrap_or_default();
        assert!(message.contains("the response has more than 64"), "{leaf}: {message}");
        assert!(!response.is_valid && body["data"].is_null());
    }
}

#[test]
fn a_response_has_a_limited_length() {
    let mut body = Bounded(Vec::new());
    assert!(serde_json::to_writer(&mut body, &"a".repeat(RESPONSE_BYTES_MAX - 2)).is_ok());
    assert!(serde_json::to_writer(&mut body, "a").is_err());
    assert_eq!(body.0.len(), RESPONSE_BYTES_MAX);
}

#[test]
fn an_incomplete_filter_is_remarked() {
    let query = "{GlobalSearch(query:\"\",filter:{Os:[\"absent\"]}){Page{TotalCount} Repos{Name}}}";
    let response = run(query, Limits { filtered: 0, ..Limits::default() });
    let body: Value = serde_json::from_slice(&response.body).expect("the body is JSON");
    assert_eq!(body["errors"][0]["message"], "only 0 repositories were looked at");
    assert!(response.is_valid && body["data"]["GlobalSearch"]["Repos"].is_array());
}

#[test]
fn a_request_that_reads_too_much_is_refused() {
    let query =
        "{GlobalSearch(query:\"\",filter:{HasToBeSigned:true}){Repos{Name}} ImageList(repo:\"a/b\"){Results{Tag}}}";
    assert!(run(query, Limits::default()).is_valid);
    let response = run(query, Limits { reads: 1, ..Limits::default() });
    let body: Value = serde_json::from_slice(&response.body).expect("the body is JSON");
    assert!(!response.is_valid && body["data"].is_null());
    let message = body["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains("reads more than 1 rows"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_a_while_for_others() {
    let engine = Engine::default();
    let mut slots = Vec::new();
    for _ in 0..AT_ONCE_MAX {
        slots.push(engine.slot().await.expect("a slot is free"));
    }
    assert!(engine.slot().await.is_none());
    let other = async {
        tokio::time::sleep(WAIT_MAX / 2).await;
        slots.pop();
    };
    let (slot, ()) = tokio::join!(engine.slot(), other);
    assert!(slot.is_some());
}
