//! [`Attempt`]: one order at the authority, from the account to the certificate.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, Problem, RetryPolicy,
};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use tokio_util::task::TaskTracker;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::AuthorityKeyIdentifier;
use zeroize::Zeroizing;

use super::challenge::{Challenge, Guard};
use super::failure::{Failure, Kind};
use super::files::StoredCertificate;
use super::made;
use super::schedule::Info;
use super::transport::{BadDirectory, NotAcme, Transport};
use super::{Acme, ExternalAccount};
use crate::kit::clock::Timestamp;
use crate::kit::outgoing;
use crate::kit::text::printable;

/// How long the authority may verify names, and sign.
const PATIENCE: Duration = Duration::from_mins(3);
const POLL: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(PATIENCE);
/// The most subproblems that are shown.
const SUBPROBLEMS_MAX: usize = 100;
/// How far the clock of the authority may be ahead of ours when it issues a certificate.
const CLOCK_SLACK: Duration = Duration::from_mins(5);
/// The beginning of the type of an ACME problem.
const TYPE: &str = "urn:ietf:params:acme:error:";

/// The file of the account.
#[derive(Serialize, Deserialize)]
struct AccountFile {
    directory: String,
    email: Option<String>,
    external_account: Option<String>,
    credentials: AccountCredentials,
}

/// A certificate that the authority has issued.
pub(super) struct Issued {
    key: Zeroizing<String>,
    chain: String,
}

/// One order.
pub(super) struct Attempt<'a> {
    acme: &'a Acme,
    challenge: Challenge,
    replaced: Option<&'a StoredCertificate>,
    transport: Transport,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(acme: &'a Acme, challenge: Challenge, replaced: Option<&'a StoredCertificate>) -> Self {
        let transport = Transport::new(&acme.settings, acme.clock.clone());
        Self { acme, challenge, replaced, transport }
    }

    pub(super) async fn run(self, work: &TaskTracker) -> Result<Issued, Failure> {
        self.issue(work).await.map_err(|failure| after(failure, &self.transport))
    }

    async fn issue(&self, work: &TaskTracker) -> Result<Issued, Failure> {
        let mut order = self.order(work).await?;
        // The challenges are pending until the authority has verified them, and no longer.
        let pending = self.answer(&mut order).await?;
        let ready = order.poll_ready(&POLL).await;
        drop(pending);
        match ready {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => return Err(self.refusal(&mut order, ready.err()).await),
            Err(error) => return Err(failure(&error)),
        }
        let key = order.finalize().await.map_err(|error| failure(&error))?;
        let chain = order.poll_certificate(&POLL).await.map_err(|error| failure(&error))?;
        Ok(Issued { key: Zeroizing::new(key), chain })
    }

    /// Makes an order. An account that the authority does not know any more is replaced once.
    async fn order(&self, work: &TaskTracker) -> Result<Order, Failure> {
        let (stored, account) = match account(self.acme, &self.transport, work).await? {
            Some(account) => (true, account),
            None => (false, create_account(self.acme, &self.transport, work).await?),
        };
        match self.new_order(&account).await {
            Err(Error::Api(problem)) if stored && short_type(&problem) == "accountDoesNotExist" => {
                tracing::warn!("the authority does not know the account any more: creating another one");
                let account = create_account(self.acme, &self.transport, work).await?;
                self.new_order(&account).await.map_err(|error| failure(&error))
            }
            result => result.map_err(|error| failure(&error)),
        }
    }

    /// Makes an order that names the certificate to replace (RFC 9773, 5), or one without the name if the authority refuses
    /// it.
    async fn new_order(&self, account: &Account) -> Result<Order, Error> {
        let names: Vec<Identifier> = self.acme.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        if let Some(replaced) = self.replaced.and_then(|held| identifier(&held.certificate)) {
            match account.new_order(&NewOrder::new(&names).replaces(replaced)).await {
                Err(Error::Unsupported(_)) => {}
                Err(Error::Api(problem)) if matches!(short_type(&problem), "alreadyReplaced" | "malformed") => {}
                // The response did not confirm the name.
                Err(Error::Other(error)) if is_of_client(&*error) => {}
                result => return result,
            }
        }
        account.new_order(&NewOrder::new(&names)).await
    }

    /// Prepares the challenge for each name that is not verified, and tells the authority.
    async fn answer(&self, order: &mut Order) -> Result<Vec<Guard>, Failure> {
        let kind = match self.challenge {
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Http01 => ChallengeType::Http01,
        };
        let (asked, names) = (order.state().authorizations.len(), self.acme.settings.domains.len());
        if asked > names {
            let why = format!("the authority asks for {asked} authorizations of an order for {names} names");
            return Err(Failure::new(Kind::Refused, why));
        }
        let mut pending = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let mut authorization = next.map_err(|error| failure(&error))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(kind.clone()) else {
                let why = format!("the authority does not offer {} for {}", self.challenge.word(), printable(&name));
                return Err(Failure::new(Kind::Challenge, why));
            };
            let proof = challenge.key_authorization();
            pending.push(match self.challenge {
                Challenge::TlsAlpn01 => {
                    let made = made::for_challenge(&name, proof.digest().as_ref());
                    self.acme.pending.add_certificate(&name, made.map_err(|why| Failure::local(&why))?)
                }
                Challenge::Http01 => self.acme.pending.add_response(&challenge.token, proof.as_str()),
            });
            challenge.set_ready().await.map_err(|error| match error {
                Error::Api(problem) => self.refused(&name, &problem),
                error => failure(&error),
            })?;
        }
        Ok(pending)
    }

    /// Finds out why the authority did not verify a name.
    async fn refusal(&self, order: &mut Order, error: Option<Error>) -> Failure {
        let mut authorizations = order.authorizations();
        while let Some(next) = authorizations.next().await {
            let Ok(mut authorization) = next else { break };
            if authorization.refresh().await.is_err() {
                break;
            }
            let name = authorization.identifier().to_string();
            if let Some(problem) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return self.refused(&name, problem);
            }
        }
        match error {
            Some(error) => failure(&error),
            None => Failure::new(Kind::Refused, "the authority refused the order without a reason"),
        }
    }

    fn refused(&self, name: &str, problem: &Problem) -> Failure {
        let (word, port, why) = (self.challenge.word(), self.challenge.port(), text(problem));
        let name = printable(name);
        let why = format!(
            "the authority cannot verify {name} by {word}: {why}: let {name} lead to this registry, from port {port} of \
             its address"
        );
        Failure::new(Kind::Challenge, why)
    }
}

