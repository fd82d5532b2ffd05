//! The page of one manifest.

use super::kind::{kind_name, pull_kind};
use super::tags::{is_there, platform};
use super::{PageCall, frame, immutable, manifest_url, tag_url, url, why_immutable};
use crate::content::repository::browse::{
    ARCHIVE_BYTES_MAX, ChartTexts, ChildPart, LayerPart, ManifestReport, Part, ReferrerNode,
};
use crate::content::rows::{Details, Facts, Kind};
use crate::http::error::ApiError;
use crate::http::{HandlerResult, api, host_of};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::web::{
    Badge, Bytes, ChartView, Copy, FileEntry, ImageView, Instruction, LayerEntry, Linked, ManifestPage, Markdown,
    PlatformLink, PullKind, PullTarget, ReferrerEntry, ShortDigest, StepEntry, Tone, pull_commands,
};

/// The annotation with the time of creation.
const CREATED: &str = "org.opencontainers.image.created";

/// A larger manifest is not shown as it was pushed, in bytes.
const RAW_BYTES_MAX: usize = 64 * 1024;
/// The media types of the archive of a chart.
const CHART_LAYER: &str = "application/vnd.cncf.helm.chart.content.v1.tar";
/// The platform of attestations that BuildKit adds to an index.
const NO_PLATFORM: &str = "unknown/unknown";

/// Shows a manifest.
pub(super) async fn page(call: &PageCall<'_>, name: RepositoryName, reference: Reference) -> HandlerResult {
    let frame = frame(call, &name, "")?;
    let report = report(call, &name, reference.clone()).await?;
    let digest = report.digest;
    let tag = if let Reference::Tag(tag) = &reference { Some(tag.to_string()) } else { None };
    let here = match &reference {
        Reference::Tag(tag) => tag_url(&name, tag),
        Reference::Digest(digest) => manifest_url(&name, *digest),
    };
    let protected = match &reference {
        Reference::Tag(tag) => immutable(call, &name, std::slice::from_ref(tag)).await?,
        Reference::Digest(_) if frame.may_delete => immutable(call, &name, &report.tags).await?,
        Reference::Digest(_) => Vec::new(),
    };
    let mut badges = badges(&report);
    if tag.is_some() && !protected.is_empty() {
        badges.push(Badge::new("immutable", Tone::Plain));
    }
    let (chosen, platforms) = platforms(call, &report, &here)?;
    let facts = report.facts.as_ref().map(|(facts, _)| facts);
    // The artifact type stands in for facts that are not counted yet.
    let config_type = report.config.as_ref().map(|config| config.media_type.as_str());
    let artifact_type = report.artifact_type.as_deref().or(config_type).unwrap_or_default();
    let (kind, pull) = (kind_name(facts, artifact_type), pull_kind(facts, artifact_type));
    let chart = if pull == PullKind::Chart { Some(chart(call, &name, &report).await?) } else { None };
    // An index shows the image of the chosen platform.
    let child = match chosen {
        Some(child) => Some(self::report(call, &name, Reference::Digest(child)).await?),
        None => None,
    };
    let shown = child.as_ref().unwrap_or(&report);
    let files = if chart.is_some() { Vec::new() } else { files(&name, &report) };
    let is_index = !report.children.is_empty();
    let image =
        (chart.is_none() && files.is_empty() && (!is_index || child.is_some())).then(|| image(call, &name, shown));
    let annotations = |name: &str| {
        let details = report.facts.as_ref().map(|(_, details)| details);
        let found = details.and_then(|details| details.annotations.iter().find(|(known, _)| known == name));
        found.map(|(_, value)| value.clone())
    };
    let base = call.context.base_url();
    let whole_digest = digest.to_string();
    let target = PullTarget {
        host: host_of(&base),
        is_https: base.starts_with("https:"),
        repository: name.as_str(),
        tag: tag.as_deref(),
        digest: &whole_digest,
    };
    let subject = match report.subject {
        Some(subject) => Some((ShortDigest(subject), manifest_url(&name, subject), is_there(call, &name, subject)?)),
        None => None,
    };
    let mut shown_annotations = report.annotations.clone();
    if let Some(child) = &child {
        shown_annotations.extend(child.annotations.iter().cloned());
    }
    call.render(&ManifestPage {
        layout: call.layout(match &tag {
            Some(tag) => format!("{name}:{tag}"),
            None => format!("{name}@{}", &digest.hex()[..12]),
        }),
        reference: tag.clone().unwrap_or_else(|| digest.hex()[..12].to_owned()),
        digest: Copy::new("Digest", whole_digest.clone()),
        short: ShortDigest(digest),
        kind: kind.to_owned(),
        badges,
        undeletable: (frame.may_delete && !protected.is_empty()).then(|| why_immutable(&protected, protected.len())),
        title: annotations("title"),
        summary: annotations("description"),
        size: facts.map(|facts| Bytes(facts.size)),
        only_here: report.only_here.map(Bytes),
        created: facts.and_then(|facts| facts.created).map(|at| call.time(at)),
        pushed: call.time(report.pushed),
        pushed_by: facts.and_then(|facts| call.pusher(facts)),
        pulls: report.pulls.count,
        last_pull: report.pulls.last.map(|at| call.time(at)),
        artifact_type: report.artifact_type.clone().or_else(|| facts.and_then(|facts| facts.artifact_type.clone())),
        media_type: report.media_type.clone(),
        tags: report.tags.iter().map(ToString::to_string).collect(),
        has_more_tags: report.has_more_tags,
        indexes: report.indexes.iter().copied().map(ShortDigest).collect(),
        subject,
        commands: pull_commands(pull, target),
        platforms,
        chart,
        files,
        image,
        annotations: shown_annotations.into_iter().map(|(key, text)| (key, Linked { text })).collect(),
        referrers: referrers(call, &name, &report),
        is_part: report.is_part,
        raw: raw(&report),
        frame,
        tag,
        whole_digest,
    })
}

