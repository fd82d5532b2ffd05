//! Keys of zot's extensions.

use super::Status::{NoEffect, Refused, Supported, Within};
use super::{Row, row};
use crate::config::kind::Kind::{self, Bool, Free, Path, Switch, Table, Text, Texts};

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("extensions.search", Switch { default: true }, "", Supported, &["Search by GraphQL, which zot's web page and zli need"]),
    row("extensions.search.cve", Table, "", Refused("not supported: images are not scanned for vulnerabilities; remove the block, and use a scanner such as trivy where images are built"), &["Search for known vulnerabilities"]),
    row("extensions.search.cve.updateInterval", Kind::ANY_DURATION, "", Within, &["How often known vulnerabilities are downloaded"]),
    row("extensions.search.cve.trivy.dbRepository", Text, "", Within, &["Source of vulnerabilities"]),
    row("extensions.search.cve.trivy.javaDBRepository", Text, "", Within, &["Source of vulnerabilities of Java"]),
    row("extensions.search.cve.trivy.vulnSeveritySources", Texts, "", Within, &["Sources of severities"]),
    row("extensions.search.cve.trivy.sbom.enable", Bool, "", Within, &["Whether bills of materials are created"]),
    row("extensions.search.cve.trivy.sbom.format", Text, "", Within, &["Format of a bill of materials"]),

    row("extensions.sync", Switch { default: true }, "", Supported, &["Mirrors of other registries"]),
    row("extensions.sync.downloadDir", Path, "", NoEffect("unfinished downloads are among the uploads of the data directory"), &["Directory for unfinished downloads"]),
    row("extensions.sync.registries.*.preserveDigest", Bool, "", NoEffect("manifests are never converted"), &["Do not convert manifests"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.tokenURL", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Token URL"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.assertionFile", Path, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["File with the assertion"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.signingFile", Path, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["File with the key that signs the assertion"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.grantType", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Grant type to request"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.clientID", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Client id"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.clientSecretFile", Path, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["File with the client secret"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.scopes", Texts, "[]", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Scopes to request"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.username", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["User name for the token"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.audience", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Audience to request"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.subjectTokenType", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Type of the exchanged token"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.requestedTokenType", Text, "", Refused("tokens are not exchanged: use credentialHelper with a program that gets them, or credentialsFile"), &["Type of the requested token"]),
    row("extensions.sync.registries.*.reqPerSec", Kind::COUNT, "0", Refused("not supported: limits and quotas that the upstream announces are kept; use extensions.sync.registries.*.reqConcurrent to limit requests"), &["Requests per second"]),
    row("extensions.scrub", Switch { default: true }, "", Supported, &["Stored blobs are checked against their digests from time to time, and rows against each other"]),

    row("extensions.lint", Switch { default: false }, "", Supported, &["Images must have annotations"]),

    row("extensions.ui", Switch { default: true }, "", Supported, &["zot's web page, and stars and bookmarks of repositories"]),

    row("extensions.trust", Switch { default: true }, "", Refused("not supported: signatures are stored and listed, and verified where images run; remove the block or set extensions.trust.enable to false"), &["Verification of signatures"]),
    row("extensions.trust.enable", Bool, "", Within, &["Whether signatures are verified"]),
    row("extensions.trust.cosign", Bool, "", Within, &["Signatures of cosign"]),
    row("extensions.trust.notation", Bool, "", Within, &["Signatures of notation"]),

    row("extensions.events", Switch { default: false }, "", Supported, &["Events about changes, sent to other servers"]),
    row("extensions.mgmt", Free, "", NoEffect("zot ignores it too"), &["No longer used"]),
    row("extensions.apikey", Free, "", NoEffect("zot ignores it too; the key is http.auth.apikey"), &["No longer used"]),
];
