//! [`Schema`]: what JSON looks like, in the words of `OpenAPI` 3.0. Only as many of them as API v1 needs.
//!
//! A schema is made of functions, and reads like what it describes:
//!
//! ```text
//! object([("title", text().length(1, 80)), ("scopes", list_of(text()).or_none())])
//! ```
//!
//! One that is used in several places is a function with [`named`] in it. The document then has it
//! once, under `components`, and a reference wherever it is used; nobody keeps a list of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A schema, with the definitions of what it refers to.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    json: Value,
    named: Definitions,
    /// Whether what has this schema, a field or a parameter, may be missing.
    optional: bool,
}

/// Schemas by name.
pub(super) type Definitions = BTreeMap<&'static str, Value>;

impl Schema {
    fn new(json: Value) -> Self {
        Self { json, named: Definitions::new(), optional: false }
    }

    fn with(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.json[keyword] = value.into();
        self
    }

    /// Text with so many characters.
    pub(super) fn length(self, least: usize, most: usize) -> Self {
        self.with("minLength", least).with("maxLength", most)
    }

    /// Text that a regular expression matches; of the kind that everybody's library reads alike.
    pub(super) fn pattern(self, pattern: &str) -> Self {
        self.with("pattern", pattern)
    }

    /// A list of at most so many.
    pub(super) fn at_most(self, count: usize) -> Self {
        self.with("maxItems", count)
    }

    /// May be missing, or null.
    pub(super) fn or_none(self) -> Self {
        self.or_null().optional()
    }

    /// May be missing.
    pub(super) fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    /// Or null.
    pub(super) fn or_null(mut self) -> Self {
        if let Some(values) = self.json.get_mut("enum").and_then(Value::as_array_mut) {
            values.push(Value::Null);
        }
        if self.json.get("$ref").is_none() {
            return self.with("nullable", true);
        }
        // What stands beside a reference is not read.
        Self { json: json!({ "nullable": true, "allOf": [self.json] }), ..self }
    }

    /// An object with a field more.
    pub(super) fn and(mut self, name: &str, field: Self) -> Self {
        self.json["properties"][name] = field.json;
        if !field.optional {
            match self.json["required"].as_array_mut() {
                Some(required) => required.push(name.into()),
                None => self.json["required"] = json!([name]),
            }
        }
        self.named.extend(field.named);
        self
    }

    /// What both schemas describe.
    pub(super) fn narrowed(mut self, further: Self) -> Self {
        self.named.extend(further.named);
        Self { json: json!({ "allOf": [self.json, further.json] }), ..self }
    }

    pub(super) fn is_optional(&self) -> bool {
        self.optional
    }

    /// The schema as JSON; what it refers to goes to `definitions`.
    pub(super) fn into_json(self, definitions: &mut Definitions) -> Value {
        definitions.extend(self.named);
        self.json
    }

    /// Of something that the registry says: it has no field that is not described. Clients may say
    /// more than they are asked.
    pub(super) fn closed(mut self) -> Self {
        close(&mut self.json);
        self.named.values_mut().for_each(close);
        self
    }
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            keywords.values_mut().for_each(close);
            if keywords.get("type").is_some_and(|kind| kind == "object") && keywords.contains_key("properties") {
                keywords.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A schema under a name of its own; of something in answers, since a body would be closed with it.
pub(super) fn named(name: &'static str, schema: Schema) -> Schema {
    let mut named = schema.named;
    named.insert(name, schema.json);
    Schema { named, ..Schema::new(json!({ "$ref": format!("#/components/schemas/{name}") })) }
}

/// An object with these fields.
pub(super) fn object<const N: usize>(fields: [(&str, Schema); N]) -> Schema {
    let empty = Schema::new(json!({ "type": "object" }));
    fields.into_iter().fold(empty, |object, (name, field)| object.and(name, field))
}

pub(super) fn anything() -> Schema {
    Schema::new(json!({}))
}

/// An object with fields of any names.
pub(super) fn map(to: Schema) -> Schema {
    Schema { json: json!({ "type": "object", "additionalProperties": to.json }), ..to }
}

pub(super) fn list_of(of: Schema) -> Schema {
    Schema { json: json!({ "type": "array", "items": of.json }), ..of }
}

pub(super) fn boolean() -> Schema {
    Schema::new(json!({ "type": "boolean" }))
}

/// This and nothing else.
pub(super) fn always(value: bool) -> Schema {
    boolean().with("enum", vec![value])
}

/// A whole number, the bounds included.
pub(super) fn integer(least: usize, most: usize) -> Schema {
    Schema::new(json!({ "type": "integer", "minimum": least, "maximum": most }))
}

pub(super) fn text() -> Schema {
    Schema::new(json!({ "type": "string" }))
}

/// One of these texts.
pub(super) fn one_of(texts: impl IntoIterator<Item = &'static str>) -> Schema {
    text().with("enum", texts.into_iter().collect::<Vec<_>>())
}

/// What a parameter says that is on or off.
pub(super) fn switch() -> Schema {
    one_of(["true", "false"])
}

pub(super) fn uuid() -> Schema {
    text().with("format", "uuid")
}

/// A time as Quay writes it.
pub(super) fn quay_time() -> Schema {
    text().pattern("^[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} -0000$")
}

/// A time as clients write it.
pub(super) fn rfc3339() -> Schema {
    text().with("format", "date-time")
}

/// A day as Quay reads it.
pub(super) fn day() -> Schema {
    text().pattern("^(0?[1-9]|1[0-2])/(0?[1-9]|[12][0-9]|3[01])/[0-9]{4}$")
}

/// Text without control characters.
pub(super) fn line() -> Schema {
    text().pattern(r"^[^\x00-\x1f\x7f-\x9f]*$")
}

/// The answer to what has nothing to say but that it was done.
pub(super) fn success() -> Schema {
    named("Success", object([("success", always(true))]))
}
