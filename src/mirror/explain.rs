//! Why a reference is mirrored or not, for people. Reads rules and earlier comparisons, and sends no request.

use std::time::{Duration, Instant};

use super::{Error, Mirror, NameRule, Upstream};
use crate::oci::{Reference, RepositoryName};

/// The place of a local repository in the mirror.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) upstream: &'a Upstream,
    pub(crate) rule: &'a NameRule,
    /// The repository at the upstream.
    pub(crate) remote: RepositoryName,
}

/// The comparisons of a reference with its upstream, as far as they are remembered since the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compared {
    /// When it was compared.
    pub(crate) ago: Option<Duration>,
    /// The stored tag is used without a comparison for this long.
    pub(crate) current_for: Option<Duration>,
    /// The upstream did not have it, and is not asked again for this long.
    pub(crate) absent_for: Option<Duration>,
    /// How long ago the upstream last failed to provide it, and why. `None` if it has provided it since.
    pub(crate) failed: Option<(Duration, Error)>,
}

impl Mirror {
    /// The place of a local repository. Mirroring on demand goes before a schedule.
    pub(crate) fn placed(&self, local: &RepositoryName) -> Option<Placed<'_>> {
        let of = |upstream| {
            let (rule, remote) = Upstream::rule_of(upstream, local)?;
            Some(Placed { upstream, rule, remote })
        };
        let on_demand = self.upstreams.iter().filter(|upstream| upstream.on_demand).find_map(of);
        on_demand.or_else(|| self.upstreams.iter().find_map(of))
    }

    /// The local repository that people mean: they write the name here, or the host and the name there.
    pub(crate) fn meant(&self, text: &str) -> Option<RepositoryName> {
        if let Some((host, rest)) = text.split_once('/')
            && self.mirrors_host(host)
            && let Some(local) = rest.parse().ok().and_then(|name| self.at_host(&name, host))
        {
            return Some(local);
        }
        let name = text.parse().ok()?;
        let is_known = self.stores.repository(&name).is_known().unwrap_or(true);
        Some(self.bare(&name).filter(|_| !is_known).unwrap_or(name))
    }

    /// Whether anything of a host is mirrored.
    pub(crate) fn mirrors_host(&self, host: &str) -> bool {
        self.upstreams.iter().any(|upstream| upstream.is_at(host))
    }

    /// The last comparison of a reference.
    pub(crate) fn compared(&self, local: &RepositoryName, reference: &Reference, upstream: &Upstream) -> Compared {
        let check = self.checks.lock().get(&(local.clone(), reference.clone())).cloned();
        let Some(check) = check else { return Compared::default() };
        let Ok(check) = check.try_lock() else { return Compared::default() };
        let now = Instant::now();
        let left = |until: Option<Instant>| until.map(|until| until.saturating_duration_since(now));
        Compared {
            ago: check.current_until.and_then(|until| (now + upstream.check_interval).checked_duration_since(until)),
            current_for: left(check.current_until),
            absent_for: left(check.refused_until()).filter(|left| !left.is_zero()),
            failed: check.failed.as_ref().map(|(at, error)| (at.elapsed(), error.clone())),
        }
    }
}

impl NameRule {
    /// The rule as the configuration has it.
    pub(crate) fn describe(&self) -> String {
        let strip = if self.strips_prefix { ", stripPrefix" } else { "" };
        format!("prefix {}, destination /{}{strip}", self.pattern(), self.destination)
    }

    /// The beginning of the names at the upstream, and the beginning of the local names for it. Both may be empty.
    pub(crate) fn beginnings(&self) -> (&str, String) {
        let local = if self.strips_prefix {
            self.destination.clone()
        } else {
            super::names::joined(&self.destination, &self.prefix)
        };
        (&self.prefix, local)
    }
}
