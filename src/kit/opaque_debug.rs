//! [`opaque_debug`]: implements `Debug` with the name of the type, and the fields that may be shown.

/// Implements `Debug` for types that hold secrets or have little readable to print: `opaque_debug!(Key)`, and
/// `opaque_debug!(Entry { user })` to print one field as well.
macro_rules! opaque_debug {
    ($name:ident { $field:ident }) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).field(stringify!($field), &self.$field).finish_non_exhaustive()
            }
        }
    };
    ($($name:ident),+) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    )+};
}

pub(crate) use opaque_debug;

#[cfg(test)]
mod tests {
    struct Key(&'static str);

    struct Entry {
        user: &'static str,
        key: Key,
    }

    opaque_debug!(Key);
    opaque_debug!(Entry { user });

    #[test]
    fn only_the_name_and_the_given_field_are_printed() {
        let entry = Entry { user: "alice", key: Key("secret") };
        assert_eq!((format!("{:?}", entry.key), entry.key.0), ("Key".to_owned(), "secret"));
        assert_eq!(format!("{entry:?}"), "Entry { user: \"alice\", .. }");
    }
}
