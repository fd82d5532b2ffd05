//! The queries of zot's web page, as its `src/api.js` builds them (the last version that was read in full is of commit
//! `4d28d88`). Each text stands after `query=` in the URL.

const LIST: &str = "Name LastUpdated Size";
const SIGNATURES: &str = "IsSigned SignatureInfo { Tool IsTrusted Author }";
const RISK: &str = "Vulnerabilities {MaxSeverity Count}";
const REFERRER: &str = "MediaType ArtifactType Size Digest Annotations{Key Value}";

/// A requested page without an order.
fn page(limit: u32, offset: u32) -> String {
    format!("requestedPage: {{limit:{limit} offset:{offset}}}")
}

/// The home page.
pub fn repo_list(limit: u32, offset: u32) -> String {
    let page = page(limit, offset);
    format!(
        "{{RepoListWithNewestImage({page}){{Results {{{LIST} Platforms {{Os Arch}}  NewestImage {{ Tag {RISK} Description  \
         Licenses Title Source {SIGNATURES} Documentation Vendor Labels}} IsStarred IsBookmarked StarCount \
         DownloadCount}}}}}}"
    )
}

/// The page of a repository.
pub fn detailed_repo_info(name: &str) -> String {
    format!(
        "{{ExpandedRepoInfo(repo:\"{name}\"){{Images {{Manifests {{Digest Platform {{Os Arch}} Size}} {RISK} Tag LastUpdated \
         Vendor IsDeletable }} Summary {{{LIST} Platforms {{Os Arch}} Vendors IsStarred IsBookmarked NewestImage {{RepoName \
         {SIGNATURES} {RISK} Manifests {{Digest}} Tag Vendor Title Documentation DownloadCount Source Description \
         Licenses}}}}}}}}"
    )
}

/// The page of an image, of version `4d28d88`.
pub fn detailed_image_info(name: &str, tag: &str) -> String {
    format!(
        "{{Image(image: \"{name}:{tag}\"){{RepoName {SIGNATURES} {RISK}  Referrers {{{REFERRER}}} Tag TaggedTimestamp \
         Manifests {{History {{Layer {{Size Digest}} HistoryDescription {{CreatedBy EmptyLayer}}}} Digest ConfigDigest \
         LastUpdated Size Platform {{Os Arch}} Referrers {{{REFERRER}}}}} Vendor Licenses }}}}"
    )
}

/// The page of an image with the fields of later versions, of which the parts are known by its own tests.
pub fn detailed_image_info_with_types(name: &str, tag: &str) -> String {
    format!(
        "{{Image(image: \"{name}:{tag}\"){{RepoName {SIGNATURES} {RISK}  Referrers {{{REFERRER}}} Tag TaggedTimestamp \
         ArtifactType Manifests {{ArtifactType Layers {{Size Digest}} History {{Layer {{Size Digest}} HistoryDescription \
         {{CreatedBy EmptyLayer}}}} Digest ConfigDigest LastUpdated Size Platform {{Os Arch}} Referrers {{MediaType Size \
         Digest}}}} Vendor Licenses }}}}"
    )
}

/// The vulnerabilities of an image. Empty conditions are left out.
pub fn vulnerabilities_for_repo(name: &str, searched: &str, excluded: &str, severity: &str) -> String {
    let conditions = [("searchedCVE", searched), ("excludedCVE", excluded), ("severity", severity)];
    let conditions = conditions.into_iter().filter(|(_, value)| !value.is_empty());
    let conditions = conditions.map(|(name, value)| format!(", {name}: \"{value}\"")).collect::<Vec<_>>().concat();
    let page = page(15, 0);
    format!(
        "{{CVEListForImage(image: \"{name}\", {page}{conditions}){{Tag Page {{TotalCount ItemCount}} CVEList {{Id Title \
         Description Severity Reference PackageList {{Name PackagePath InstalledVersion FixedVersion}}}} Summary {{Count \
         UnknownCount LowCount MediumCount HighCount CriticalCount}}}}}}"
    )
}

/// All vulnerabilities of an image, for a file.
pub fn all_vulnerabilities_for_repo(name: &str) -> String {
    format!(
        "{{CVEListForImage(image: \"{name}\"){{Tag Page {{TotalCount ItemCount}} CVEList {{Id Title Description Severity \
         Reference PackageList {{Name PackagePath InstalledVersion FixedVersion}}}}}}}}"
    )
}

/// The tags without a vulnerability, such as with the filter `,filter:{ Os:["linux"]}`.
pub fn image_list_with_cve_fixed(cve: &str, name: &str, filter: &str) -> String {
    let page = page(3, 0);
    format!(
        "{{ImageListWithCVEFixed(id:\"{cve}\", image:\"{name}\", {page}{filter}) {{Page {{TotalCount ItemCount}} Results \
         {{Tag}}}}}}"
    )
}

const RELATED: &str = "RepoName Tag Description Manifests {Digest Platform {Os Arch} Size} Vendor DownloadCount LastUpdated \
                       IsSigned SignatureInfo { Tool IsTrusted Author } Vulnerabilities {MaxSeverity Count}";

/// The images that an image uses.
pub fn depends_on_for_image(name: &str) -> String {
    let page = page(15, 0);
    format!("{{BaseImageList(image: \"{name}\", {page}){{Page {{TotalCount ItemCount}} Results {{ {RELATED}}}}}}}")
}

/// The images that use an image.
pub fn is_dependent_on_for_image(name: &str) -> String {
    let page = page(15, 0);
    format!("{{DerivedImageList(image: \"{name}\", {page}){{Page {{TotalCount ItemCount}} Results {{{RELATED}}}}}}}")
}

/// The explore page, such as with the filter `,filter: { Os:["linux"]}`.
pub fn global_search(query: &str, sort: &str, filter: &str) -> String {
    format!(
        "{{GlobalSearch(query:\"{query}\", requestedPage: {{limit:10 offset:0 sortBy: {sort}}} {filter}) {{Page {{TotalCount \
         ItemCount}} Repos {{{LIST} Platforms {{ Os Arch }} IsStarred IsBookmarked NewestImage {{ Tag {RISK} Description \
         {SIGNATURES} Licenses Vendor Labels }} StarCount DownloadCount}}}}}}"
    )
}

/// The suggestions below the search field, for a text with a colon.
pub fn image_suggestions(query: &str) -> String {
    format!(
        "{{GlobalSearch(query:\"{query}\", requestedPage: {{limit:9 offset:0 sortBy:RELEVANCE}}) {{Images {{RepoName Tag}}}}}}"
    )
}

/// The referrers of an image. The page asks for all types with an empty one.
pub fn referrers(repository: &str, digest: &str, artifact_type: &str) -> String {
    format!("{{Referrers(repo: \"{repository}\" digest: \"{digest}\" type: \"{artifact_type}\"){{{REFERRER}}}}}")
}
