//! Keys of zot's extensions.

use super::Status::{NoEffect, Refused, Supported, Within};
use super::{Row, row};
use crate::config::kind::Kind::{self, Bool, Free, List, OneOf, Path, Switch, Text, Texts};

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("extensions.search", Switch { default: true }, "", Refused("not implemented yet: remove the block or set extensions.search.enable to false"), &["Search by GraphQL, which zot's web page needs"]),
    row("extensions.search.enable", Bool, "", Within, &["Whether search is offered"]),
    row("extensions.search.cve.updateInterval", Kind::ANY_DURATION, "", Within, &["How often known vulnerabilities are downloaded"]),
    row("extensions.search.cve.trivy.dbRepository", Text, "", Within, &["Source of vulnerabilities"]),
    row("extensions.search.cve.trivy.javaDBRepository", Text, "", Within, &["Source of vulnerabilities of Java"]),
    row("extensions.search.cve.trivy.vulnSeveritySources", Texts, "", Within, &["Sources of severities"]),
    row("extensions.search.cve.trivy.sbom.enable", Bool, "", Within, &["Whether bills of materials are created"]),
    row("extensions.search.cve.trivy.sbom.format", Text, "", Within, &["Format of a bill of materials"]),

    row("extensions.sync", Switch { default: true }, "", Supported, &["Mirrors of other registries"]),
    row("extensions.sync.downloadDir", Path, "", NoEffect("unfinished downloads are among the uploads of the data directory"), &["Directory for unfinished downloads"]),
    row("extensions.sync.registries.*.pollInterval", Kind::ANY_DURATION, "0s", Refused("not implemented yet: content is fetched only on demand; remove it"), &["How often all content is downloaded"]),
    row("extensions.sync.registries.*.content.*.tags.regex", Text, "", Refused("not implemented yet: all tags are mirrored on demand; remove it"), &["Tags to mirror"]),
    row("extensions.sync.registries.*.content.*.tags.excludeRegex", Text, "", Refused("not implemented yet: all tags are mirrored on demand; remove it"), &["Tags to leave out"]),
    row("extensions.sync.registries.*.content.*.tags.semver", Bool, "false", Refused("not implemented yet: all tags are mirrored on demand; remove it"), &["Only tags that are versions"]),
    row("extensions.sync.registries.*.onlySigned", Bool, "false", Refused("not implemented yet: signatures are not verified; remove it"), &["Only signed content"]),
    row("extensions.sync.registries.*.syncLegacyCosignTags", Bool, "", NoEffect("every tag that a client requests is mirrored"), &["Mirror signatures stored under tags, too"]),
    row("extensions.sync.registries.*.preserveDigest", Bool, "", NoEffect("manifests are never converted"), &["Do not convert manifests"]),
    row("extensions.sync.registries.*.syncTimeout", Kind::ANY_DURATION, "", NoEffect("a transfer ends when its bytes stop arriving"), &["How long one mirroring may take"]),
    row("extensions.sync.registries.*.credentialHelper", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Program or service that supplies the password"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.tokenURL", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Token URL"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.assertionFile", Path, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["File with the assertion"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.signingFile", Path, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["File with the key that signs the assertion"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.grantType", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Grant type to request"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.clientID", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Client id"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.clientSecretFile", Path, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["File with the client secret"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.scopes", Texts, "[]", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Scopes to request"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.username", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["User name for the token"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.audience", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Audience to request"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.subjectTokenType", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Type of the exchanged token"]),
    row("extensions.sync.registries.*.oauth2CredentialHelper.requestedTokenType", Text, "", Refused("not implemented yet: write the password into extensions.sync.credentialsFile"), &["Type of the requested token"]),
    row("extensions.sync.registries.*.reqPerSec", Kind::COUNT, "0", Refused("not implemented yet: extensions.sync.registries.*.reqConcurrent limits requests; remove it"), &["Requests per second"]),
    row("extensions.scrub", Switch { default: true }, "", Supported, &["Stored blobs are checked against their digests from time to time, and rows against each other"]),

    row("extensions.lint", Switch { default: false }, "", Refused("not implemented yet: manifests without annotations are accepted; remove the block or set extensions.lint.enable to false"), &["Manifests must have annotations"]),
    row("extensions.lint.enable", Bool, "", Within, &["Whether annotations are required"]),
    row("extensions.lint.mandatoryAnnotations", Texts, "", Within, &["Required annotations"]),

    row("extensions.ui", Switch { default: true }, "", Refused("not implemented yet: remove the block or set extensions.ui.enable to false"), &["Web page"]),
    row("extensions.ui.enable", Bool, "", Within, &["Whether the web page is served"]),

    row("extensions.trust", Switch { default: true }, "", Refused("not implemented yet: signatures are not verified; remove the block or set extensions.trust.enable to false"), &["Verification of signatures"]),
    row("extensions.trust.enable", Bool, "", Within, &["Whether signatures are verified"]),
    row("extensions.trust.cosign", Bool, "", Within, &["Signatures of cosign"]),
    row("extensions.trust.notation", Bool, "", Within, &["Signatures of notation"]),

    row("extensions.events", Switch { default: false }, "", Refused("not implemented yet: no events are sent; remove the block or set extensions.events.enable to false"), &["Events about changes, sent to other servers"]),
    row("extensions.events.enable", Bool, "", Within, &["Whether events are sent"]),
    row("extensions.events.sinks", List, "", Within, &["Servers to send events to"]),
    row("extensions.events.sinks.*.type", OneOf(&["http", "nats"]), "", Within, &["Protocol of the server"]),
    row("extensions.events.sinks.*.address", Text, "", Within, &["Address of the server"]),
    row("extensions.events.sinks.*.channel", Text, "", Within, &["Channel at the server"]),
    row("extensions.events.sinks.*.timeout", Kind::ANY_DURATION, "", Within, &["How long sending may take"]),
    row("extensions.events.sinks.*.proxy", Text, "", Within, &["Proxy to use"]),
    row("extensions.events.sinks.*.headers", Free, "", Within, &["Headers to send"]),
    row("extensions.events.sinks.*.credentials.username", Text, "", Within, &["User name"]),
    row("extensions.events.sinks.*.credentials.password", Text, "", Within, &["Password"]),
    row("extensions.events.sinks.*.credentials.file", Path, "", Within, &["File with credentials"]),
    row("extensions.events.sinks.*.credentials.token", Text, "", Within, &["Token"]),
    row("extensions.events.sinks.*.tlsconfig.cacertfile", Path, "", Within, &["Certificate authority of the server"]),
    row("extensions.events.sinks.*.tlsconfig.certfile", Path, "", Within, &["Client certificate"]),
    row("extensions.events.sinks.*.tlsconfig.keyfile", Path, "", Within, &["Key of that certificate"]),
    row("extensions.mgmt", Free, "", NoEffect("zot ignores it too"), &["No longer used"]),
    row("extensions.apikey", Free, "", NoEffect("zot ignores it too; the key is http.auth.apikey"), &["No longer used"]),
];
