//! An OCI registry in one binary with one data directory, and as a library.
//!
//! # Overview
//!
//! coracle speaks the OCI distribution specification to every container client. Blobs are content-addressed files.
//! Everything else (repositories, manifests, tags, users, API keys, sessions) is in one embedded redb database next to
//! them. The library is the product. The program `coracle` is one caller of it, and your test can be another:
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
//! `http::answer` is the path of every request: read the request line, authenticate the caller, decide, call the handler.
//! There are two dialects, each with its own router. `http::route` reads the paths of the distribution specification, of
//! zot and of the operator. `http::v1` reads those of Quay's API v1. A third router, `http::ui`, reads those of the pages.
//! Each gives the access that the operation requires, and values that are already parsed.
//!
//! To add an endpoint of API v1, follow the steps at the top of `src/http/v1.rs`; the description at `/api/v1/discovery`
//! is derived from its types. To add a page, follow the steps at the top of `src/http/ui.rs`. To add another operation, add a variant of `route::Route`; the compiler asks
//! for its access and for its handler. `tests/it/accounts/routes.txt` has the status of every route for every kind of
//! caller. Tests compare it with the server, and fail if a route has no row.
//!
//! # A push, step by step
//!
//! 1. `POST /v2/alice/app/blobs/uploads/`: `http::route` parses it to `StartUpload` with a `RepositoryName`.
//!    `identity::access` authenticates alice and decides that she may push. `content::repository::upload` creates a file
//!    under `uploads/` and returns its id, which a keyed hash binds to the repository.
//! 2. `PATCH` with bytes: `http::receive` collects the body in batches. A blocking thread hashes each batch and appends it
//!    to the file. A lost connection leaves the bytes that arrived.
//! 3. `PUT` with the digest: the hash is compared, the file is synced and renamed into `blobs/`, its directory is synced,
//!    and one transaction writes the rows of the blob and of its link to `alice/app`. Then the client gets 201.
//! 4. `PUT /v2/alice/app/manifests/1`: `oci::Manifest` parses the manifest. One transaction checks that its blobs are
//!    linked, and writes the manifest, its tag, its references and its referrer entry. Concurrent writers share one
//!    commit, and so one sync. A journal line is written, and the client gets 201.
//!
//! # A sign-in, step by step
//!
//! 1. `docker push` sends no credentials, gets a 401 with a challenge, and requests `/v2/auth` with alice's password.
//! 2. `identity::access::authenticate` asks `identity::accounts`. The throttle counts wrong passwords by user and address.
//!    The hash queue admits two password hashes at a time. A right password is cached for minutes under a keyed fingerprint.
//! 3. `identity::tokens` signs an access token with the requested scopes that alice's rights permit, and names the
//!    credential that it came from.
//! 4. Each request with the token checks the signature, and again the rights of alice at that moment. A changed password,
//!    a revoked key or a removed user takes effect at the next request.
//!
//! # The modules, bottom to top
//!
//! * [`oci`]: the specification's nouns as validated values.
//! * `kit::clock`: the only reader of the wall clock. `kit::file`: missing files, the identity and state of a file, I/O
//!   errors with their path. `kit::network`: client networks and loopback hosts. `kit::text`: sizes, counts and tables.
//!   `kit::text_form`: types that are written as the text that they were parsed from. `kit::opaque_debug`: `Debug` without
//!   content. `kit::bounded_map`: a map with a limit. `kit::byte_budget`: a limit on bytes in memory. `kit::throttle`:
//!   limits on wrong passwords. `kit::window_limit`: limits by network. `kit::log_limit`: limits on repeated log lines.
//!   `kit::certificate`: the dates and names of a certificate. `kit::append`: log files that may be rotated.
//!   `kit::blocking`: blocking work of any type as one type of task. `kit::metrics`: the figures of one registry.
//!   `kit::outgoing`: bounded requests to other servers.
//!   `kit::traces`: spans of requests, for a collector of OpenTelemetry. `kit::site`: the files of a web page in memory.
//!   `kit::shown_address`: network addresses as text. `kit::access_log`: where the lines about requests go.
//! * `content::blobs`: content-addressed files. Knows no repository and no row.
//! * `content::rows`: the rows of the database, and their write-ahead log. The only module that names redb; touches no blob.
//! * `content::repository`: the operations of one repository; the only writer of both stores.
//! * `identity::directory`: the users of an LDAP directory. Knows no account and no database.
//! * `identity::accounts`: users, groups, API keys, sessions, and permissions; the only writer of their rows.
//! * `identity::tokens`: signed access tokens, ours and those of external token issuers.
//! * `identity::workload`: ID tokens of CI systems and clusters. Knows no route and no database.
//! * `identity::providers`: sign-in through OpenID Connect and GitHub. Knows no route and no database.
//! * `identity::access`: authenticates the caller and decides. Knows verbs and names, not URLs.
//! * `mirror`: what other registries have, fetched when a client requests it, on a schedule, for an import or for a
//!   takeover. `mirror::client` is the client for them.
//! * `events`: sends events about changes to other servers, from the outbox in the rows. Knows no request and no rights.
//! * `acme`: a certificate from an ACME authority, and its renewal. Knows no socket and no request.
//! * `transfer`: imports of stores, layouts and archives of other tools, and exports for them.
//! * `search`: zot's search, GraphQL over facts. Knows no request and no rights.
//! * `web`: the pages: views, templates, style. Knows no request and no row.
//! * `http::route`: request line → operation. Pure.
//! * [`config`]: a file, also one of docker's registry, and the environment → checked settings, every problem at once.
//!   Opens no store.
//! * `registry`: stores, access and rules in one value. No socket, no task.
//! * `admin`: the commands on a data directory, with a running registry or without one.
//! * `http`: one request. `server`: sockets. `cli`: the command line.
//! * `testing::filling`: many rows for a benchmark. `testing::fuzzing`: entry points for fuzzers. In no other build.
//!
//! A test holds this order: no module uses one above it.
//!
//! # Features
//!
//! A feature of Cargo leaves out a part of the program, for programs that embed the library and for the first command of
//! README.md; `docs/embedding.md` lists them. Usually the cut is a module: without the feature, the file `absent.rs` in the
//! folder of the module takes its place, with the same functions, which find nothing, or whose types cannot be constructed.
//! `web` and `cli` are left out, and `identity::directory` has its cut inside. `config::parts` refuses keys that need the
//! part.
//!
//! # Invariants
//!
//! 1. A row that links a blob implies a durable file: the bytes are written to another name, synced and renamed, the
//!    directory is synced, and only then the row is written. On deletion the row goes first.
//! 2. Each client operation is one transaction, with its audit row. What was acknowledged with 2xx survives `kill -9` and
//!    loss of power, unless `storage.commit` is off.
//! 3. A commit is one blocking call. hyper drops a handler when its client disconnects, but a blocking call that has
//!    started goes on. A registry that stops waits for requests (`http.limits.shutdownTimeout`), then 10 s for running
//!    writes, and 10 s for the last ones. What takes longer is cut off, and was not acknowledged. Longer work, such as
//!    receiving a body, is a task of its own.
//! 4. Writers share transactions, and so syncs. A transaction is durable when `coracle.wal` has its record. The database
//!    gets it at the next checkpoint, and the next start applies what it has not got. Readers never wait for a writer,
//!    unless the writer reopens the database after a failure.
//! 5. An unfinished upload is only the file of its bytes. A keyed hash binds its id to the repository, so that starting an
//!    upload writes no row, and a restart loses none.
//! 6. Bytes are hashed once, while they arrive. They are hashed again only for an upload that continues after a restart,
//!    for a blob whose file changed on disk, by scrub and recovery, and when an export, a backup or a restore copies them.
//! 7. Only `content::blobs::paths` builds a path, and only from checked values. Nothing below `http` chooses the status of
//!    a response. Only `kit::clock` reads the wall clock. There is no global state: registries in one process are independent.
//! 8. A secret is shown once and stored as a hash, or sealed if the registry must read it again (refresh tokens of
//!    identity providers). Private keys (of access tokens and of ACME) are stored as they are, readable for the owner only,
//!    and not in backups. The last use of keys and sessions is written in batches, so that no request waits for it.
//! 9. The database decides. `manifests.log` next to it is enough to rebuild the rows of the content. It is written after a
//!    commit and before the response, never synced by a request, and rebuilt if a change is missing.
//! 10. A backup is a data directory: a copy of the rows at one moment, and every blob they name. It replaces the previous
//!     one in one step. A schema migration replaces the database in the same way.
//! 11. Every body, page, list, queue, cache and wait has a limit with a name.
//! 12. The transaction that drops the last reference records the content as unreferenced. Garbage collection checks again
//!     in the transaction that deletes it. A lease protects content that a client was just told exists. Ages of
//!     unreferenced content and of history are measured by the machine's uptime, so setting the wall clock makes nothing
//!     older. Retention and expirations of tags follow the wall clock. Previous targets of tags, and manifests that were
//!     deleted by digest, can be restored while history is kept.
//! 13. Caches of rows (manifests; accounts, keys and sessions) belong to one version of the rows. Every change ends the
//!     version before it is acknowledged, so no request sees an earlier state.
//! 14. Facts of manifests and totals of repositories are derived rows for lists. Each change of content changes them in its
//!     transaction. The row of a repository says how far it is counted. So after an earlier program has written, background
//!     work counts next to clients, and continues after a crash.
//! 15. A rule that limits or removes decides in the transaction that it concerns. Quotas compare with totals that are rows; an
//!     immutable tag is checked by every change of tags. Retention removes exactly the tags of its plan, which is pure, and
//!     everything it removes can be restored while history is kept.
//!
//! # Errors
//!
//! Each layer has one error enum. `http::error` maps them to HTTP by matches without `_` for the variants. A client's
//! mistake gets a 4xx with a code of the specification's table, says what is wrong, and changes nothing. An internal
//! failure gets a 5xx with a request id; its cause is logged once, with that id.
//!
//! # Blocking
//!
//! Reads of rows take a few microseconds in memory and happen where they are needed. Work that syncs or moves many bytes
//! runs on tokio's threads for blocking work, which are few. A slow client never holds one.

// Without a part of the program, nothing calls the functions that only this part uses.
#![cfg_attr(
    not(all(
        feature = "acme",
        feature = "cli",
        feature = "ldap",
        feature = "openid",
        feature = "search",
        feature = "yaml"
    )),
    allow(dead_code, unused_imports, clippy::unused_async, clippy::unnecessary_wraps, clippy::unused_self)
)]

#[cfg_attr(not(feature = "acme"), path = "acme/absent.rs")]
mod acme;
#[cfg_attr(not(feature = "cli"), path = "admin/absent.rs")]
mod admin;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod config;
mod content;
mod events;
mod http;
mod identity;
mod kit;
mod mirror;
pub mod oci;
mod registry;
#[cfg_attr(not(feature = "search"), path = "search/absent.rs")]
mod search;
mod server;
#[cfg(any(feature = "filling", fuzzing, test))]
#[doc(hidden)]
pub mod testing;
mod transfer;
#[cfg(feature = "ui")]
mod web;

pub use http::Body;
pub use identity::access::AccessPolicy;
pub use registry::{Builder, Error, Registry};
pub use server::RunningRegistry;
