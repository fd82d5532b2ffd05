//! The rules of retention, of immutable tags and of quotas, from the configuration, and the scheduled run.

use std::ops::ControlFlow;
use std::time::Duration;

use super::builder::checked_pattern;
use super::{Error, Shared};
use crate::config::{self, Collection};
use crate::content::repository::{
    Collected, Conditions, Delays, Error as ContentError, ImmutableRule, ImmutableTags, KeepTags, Pause, Quota,
    QuotaOf, Quotas, Retain, Retained, Retention, RetentionPolicy, WorkProgress,
};
use crate::identity::accounts::Origin;
use crate::oci::TagRule;

const POLICIES: &str = "storage.retention.policies";

/// Reads the policies.
pub(super) fn retention(collection: &Collection) -> Result<Retention, Error> {
    let policies = collection.policies.iter().map(policy).collect::<Result<Vec<_>, Error>>()?;
    Ok(Retention::new(policies, collection.dry_run))
}

fn policy(policy: &config::RetentionPolicy) -> Result<RetentionPolicy, Error> {
    let repositories = policy.repositories.iter().map(|pattern| checked_pattern(POLICIES, pattern));
    Ok(RetentionPolicy {
        repositories: repositories.collect::<Result<_, Error>>()?,
        retain: Retain { untagged: !policy.delete_untagged, referrers: !policy.delete_referrers },
        keep_tags: policy.keep_tags.iter().map(keep_tags).collect::<Result<_, Error>>()?,
        keep_untagged: policy.keep_untagged.as_ref().map(|keep| Conditions {
            pushed_within: keep.pushed_within,
            pulled_within: keep.pulled_within,
            most_recently_pushed: keep.most_recently_pushed,
            most_recently_pulled: keep.most_recently_pulled,
            ..Conditions::default()
        }),
    })
}

fn keep_tags(keep: &config::KeepTags) -> Result<KeepTags, Error> {
    let rule = |pattern: &String| {
        TagRule::new(pattern, "", false).map_err(|error| Error::setting(POLICIES, format!("the expression {error}")))
    };
    Ok(KeepTags {
        patterns: keep.patterns.iter().map(rule).collect::<Result<_, Error>>()?,
        conditions: Conditions {
            pushed_within: keep.pushed_within,
            pulled_within: keep.pulled_within,
            most_recently_pushed: keep.most_recently_pushed,
            most_recently_pulled: keep.most_recently_pulled,
            highest_version: keep.highest_version,
            require_all: keep.require_all,
        },
    })
}

/// Reads the rules for immutable tags.
pub(super) fn immutable_tags(rules: &[config::ImmutableTags]) -> Result<ImmutableTags, Error> {
    const KEY: &str = "storage.immutableTags";
    let read = |(index, rule): (usize, &config::ImmutableTags)| {
        let repositories = rule.repositories.iter().map(|pattern| checked_pattern(KEY, pattern));
        let invalid = |error| Error::setting(KEY, format!("the pattern {error}"));
        Ok(ImmutableRule {
            name: rule.name.clone().unwrap_or_else(|| format!("{KEY}[{index}]")),
            repositories: repositories.collect::<Result<_, Error>>()?,
            tags: TagRule::default().with_immutable(&rule.tags).map_err(invalid)?,
        })
    };
    Ok(ImmutableTags::new(rules.iter().enumerate().map(read).collect::<Result<_, Error>>()?))
}

/// Reads the quotas.
pub(super) fn quotas(storage: &config::Storage) -> Result<Quotas, Error> {
    const KEY: &str = "storage.quotas";
    let limit = |limit: u64| Some(limit).filter(|limit| *limit > 0);
    let read = |(index, quota): (usize, &config::Quota)| {
        let patterns = |patterns: &[String]| {
            patterns.iter().map(|pattern| checked_pattern(KEY, pattern)).collect::<Result<Vec<_>, Error>>()
        };
        let of = if quota.namespaces.is_empty() {
            QuotaOf::Repositories(patterns(&quota.repositories)?)
        } else {
            QuotaOf::Namespaces(patterns(&quota.namespaces)?)
        };
        Ok(Quota { rule: format!("{KEY}[{index}]"), of, size: limit(quota.size), tags: limit(quota.tags) })
    };
    let rules = storage.quotas.iter().enumerate().map(read).collect::<Result<_, Error>>()?;
    Ok(Quotas::new(rules, limit(storage.max_repositories)))
}

