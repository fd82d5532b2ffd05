//! [`ErrorCode`]: the closed table of codes a client may see (distribution-spec, "Error Codes").
//!
//! The last row is not the specification's, which has no code for a server's own failures; it is the
//! word that distribution's clients know for them.

/// Makes the enum, its list and its text from one row per code.
macro_rules! error_codes {
    ($($variant:ident $wire:literal $status:literal $message:literal;)*) => {
        /// A code of the table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode {
            $(#[doc = concat!("`", $wire, "`: ", $message)] $variant,)*
        }

        impl ErrorCode {
            /// Every code of the table.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The code as it is written in an answer.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire),* }
            }

            /// The HTTP status that goes with the code unless something more precise is known.
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

    /// The `oci-spec` crate has read the same table; the two must agree on every code.
    #[test]
    fn the_table_is_the_specifications() {
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
