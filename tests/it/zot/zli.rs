//! The queries of zot's command line, as its `pkg/cli/client/service.go` and `discover.go` build them, with their tabs.

/// The request with which it looks at the schema, with its empty parentheses.
pub const SCHEMA: &str = "
\t\t{
\t\t\t__schema() {
\t\t\t\tqueryType {
\t\t\t\t\tfields {
\t\t\t\t\t\tname
\t\t\t\t\t\targs {
\t\t\t\t\t\t\tname
\t\t\t\t\t\t}
\t\t\t\t\t\ttype {
\t\t\t\t\t\t\tname
\t\t\t\t\t\t\tkind
\t\t\t\t\t\t}
\t\t\t\t\t}
\t\t\t\t\t__typename
\t\t\t\t}
\t\t\t\ttypes {
\t\t\t\t\tname
\t\t\t\t\tfields {
\t\t\t\t\t\tname
\t\t\t\t\t}
\t\t\t\t}
\t\t\t}
\t\t}";

/// The fields of an image, each line after these tabs.
fn fields(tabs: &str) -> String {
    let lines = [
        "RepoName Tag",
        "Digest",
        "MediaType",
        "Manifests {",
        "\tDigest",
        "\tConfigDigest",
        "\tSize",
        "\tPlatform {Os Arch}",
        "\tIsSigned",
        "\tLayers {Size Digest}",
        "\tLastUpdated",
        "}",
        "LastUpdated",
        "Size",
        "IsSigned",
    ];
    lines.map(|line| format!("{tabs}{line}")).join("\n")
}

/// A list with these fields.
fn list(call: &str, opening: &str) -> String {
    let fields = fields("\t\t\t\t");
    format!("\n\t{{\n\t\t{call} {{\n\t\t\tResults{opening}{{\n{fields}\n\t\t\t}}\n\t\t}}\n\t}}")
}

/// A list with these fields, one tab deeper.
fn wide_list(call: &str, opening: &str) -> String {
    let fields = fields("\t\t\t\t\t");
    format!("\n\t\t{{\n\t\t\t{call}{{\n\t\t\t\tResults{opening}{{\n{fields}\n\t\t\t\t}}\n\t\t\t}}\n\t\t}}")
}

pub fn image_list(repository: &str, sort: &str) -> String {
    list(&format!("ImageList(repo: \"{repository}\", requestedPage: {{sortBy: {sort}}})"), " ")
}

pub fn image_list_for_digest(digest: &str, sort: &str) -> String {
    list(&format!("ImageListForDigest(id: \"{digest}\", requestedPage: {{sortBy: {sort}}})"), " ")
}

/// The older form of [`image_list_for_digest`], for the output as a table.
pub fn images_by_digest(digest: &str) -> String {
    wide_list(&format!("ImageListForDigest(id: \"{digest}\") "), " ").trim_start_matches("\n\t\t").to_owned()
}

pub fn derived_image_list(image: &str, sort: &str) -> String {
    wide_list(&format!("DerivedImageList(image:\"{image}\", requestedPage: {{sortBy: {sort}}})"), "")
}

pub fn base_image_list(image: &str, sort: &str) -> String {
    wide_list(&format!("BaseImageList(image:\"{image}\", requestedPage: {{sortBy: {sort}}})"), "")
}

pub fn image_list_for_cve(cve: &str, sort: &str) -> String {
    wide_list(&format!("ImageListForCVE(id: \"{cve}\", requestedPage: {{sortBy: {sort}}}) "), " ")
}

pub fn image_list_with_cve_fixed(cve: &str, image: &str) -> String {
    wide_list(&format!("ImageListWithCVEFixed(id: \"{cve}\", image: \"{image}\") "), " ")
}

pub fn global_search(query: &str, sort: &str) -> String {
    let images = [
        "RepoName",
        "Tag",
        "MediaType",
        "Digest",
        "Size",
        "IsSigned",
        "LastUpdated",
        "Manifests {",
        "\tDigest",
        "\tConfigDigest",
        "\tPlatform {Os Arch}",
        "\tSize",
        "\tIsSigned",
        "\tLayers {Size Digest}",
        "\tLastUpdated",
        "}",
    ];
    let repositories = ["Name", "Platforms { Os Arch }", "LastUpdated", "Size", "DownloadCount", "StarCount"];
    let images = images.map(|line| format!("\t\t\t\t\t{line}")).join("\n");
    let repositories = repositories.map(|line| format!("\t\t\t\t\t{line}")).join("\n");
    format!(
        "\n\t\t{{\n\t\t\tGlobalSearch(query:\"{query}\", requestedPage: {{sortBy: {sort}}}){{\n\t\t\t\tImages \
         {{\n{images}\n\t\t\t\t}}\n\t\t\t\tRepos {{\n{repositories}\n\t\t\t\t}}\n\t\t\t}}\n\t\t}}"
    )
}

pub fn referrers(repository: &str, digest: &str) -> String {
    format!(
        "\n\t\t{{\n\t\t\tReferrers( repo: \"{repository}\", digest: \"{digest}\" \
         ){{\n\t\t\t\tArtifactType,\n\t\t\t\tDigest,\n\t\t\t\tMediaType,\n\t\t\t\tSize,\n\t\t\t\tAnnotations{{\n\t\t\t\t\tKey\n\t\t\t\t\tValue\n\t\t\t\t}}\n\t\t\t}}\n\t\t}}"
    )
}

pub fn cve_list_for_image(image: &str, searched: &str, sort: &str) -> String {
    format!(
        "\n\t{{\n\t\tCVEListForImage (image:\"{image}\", searchedCVE:\"{searched}\", requestedPage: {{sortBy: {sort}}}) \
         {{\n\t\t\tTag\n\t\t\tCVEList {{\n\t\t\t\tId Title Severity Description\n\t\t\t\tPackageList {{Name PackagePath \
         InstalledVersion FixedVersion}}\n\t\t\t}}\n\t\t\tSummary {{\n\t\t\t\tCount UnknownCount LowCount MediumCount HighCount \
         CriticalCount MaxSeverity\n\t\t\t}}\n\t\t}}\n\t}}"
    )
}

/// An image of [`cve_diff_list`], for a platform or for any.
pub fn image_input(repository: &str, tag: &str, platform: Option<(&str, &str)>) -> String {
    let platform =
        platform.map(|(os, arch)| format!(", Platform: {{Os: \"{os}\", Arch: \"{arch}\"}}")).unwrap_or_default();
    format!("{{Repo: \"{repository}\", Tag: \"{tag}\", Digest: \"\"{platform}}}")
}

pub fn cve_diff_list(minuend: &str, subtrahend: &str) -> String {
    format!(
        "\n\t\t{{\n\t\t\tCVEDiffListForImages( minuend: {minuend}, subtrahend: {subtrahend} ) {{\n\t\t\t\tMinuend {{Repo \
         Tag}}\n\t\t\t\tSubtrahend {{Repo Tag}}\n\t\t\t\tCVEList {{\n\t\t\t\t\tId Title Description Severity Reference \
         \n\t\t\t\t\tPackageList {{Name InstalledVersion FixedVersion}}\n\t\t\t\t}} \n\t\t\t\tSummary {{\n\t\t\t\t\tCount \
         UnknownCount LowCount MediumCount HighCount CriticalCount\n\t\t\t\t}} \n\t\t\t\tPage {{TotalCount ItemCount}}\n\t\t\t}}\n\t\t}}"
    )
}