impl Issued {
    /// Checks that TLS can use the certificate, for all names, now.
    pub(super) fn check(&self, domains: &[String], now: Timestamp) -> Result<StoredCertificate, Failure> {
        let refused = |why: String| Failure::new(Kind::Refused, format!("the certificate of the authority {why}"));
        let held = StoredCertificate::read(self.chain.as_bytes(), self.key.as_bytes(), domains)
            .map_err(|why| refused(format!("is not usable: {why}")))?;
        if !held.covers {
            return Err(refused(format!("is not for {}", domains.join(", "))));
        }
        if held.validity.from > now.after(CLOCK_SLACK) {
            return Err(refused(format!(
                "is not valid before {}: check the clock of this machine",
                held.validity.from
            )));
        }
        if held.validity.until <= now {
            return Err(refused(format!("expired at {}: check the clock of this machine", held.validity.until)));
        }
        Ok(held)
    }

    /// The private key and the chain, as the file has them.
    pub(super) fn into_pem(self) -> Zeroizing<String> {
        let (key, chain) = (self.key.trim_end(), self.chain.trim_end());
        Zeroizing::new(format!("{key}\n{chain}\n"))
    }
}

/// Asks when a certificate is to be renewed.
pub(super) async fn ask_info(acme: &Acme, held: &StoredCertificate, work: &TaskTracker) -> Result<Info, Failure> {
    let transport = Transport::new(&acme.settings, acme.clock.clone());
    let Some(id) = identifier(&held.certificate) else { return Ok(Info::Unsupported) };
    // Without an account, the certificate is not from an order of this registry.
    let account = account(acme, &transport, work).await.map_err(|failure| after(failure, &transport))?;
    let Some(account) = account else { return Ok(Info::Unsupported) };
    match account.renewal_info(&id).await {
        Ok((info, again)) => {
            let micros = |time: i128| Timestamp::from_micros(u64::try_from(time / 1_000).unwrap_or_default());
            let window = info.suggested_window;
            let (start, end) = (window.start.unix_timestamp_nanos(), window.end.unix_timestamp_nanos());
            let (start, end) = (micros(start), micros(end));
            tracing::debug!(%start, %end, "the authority says when to renew");
            Ok(Info::Window { start, end, again })
        }
        Err(Error::Unsupported(_)) => Ok(Info::Unsupported),
        Err(error) => Err(after(failure(&error), &transport)),
    }
}