impl Shared {
    /// Collects garbage in the name of the registry.
    pub(crate) fn collect(
        &self,
        delays: Delays,
        progress: &WorkProgress,
        pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Collected, ContentError> {
        self.stores.collect(Some(&self.accounts.author(Origin::itself())), delays, progress, pause)
    }

    /// Removes the tags that the rules do not keep.
    pub(crate) fn retain_tags(&self, pause: Pause<'_>) -> Result<Retained, ContentError> {
        self.stores.retain_tags(&self.accounts.author(Origin::itself()), pause)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::content::repository::retention_decisions;
    use crate::kit::clock::Timestamp;

    /// The example of zot's documentation: <https://zotregistry.dev/latest/articles/retention/>.
    const DOCUMENTED: &str = r#"{"storage": {"gcDelay": "2h", "retention": {"dryRun": false, "delay": "24h", "policies": [
        {"repositories": ["infra/*", "prod/*"], "deleteReferrers": false, "keepTags": [
            {"patterns": ["v2.*", ".*-prod"]}, {"patterns": ["v3.*", ".*-prod"], "pulledWithin": "168h"}]},
        {"repositories": ["tmp/**"], "deleteReferrers": true, "deleteUntagged": true, "keepTags": [
            {"patterns": ["v1.*"], "pulledWithin": "168h", "pushedWithin": "168h"}]},
        {"repositories": ["all/**"], "keepTags": []},
        {"repositories": ["own/**"], "keepTags": [
            {"patterns": ["^[0-9]"], "highestVersionCount": 2},
            {"patterns": ["^ci-"], "requireAll": true, "mostRecentlyPushedCount": 2, "pulledWithin": "24h"}]},
        {"repositories": ["**"], "deleteReferrers": true, "deleteUntagged": true, "keepTags": [
            {"mostRecentlyPushedCount": 2, "mostRecentlyPulledCount": 2, "pulledWithin": "720h",
             "pushedWithin": "720h"}]}]}}}"#;

    fn read(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap().config
    }

    /// The tags, their push and pull in hours before now, and the expected reason. A tag that goes has a leading minus.
    type Case<'a> = (&'a str, &'a [(&'a str, u64, Option<u64>, &'a str)]);

    #[test]
    fn the_documented_examples_of_zot_are_decided_as_documented() {
        let config = read(DOCUMENTED);
        let retention = retention(&config.storage.collection).unwrap();
        let (hold, within) = ("matches the patterns", "pulled or pushed within 168h");
        let cases: [Case<'_>; 6] = [
            (
                "infra/a",
                &[
                    ("v2.1", 9000, None, hold),
                    ("x-prod", 9000, None, hold),
                    ("rc-v2x", 9000, None, hold),
                    ("v3.0", 9000, Some(1), within),
                    ("v3.1", 1, None, within),
                    ("v3.2", 9000, Some(169), "-meets no condition"),
                    ("v3.3", 169, None, "-meets no condition"),
                    ("latest", 0, Some(0), "-matches no entry of keepTags"),
                ],
            ),
            // One asterisk stands for one part of a name.
            ("infra/a/b", &[("latest", 800, Some(0), "pulled or pushed within 720h")]),
            (
                "tmp/a/b",
                &[
                    ("v1.0", 167, None, "pushed within 168h"),
                    ("v1.1", 500, Some(167), within),
                    ("v1.2", 500, Some(500), "-meets no condition"),
                    ("v2.0", 1, Some(1), "-matches no entry of keepTags"),
                ],
            ),
            ("all/a", &[]),
            (
                "own/a",
                &[
                    ("1.9", 1, None, "-meets no condition"),
                    ("1.10", 900, None, "among the 2 highest versions"),
                    ("1.10-rc1", 900, None, "among the 2 highest versions"),
                    ("0.1", 900, None, "-meets no condition"),
                    ("ci-1", 40, Some(1), "-is not among the 2 most recently pushed"),
                    ("ci-2", 30, Some(1), "meets all conditions"),
                    ("ci-3", 29, Some(25), "-is not pulled or pushed within 24h"),
                ],
            ),
            (
                "other",
                &[
                    ("a", 800, None, "among the 2 most recently pushed"),
                    ("b", 801, None, "among the 2 most recently pushed"),
                    ("c", 802, Some(721), "among the 2 most recently pulled"),
                    ("d", 803, Some(722), "among the 2 most recently pulled"),
                    ("e", 804, Some(723), "-meets no condition"),
                    ("f", 805, None, "-meets no condition"),
                ],
            ),
        ];
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        for (repository, tags) in cases {
            let facts: Vec<_> = tags.iter().map(|(tag, pushed, pulled, _)| (*tag, *pushed, *pulled)).collect();
            let planned = retention_decisions(&retention, repository, now, &facts);
            assert_eq!(planned.len(), tags.len(), "{repository}");
            for (planned, (tag, .., expected)) in planned.iter().zip(tags) {
                let sign = if planned.decision.keeps { "" } else { "-" };
                assert_eq!(format!("{sign}{}", planned.decision.reason), *expected, "{repository}:{tag}");
            }
        }
        let documented = retention_decisions(&retention, "infra/a", now, &[("v3.0", 1, None)]);
        assert_eq!(documented[0].rule(), "storage.retention.policies[0].keepTags[1]");
        assert_eq!(documented[0].decision.until, Some(now.after(std::time::Duration::from_hours(167))));
    }

    #[test]
    fn an_unset_clock_makes_nothing_look_old() {
        let text = r#"{"storage": {"retention": {"policies": [{"repositories": ["**"], "keepTags": [
            {"pushedWithin": "24h"}]}]}}}"#;
        let retention = retention(&read(text).storage.collection).unwrap();
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let hours_since_1970 = 1_800_000_000 / 3600;
        let planned = retention_decisions(&retention, "a", now, &[("x", hours_since_1970, None), ("y", 25, None)]);
        assert_eq!(planned.iter().map(|tag| tag.decision.keeps).collect::<Vec<_>>(), [true, false]);
    }
}
