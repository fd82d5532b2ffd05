//! [`Endpoint`]: one operation of API v1. The router, the access decision and the description all follow from it.

use std::marker::PhantomData;
use std::pin::Pin;

use hyper::{Method, Response, StatusCode};

use super::answer::{Answer, Header};
use super::discovery::{Description, Schemas};
use super::input::Input;
use crate::http::error::ApiError;
use crate::http::request::RequestBody;
use crate::http::route::{self, Query, RouteError};
use crate::http::{Body, Context};
use crate::identity::access::{Access, Actions, Requires};
use crate::oci::RepositoryName;

/// The segment of a path that stands for a repository's name.
pub(super) const REPOSITORY: &str = "{repository}";

/// An operation of API v1.
#[derive(Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) method: &'static Method,
    /// A segment in braces stands for a value, `{repository}` for a repository's name with all its slashes. Requests
    /// may leave out a slash at the end, or add one.
    pub(super) path: &'static str,
    /// Quay's name for the operation, if Quay has it.
    pub(super) name: &'static str,
    /// The access that the operation requires.
    pub(super) requires: Requires,
    pub(super) summary: &'static str,
    /// The headers of the answer.
    pub(super) headers: &'static [Header],
    /// The statuses of refusals that do not follow from the rest (see [`super::discovery`]).
    pub(super) refusals: &'static [StatusCode],
    handler: &'static dyn Handler,
}

/// An endpoint for `GET` and `HEAD`. Its handler is [`sync`] or [`future`] of a function.
pub(super) const fn get(path: &'static str, requires: Requires, handler: &'static dyn Handler) -> Endpoint {
    Endpoint::new(&Method::GET, path, requires, handler)
}

/// An endpoint for `POST`.
pub(super) const fn post(path: &'static str, requires: Requires, handler: &'static dyn Handler) -> Endpoint {
    Endpoint::new(&Method::POST, path, requires, handler)
}

/// An endpoint for `PUT`.
pub(super) const fn put(path: &'static str, requires: Requires, handler: &'static dyn Handler) -> Endpoint {
    Endpoint::new(&Method::PUT, path, requires, handler)
}

/// An endpoint for `DELETE`.
pub(super) const fn delete(path: &'static str, requires: Requires, handler: &'static dyn Handler) -> Endpoint {
    Endpoint::new(&Method::DELETE, path, requires, handler)
}

impl Endpoint {
    const fn new(
        method: &'static Method,
        path: &'static str,
        requires: Requires,
        handler: &'static dyn Handler,
    ) -> Self {
        Self { method, path, requires, handler, name: "", summary: "", headers: &[], refusals: &[] }
    }

    pub(super) const fn named(self, name: &'static str, summary: &'static str) -> Self {
        Self { name, summary, ..self }
    }

    pub(super) const fn headers(self, headers: &'static [Header]) -> Self {
        Self { headers, ..self }
    }

    pub(super) const fn refuses(self, refusals: &'static [StatusCode]) -> Self {
        Self { refusals, ..self }
    }

    /// The names of the path's values, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Reads the values of a request line.
    pub(super) fn parse(&self, values: &[String], query: &Query) -> Result<Request, RouteError> {
        // The access decision needs the repository. Other malformed values are refused after that decision.
        let repository = values.first().filter(|_| self.path.contains(REPOSITORY));
        let repository = repository.map(|name| route::repository(name)).transpose()?;
        Ok(Request { path: self.path, requires: self.requires, repository, run: self.handler.parse(values, query) })
    }

    /// Describes the input and the answer.
    pub(super) fn describe(&self, schemas: &mut Schemas) -> Description {
        self.handler.describe(schemas)
    }
}

/// A request whose endpoint is found and whose values are parsed.
pub(crate) struct Request {
    path: &'static str,
    requires: Requires,
    /// The repository that the path names.
    repository: Option<RepositoryName>,
    run: Run,
}

type Run = Box<dyn for<'a> FnOnce(&'a Context<'a>, &'a mut RequestBody) -> Running<'a, Response<Body>> + Send + Sync>;
type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

impl Request {
    /// The path of the endpoint, as it is described.
    pub(in crate::http) const fn path(&self) -> &'static str {
        self.path
    }

    /// The access that the operation requires.
    pub(crate) fn access(&self) -> Access {
        match (self.requires, &self.repository) {
            (Requires::Repository(action), Some(name)) => Access::Repository(name.clone(), Actions::of(action)),
            (Requires::Tag, Some(name)) => Access::Repository(name.clone(), Actions::PUSH),
            (requires, _) => Access::Account(requires),
        }
    }

    /// Handles the request, for a caller who may do it.
    pub(super) fn run<'a>(self, context: &'a Context<'a>, body: &'a mut RequestBody) -> Running<'a, Response<Body>> {
        (self.run)(context, body)
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request").field("access", &self.access()).finish_non_exhaustive()
    }
}

/// The handler of an endpoint, for any types of input and answer.
pub(super) trait Handler: Sync {
    fn parse(&self, values: &[String], query: &Query) -> Run;
    fn describe(&self, schemas: &mut Schemas) -> Description;
}

/// A handler that answers at once.
pub(super) const fn sync<F, I, A>(function: F) -> Function<Immediate<F>, I, A> {
    Function(Immediate(function), PhantomData)
}

/// A handler that waits, for a body or for a change.
pub(super) const fn future<F, I, A>(function: F) -> Function<Awaited<F>, I, A> {
    Function(Awaited(function), PhantomData)
}

/// A function as a handler. It takes a [`Call`](super::input::Call), and its answer is an [`Answer`].
pub(super) struct Function<F, I, A>(F, PhantomData<fn(I) -> A>);

#[derive(Clone, Copy)]
pub(super) struct Immediate<F>(F);

#[derive(Clone, Copy)]
pub(super) struct Awaited<F>(F);

/// A function that takes a request's input.
pub(super) trait Handle<'a, I, A> {
    fn handle(&self, context: &'a Context<'a>, input: I) -> Running<'a, A>;
}

impl<'a, F, I, A> Handle<'a, I, A> for Immediate<F>
where
    F: Fn(&'a Context<'a>, I) -> Result<A, ApiError>,
    A: Send + 'a,
{
    fn handle(&self, context: &'a Context<'a>, input: I) -> Running<'a, A> {
        Box::pin(std::future::ready(self.0(context, input)))
    }
}

impl<'a, F, R, I, A> Handle<'a, I, A> for Awaited<F>
where
    F: Fn(&'a Context<'a>, I) -> R,
    R: Future<Output = Result<A, ApiError>> + Send + 'a,
{
    fn handle(&self, context: &'a Context<'a>, input: I) -> Running<'a, A> {
        Box::pin(self.0(context, input))
    }
}

impl<F, I, A> Handler for Function<F, I, A>
where
    F: for<'a> Handle<'a, I, A> + Copy + Send + Sync + 'static,
    I: Input + 'static,
    A: Answer + 'static,
{
    fn parse(&self, values: &[String], query: &Query) -> Run {
        let (function, parsed) = (self.0, I::parse(values, query));
        Box::new(move |context, body| {
            Box::pin(async move {
                let input = I::read(parsed?, body).await?;
                Ok(function.handle(context, input).await?.into_response())
            })
        })
    }

    fn describe(&self, schemas: &mut Schemas) -> Description {
        Description {
            path: I::path(schemas),
            query: I::query(schemas),
            body: I::body(schemas),
            answer: A::schema(&mut schemas.output),
            status: A::STATUS,
        }
    }
}