/// Adds the pause for which the authority has asked.
fn after(failure: Failure, transport: &Transport) -> Failure {
    Failure { retry_after: failure.retry_after.max(transport.retry_after()), ..failure }
}

/// The account of the file. `None` if the file has no account for these settings.
async fn account(acme: &Acme, transport: &Transport, work: &TaskTracker) -> Result<Option<Account>, Failure> {
    let stored = acme.files.account().map_err(|error| Failure::local(&error.to_string()))?;
    let Some(stored) = stored else { return Ok(None) };
    let Ok(mut stored) = serde_json::from_slice::<AccountFile>(&stored) else {
        tracing::warn!("the file of the account at the authority is damaged: creating another account");
        return Ok(None);
    };
    let settings = &acme.settings;
    let external = settings.external_account.as_ref().map(|account| &account.id);
    if stored.directory != settings.directory || stored.external_account.as_ref() != external {
        return Ok(None);
    }
    let copy = serde_json::to_vec(&stored.credentials).and_then(|copy| serde_json::from_slice(&copy));
    let copy: AccountCredentials = copy.map_err(|error| Failure::local(&error.to_string()))?;
    let account = Account::builder_with_http(Box::new(transport.clone())).from_credentials(copy).await;
    let account = match account {
        Err(instant_acme::Error::Crypto | instant_acme::Error::KeyRejected) => {
            tracing::warn!("the key of the account at the authority is damaged: creating another account");
            return Ok(None);
        }
        account => account.map_err(|error| failure(&error))?,
    };
    if stored.email != settings.email {
        let contact = contact(acme);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        match account.update_contacts(&contact).await {
            Ok(()) => {
                stored.email.clone_from(&settings.email);
                write_account(acme, &stored, work).await?;
            }
            // The order tells more about an account that the authority does not know.
            Err(error) => tracing::warn!(error = failure(&error).why, "the authority did not take the e-mail address"),
        }
    }
    Ok(Some(account))
}

async fn create_account(acme: &Acme, transport: &Transport, work: &TaskTracker) -> Result<Account, Failure> {
    let settings = &acme.settings;
    let key = |account: &ExternalAccount| ExternalAccountKey::new(account.id.clone(), &account.key);
    let external = settings.external_account.as_ref().map(key);
    let contact = contact(acme);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(transport.clone()));
    let created = builder.create(&new, settings.directory.clone(), external.as_ref()).await;
    let (account, credentials) = created.map_err(|error| failure(&error))?;
    let file = AccountFile {
        directory: settings.directory.clone(),
        email: settings.email.clone(),
        external_account: settings.external_account.as_ref().map(|account| account.id.clone()),
        credentials,
    };
    write_account(acme, &file, work).await?;
    tracing::info!(
        directory = settings.directory,
        account = printable(account.id()),
        "created an account at the authority"
    );
    Ok(account)
}

async fn write_account(acme: &Acme, file: &AccountFile, work: &TaskTracker) -> Result<(), Failure> {
    let text = serde_json::to_vec_pretty(file).map_err(|error| Failure::local(&error.to_string()))?;
    let text = Zeroizing::new(text);
    acme.in_background(work, move |files| files.write_account(&text)).await
}

fn contact(acme: &Acme) -> Option<String> {
    acme.settings.email.as_ref().map(|email| format!("mailto:{email}"))
}

/// The name of a certificate in renewal information (RFC 9773, 4.1). `None` if it does not name its authority's key.
fn identifier(certificate: &CertificateDer<'_>) -> Option<CertificateIdentifier<'static>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let fields = parsed.tbs_certificate();
    let (_, authority) = fields.get_extension::<AuthorityKeyIdentifier>().ok()??;
    let key = authority.key_identifier?;
    Some(CertificateIdentifier {
        authority_key_identifier: URL_SAFE_NO_PAD.encode(key.as_bytes()).into(),
        serial: URL_SAFE_NO_PAD.encode(fields.serial_number().as_bytes()).into(),
    })
}

