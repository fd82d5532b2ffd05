//! Keys at the top, of the log, and of zot's parts that have no section of their own.

use crate::config::kind::Kind::{self, List, OneOf, Path, Table, Text, Texts};

use super::Status::{Implemented, NoEffect, Refused, Within};
use super::{REQUIRED, Row, row};

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("profile", OneOf(&["coracle", "zot"]), "coracle", Implemented,
        "how the registry behaves where coracle and zot differ: \"zot\" is a drop-in (Basic challenge, every signed-in user may do everything)"),
    row("distSpecVersion", Text, "", NoEffect("coracle speaks version 1.1 and the newest draft, whatever is written here"),
        "version of the distribution specification that zot announces"),

    row("log.level", OneOf(&["panic", "fatal", "error", "warn", "info", "debug", "trace"]), "info", Implemented,
        "least severe message that is logged; panic and fatal count as error"),
    row("log.format", OneOf(&["text", "json"]), "text", Implemented,
        "one line of text, or one JSON object, for each message"),
    row("log.output", Path, "", Implemented,
        "file which the log is appended to; standard error without it"),
    row("log.audit", Path, "", Implemented,
        "file to which every change is appended as a line of JSON; made for its owner alone, and made anew when it was moved away"),

    row("scheduler.numWorkers", Kind::ANY_INT, "0", NoEffect("background work needs no worker pool"),
        "number of zot's background workers"),

    row("cluster", Table, "", Refused("not supported: one coracle serves one data directory; take the block out"),
        "several registries on one storage"),
    row("cluster.members", Texts, "", Within, "addresses of the members"),
    row("cluster.hashKey", Text, "", Within, "key of the hash that distributes repositories"),
    row("cluster.tls.cert", Path, "", Within, "certificate between members"),
    row("cluster.tls.key", Path, "", Within, "key of that certificate"),
    row("cluster.tls.cacert", Path, "", Within, "authority of the members' certificates"),

    row("differences", List, "[]", Implemented,
        "deliberate differences from zot, kept with the configuration and read by a test; a registry does not look at them"),
    row("differences.*.route", Text, REQUIRED, Within, "method and path the difference is about"),
    row("differences.*.zot", Text, REQUIRED, Within, "what zot answers"),
    row("differences.*.coracle", Text, REQUIRED, Within, "what coracle answers"),
    row("differences.*.why", Text, REQUIRED, Within, "why coracle answers otherwise"),
    row("differences.*.check", Text, REQUIRED, Within, "name of the test that checks the row"),
];
