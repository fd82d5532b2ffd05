//! `extensions.traces`.

use super::{lines, load};
use crate::config::source::Format;

#[test]
fn traces_need_a_build_that_has_them() {
    let text = "[extensions.traces]\nendpoint = 'http://127.0.0.1:4318'\nsampleRatio = 0.25\n";
    if cfg!(feature = "otel") {
        let loaded = load(Format::Toml, text).expect("it is right");
        let traces = loaded.config.extensions.traces;
        assert_eq!(traces.endpoint.as_deref(), Some("http://127.0.0.1:4318"));
        assert_eq!((traces.sample_ratio.per_million(), traces.service_name.as_str()), (250_000, "coracle"));
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    } else {
        let error = load(Format::Toml, text).expect_err("this build has none");
        let said = error.to_string();
        assert!(said.contains("extensions.traces.endpoint: this program was built without the feature otel"), "{said}");
    }
}

#[test]
fn traces_without_a_collector_are_a_warning_and_wrong_values_are_problems() {
    let loaded = load(Format::Toml, "[extensions.traces]\nsampleRatio = '0.5'\n").expect("it is right");
    let warnings = lines(&loaded.warnings).join("\n");
    assert!(warnings.contains("extensions.traces: has no effect: without endpoint"), "{warnings}");
    for ratio in ["1.5", "-0.1", "'many'", "true"] {
        let error = load(Format::Toml, &format!("[extensions.traces]\nsampleRatio = {ratio}\n")).expect_err(ratio);
        assert!(error.to_string().contains("expected a number from 0 to 1"), "{error}");
    }
    for (endpoint, why) in [("collector:4317", "expected a URL"), ("http://a:secret@collector", "expected a URL")] {
        let error = load(Format::Toml, &format!("[extensions.traces]\nendpoint = '{endpoint}'\n")).expect_err(endpoint);
        let said = error.to_string();
        assert!(said.contains(why) && !said.contains("secret"), "{said}");
    }
    let open = "[extensions.traces]\nendpoint = 'http://collector:4318'\nheadersFile = 'Cargo.toml'\n";
    if cfg!(feature = "otel") {
        let warnings = lines(&load(Format::Toml, open).expect("it is right").warnings).join("\n");
        assert!(warnings.contains("in clear text"), "{warnings}");
    }
}
