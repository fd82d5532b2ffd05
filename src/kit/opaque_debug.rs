//! [`opaque_debug`]: implements `Debug` with the name of the type only.

/// Implements `Debug` for types that hold secrets or have nothing readable to print.
macro_rules! opaque_debug {
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

    opaque_debug!(Key);

    #[test]
    fn only_the_name_is_printed() {
        let key = Key("secret");
        assert_eq!((format!("{key:?}"), key.0), ("Key".to_owned(), "secret"));
    }
}
