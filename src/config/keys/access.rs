//! The keys of `http.accessControl` and `http.auth.openid`, and keys of zot about signing in.

use super::Status::{NoEffect, Refused, Supported, Within};
use super::{Row, row};
use crate::config::kind::Kind::{self, Bool, List, Map, OneOf, Path, Table, Text, Texts};

const OWN_SESSIONS: super::Status =
    NoEffect("sessions are stored in the registry's own database, under a hash of their id");
const NO_CONDITIONS: super::Status = Refused(
    "not supported: what an expression grants cannot be listed or checked ahead; use patterns of repositories, groups and keys with scopes instead",
);

/// zot's actions.
const ACTIONS: Kind = Kind::SomeOf(&["read", "create", "update", "delete", "detectManifestCollision"]);

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("http.auth.failDelay", Kind::COUNT, "0", NoEffect("the wait after wrong passwords grows automatically, by user and address"), &["Seconds before a failed sign-in gets its response"]),
    row("http.auth.sessionKeysFile", Path, "", OWN_SESSIONS, &["File with the keys that sign session cookies"]),
    row("http.auth.sessionDriver.name", OneOf(&["local", "redis"]), "local", OWN_SESSIONS, &["Where sessions are stored"]),
    row("http.auth.sessionDriver.url", Text, "", OWN_SESSIONS, &["Address of the session database"]),
    row("http.auth.sessionDriver.keyprefix", Text, "", OWN_SESSIONS, &["Prefix of names in the session database"]),
    row("http.auth.secureSession", Bool, "", NoEffect("session cookies require TLS if clients reach the registry by https, according to http.tls or http.externalUrl"), &["Session cookies require TLS"]),

    row("http.tls.acme", Table, "", Supported, &["Certificate from an ACME authority"]),
    row("http.auth.ldap", Table, "", Supported, &["LDAP directory whose users may sign in"]),

    row("http.auth.bearer.awsSecretsManager", Table, "", Refused("not supported: the keys come from a file, http.auth.bearer.cert; remove the block"), &["Keys that verify tokens, in a secret at AWS"]),
    row("http.auth.bearer.awsSecretsManager.region", Text, "", Within, &["Region of the secret"]),
    row("http.auth.bearer.awsSecretsManager.secretName", Text, "", Within, &["Name of the secret"]),
    row("http.auth.bearer.awsSecretsManager.refreshInterval", Kind::ANY_DURATION, "", Within, &["How often the secret is read again"]),
    row("http.auth.bearer.oidc.*.claimMapping", Table, "", Refused("not supported: an expression may match a part of a claim by mistake; use rules with patterns for claims, and user and groups"), &["Expressions for the name and the groups of a token"]),
    row("http.auth.bearer.oidc.*.claimMapping.variables", List, "", Within, &["Named expressions over the claims"]),
    row("http.auth.bearer.oidc.*.claimMapping.variables.*.name", Text, "", Within, &["Name of the variable"]),
    row("http.auth.bearer.oidc.*.claimMapping.variables.*.expression", Text, "", Within, &["Expression of the variable"]),
    row("http.auth.bearer.oidc.*.claimMapping.validations", List, "", Within, &["Conditions on the claims"]),
    row("http.auth.bearer.oidc.*.claimMapping.validations.*.expression", Text, "", Within, &["The condition"]),
    row("http.auth.bearer.oidc.*.claimMapping.validations.*.message", Text, "", Within, &["Message if the condition fails"]),
    row("http.auth.bearer.oidc.*.claimMapping.username", Text, "", Within, &["Expression for the user name"]),
    row("http.auth.bearer.oidc.*.claimMapping.groups", Text, "", Within, &["Expression for the user's groups"]),
    row("http.auth.bearer.oidc.*.skipIssuerVerification", Bool, "false", Refused("not supported: without the issuer, a token of any issuer with the same keys would be accepted; list each issuer"), &["Do not verify the issuer named in a token"]),
    row("http.auth.bearer.upstreamTokenEndpoint", Table, "", Refused("not supported: clients ask the external token issuer themselves; remove the block"), &["Token server that requests are forwarded to"]),
    row("http.auth.bearer.upstreamTokenEndpoint.realm", Text, "", Within, &["URL of the token server"]),
    row("http.auth.bearer.upstreamTokenEndpoint.service", Text, "", Within, &["Name of the registry at the token server"]),
    row("http.auth.bearer.upstreamTokenEndpoint.allowInsecureHttp", Bool, "", Within, &["Allow plain HTTP"]),

    row("http.auth.openid", Table, "", Supported, &["Identity providers: OpenID Connect and GitHub"]),
    row("http.auth.openid.providers", Map, "", Supported, &["Identity providers by name: github, gitlab, google, or oidc for any other"]),
    row("http.auth.openid.providers.*.name", Text, "", Supported, &["Name shown to users"]),
    row("http.auth.openid.providers.*.credentialsFile", Path, "", Supported, &["JSON file with clientid and clientsecret, instead of these keys"]),
    row("http.auth.openid.providers.*.clientid", Text, "", Supported, &["Client id of the registry"]),
    row("http.auth.openid.providers.*.clientsecret", Text, "", Supported, &["Client secret of the registry"]),
    row("http.auth.openid.providers.*.keypath", Path, "", Supported, &["Private key that authenticates the registry instead of a secret: PEM, or JSON with key and keyId"]),
    row("http.auth.openid.providers.*.issuer", Text, "", Supported, &["URL of the provider, exactly as in its tokens"]),
    row("http.auth.openid.providers.*.authurl", Text, "", Supported, &["Sign-in URL of a self-hosted GitHub"]),
    row("http.auth.openid.providers.*.tokenurl", Text, "", Supported, &["Token URL of a self-hosted GitHub"]),
    row("http.auth.openid.providers.*.apiurl", Text, "", Supported, &["API URL of a self-hosted GitHub. Without it, /api/v3 on the host of authurl"]),
    row("http.auth.openid.providers.*.scopes", Texts, "[]", Supported, &["Scopes to request. Without any, the scopes for name, e-mail address and groups"]),
    row("http.auth.openid.providers.*.claimMapping.username", Text, "email", Supported, &["Claim with the user name"]),
    row("http.auth.openid.providers.*.claimMapping.groups", Text, "groups", Supported, &["Claim with the user's groups"]),
    row("http.auth.openid.callbackAllowOrigins", Texts, "[]", Supported, &["Origins that users may return to, in addition to the registry's own"]),
    row("http.auth.openid.cacert", Path, "", Supported, &["PEM file with certificate authorities to trust at providers, in addition to those of the system"]),
    row("http.auth.openid.recheck", Kind::duration("0s", "8760h"), "24h", Supported, &["How often the registry asks a provider whether a user still exists. 0 for never"]),

    row("http.auth.mtls", Table, "", Supported, &["Parts of a client certificate that name its user"]),

    row("http.accessControl", Table, "", Supported, &["Rights by repository pattern. Read again when the file changes"]),
    row("http.accessControl.repositories", Map, "", Supported, &["Rights by repository pattern. The longest pattern that matches a repository applies"]),
    row("http.accessControl.repositories.*.policies", List, "[]", Supported, &["Rights of users and groups"]),
    row("http.accessControl.repositories.*.policies.*.users", Texts, "[]", Supported, &["Users that the policy applies to"]),
    row("http.accessControl.repositories.*.policies.*.groups", Texts, "[]", Supported, &["Groups that the policy applies to"]),
    row("http.accessControl.repositories.*.policies.*.actions", ACTIONS, "[]", Supported, &["Actions that the policy allows"]),
    row("http.accessControl.repositories.*.policies.*.conditions", List, "", NO_CONDITIONS, &["Conditions of the policy"]),
    row("http.accessControl.repositories.*.policies.*.conditions.*.expression", Text, "", Within, &["The condition"]),
    row("http.accessControl.repositories.*.policies.*.conditions.*.message", Text, "", Within, &["Message if the condition fails"]),
    row("http.accessControl.repositories.*.defaultPolicy", ACTIONS, "[]", Supported, &["Actions allowed to every signed-in user"]),
    row("http.accessControl.repositories.*.anonymousPolicy", ACTIONS, "[]", Supported, &["Actions allowed without signing in"]),
    row("http.accessControl.adminPolicy.users", Texts, "[]", Supported, &["Users with rights in every repository"]),
    row("http.accessControl.adminPolicy.groups", Texts, "[]", Supported, &["Groups with rights in every repository"]),
    row("http.accessControl.adminPolicy.actions", ACTIONS, "[]", Supported, &["Actions that the policy allows"]),
    row("http.accessControl.adminPolicy.conditions", List, "", NO_CONDITIONS, &["Conditions of the policy"]),
    row("http.accessControl.adminPolicy.conditions.*.expression", Text, "", Within, &["The condition"]),
    row("http.accessControl.adminPolicy.conditions.*.message", Text, "", Within, &["Message if the condition fails"]),
    row("http.accessControl.groups", Map, "", Supported, &["Groups by name"]),
    row("http.accessControl.groups.*.users", Texts, "[]", Supported, &["Members of the group"]),
    row("http.accessControl.metrics.users", Texts, "[]", Supported, &["Users who may read the metrics"]),
    row("http.accessControl.metrics.anonymousPolicy", ACTIONS, "[]", Supported, &["Actions on the metrics that are allowed without signing in"]),
];