async fn report(call: &PageCall<'_>, name: &RepositoryName, reference: Reference) -> Result<ManifestReport, ApiError> {
    let (view, name) = (call.context.registry.catalog_view(call.context.caller), name.clone());
    call.context.blocking(move || view.manifest_report(&name, &reference)).await
}

fn badges(report: &ManifestReport) -> Vec<Badge> {
    let is_signature = |node: &ReferrerNode| {
        let is_tag = node.tag.as_ref().is_some_and(Tag::is_signature);
        is_tag || node.facts.as_ref().is_some_and(|facts| facts.kind == Kind::Signature)
    };
    let mut badges = Vec::new();
    if let Some((facts, _)) = &report.facts
        && let Some(known) = &facts.platform
        && facts.kind == Kind::Image
    {
        badges.push(Badge::new(platform(known), Tone::Plain));
    }
    if report.referrers.nodes.iter().any(is_signature) {
        badges.push(Badge::new("signed", Tone::Good));
    }
    badges
}

fn raw(report: &ManifestReport) -> Option<String> {
    let is_shown = !report.bytes.is_empty() && report.bytes.len() <= RAW_BYTES_MAX;
    is_shown.then(|| String::from_utf8_lossy(&report.bytes).into_owned())
}

/// Whether an entry of an index is about another entry, and no image.
fn is_attestation(child: &ChildPart) -> bool {
    child.attests.is_some() || child.platform == NO_PLATFORM
}

