//! [`Call`]: the values of a request, each parsed once.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapDeserializer;
use serde::de::{self, DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::discovery::Schemas;
use crate::http::error::ApiError;
use crate::http::request::{RequestBody, why_unreadable};
use crate::http::route::Query;
use crate::oci::{ErrorCode, JsonObject};

/// The longest body. Clients send a handful of fields.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The input of an endpoint: the values of the path in their order, the query and the body.
#[derive(Debug)]
pub(super) struct Call<Path = (), Query = NoQuery, Body = NoBody> {
    pub(super) path: Path,
    pub(super) query: Query,
    pub(super) body: Body,
}

/// The input of a handler, which is a [`Call`].
pub(super) trait Input: Sized + Send {
    /// The values of a request line.
    type Line: Send + Sync + 'static;

    /// Reads the values of a request line.
    fn parse(values: &[String], query: &Query) -> Result<Self::Line, ApiError>;

    /// Reads the body, and adds it to the values of the request line.
    fn read(line: Self::Line, body: &mut RequestBody) -> impl Future<Output = Result<Self, ApiError>> + Send;

    /// The schemas of the path's values, of the query's parameters and of the body.
    fn path(schemas: &mut Schemas) -> Vec<Schema>;
    fn query(schemas: &mut Schemas) -> Vec<Value>;
    fn body(schemas: &mut Schemas) -> Option<Schema>;
}

impl<P: PathValues, Q: QueryValues, B: BodyValues> Input for Call<P, Q, B> {
    type Line = (P, Q);

    fn parse(values: &[String], query: &Query) -> Result<(P, Q), ApiError> {
        Ok((P::parse(values)?, read_query(query)?))
    }

    async fn read((path, query): (P, Q), body: &mut RequestBody) -> Result<Self, ApiError> {
        Ok(Self { path, query, body: B::read(body).await? })
    }

    fn path(schemas: &mut Schemas) -> Vec<Schema> {
        P::schemas(&mut schemas.input)
    }

    fn query(schemas: &mut Schemas) -> Vec<Value> {
        schemas.parameters::<Q>()
    }

    fn body(schemas: &mut Schemas) -> Option<Schema> {
        B::schema(&mut schemas.input)
    }
}

/// The query of an endpoint that reads none.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(super) struct NoQuery {}

/// The body of an endpoint that reads none.
#[derive(Debug)]
pub(super) struct NoBody;

/// Refuses a mistake of the client.
pub(super) fn invalid(why: impl Into<String>) -> ApiError {
    ApiError::bad_request(ErrorCode::Unsupported, why)
}

/// A value in a path.
pub(super) trait PathValue: JsonSchema + Sized + Send + Sync + 'static {
    fn parse(text: &str) -> Result<Self, ApiError>;
}

/// The values of a path: one, a tuple of several, or `()`.
pub(super) trait PathValues: Sized + Send + Sync + 'static {
    fn parse(values: &[String]) -> Result<Self, ApiError>;
    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema>;
}

impl PathValues for () {
    fn parse(_: &[String]) -> Result<Self, ApiError> {
        Ok(())
    }

    fn schemas(_: &mut SchemaGenerator) -> Vec<Schema> {
        Vec::new()
    }
}

impl<A: PathValue> PathValues for A {
    fn parse(values: &[String]) -> Result<Self, ApiError> {
        match values {
            [value] => A::parse(value),
            _ => Err(ApiError::internal("the path of the endpoint does not have one value")),
        }
    }

    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![generator.subschema_for::<A>()]
    }
}

impl<A: PathValue, B: PathValue> PathValues for (A, B) {
    fn parse(values: &[String]) -> Result<Self, ApiError> {
        match values {
            [first, second] => Ok((A::parse(first)?, B::parse(second)?)),
            _ => Err(ApiError::internal("the path of the endpoint does not have two values")),
        }
    }

    fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
        vec![generator.subschema_for::<A>(), generator.subschema_for::<B>()]
    }
}

/// The query of a request: a struct with a field for each parameter.
pub(super) trait QueryValues: DeserializeOwned + JsonSchema + Send + Sync + 'static {}

impl<T: DeserializeOwned + JsonSchema + Send + Sync + 'static> QueryValues for T {}

/// The body of a request.
pub(super) trait BodyValues: Sized + Send + 'static {
    fn read(body: &mut RequestBody) -> impl Future<Output = Result<Self, ApiError>> + Send;
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
}

impl BodyValues for NoBody {
    async fn read(_: &mut RequestBody) -> Result<Self, ApiError> {
        Ok(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// A JSON object.
impl<T: DeserializeOwned + JsonSchema + Send + 'static> BodyValues for T {
    async fn read(body: &mut RequestBody) -> Result<Self, ApiError> {
        let bytes = body.read(BODY_BYTES_MAX).await?;
        let JsonObject(value) = serde_json::from_slice(&bytes)
            .map_err(|error| invalid(format!("the body cannot be read: {}", why_unreadable(&error))))?;
        Ok(value)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

/// Reads a query into a struct with a field for each parameter. Other parameters are ignored.
fn read_query<T: QueryValues>(query: &Query) -> Result<T, ApiError> {
    let parameters = query.pairs().map(|(name, value)| (name, Parameter { name, value }));
    T::deserialize(MapDeserializer::new(parameters)).map_err(|InvalidQuery(why)| invalid(why))
}

/// Reads a text as the type that it is parsed to. A parse error says what the text must be, such as "is true or false".
pub(super) fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr,
    T::Err: Display,
    D: Deserializer<'de>,
{
    struct Parsed<T>(PhantomData<T>);

    impl<T: FromStr<Err: Display>> Visitor<'_> for Parsed<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Parsed(PhantomData))
}

/// The value of a parameter. Its errors name the parameter.
struct Parameter<'a> {
    name: &'a str,
    value: &'a str,
}

/// Why a query cannot be read.
#[derive(Debug)]
struct InvalidQuery(String);

impl<'de> Deserializer<'de> for Parameter<'_> {
    type Error = InvalidQuery;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidQuery> {
        let named = |InvalidQuery(why)| InvalidQuery(format!("the parameter {} {why}", self.name));
        visitor.visit_str(self.value).map_err(named)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidQuery> {
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'a> IntoDeserializer<'_, InvalidQuery> for Parameter<'a> {
    type Deserializer = Parameter<'a>;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl de::Error for InvalidQuery {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }

    fn missing_field(name: &'static str) -> Self {
        Self(format!("the parameter {name} is missing"))
    }

    fn duplicate_field(name: &'static str) -> Self {
        Self(format!("the parameter {name} is given more than once"))
    }
}

impl Display for InvalidQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidQuery {}
