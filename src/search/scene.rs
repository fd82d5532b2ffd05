//! [`Scene`]: the state that the resolvers of a request share, and [`Counted`], which counts everything that they return.

use std::cell::{Cell, RefCell};

use apollo_compiler::resolvers::{FieldError, ObjectValue, ResolveInfo, ResolvedValue};
use apollo_compiler::response::JsonValue;

use super::record::Resolved;
use super::{OBJECTS_MAX, RESPONSE_BYTES_MAX, VALUE_BYTES};
use crate::content::repository::Error;
use crate::content::repository::browse::Gallery;
use crate::kit::text::size;

/// The state that all resolvers share.
pub(super) struct Scene<'a> {
    pub(super) gallery: &'a Gallery<'a>,
    objects_left: Cell<usize>,
    bytes_left: Cell<usize>,
    /// The bytes of an object beyond its fields.
    object_bytes: usize,
    /// The first fault of the registry.
    fault: RefCell<Option<Error>>,
    /// Remarks on results that are not complete.
    remarks: RefCell<Vec<String>>,
}

impl<'a> Scene<'a> {
    /// The state of a request whose objects each cost some bytes beyond their fields.
    pub(super) const fn new(gallery: &'a Gallery<'a>, object_bytes: usize) -> Self {
        Self {
            gallery,
            objects_left: Cell::new(OBJECTS_MAX),
            bytes_left: Cell::new(RESPONSE_BYTES_MAX),
            object_bytes: object_bytes + VALUE_BYTES,
            fault: RefCell::new(None),
            remarks: RefCell::new(Vec::new()),
        }
    }
}

impl Scene<'_> {
    /// The limit that the request is beyond.
    pub(super) fn limit(&self) -> Option<String> {
        if let Some(why) = self.gallery.why_stopped() {
            return Some(why);
        }
        if self.objects_left.get() == 0 {
            return Some(format!("the response has more than {OBJECTS_MAX} objects"));
        }
        let is_too_large = self.bytes_left.get() == 0;
        is_too_large.then(|| format!("the response has more than {}", size(RESPONSE_BYTES_MAX as u64)))
    }

    /// The fault that ended the request.
    pub(super) fn take_fault(&self) -> Option<Error> {
        self.fault.take()
    }

    /// Adds a remark on results that are not complete.
    pub(super) fn remark(&self, text: String) {
        let mut remarks = self.remarks.borrow_mut();
        if !remarks.contains(&text) {
            remarks.push(text);
        }
    }

    pub(super) fn take_remarks(&self) -> Vec<String> {
        self.remarks.take()
    }

    /// Whether nothing more is resolved, because the request is refused anyway.
    fn is_stopped(&self) -> bool {
        self.objects_left.get() == 0
            || self.bytes_left.get() == 0
            || self.gallery.is_exhausted()
            || self.fault.borrow().is_some()
    }

    /// Counts bytes of the response. Returns whether there is room for them.
    fn charge(&self, bytes: usize) -> bool {
        self.bytes_left.set(self.bytes_left.get().saturating_sub(bytes));
        !self.is_stopped()
    }

    /// Counts an object of the response. Returns whether there is room for it.
    fn admit(&self) -> bool {
        self.objects_left.set(self.objects_left.get().saturating_sub(1));
        self.gallery.check_time();
        self.charge(self.object_bytes)
    }

    /// Counts a value. Beyond a limit it is null.
    fn counted<'v>(&'v self, value: ResolvedValue<'v>) -> ResolvedValue<'v> {
        match value {
            ResolvedValue::Leaf(leaf) => {
                let has_room = self.charge(leaf.as_str().map_or(0, str::len));
                ResolvedValue::Leaf(if has_room { leaf } else { JsonValue::Null })
            }
            ResolvedValue::Object(object) if self.admit() => {
                ResolvedValue::Object(Box::new(Counted { scene: self, object }))
            }
            ResolvedValue::Object(_) => ResolvedValue::null(),
            ResolvedValue::List(list) => {
                let list = list.take_while(|_| self.charge(VALUE_BYTES));
                ResolvedValue::List(Box::new(list.map(|one| one.map(|one| self.counted(one)))))
            }
            skipped @ ResolvedValue::SkipForPartialExecution => skipped,
        }
    }

    /// The result of a read. A fault ends the request with an error of the registry.
    pub(super) fn read<T>(&self, result: Result<T, Error>) -> Result<T, FieldError> {
        result.map_err(|fault| {
            self.fault.borrow_mut().get_or_insert(fault);
            FieldError { message: "the registry failed".to_owned() }
        })
    }
}

/// An object whose fields are counted, and so are all objects in it. Nothing is resolved beyond a limit.
pub(super) struct Counted<'s> {
    scene: &'s Scene<'s>,
    object: Box<dyn ObjectValue + 's>,
}

impl<'s> Counted<'s> {
    pub(super) fn new(scene: &'s Scene<'s>, object: impl ObjectValue + 's) -> Self {
        Self { scene, object: Box::new(object) }
    }
}

impl ObjectValue for Counted<'_> {
    fn type_name(&self) -> &str {
        self.object.type_name()
    }

    fn resolve_field<'a>(&'a self, info: &'a ResolveInfo<'a>) -> Resolved<'a> {
        let key = info.field_selections().first().map_or(0, |field| field.response_key().len());
        if !self.scene.charge(VALUE_BYTES + key) {
            return Ok(ResolvedValue::null());
        }
        Ok(self.scene.counted(self.object.resolve_field(info)?))
    }
}
