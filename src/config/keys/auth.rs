//! Keys that say who may sign in, and who may do what.

use crate::config::kind::Kind::{self, Bool, List, Map, OneOf, Path, Port, Table, Text, Texts};

use super::Status::{Implemented, NoEffect, Refused, Within};
use super::{Row, row};

const OWN_SESSIONS: super::Status =
    NoEffect("sessions are kept in the registry's own database, under a hash of their id");

const NO_CONDITIONS: super::Status =
    Refused("not supported: a policy cannot depend on an expression; make it unconditional, or take it out");

/// zot's words for what a policy grants.
const ACTIONS: Kind = Kind::SomeOf(&["read", "create", "update", "delete", "detectManifestCollision"]);

#[rustfmt::skip] // a table is read down its columns
pub(super) const KEYS: &[Row] = &[
    row("http.auth.failDelay", Kind::COUNT, "0", NoEffect("wrong passwords wait longer and longer by themselves, by user and address"),
        "seconds a failed sign-in waits for its answer"),
    row("http.auth.htpasswd.path", Path, "", Implemented, "htpasswd file with users and bcrypt passwords, read again when it changes"),
    row("http.auth.apikey", Bool, "true", Implemented, "users can make API keys"),
    row("http.auth.keys.maxPerUser", Kind::AT_LEAST_ONE, "100", Implemented, "how many API keys one user may have"),
    row("http.auth.keys.maxLifetime", Kind::Duration { least: "0s", most: "87600h" }, "0s", Implemented, "how long an API key may live; 0 is for ever"),
    row("http.auth.session.idleTimeout", Kind::LIMIT, "2h", Implemented, "how long a session lives without being used"),
    row("http.auth.session.lifetime", Kind::LIMIT, "168h", Implemented, "how long a session lives"),
    row("http.auth.token.lifetime", Kind::Duration { least: "60s", most: "24h" }, "1h", Implemented, "how long a token of /v2/auth is good for"),
    row("http.auth.token.issuer", Text, "coracle", Implemented, "who tokens say has made them"),
    row("http.auth.token.services", Texts, "[]", Implemented, "names that clients may call this registry by when they want a token, besides its host; tokens are made out to the first"),
    row("http.auth.sessionKeysFile", Path, "", OWN_SESSIONS, "file with the keys that sign session cookies"),
    row("http.auth.sessionDriver.name", OneOf(&["local", "redis"]), "local", OWN_SESSIONS, "where sessions are kept"),
    row("http.auth.sessionDriver.url", Text, "", OWN_SESSIONS, "address of the session database"),
    row("http.auth.sessionDriver.keyprefix", Text, "", OWN_SESSIONS, "prefix of names in the session database"),
    row("http.auth.secureSession", Bool, "", NoEffect("session cookies are for TLS only where the registry is reached by https: by http.tls or http.externalUrl"),
        "session cookies are for TLS only"),

    row("http.auth.ldap", Table, "", Refused("not supported: users cannot come from LDAP; take the block out"),
        "users from a directory server"),
    row("http.auth.ldap.credentialsFile", Path, "", Within, "file with the name and password of the reader"),
    row("http.auth.ldap.address", Text, "", Within, "host of the directory"),
    row("http.auth.ldap.port", Port, "", Within, "port of the directory"),
    row("http.auth.ldap.insecure", Bool, "", Within, "without TLS"),
    row("http.auth.ldap.startTLS", Bool, "", Within, "TLS is begun on a plain connection"),
    row("http.auth.ldap.skipVerify", Bool, "", Within, "the certificate is not checked"),
    row("http.auth.ldap.subtreeSearch", Bool, "", Within, "users are looked for at any depth"),
    row("http.auth.ldap.baseDN", Text, "", Within, "entry under which users are"),
    row("http.auth.ldap.userAttribute", Text, "", Within, "attribute with the user's name"),
    row("http.auth.ldap.userFilter", Text, "", Within, "further condition on users"),
    row("http.auth.ldap.userGroupAttribute", Text, "", Within, "attribute with the user's groups"),
    row("http.auth.ldap.caCert", Path, "", Within, "authority of the directory's certificate"),

    row("http.auth.bearer", Table, "", Refused("not implemented yet: tokens made elsewhere are not accepted; take the block out"),
        "tokens made by another server"),
    row("http.auth.bearer.realm", Text, "", Within, "URL of the token server"),
    row("http.auth.bearer.service", Text, "", Within, "name of the registry at the token server"),
    row("http.auth.bearer.cert", Path, "", Within, "file with the key that verifies tokens"),
    row("http.auth.bearer.awsSecretsManager.region", Text, "", Within, "region of the secret with the keys"),
    row("http.auth.bearer.awsSecretsManager.secretName", Text, "", Within, "name of that secret"),
    row("http.auth.bearer.awsSecretsManager.refreshInterval", Kind::ANY_DURATION, "", Within, "how often it is read again"),
    row("http.auth.bearer.oidc", List, "", Within, "OpenID issuers whose tokens are accepted"),
    row("http.auth.bearer.oidc.*.issuer", Text, "", Within, "URL of the issuer"),
    row("http.auth.bearer.oidc.*.audiences", Texts, "", Within, "audiences that are accepted"),
    row("http.auth.bearer.oidc.*.claimMapping.variables", List, "", Within, "named expressions over the claims"),
    row("http.auth.bearer.oidc.*.claimMapping.variables.*.name", Text, "", Within, "name of the variable"),
    row("http.auth.bearer.oidc.*.claimMapping.variables.*.expression", Text, "", Within, "its expression"),
    row("http.auth.bearer.oidc.*.claimMapping.validations", List, "", Within, "conditions on the claims"),
    row("http.auth.bearer.oidc.*.claimMapping.validations.*.expression", Text, "", Within, "the condition"),
    row("http.auth.bearer.oidc.*.claimMapping.validations.*.message", Text, "", Within, "what is said when it fails"),
    row("http.auth.bearer.oidc.*.claimMapping.username", Text, "", Within, "expression of the user's name"),
    row("http.auth.bearer.oidc.*.claimMapping.groups", Text, "", Within, "expression of the user's groups"),
    row("http.auth.bearer.oidc.*.certificateAuthority", Text, "", Within, "authority of the issuer's certificate, as PEM"),
    row("http.auth.bearer.oidc.*.certificateAuthorityFile", Path, "", Within, "authority of the issuer's certificate, as a file"),
    row("http.auth.bearer.oidc.*.skipIssuerVerification", Bool, "", Within, "the issuer named in a token is not checked"),
    row("http.auth.bearer.upstreamTokenEndpoint.realm", Text, "", Within, "token server that requests are passed on to"),
    row("http.auth.bearer.upstreamTokenEndpoint.service", Text, "", Within, "name of the registry there"),
    row("http.auth.bearer.upstreamTokenEndpoint.allowInsecureHttp", Bool, "", Within, "plain HTTP is allowed"),

    row("http.auth.openid", Table, "", Refused("not implemented yet: nobody can sign in through a provider; take the block out"),
        "sign-in through OpenID providers"),
    row("http.auth.openid.providers", Map, "", Within, "providers by name"),
    row("http.auth.openid.providers.*.name", Text, "", Within, "name shown to users"),
    row("http.auth.openid.providers.*.credentialsFile", Path, "", Within, "file with id and secret of the client"),
    row("http.auth.openid.providers.*.clientid", Text, "", Within, "id of the client"),
    row("http.auth.openid.providers.*.clientsecret", Text, "", Within, "secret of the client"),
    row("http.auth.openid.providers.*.keypath", Path, "", Within, "private key that signs in the client"),
    row("http.auth.openid.providers.*.issuer", Text, "", Within, "URL of the provider"),
    row("http.auth.openid.providers.*.authurl", Text, "", Within, "URL at which users sign in"),
    row("http.auth.openid.providers.*.tokenurl", Text, "", Within, "URL at which tokens are fetched"),
    row("http.auth.openid.providers.*.scopes", Texts, "", Within, "scopes to ask for"),
    row("http.auth.openid.providers.*.claimMapping.username", Text, "", Within, "claim with the user's name"),
    row("http.auth.openid.providers.*.claimMapping.groups", Text, "", Within, "claim with the user's groups"),
    row("http.auth.openid.callbackAllowOrigins", Texts, "", Within, "origins that users may return to"),

    row("http.auth.mtls", Table, "", Refused("not supported: nobody can sign in by certificate; take the block out"),
        "sign-in by client certificate"),
    row("http.auth.mtls.identityAttributes", Texts, "", Within, "parts of the certificate that name the user"),
    row("http.auth.mtls.uriSanPattern", Text, "", Within, "regular expression over its URI"),
    row("http.auth.mtls.uriSanIndex", Kind::COUNT, "", Within, "which URI counts"),
    row("http.auth.mtls.dnsSanIndex", Kind::COUNT, "", Within, "which DNS name counts"),
    row("http.auth.mtls.emailSanIndex", Kind::COUNT, "", Within, "which e-mail address counts"),

    row("http.accessControl", Table, "", Implemented, "who may do what, by repository pattern; read again when the file changes"),
    row("http.accessControl.repositories", Map, "", Implemented, "rights by repository pattern, of which the longest that matches counts"),
    row("http.accessControl.repositories.*.policies", List, "[]", Implemented, "rights of users and groups"),
    row("http.accessControl.repositories.*.policies.*.users", Texts, "[]", Implemented, "users the policy is for"),
    row("http.accessControl.repositories.*.policies.*.groups", Texts, "[]", Implemented, "groups the policy is for"),
    row("http.accessControl.repositories.*.policies.*.actions", ACTIONS, "[]", Implemented, "what they may do"),
    row("http.accessControl.repositories.*.policies.*.conditions", List, "", NO_CONDITIONS, "what must hold besides"),
    row("http.accessControl.repositories.*.policies.*.conditions.*.expression", Text, "", Within, "the condition"),
    row("http.accessControl.repositories.*.policies.*.conditions.*.message", Text, "", Within, "what is said when it fails"),
    row("http.accessControl.repositories.*.defaultPolicy", ACTIONS, "[]", Implemented, "what every signed-in user may do"),
    row("http.accessControl.repositories.*.anonymousPolicy", ACTIONS, "[]", Implemented, "what one may do without signing in"),
    row("http.accessControl.adminPolicy.users", Texts, "[]", Implemented, "users with rights in every repository"),
    row("http.accessControl.adminPolicy.groups", Texts, "[]", Implemented, "groups with rights in every repository"),
    row("http.accessControl.adminPolicy.actions", ACTIONS, "[]", Implemented, "what they may do"),
    row("http.accessControl.adminPolicy.conditions", List, "", NO_CONDITIONS, "what must hold besides"),
    row("http.accessControl.adminPolicy.conditions.*.expression", Text, "", Within, "the condition"),
    row("http.accessControl.adminPolicy.conditions.*.message", Text, "", Within, "what is said when it fails"),
    row("http.accessControl.groups", Map, "", Implemented, "groups by name"),
    row("http.accessControl.groups.*.users", Texts, "[]", Implemented, "members of the group"),
    row("http.accessControl.metrics.users", Texts, "[]", Implemented, "users who may read the metrics"),
    row("http.accessControl.metrics.anonymousPolicy", ACTIONS, "[]", Implemented, "what one may do with the metrics without signing in"),
];