/// Why a request to the authority failed.
fn failure(error: &Error) -> Failure {
    match error {
        Error::Api(problem) => of_problem(problem),
        Error::Json(_) => {
            let why = "the response is not of an ACME authority: check http.tls.acme.directory";
            Failure::new(Kind::Refused, why)
        }
        Error::Timeout(next) => Failure {
            retry_after: next.map(|next| next.saturating_duration_since(Instant::now())),
            ..Failure::new(Kind::Away, "the authority did not finish in time")
        },
        Error::Other(cause) if cause.is::<BadDirectory>() => Failure::new(Kind::Refused, cause.to_string()),
        Error::Other(cause) => {
            let why = printable(&outgoing::causes(&**cause));
            match cause.downcast_ref::<outgoing::Error>() {
                Some(outgoing::Error::Certificate { .. }) => {
                    Failure::new(Kind::Away, format!("{why}: name its authority in http.tls.acme.caCert"))
                }
                _ => Failure::new(Kind::Away, why),
            }
        }
        error => Failure::new(Kind::Away, printable(&outgoing::causes(error))),
    }
}

/// Whether an error is one that the ACME client itself has made, such as for a response that does not fit the request.
fn is_of_client(error: &(dyn std::error::Error + 'static)) -> bool {
    !error.is::<outgoing::Error>() && !error.is::<NotAcme>() && error.source().is_none()
}

fn of_problem(problem: &Problem) -> Failure {
    let why = text(problem);
    let (kind, advice) = match short_type(problem) {
        "rateLimited" => (Kind::RateLimited, ""),
        "serverInternal" | "badNonce" => (Kind::Away, ""),
        "externalAccountRequired" => {
            (Kind::Refused, ": set http.tls.acme.externalAccountId and http.tls.acme.externalAccountKeyFile")
        }
        "rejectedIdentifier" | "unsupportedIdentifier" | "caa" => (Kind::Refused, ": check http.tls.acme.domains"),
        "invalidContact" | "unsupportedContact" => (Kind::Refused, ": check http.tls.acme.email"),
        _ if problem.status == Some(429) => (Kind::RateLimited, ""),
        _ if problem.status.is_some_and(|status| status >= 500) => (Kind::Away, ""),
        _ => (Kind::Refused, ""),
    };
    Failure::new(kind, format!("the authority refuses: {why}{advice}"))
}

/// The type of a problem, without its beginning.
fn short_type(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix(TYPE).unwrap_or(kind)
}

/// A problem in words, without control characters and of limited length.
fn text(problem: &Problem) -> String {
    let kind = short_type(problem);
    let mut text = match &problem.detail {
        Some(detail) if kind.is_empty() => detail.clone(),
        Some(detail) => format!("{detail} ({kind})"),
        None => kind.to_owned(),
    };
    for part in problem.subproblems.iter().take(SUBPROBLEMS_MAX) {
        let name = part.identifier.as_ref().map(|name| name.authorized(false).to_string()).unwrap_or_default();
        text = format!("{text}; {name}: {}", part.detail.as_deref().unwrap_or_default());
    }
    printable(&text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn a_certificate_is_valid_now() {
        let check = |from, until| {
            let mut parameters = CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
            (parameters.not_before, parameters.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
            let key = KeyPair::generate().unwrap();
            let chain = parameters.self_signed(&key).unwrap().pem();
            let issued = Issued { key: Zeroizing::new(key.serialize_pem()), chain };
            let now = Timestamp::from_rfc3339("2026-06-01T00:00:00Z").unwrap();
            issued.check(&["registry.example".to_owned()], now).map(drop).map_err(|failure| failure.why)
        };
        assert_eq!(check(2026, 2027), Ok(()));
        for (from, until, expected) in [(2027, 2028, "not valid before"), (2024, 2026, "expired at")] {
            assert!(check(from, until).is_err_and(|why| why.contains(expected)), "{from}");
        }
    }
}
