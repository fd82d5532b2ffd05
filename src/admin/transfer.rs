//! Operations that bring content in from files, and take it out.

mod users;

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Call, Failure, NeededData, Operation};
use crate::identity::accounts::Origin;
use crate::mirror::client::{Credentials, Login};
use crate::mirror::{Patience, RemoteImages, SyncReport, SyncScope};
use crate::oci::{Digest, RepositoryName};
pub(crate) use crate::registry::TakeoverView;
use crate::transfer::{self, Have, Naming, Ongoing, Problem, Scratch, Selection, Source};
pub(crate) use crate::transfer::{Exported, Imported, TransferState};

/// How often the state of an import from another registry is noted.
const WATCH_INTERVAL: Duration = Duration::from_millis(300);
/// The most bytes of credentials.
const LOGIN_BYTES_MAX: u64 = 1024 * 1024;

/// Import images: another registry or its data, an image layout, or an archive
///
/// SOURCE is one of:
///
/// - the data directory of docker's registry (distribution) or of zot;
///
/// - an OCI image layout, or a tar archive of one (skopeo's oci-archive, `coracle export`, `ctr images export`);
///
/// - an archive of `docker save` or `podman save`, also compressed with gzip;
///
/// - a running registry: `docker://HOST`, `docker://HOST/team/**`, `docker://HOST/team/app` or `docker://HOST/team/app:TAG`.
///   A host without TLS is named with `http://` instead.
///
/// All digests stay, except that images of an old `docker save` get manifests, since they have none. Damaged content
/// is listed and skipped. A tag that points at another manifest here is kept, unless --overwrite is given. An
/// interrupted import continues when it is repeated. Clients can push and pull meanwhile.
///
/// On the same file system, files are shared with the source (reflinks) or linked, and take no space.
///
/// The exit code is 1 if something was skipped or kept.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[expect(clippy::unsafe_derive_deserialize, reason = "a macro of tokio pins futures, which says nothing of the fields")]
pub(crate) struct Import {
    /// The directory, file or registry
    #[arg(value_parser = Place::find, required_unless_present = "status")]
    source: Option<Place>,
    /// Put everything below this path: team makes app of the source team/app
    #[arg(long, value_name = "PREFIX", conflicts_with = "name")]
    into: Option<RepositoryName>,
    /// Import everything into this repository, instead of those that the source names
    #[arg(long = "as", value_name = "REPOSITORY")]
    #[serde(rename = "as")]
    name: Option<RepositoryName>,
    /// Move tags that point at other manifests here
    #[arg(long)]
    overwrite: bool,
    /// Copy files even if they can be linked
    #[arg(long)]
    copy: bool,
    /// Accept indexes whose manifests are incomplete in an archive, such as images of one platform
    #[arg(long)]
    sparse: bool,
    /// Print what would be imported, and store nothing. Bytes are not verified
    #[arg(long)]
    dry_run: bool,
    /// Read the credentials for another registry from this file [default: those of podman and docker]
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) authfile: Option<PathBuf>,
    /// The files of podman and docker.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) credential_files: Vec<PathBuf>,
    /// The files in which the command looked for credentials. They were in the last one, if it found any.
    #[arg(skip)]
    #[serde(default)]
    searched: Vec<String>,
    /// Show how far the running imports and a takeover (`coracle serve --takeover-from`) are, and import nothing
    #[arg(long, conflicts_with = "source")]
    #[serde(skip)]
    pub(crate) status: bool,
}

/// Where images come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// A file or directory that exists where the command runs.
    File {
        path: PathBuf,
        is_directory: bool,
    },
    Registry(RemoteImages),
}

impl Place {
    fn find(text: &str) -> Result<Self, String> {
        if RemoteImages::is_named_by(text) {
            return text.parse().map(Self::Registry);
        }
        let path = super::storage::absolute(text).map_err(|error| error.to_string())?;
        let is_directory = path.metadata().map_err(|error| error.to_string())?.is_dir();
        Ok(Self::File { path, is_directory })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, .. } => path.display().fmt(f),
            Self::Registry(images) => images.fmt(f),
        }
    }
}

impl Import {
    /// The directory that the operation reads.
    pub(super) fn directory(&self) -> Option<&Path> {
        let Place::File { path, is_directory } = self.source.as_ref()? else { return None };
        if *is_directory { Some(path) } else { path.parent() }
    }

