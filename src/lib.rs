//! An OCI registry in one binary with one data directory, and as a library.
//!
//! # What it is
//!
//! coracle speaks the OCI distribution specification to every container client. Blobs are
//! content-addressed files; everything else (repositories, manifests, tags, users, API keys, sessions) is in one embedded
//! redb database beside them. The library is the product: the program `coracle` is one caller of it,
//! and a test of yours can be another:
//!
//! ```
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let registry = coracle::Registry::builder().temporary().user("alice", "secret").open()?;
//! let running = registry.spawn_local().await?;
//! println!("push to {}/alice/image:1", running.url());
//! running.shutdown().await;
//! # Ok::<_, coracle::Error>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # One request
//!
//! ```text
//!  bytes in ──► server ──► http::answer ──► handler ──► repository ──► blobs │ database
//!               (socket)     │ Operation::parse  (read, do, say)   (joint      (files) (redb)
//!                            │ access::Authenticator               invariants)
//!                            │ access::AccessPolicy
//!  bytes out ◄── server ◄── http::answer ◄── Response | ApiError ◄── value | repository::Error
//! ```
//!
//! `http::respond` is the whole way of a request: read the request line, find the caller, decide, call the handler.
//! There are two dialects, each with its own router. `http::route` reads the paths of the distribution specification, of
//! zot and of the operator. `http::v1` reads those of Quay's API v1. Both give the access that the operation requires,
//! and values that are already parsed.
//!
//! To add an endpoint of API v1, write one struct that implements `Endpoint`: method, path, required access, types of
//! input and answer, handler. The top of `src/http/v1.rs` has the steps. The description at `/api/v1/discovery` is
//! derived from the types. To add an operation of the other dialect, add a variant of `route::Route`; the compiler asks
//! for its access and for its handler. `tests/it/accounts/routes.txt` has the status of every route for every kind of
//! caller. Tests compare it with the server, and fail if a route has no row.
//!
//! # The modules, bottom to top
//!
//! * [`oci`]: the specification's nouns as validated values.
//! * `kit::clock`: the only reader of the time. `kit::file`: missing files, the identity and state of a file, I/O errors
//!   with their path. `kit::network`: client networks. `kit::bounded_map`: a map with a limit. `kit::append`: log files
//!   that may be rotated. `kit::metrics`: the figures of one registry. `kit::outgoing`: bounded requests to other servers.
//! * `content::blobs`: content-addressed files. Knows no repository and no row.
//! * `content::rows`: the rows of the database. The only module that names redb; touches no blob.
//! * `content::repository`: the operations of one repository; the only writer of both stores.
//! * `identity::accounts`: users, groups, API keys, sessions, and permissions; the only writer of their rows.
//! * `identity::tokens`: signed access tokens, ours and those of external token issuers.
//! * `identity::providers`: sign-in through OpenID Connect and GitHub. Knows no route and no database.
//! * `identity::access`: authenticates the caller and decides. Knows verbs and names, not URLs.
//! * `http::route`: request line → operation. Pure.
//! * [`config`]: a file → checked settings, every problem at once. Opens no store.
//! * `registry`: stores, access and rules in one value. No socket, no task.
//! * `admin`: the commands on a data directory, with a running registry or without one.
//! * `http`: one request. `server`: sockets. `cli`: the command line.
//! * `testing::filling`: many rows for a benchmark. `testing::fuzzing`: entry points for fuzzers. In no other build.
//!
//! A test holds this order: no module uses one above it.
//!
//! # Invariants
//!
//! 1. A row that links a blob implies a durable file: bytes are written beside, synced, renamed, the
//!    directory is synced, and only then the row is written. On deletion the row goes first.
//! 2. What a client sees as one effect is one transaction. What was answered with 2xx survives
//!    `kill -9` and loss of power, unless `storage.commit` is off.
//! 3. A commit is one blocking call: hyper drops a handler when its client goes away, and a blocking
//!    call that has begun runs to its end, before the registry stops. What takes longer (receiving a body) is a task
//!    of its own.
//! 4. Writers share transactions, and so syncs; readers never wait for a writer, unless it opens the database anew
//!    after a failure.
//! 5. An unfinished upload is the file of its bytes and nothing else. Its id is bound to the
//!    repository by a keyed hash, so that starting one writes no row, and a restart loses none.
//! 6. Bytes are hashed once, while they arrive. Read again is an upload that is continued after a restart, a blob
//!    whose file somebody has written to, and what a scrub or a recovery looks at.
//! 7. Only `content::blobs::paths` builds a path, and only out of checked values. Nothing below `http` knows a
//!    status code. Only `kit::clock` reads the wall clock. There is no global state: two registries in one
//!    process do not know of each other.
//! 8. A secret is shown once and stored as a hash, or sealed where it must be read again (what a provider is
//!    asked with); when keys and sessions were last used is written in batches, so that no request with one waits for
//!    a disk.
//! 9. The database decides; `manifests.log` beside it has what is needed to make the content's rows anew. It is
//!    written after a commit and before the answer, never synced by a request, and made anew where it lacks a change.
//! 10. A backup is a data directory: a copy of the rows at one moment, and every blob they speak of. It takes the
//!     place of the one before in one step; so does the copy in which a schema is brought to a newer version.
//! 11. Every body, page, list, queue, cache and wait has a limit with a name.
//! 12. Whatever is unreferenced stands in a row since the transaction that made it so, and nothing is removed but
//!     after a look, in the same transaction, whether that still holds. A client that was told of something has a
//!     lease on it. Ages are measured by the machine's uptime: setting the wall clock makes nothing older.
//!     What a tag pointed at, and a manifest that was deleted by digest, can be restored for as long as history is kept.
//! 13. What is remembered of rows (manifests; accounts, keys and sessions) belongs to one version of them, which
//!     every change ends before it is answered: nobody is told what was true before.
//!
//! # Errors
//!
//! Each layer has one enum; they become HTTP in `http::error`, by matches without `_`. A client's
//! mistake gets a 4xx with a code of the specification's table, says what is wrong, and changes
//! nothing. A failure of ours gets a 5xx with a request id; its cause is logged once, with that id.
//!
//! # Blocking
//!
//! Reads of rows are a few microseconds in memory and are made where they are needed. Whatever syncs
//! or moves many bytes runs on tokio's threads for blocking work, of which there are few: a slow
//! client never holds one.

mod admin;
#[doc(hidden)]
pub mod cli;
pub mod config;
mod content;
mod http;
mod identity;
mod kit;
pub mod oci;
mod registry;
mod server;
#[cfg(any(feature = "filling", fuzzing, test))]
#[doc(hidden)]
pub mod testing;

pub use http::Body;
pub use identity::access::AccessPolicy;
pub use registry::{Builder, Error, Registry};
pub use server::RunningRegistry;
