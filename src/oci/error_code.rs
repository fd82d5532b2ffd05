//! [`ErrorCode`]: the codes that a client may get (distribution-spec, "Error Codes").
//!
//! The specification has no code for internal errors. `UNKNOWN` is the code that clients know from docker-registry.

/// Defines the enum and its methods from one row per code.
macro_rules! error_codes {
    ($($variant:ident $wire:literal $status:literal $message:literal;)*) => {
        /// A code of an error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = concat!("`", $wire, "`: ", $message)] $variant,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code as responses contain it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire),* }
            }

            /// The HTTP status, unless a more precise one is known.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status),* }
            }

            /// The specification's description of the code.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$variant => $message),* }
            }
        }
    };
}

error_codes! {
    BlobUnknown         "BLOB_UNKNOWN"          404 "blob unknown to registry";
    BlobUploadInvalid   "BLOB_UPLOAD_INVALID"   400 "blob upload invalid";
    BlobUploadUnknown   "BLOB_UPLOAD_UNKNOWN"   404 "blob upload unknown to registry";
    DigestInvalid       "DIGEST_INVALID"        400 "provided digest did not match uploaded content";
    ManifestBlobUnknown "MANIFEST_BLOB_UNKNOWN" 400 "manifest references a manifest or blob unknown to registry";
    ManifestInvalid     "MANIFEST_INVALID"      400 "manifest invalid";
    ManifestUnknown     "MANIFEST_UNKNOWN"      404 "manifest unknown to registry";
    NameInvalid         "NAME_INVALID"          400 "invalid repository name";
    NameUnknown         "NAME_UNKNOWN"          404 "repository name not known to registry";
    SizeInvalid         "SIZE_INVALID"          400 "provided length did not match content length";
    Unauthorized        "UNAUTHORIZED"          401 "authentication required";
    Denied              "DENIED"                403 "requested access to the resource is denied";
    Unsupported         "UNSUPPORTED"           405 "the operation is unsupported";
    TooManyRequests     "TOOMANYREQUESTS"       429 "too many requests";
    Unknown             "UNKNOWN"               500 "internal error";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with the codes of the `oci-spec` crate.
    #[test]
    fn the_codes_are_those_of_the_specification() {
        let (own, specified) = ErrorCode::ALL.split_last().expect("the table has rows");
        assert_eq!(own.status(), 500);
        assert_eq!(specified.len(), 14);
        for code in specified {
            let theirs: oci_spec::distribution::ErrorCode =
                serde_json::from_value(code.as_str().into()).expect("a code oci-spec knows");
            let back = serde_json::to_value(theirs).expect("a code is a string");
            assert_eq!(back, code.as_str());
            assert!((400..500).contains(&code.status()));
            assert!(!code.message().ends_with('.'));
        }
    }
}