    /// Imports files.
    fn files(&self, call: &Call<'_>, known: &Path, ongoing: &Ongoing) -> Result<Imported, Failure> {
        let stores = call.registry.stores();
        let path = reached(call, known);
        let source = Source::open(&path, &Scratch::of(stores)).map_err(|error| failure(call, &error))?;
        let import = transfer::Import {
            stores,
            naming: Naming { prefix: self.into.clone(), repository: self.name.clone() },
            mode: super::storage::mode(self.copy),
            overwrite: self.overwrite,
            sparse: self.sparse,
            dry_run: self.dry_run,
            ongoing,
        };
        let mut imported = import.run(&source, call.pause).map_err(|error| failure(call, &error))?;
        // If everything gets one name, scopes and stars would be for other repositories.
        if self.name.is_none() && imported.stopped.is_none() {
            let carrying =
                users::Carrying { accounts: call.accounts(), into: self.into.as_ref(), dry_run: self.dry_run };
            carrying.run(source.users(&mut |problem| imported.report(problem)), &mut imported)?;
            imported.problems.sort_unstable();
        }
        if let Some(handed) = call.handed {
            for problem in &mut imported.problems {
                problem.rename(|text| handed.named(text));
            }
        }
        Ok(imported)
    }

    /// Imports images of another registry.
    fn registry(&self, call: &Call<'_>, images: &RemoteImages, ongoing: &Ongoing) -> Result<Imported, Failure> {
        let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
        let login = call.attached.map(read_login).transpose().map_err(|error| invalid(&error))?;
        let rule = images.rule(self.into.as_ref(), self.name.as_ref()).map_err(Failure::Invalid)?;
        let scope = match (images.repository(), &images.tag) {
            (Some(remote), Some(tag)) => match rule.local(&remote) {
                Some(local) => SyncScope::Tag(local, tag.clone()),
                None => return Err(Failure::Invalid(format!("{remote} has no valid name here"))),
            },
            _ => SyncScope::All,
        };
        let mirror = call.registry.source(images, rule, self.overwrite, login, self.searched.clone());
        let mirror = mirror.map_err(|error| invalid(&error))?;
        let began = Instant::now();
        let report = super::block_on(async {
            let run = mirror.synchronise(0, &scope, Patience::Command, self.dry_run);
            tokio::pin!(run);
            loop {
                tokio::select! {
                    report = &mut run => return report,
                    () = tokio::time::sleep(WATCH_INTERVAL) => {}
                }
                if let Some(running) = mirror.upstreams().first().and_then(|upstream| upstream.sync.running()) {
                    ongoing.update(|state| {
                        state.tags = running.report.tags;
                        state.manifests = running.report.manifests;
                        state.bytes = running.report.bytes;
                        state.read_bytes = running.report.bytes;
                        state.skipped = running.report.failed;
                        state.current = running.current;
                    });
                }
                if (call.pause)(Duration::ZERO).is_break() {
                    mirror.stop();
                }
            }
        })?;
        let report = report.map_err(|error| invalid(&error))?;
        Ok(imported(report, self.dry_run, began.elapsed()))
    }
}

/// The result of an import from another registry.
fn imported(report: SyncReport, dry_run: bool, took: Duration) -> Imported {
    let problem = |failure: &String| match failure.split_once(": ") {
        Some((what, why)) => Problem::new(what, why),
        None => Problem::new(failure, "failed"),
    };
    Imported {
        dry_run,
        repositories: report.repositories,
        manifests: report.manifests,
        tags: report.fetched,
        known_tags: report.unchanged,
        blobs: report.blobs,
        bytes: report.bytes,
        kept: report.pushed_here,
        kept_tags: report.pushed_here_tags,
        skipped: report.failed,
        problems: report.failures.iter().map(problem).collect(),
        stopped: report.stopped,
        notes: report.notes,
        seconds: took.as_secs_f64(),
        ..Imported::default()
    }
}

/// Reads credentials that the command has found.
fn read_login(mut file: &File) -> std::io::Result<Login> {
    let mut text = Zeroizing::new(String::new());
    file.rewind()?;
    file.take(LOGIN_BYTES_MAX).read_to_string(&mut text)?;
    Login::from_text(&text).ok_or_else(|| std::io::Error::other("the credentials cannot be read"))
}

