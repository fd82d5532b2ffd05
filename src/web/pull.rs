//! [`pull_commands`]: the commands that fetch a manifest, for the clients that understand it.

use super::Copy;

/// The use of a manifest by clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullKind {
    /// A container runtime runs it.
    Image,
    /// Helm installs it.
    Chart,
    /// It is a set of files.
    Files,
}

/// A manifest as commands name it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PullTarget<'a> {
    /// The host that the browser used, with its port.
    pub(crate) host: &'a str,
    /// Whether clients reach the registry by https.
    pub(crate) is_https: bool,
    pub(crate) repository: &'a str,
    pub(crate) tag: Option<&'a str>,
    pub(crate) digest: &'a str,
}

/// A command of a client.
#[derive(Clone, Debug)]
pub(crate) struct PullCommand {
    pub(crate) client: &'static str,
    pub(crate) command: Copy,
}

/// The commands that fetch a manifest by its tag, or by its digest if it has none. Names, tags and digests need no quotes
/// in a shell.
pub(crate) fn pull_commands(kind: PullKind, target: PullTarget<'_>) -> Vec<PullCommand> {
    let PullTarget { host, is_https, repository, tag, digest } = target;
    let name = format!("{host}/{repository}");
    let reference = tag.map_or_else(|| format!("{name}@{digest}"), |tag| format!("{name}:{tag}"));
    let plain = |flag: &'static str| if is_https { "" } else { flag };
    let command = |client: &'static str, text: String| PullCommand {
        client,
        command: Copy::new(format!("Command for {client}"), text),
    };
    match kind {
        PullKind::Image => vec![
            command("docker", format!("docker pull {reference}")),
            command("podman", format!("podman pull{} {reference}", plain(" --tls-verify=false"))),
            command("ctr", format!("ctr images pull{} {reference}", plain(" --plain-http"))),
        ],
        PullKind::Chart => {
            let plain = plain(" --plain-http");
            // Helm knows a version only by its tag, in which an underscore stands for a plus sign.
            let version = tag.map(|tag| format!(" --version {}", tag.replace('_', "+"))).unwrap_or_default();
            let chart = if tag.is_some() { format!("oci://{name}{version}") } else { format!("oci://{name}@{digest}") };
            let release = repository.rsplit('/').next().unwrap_or(repository).replace(['.', '_'], "-");
            vec![
                command("helm", format!("helm pull {chart}{plain}")),
                command("helm install", format!("helm install {release} {chart}{plain}")),
                command("oras", format!("oras pull{plain} {reference}")),
            ]
        }
        PullKind::Files => vec![command("oras", format!("oras pull{} {reference}", plain(" --plain-http")))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_name_the_tag_or_the_digest() {
        let target = PullTarget {
            host: "r.example",
            is_https: true,
            repository: "a/my.chart",
            tag: Some("1.0_2"),
            digest: "sha256:a",
        };
        let texts =
            |kind, target| pull_commands(kind, target).into_iter().map(|one| one.command.text).collect::<Vec<_>>();
        assert_eq!(texts(PullKind::Image, target)[0], "docker pull r.example/a/my.chart:1.0_2");
        assert_eq!(
            texts(PullKind::Chart, target)[..2],
            [
                "helm pull oci://r.example/a/my.chart --version 1.0+2",
                "helm install my-chart oci://r.example/a/my.chart --version 1.0+2"
            ]
        );
        let local = PullTarget { is_https: false, tag: None, ..target };
        assert_eq!(texts(PullKind::Image, local)[2], "ctr images pull --plain-http r.example/a/my.chart@sha256:a");
        assert_eq!(texts(PullKind::Files, local), ["oras pull --plain-http r.example/a/my.chart@sha256:a"]);
    }
}
