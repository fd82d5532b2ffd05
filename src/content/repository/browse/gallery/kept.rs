//! [`Kept`]: results that a request needs several times. Aliases, and several fields, would read them again.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::Tagged;
use super::signatures::{Referrer, ReferrerQuery, SignatureTool};
use crate::oci::{Digest, RepositoryName};

/// The bytes that an entry costs beyond its texts.
pub(super) const ENTRY_BYTES: usize = 256;

/// Lists by their keys.
type Lists<K, V> = RefCell<HashMap<K, Rc<[V]>>>;

/// Results that are read once.
#[derive(Debug)]
pub(super) struct Kept {
    bytes_left: Cell<usize>,
    pub(super) referrers: Lists<(RepositoryName, Digest, ReferrerQuery), Referrer>,
    pub(super) signatures: Lists<(RepositoryName, Digest), SignatureTool>,
    pub(super) newest: RefCell<HashMap<RepositoryName, Option<Tagged>>>,
}

impl Kept {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes_left: Cell::new(bytes),
            referrers: RefCell::default(),
            signatures: RefCell::default(),
            newest: RefCell::default(),
        }
    }

    /// Takes room for a result. Returns whether there was room.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let left = self.bytes_left.get().checked_sub(bytes);
        left.inspect(|left| self.bytes_left.set(*left)).is_some()
    }
}
