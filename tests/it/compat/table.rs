//! The table of checks.

use std::pin::Pin;

use crate::support::http::Caller;

pub type Check = fn(Caller) -> Pin<Box<dyn Future<Output = ()>>>;

/// Makes the list of checks from the functions themselves.
macro_rules! checks {
    ($($(#[$meta:meta])* async fn $name:ident($caller:ident, $repository:ident) $body:block)*) => {
        /// Every check by its name.
        pub const ALL: &[(&str, $crate::compat::table::Check)] = &[$((stringify!($name), |caller| Box::pin($name(caller)))),*];

        $($(#[$meta])*
        async fn $name($caller: Caller) {
            let $repository = stringify!($name);
            $body
        })*
    };
}