/// The platforms of an index, and the chosen one: that of the URL, or else the most usual one.
fn platforms(
    call: &PageCall<'_>,
    report: &ManifestReport,
    here: &str,
) -> Result<(Option<Digest>, Vec<PlatformLink>), ApiError> {
    let wanted: Option<Digest> = call.parameter("platform")?.parse().ok();
    let images: Vec<_> = report.children.iter().filter(|child| !is_attestation(child)).collect();
    let here_is = |child: &&&ChildPart| child.is_here;
    let by_wish = images.iter().filter(here_is).find(|child| wanted.is_some() && child.part.digest == wanted);
    let usual = || images.iter().filter(here_is).find(|child| child.platform == "linux/amd64");
    let chosen = by_wish.or_else(usual).or_else(|| images.iter().find(here_is)).and_then(|child| child.part.digest);
    let link = |child: &&ChildPart| {
        let digest = child.part.digest?;
        let known = child.facts.as_ref().and_then(|facts| facts.platform.as_ref()).map(platform);
        let name = if child.platform.is_empty() { known.unwrap_or_default() } else { child.platform.clone() };
        Some(PlatformLink {
            name: if name.is_empty() { digest.hex()[..12].to_owned() } else { name },
            href: format!("{here}?platform={digest}"),
            size: child.facts.as_ref().map(|facts| Bytes(facts.size)),
            is_current: Some(digest) == chosen,
            is_here: child.is_here,
        })
    };
    Ok((chosen, images.iter().filter_map(link).collect()))
}

/// The files of an artifact: layers with names.
fn files(name: &RepositoryName, report: &ManifestReport) -> Vec<FileEntry> {
    let is_image = report.facts.as_ref().is_some_and(|(facts, _)| facts.kind == Kind::Image);
    if is_image || report.layers.iter().all(|layer| layer.part.title.is_none()) {
        return Vec::new();
    }
    let file = |layer: &LayerPart| FileEntry {
        name: layer.part.title.clone().unwrap_or_else(|| "unnamed".to_owned()),
        href: download(name, layer),
        size: Bytes(layer.part.size),
        media_type: layer.part.media_type.clone(),
    };
    report.layers.iter().map(file).collect()
}

/// The URL that downloads a layer, if the repository has it.
fn download(name: &RepositoryName, layer: &LayerPart) -> Option<String> {
    layer.part.digest.filter(|_| layer.is_here).map(|digest| format!("{}/-/blob/{digest}", url(name)))
}

/// The parts of an image.
fn image(call: &PageCall<'_>, name: &RepositoryName, report: &ManifestReport) -> ImageView {
    let layers = report.layers.iter().map(|layer| LayerEntry {
        digest: layer.part.digest.map(ShortDigest),
        href: download(name, layer),
        size: Bytes(layer.part.size),
        media_type: layer.part.media_type.clone(),
        other_repositories: layer.other_repositories.clone(),
        has_more_repositories: layer.has_more_repositories,
    });
    let mut view = ImageView { layers: layers.collect(), ..ImageView::default() };
    if let Some((facts, details)) = &report.facts {
        view.history = history(call, details, &report.layers);
        view.config = config(facts, details);
        let linked = |(key, text): &(String, String)| (key.clone(), Linked { text: text.clone() });
        view.labels = details.labels.iter().map(linked).collect();
        view.is_truncated = details.is_truncated;
    }
    view
}

/// The steps of the build. Each step that made a layer has its size, if their numbers fit.
fn history(call: &PageCall<'_>, details: &Details, layers: &[LayerPart]) -> Vec<StepEntry> {
    let steps = details.history.iter().filter(|step| !step.is_empty_layer).count();
    let mut sizes = layers.iter().filter(|_| steps == layers.len()).map(|layer| Bytes(layer.part.size));
    let entry = |step: &crate::content::rows::BuildStep| StepEntry {
        instruction: Instruction::read(&step.created_by),
        comment: if step.comment == "buildkit.dockerfile.v0" { String::new() } else { step.comment.clone() },
        created: step.created.map(|at| call.time(at)),
        size: if step.is_empty_layer { None } else { sizes.next() },
    };
    details.history.iter().map(entry).collect()
}

