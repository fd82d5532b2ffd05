//! Keys of zot that coracle ignores or refuses, except those about access and zot's extensions.

use super::Status::{NoEffect, Refused, Supported, Within};
use super::{Row, row};
use crate::config::kind::Kind::{self, Bool, Free, Map, Path, SomeOf, Table, Text, Texts};

const IDLE_TIMEOUTS: super::Status =
    NoEffect("a transfer may take any time while bytes keep coming, see http.limits.bodyIdleTimeout");

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("distSpecVersion", Text, "", NoEffect("coracle always supports version 1.1 and the newest draft"), &["Version of the distribution specification that zot announces"]),
    row("scheduler.numWorkers", Kind::ANY_INT, "0", NoEffect("background work needs no worker pool"), &["Number of background workers"]),

    row("cluster", Table, "", Refused("not supported: one coracle serves one data directory; remove the block, and use mirrors near the clients for more load"), &["Several registries on one storage"]),
    row("cluster.members", Texts, "", Within, &["Addresses of the members"]),
    row("cluster.hashKey", Text, "", Within, &["Key of the hash that distributes repositories"]),
    row("cluster.tls.cert", Path, "", Within, &["Certificate for connections between members"]),
    row("cluster.tls.key", Path, "", Within, &["Key of that certificate"]),
    row("cluster.tls.cacert", Path, "", Within, &["Certificate authority of the members"]),
    row("storage.dedupe", Bool, "", NoEffect("coracle always stores one copy of a blob"), &["Equal blobs of several repositories share one file"]),

    row("storage.fastRestart", Bool, "", NoEffect("coracle never walks the storage at start"), &["Skip the walk over the storage at start"]),
    row("storage.redirectBlobURL", Bool, "false", NoEffect("blobs are on the local disk, for which zot does not redirect either"), &["Redirect requests for blobs to remote storage"]),

    row("storage.remoteCache", Bool, "false", Refused("not supported: the index is an embedded database; remove the key"), &["Keep the index of blobs in a remote database"]),

    row("storage.retention.policies.*.keepUntagged", Table, "", Supported, &["Untagged manifests to keep for longer than storage.retention.delay: those that meet any condition. Without conditions, all"]),

    row("storage.storageDriver", Free, "", Refused("not supported: blobs are on the local disk under storage.rootDirectory; remove the block"), &["Remote storage for blobs"]),

    row("storage.cacheDriver", Free, "", Refused("not supported: the index is an embedded database; remove the block"), &["Remote database for the index"]),

    row("storage.subPaths", Map, "", Refused("not supported: a blob is one file for all repositories, and one transaction covers both; use a larger volume, or another coracle for these repositories"), &["Separate storage for repositories under a path"]),
    row("storage.subPaths.*.rootDirectory", Path, "", Within, &["Data directory of the path"]),
    row("storage.subPaths.*.dedupe", Bool, "", Within, &["Like storage.dedupe"]),
    row("storage.subPaths.*.commit", Bool, "", Within, &["Like storage.commit"]),
    row("storage.subPaths.*.gc", Bool, "", Within, &["Like storage.gc"]),
    row("storage.subPaths.*.gcDelay", Kind::ANY_DURATION, "", Within, &["Like storage.gcDelay"]),
    row("storage.subPaths.*.gcInterval", Kind::ANY_DURATION, "", Within, &["Like storage.gcInterval"]),
    row("storage.subPaths.*.gcTimeWindow", Text, "", Within, &["Like storage.gcTimeWindow"]),
    row("storage.subPaths.*.maxRepos", Kind::COUNT, "", Within, &["Like storage.maxRepos"]),
    row("storage.subPaths.*.fastRestart", Bool, "", Within, &["Like storage.fastRestart"]),
    row("storage.subPaths.*.redirectBlobURL", Bool, "", Within, &["Like storage.redirectBlobURL"]),
    row("storage.subPaths.*.remoteCache", Bool, "", Within, &["Like storage.remoteCache"]),
    row("storage.subPaths.*.retention", Free, "", Within, &["Like storage.retention"]),
    row("storage.subPaths.*.storageDriver", Free, "", Within, &["Like storage.storageDriver"]),
    row("storage.subPaths.*.cacheDriver", Free, "", Within, &["Like storage.cacheDriver"]),

    row("http.readTimeout", Kind::ANY_DURATION, "", IDLE_TIMEOUTS, &["How long a whole request may take"]),
    row("http.writeTimeout", Kind::ANY_DURATION, "", IDLE_TIMEOUTS, &["How long a whole response may take"]),
    row("http.compat", SomeOf(&["docker2s2"]), "[]", NoEffect("Docker's media types are always accepted"), &["Additional media types to accept"]),
];
