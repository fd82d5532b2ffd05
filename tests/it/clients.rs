//! Real clients against a real registry, over real sockets.
//!
//! Nothing here stands in for a client: docker, skopeo, podman, buildah, umoci, containerd, curl and jq are the programs
//! a user has, `oci-client` is the crate and `oras` the Python package. Each module is one client and shows that
//! it logs in, pushes, lists, pulls back the same bytes and deletes (where it can), with and without
//! credentials. Five are of no client: [`keys`] gives each of them an API key, [`tokens`] looks at the tokens they
//! get for a password, [`documents`] runs what other registries' documents tell their users to type, [`proxies`] runs
//! the configurations of README.md, and [`refusals`] asks HTTP libraries how they are refused.
//!
//! A client that is not installed makes its tests say `SKIPPED` on the terminal, or fail where `CI` is set
//! ([`home::installed`]). Everything a client writes stays in a temporary directory of its test ([`home::Home`]).
//! The images are made on the spot from real content ([`content`]) and compared byte by byte ([`image`]).
//! [`visibility`] gives each client a public and a private repository. [`mirror`] has them pull through a mirror.

pub(crate) mod authority;
mod content;
mod daemon;
pub(crate) mod home;
mod image;
pub(crate) mod python;
mod storage;
mod target;

mod buildah;
mod ctr;
mod curl;
mod docker;
mod documents;
mod go;
mod keys;
mod mirror;
mod oci_client;
mod oras;
mod podman;
mod proxies;
mod refusals;
mod skopeo;
mod tokens;
mod umoci;
mod visibility;
mod workload;