fn config(facts: &Facts, details: &Details) -> Vec<(&'static str, Vec<String>)> {
    let one = |text: &str| if text.is_empty() { Vec::new() } else { vec![text.to_owned()] };
    let os_version = facts.platform.as_ref().map(|platform| platform.os_version.as_str()).unwrap_or_default();
    let all = [
        ("Platform", facts.platform.as_ref().map(platform).iter().flat_map(|text| one(text)).collect()),
        ("OS version", one(os_version)),
        ("Entrypoint", details.entrypoint.clone()),
        ("Command", details.cmd.clone()),
        ("User", one(&details.user)),
        ("Working directory", one(&details.working_dir)),
        ("Ports", details.ports.clone()),
        ("Volumes", details.volumes.clone()),
        ("Environment", details.environment.clone()),
    ];
    all.into_iter().filter(|(_, values)| !values.is_empty()).collect()
}

/// The manifests that refer to this one, and the attestations that BuildKit adds to an index.
fn referrers(call: &PageCall<'_>, name: &RepositoryName, report: &ManifestReport) -> Vec<ReferrerEntry> {
    let entry = |node: &ReferrerNode, is_nested| ReferrerEntry {
        kind: match node.tag.as_ref().map(|tag| tag.as_str().rsplit('.').next().unwrap_or_default()) {
            Some("sig") => "Signature (cosign)",
            Some("att") => "Attestation (cosign)",
            Some("sbom") => "SBOM (cosign)",
            _ => kind_name(node.facts.as_ref(), &node.artifact_type),
        }
        .to_owned(),
        artifact_type: node.artifact_type.clone(),
        digest: ShortDigest(node.digest),
        href: manifest_url(name, node.digest),
        size: node.facts.as_ref().map(|facts| Bytes(facts.size)),
        created: node.facts.as_ref().map(|facts| call.time(facts.pushed)),
        is_nested,
        // The date of the row is enough.
        annotations: node.annotations.iter().filter(|(key, _)| key != CREATED).cloned().collect(),
    };
    let mut entries = Vec::new();
    for node in &report.referrers.nodes {
        entries.push(entry(node, false));
        entries.extend(node.referrers.iter().map(|node| entry(node, true)));
    }
    for child in report.children.iter().filter(|child| child.is_here && is_attestation(child)) {
        let Some(digest) = child.part.digest else { continue };
        let about = child.attests.map(|digest| ("about".to_owned(), digest.hex()[..12].to_owned()));
        entries.push(ReferrerEntry {
            kind: "Attestation (BuildKit)".to_owned(),
            artifact_type: String::new(),
            digest: ShortDigest(digest),
            href: manifest_url(name, digest),
            size: child.facts.as_ref().map(|facts| Bytes(facts.size)),
            created: child.facts.as_ref().map(|facts| call.time(facts.pushed)),
            is_nested: false,
            annotations: about.into_iter().collect(),
        });
    }
    entries
}

/// The texts of a chart. A problem with its archive is shown, and is no error.
async fn chart(call: &PageCall<'_>, name: &RepositoryName, report: &ManifestReport) -> Result<ChartView, ApiError> {
    let mut view = ChartView { metadata: String::new(), readme: Markdown::default(), problem: None };
    let is_archive = |part: &Part| part.media_type.starts_with(CHART_LAYER);
    let layer = report.layers.iter().filter(|layer| layer.is_here).find(|layer| is_archive(&layer.part));
    let Some(digest) = layer.and_then(|layer| layer.part.digest) else {
        view.problem = Some("The archive of the chart is not in this repository.");
        return Ok(view);
    };
    let blob = api::blob::open(call.context, &call.context.registry.repository(name), digest).await?;
    if blob.size > ARCHIVE_BYTES_MAX {
        view.problem = Some("The archive of the chart is too large to show its texts.");
        return Ok(view);
    }
    let read = call.context.blocking(move || Ok::<_, ApiError>(ChartTexts::read(&blob.file).ok())).await?;
    match read {
        Some(texts) => {
            view.readme = Markdown::new(&texts.readme);
            view.metadata = texts.metadata;
            if view.metadata.is_empty() {
                view.problem = Some("The archive of the chart has no Chart.yaml.");
            }
        }
        None => view.problem = Some("The archive of the chart cannot be read."),
    }
    Ok(view)
}
