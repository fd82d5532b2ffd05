//! The keys of other issuers in a build without the feature `tls`, which cannot verify asymmetric signatures.

use std::path::Path;

use serde::de::DeserializeOwned;

/// An asymmetric algorithm. It has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {}

/// A key that verifies signatures. It has no value.
#[derive(Debug)]
pub(crate) enum VerifyingKey {}

impl VerifyingKey {
    pub(crate) fn id(&self) -> Option<&str> {
        match *self {}
    }

    pub(crate) fn supports(&self, _: Algorithm) -> bool {
        match *self {}
    }

    pub(crate) fn verify<T: DeserializeOwned>(&self, _: &str) -> Option<T> {
        match *self {}
    }
}

pub(crate) fn asymmetric(_: &str) -> Option<Algorithm> {
    None
}

pub(crate) fn read_file(_: &Path) -> Result<Vec<VerifyingKey>, String> {
    Err("this program was built without the feature tls".to_owned())
}

pub(crate) fn read_set(_: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    Err("this program was built without the feature tls".to_owned())
}