impl Operation for Import {
    type Answer = Imported;

    fn needed_data(&self) -> NeededData {
        // Otherwise it would leave an empty data directory.
        if self.dry_run { NeededData::None } else { NeededData::MayBeNew }
    }

    /// The credentials for another registry, which only the person who runs the command may be able to read.
    fn attach(&mut self) -> Result<Option<File>, Failure> {
        let Some(Place::Registry(images)) = &self.source else { return Ok(None) };
        // A named file is the only one, and must exist.
        let is_named = self.authfile.is_some();
        let files = self.authfile.iter().chain(self.credential_files.iter().filter(|_| !is_named));
        for path in files {
            self.searched.push(path.display().to_string());
            if !is_named && !path.exists() {
                continue;
            }
            let (credentials, repository) = (Credentials::file(path.clone()), images.repository());
            let found = credentials.find(images.host(), repository.as_ref().map(RepositoryName::as_str));
            if let Some(login) = super::block_on(found)?.map_err(Failure::Invalid)? {
                let text = login.to_text();
                return attached(|mut file| file.write_all(text.as_bytes())).map(Some);
            }
        }
        Ok(None)
    }

    fn perform(self, call: &Call<'_>) -> Result<Imported, Failure> {
        let Some(source) = &self.source else {
            return Err(Failure::Invalid("the command names no source".to_owned()));
        };
        let ongoing = call.registry.transfers().start(&source.to_string());
        let imported = match source {
            Place::File { path, .. } => self.files(call, path, &ongoing)?,
            Place::Registry(images) => self.registry(call, images, &ongoing)?,
        };
        if !self.dry_run {
            let source = source.to_string();
            call.accounts().note("import", "", &[("source", &source)], &Origin::local())?;
        }
        Ok(imported)
    }
}

/// Writes a file that travels with an operation.
fn attached(write: impl FnOnce(&File) -> std::io::Result<()>) -> Result<File, Failure> {
    let written = tempfile::tempfile().and_then(|file| write(&file).map(|()| file));
    written.map_err(|error| Failure::Invalid(format!("cannot write a temporary file: {error}")))
}

/// Export images to an archive or an image layout
///
/// The output is an OCI image layout, which skopeo, podman, ctr, oras and `coracle import` read. If its name ends with .tar,
/// it is an archive, otherwise a new directory. The same content gives the same bytes. Signatures and other referrers are
/// included.
///
/// The options --since and --have leave out blobs that the other side has. All manifests are included. `coracle import`
/// there checks that nothing is missing before it sets a tag.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct Export {
    /// Repositories, as names or patterns such as team/**, or images such as team/app:1 [default: everything]
    images: Vec<Selection>,
    /// The archive (.tar) or directory to write, which must not exist
    #[arg(short, long, value_name = "PATH", value_parser = super::storage::absolute)]
    output: PathBuf,
    /// Leave out the blobs of an earlier export, which the other side has imported. Can be repeated
    #[arg(long, value_name = "PATH")]
    #[serde(skip)]
    since: Vec<PathBuf>,
    /// Leave out the blobs of a list that `coracle inventory` printed on the other side
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    have: Option<PathBuf>,
    /// Leave out signatures and other referrers, unless they are named
    #[arg(long)]
    no_referrers: bool,
}

impl Export {
    /// The directory that the operation writes to.
    pub(super) fn directory(&self) -> Option<&Path> {
        self.output.parent()
    }
}

impl Operation for Export {
    type Answer = Exported;

    /// The digests of the blobs that the other side has.
    fn attach(&mut self) -> Result<Option<File>, Failure> {
        let mut have = Have::default();
        for earlier in &self.since {
            have.add_export(earlier).map_err(|error| Failure::Invalid(error.to_string()))?;
        }
        if let Some(list) = &self.have {
            let read = File::open(list).and_then(|file| have.add_list(file));
            read.map_err(|error| Failure::Invalid(format!("cannot read {}: {error}", list.display())))?;
        }
        if have.is_empty() {
            return Ok(None);
        }
        attached(|file| {
            let mut writer = BufWriter::new(file);
            have.write_list(&mut writer)?;
            writer.flush()
        })
        .map(Some)
    }

