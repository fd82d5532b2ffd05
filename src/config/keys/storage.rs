//! Keys of the storage: where content lives, and when it goes.

use crate::config::kind::Kind::{self, Bool, Duration, Free, List, Map, Path, Table, Text, Texts};

use super::Status::{Implemented, NoEffect, Refused, Within};
use super::{Row, row};

const COLLECTION: super::Status = NoEffect("collection is not implemented yet: deleted content keeps its space");

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("storage.rootDirectory", Path, "", Implemented,
        "data directory; the platform's usual place for application data without it"),
    row("storage.commit", Bool, "true", Implemented,
        "content is on the disk before the push is answered (zot's default is false)"),
    row("storage.uploadExpiry", Duration { least: "1s", most: "8760h" }, "24h", Implemented,
        "how long an unfinished upload is kept after its last byte"),
    row("storage.tagHistory", Duration { least: "0s", most: "87600h" }, "336h", Implemented,
        "how long a tag that was moved or deleted can be brought back; 0 keeps no history"),
    row("storage.minFreeSpace", Kind::Size { least: 0, most: i64::MAX as u64 }, "64MiB", Implemented,
        "pushes are refused while less is free on the disk; 0 takes what fits"),
    row("storage.allowSparseIndexes", Bool, "false", Implemented,
        "an index is accepted while manifests it names are missing"),

    row("storage.dedupe", Bool, "", NoEffect("one copy of a blob is always kept, whatever is written here"),
        "equal blobs of several repositories share one file"),
    row("storage.gc", Bool, "false", COLLECTION, "content that nothing refers to is removed"),
    row("storage.gcDelay", Kind::ANY_DURATION, "", COLLECTION, "how long such content is kept"),
    row("storage.gcInterval", Kind::ANY_DURATION, "", COLLECTION, "how often such content is looked for"),
    row("storage.gcTimeWindow", Text, "", COLLECTION, "hours of the day in which collection may run"),
    row("storage.maxRepos", Kind::COUNT, "0", Refused("not implemented yet: leave it out; the number of repositories is not limited"),
        "greatest number of repositories"),
    row("storage.fastRestart", Bool, "", NoEffect("a start never walks the storage"),
        "the walk over the storage at the start is skipped"),
    row("storage.redirectBlobURL", Bool, "false", NoEffect("blobs are on the local disk, for which zot does not redirect either"),
        "a blob is answered with a redirect to remote storage"),
    row("storage.remoteCache", Bool, "false", Refused("not supported: the index is an embedded database; leave it out"),
        "the index of blobs is kept in a remote database"),

    row("storage.retention", Table, "", Refused("not implemented yet: take the block out; no tag and no manifest is removed by rule"),
        "rules by which tags and manifests are removed"),
    row("storage.retention.dryRun", Bool, "", Within, "only log what would be removed"),
    row("storage.retention.delay", Kind::ANY_DURATION, "", Within, "how long an untagged manifest is kept"),
    row("storage.retention.policies", List, "", Within, "rules, of which the first that matches a repository counts"),
    row("storage.retention.policies.*.repositories", Texts, "", Within, "patterns of repositories the rule is for"),
    row("storage.retention.policies.*.deleteReferrers", Bool, "", Within, "manifests whose subject is gone are removed"),
    row("storage.retention.policies.*.deleteUntagged", Bool, "", Within, "manifests without a tag are removed"),
    row("storage.retention.policies.*.keepTags", List, "", Within, "tags to keep, by any of these"),
    row("storage.retention.policies.*.keepTags.*.patterns", Texts, "", Within, "regular expressions of tags"),
    row("storage.retention.policies.*.keepTags.*.pulledWithin", Kind::ANY_DURATION, "", Within, "kept when pulled this recently"),
    row("storage.retention.policies.*.keepTags.*.pushedWithin", Kind::ANY_DURATION, "", Within, "kept when pushed this recently"),
    row("storage.retention.policies.*.keepTags.*.mostRecentlyPushedCount", Kind::COUNT, "", Within, "so many pushed last are kept"),
    row("storage.retention.policies.*.keepTags.*.mostRecentlyPulledCount", Kind::COUNT, "", Within, "so many pulled last are kept"),
    row("storage.retention.policies.*.keepUntagged.pulledWithin", Kind::ANY_DURATION, "", Within, "kept when pulled this recently"),
    row("storage.retention.policies.*.keepUntagged.pushedWithin", Kind::ANY_DURATION, "", Within, "kept when pushed this recently"),
    row("storage.retention.policies.*.keepUntagged.mostRecentlyPushedCount", Kind::COUNT, "", Within, "so many pushed last are kept"),
    row("storage.retention.policies.*.keepUntagged.mostRecentlyPulledCount", Kind::COUNT, "", Within, "so many pulled last are kept"),

    row("storage.storageDriver", Free, "", Refused("not supported: blobs live on the local disk under storage.rootDirectory; take the block out"),
        "remote storage for blobs"),
    row("storage.cacheDriver", Free, "", Refused("not supported: the index is an embedded database; take the block out"),
        "remote database for the index"),

    row("storage.subPaths", Map, "", Refused("not supported: there is one storage under storage.rootDirectory; take the block out"),
        "storage of its own for repositories under a path"),
    row("storage.subPaths.*.rootDirectory", Path, "", Within, "data directory of the path"),
    row("storage.subPaths.*.dedupe", Bool, "", Within, "as storage.dedupe"),
    row("storage.subPaths.*.commit", Bool, "", Within, "as storage.commit"),
    row("storage.subPaths.*.gc", Bool, "", Within, "as storage.gc"),
    row("storage.subPaths.*.gcDelay", Kind::ANY_DURATION, "", Within, "as storage.gcDelay"),
    row("storage.subPaths.*.gcInterval", Kind::ANY_DURATION, "", Within, "as storage.gcInterval"),
    row("storage.subPaths.*.gcTimeWindow", Text, "", Within, "as storage.gcTimeWindow"),
    row("storage.subPaths.*.maxRepos", Kind::COUNT, "", Within, "as storage.maxRepos"),
    row("storage.subPaths.*.fastRestart", Bool, "", Within, "as storage.fastRestart"),
    row("storage.subPaths.*.redirectBlobURL", Bool, "", Within, "as storage.redirectBlobURL"),
    row("storage.subPaths.*.remoteCache", Bool, "", Within, "as storage.remoteCache"),
    row("storage.subPaths.*.retention", Free, "", Within, "as storage.retention"),
    row("storage.subPaths.*.storageDriver", Free, "", Within, "as storage.storageDriver"),
    row("storage.subPaths.*.cacheDriver", Free, "", Within, "as storage.cacheDriver"),
];
