//! Administration in a build without the feature `cli`: only the paths of sockets, which the server needs as well.

pub(crate) mod socket;