    fn perform(self, call: &Call<'_>) -> Result<Exported, Failure> {
        let stores = call.registry.stores();
        let mut have = Have::default();
        if let Some(mut list) = call.attached {
            let read = list.rewind().and_then(|()| have.add_list(list));
            read.map_err(|error| Failure::Invalid(format!("the list of blobs to leave out: {error}")))?;
        }
        let ongoing = call.registry.transfers().start(&self.output.to_string_lossy());
        let export = transfer::Export {
            stores,
            selections: &self.images,
            have,
            referrers: !self.no_referrers,
            ongoing: &ongoing,
        };
        let target = reached(call, &self.output);
        export.run(&target, call.pause).map_err(|error| failure(call, &error))
    }
}

/// List the digests of all blobs, for an export elsewhere that leaves them out
#[derive(Debug, clap::Args, Serialize, Deserialize)]
pub(crate) struct Inventory {}

/// The blobs of a registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct InventoryList {
    pub(crate) digests: Vec<Digest>,
}

impl Operation for Inventory {
    type Answer = InventoryList;

    fn perform(self, call: &Call<'_>) -> Result<InventoryList, Failure> {
        Ok(InventoryList { digests: call.registry.stores().inventory()? })
    }
}

/// Shows the imports and exports that run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct TransferStatus {}

/// The imports and exports that run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TransferList {
    pub(crate) running: Vec<TransferState>,
    /// The takeover of another registry (`coracle serve --takeover-from`).
    pub(crate) takeover: Option<TakeoverView>,
}

impl Operation for TransferStatus {
    type Answer = TransferList;

    fn perform(self, call: &Call<'_>) -> Result<TransferList, Failure> {
        let takeover = call.registry.takeover_view();
        Ok(TransferList { running: call.registry.transfers().running(), takeover })
    }
}

/// The path by which this process reaches a file of the command.
fn reached(call: &Call<'_>, path: &Path) -> PathBuf {
    call.handed.map_or_else(|| path.to_owned(), |handed| handed.reached(path))
}

/// An error, with the paths that the command knows.
fn failure(call: &Call<'_>, error: &dyn std::error::Error) -> Failure {
    let message = error.to_string();
    Failure::Invalid(call.handed.map_or(message.clone(), |handed| handed.named(&message)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::Registry;
    use crate::oci::Algorithm;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        import: Import,
    }

    #[test]
    fn a_tagged_image_is_one_change_for_its_blobs_and_one_for_the_rest() {
        let layout = tempfile::tempdir().unwrap();
        let blobs = layout.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |bytes: &[u8]| {
            let digest = Digest::of(Algorithm::Sha256, bytes);
            std::fs::write(blobs.join(digest.hex()), bytes).unwrap();
            format!(
                r#"{{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "{digest}", "size": {}}}"#,
                bytes.len()
            )
        };
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let config = put(b"{}");
        let image =
            format!(r#"{{"schemaVersion": 2, "mediaType": "{media_type}", "config": {config}, "layers": [{config}]}}"#);
        put(image.as_bytes());
        let digest = Digest::of(Algorithm::Sha256, image.as_bytes());
        let index = format!(
            r#"{{"manifests": [{{"digest": "{digest}", "annotations": {{"org.opencontainers.image.ref.name": "1"}}}}]}}"#
        );
        std::fs::write(layout.path().join("index.json"), index).unwrap();
        std::fs::write(layout.path().join("oci-layout"), "{}").unwrap();

        let registry = Registry::builder().temporary().open().unwrap();
        let name: RepositoryName = "team/app".parse().unwrap();
        let version = || format!("{:?}", registry.shared.repository(&name).version().unwrap());
        let number = |version: &str| version.matches(char::is_numeric).collect::<String>().parse::<u64>().unwrap();
        let before = version();
        let path = layout.path().to_str().unwrap();
        let import = Line::parse_from(["import", "--as", "team/app", path]).import;
        let imported = import.perform(&Call::alone(&registry.shared, None)).unwrap();
        assert_eq!((imported.tags, imported.manifests, imported.blobs), (1, 1, 1));
        // The third one is the audit.
        assert_eq!(number(&version()) - number(&before), 3);
    }
}
