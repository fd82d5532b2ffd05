//! The configurations and commands of docs/install.md and of `packaging`, with the real program.

use std::path::Path;
use std::process::Command;

use crate::support::content::push_image;
use crate::support::process::{ADMIN, Program, Running};
use crate::tls::certify;

/// A section of docs/install.md, from its heading to the next one.
fn section(heading: &str) -> &'static str {
    let page = include_str!("../../../docs/install.md");
    let (_, rest) = page.split_once(&format!("\n## {heading}\n")).expect("the section is in docs/install.md");
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// The first block of a section in a language.
fn block(heading: &str, language: &str) -> String {
    let (_, block) = section(heading).split_once(&format!("```{language}\n")).expect("the section has the block");
    block.split_once("```").unwrap().0.to_owned()
}

/// Writes a configuration of the page with a data directory and a port of this test.
fn adapted(directory: &Path, text: &str) -> std::path::PathBuf {
    let file = directory.join("config.toml");
    let text = text.replace("/var/lib/coracle", directory.join("data").to_str().unwrap());
    let text = text.replace("/etc/coracle/", &format!("{}/", directory.display()));
    std::fs::write(&file, text).unwrap();
    file
}

fn start(config: &Path) -> Running {
    Program::new(["serve"]).arg(config).env("CORACLE_HTTP_PORT", "0").with_admin().start()
}

#[tokio::test]
async fn the_team_pushes_and_everybody_pulls() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    let text = block("A team's server", "toml");
    let config = adapted(directory.path(), &text);
    assert_eq!(Program::new(["check-config"]).arg(&config).run().stderr, "");
    // The same without TLS, as behind a proxy.
    let plain: String = text.split_inclusive('\n').filter(|line| !line.starts_with("tls.")).collect();
    let plain = plain.replace("address = \"\"", "address = \"127.0.0.1\"");
    let config = adapted(directory.path(), &plain);
    let running = start(&config);
    let add = |name: &str| {
        let added = Program::new(["user", "add", name, "--config"]).arg(&config).run();
        assert_eq!(added.code, Some(0), "{added:?}");
        added.stdout.trim().to_owned()
    };
    let (carol, mallory) = (add("carol"), add("mallory"));
    push_image(&running.user(("carol", &carol)), "team/app", "1", 1).await;
    running.anonymous().get("/v2/team/app/manifests/1").send().await.status(200);
    let other = running.user(("mallory", &mallory));
    other.get("/v2/team/app/manifests/1").send().await.status(200);
    other.post("/v2/team/app/blobs/uploads/").send().await.status(403);
    running.anonymous().get("/v2/carol/private/manifests/1").send().await.status(401);
}

#[tokio::test]
async fn the_other_configurations_are_valid_and_start() {
    let directory = tempfile::tempdir().unwrap();
    for text in [block("A small disk", "toml"), include_str!("../../../packaging/debian/config.toml").to_owned()] {
        let config = adapted(directory.path(), &text);
        let checked = Program::new(["check-config"]).arg(&config).run();
        assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""), "{checked:?}");
        let running = Program::new(["serve", "--root"]).arg(directory.path().join("data")).arg(&config);
        running.env("CORACLE_HTTP_PORT", "0").with_admin().start().stop();
    }
}

#[tokio::test]
async fn the_commands_of_the_laptop_and_of_the_small_disk() {
    let directory = tempfile::tempdir().unwrap();
    let running = Program::serve(directory.path()).with_admin().start();
    push_image(&running.user(ADMIN), "library/hello", "1", 1).await;
    let commands = [block("A laptop", "sh"), block("A small disk", "sh"), section("A laptop").to_owned()].join("\n");
    let mut count = 0;
    for line in commands.lines().filter(|line| line.starts_with("coracle ")) {
        let words = line.split('#').next().unwrap().split_whitespace().skip(1);
        let words: Vec<_> = words.map(|word| word.replace("http://127.0.0.1:8080", running.url())).collect();
        let done = Program::new(&words).arg("--root").arg(directory.path()).run();
        assert_eq!(done.code, Some(0), "{line}: {done:?}");
        count += 1;
    }
    assert!(count >= 5, "only {count} commands were run");
}

#[test]
fn the_unit_of_systemd_is_hardened() {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("lib/systemd/system");
    std::fs::create_dir_all(&units).unwrap();
    std::fs::write(units.join("coracle.service"), include_str!("../../../packaging/debian/coracle.service")).unwrap();
    let analyze = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager", "coracle.service", "--root"])
        .arg(root.path())
        .output();
    let Ok(analyzed) = analyze else {
        eprintln!("SKIPPED: systemd-analyze is missing");
        return;
    };
    let text = String::from_utf8_lossy(&analyzed.stdout).into_owned();
    let (_, exposure) = text.split_once("Overall exposure level for coracle.service: ").expect(&text);
    let exposure: f64 = exposure.split_whitespace().next().unwrap().parse().unwrap();
    assert!(exposure <= 2.0, "{text}");
}
