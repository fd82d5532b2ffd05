//! [`Record`]: an object of the schema whose fields are all known.

use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::JsonValue;

/// The result of a resolver.
pub(super) type Resolved<'a> = Result<ResolvedValue<'a>, FieldError>;

/// An object with values, and with lists of such objects.
#[derive(Debug)]
pub(super) struct Record {
    type_name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Leaf(JsonValue),
    Object(Option<Record>),
    List(Vec<Record>),
}

impl Record {
    pub(super) const fn new(type_name: &'static str) -> Self {
        Self { type_name, fields: Vec::new() }
    }

    /// Adds a value.
    pub(super) fn with(mut self, field: &'static str, value: impl Into<JsonValue>) -> Self {
        self.fields.push((field, Value::Leaf(value.into())));
        self
    }

    /// Adds an object, or null.
    pub(super) fn with_object(mut self, field: &'static str, object: Option<Self>) -> Self {
        self.fields.push((field, Value::Object(object)));
        self
    }

    /// Adds a list of objects.
    pub(super) fn with_list(mut self, field: &'static str, list: Vec<Self>) -> Self {
        self.fields.push((field, Value::List(list)));
        self
    }
}

impl ObjectValue for Record {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        let found = self.fields.iter().find(|(name, _)| *name == info.field_name());
        match found.map(|(_, value)| value) {
            Some(Value::Leaf(value)) => Ok(ResolvedValue::leaf(value.clone())),
            Some(Value::Object(object)) => Ok(ResolvedValue::nullable_object(object.as_ref())),
            Some(Value::List(list)) => Ok(ResolvedValue::list(list.iter().map(ResolvedValue::object))),
            None => Err(self.unknown_field_error(info)),
        }
    }
}

impl ObjectValue for &Record {
    fn type_name(&self) -> &str {
        self.type_name
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        (**self).resolve_field(info)
    }
}

/// A list of objects that are made when the list is resolved.
pub(super) fn objects<'a>(list: impl IntoIterator<Item = Record, IntoIter: 'a>) -> ResolvedValue<'a> {
    ResolvedValue::list(list.into_iter().map(ResolvedValue::object))
}
