//! The configuration in environment variables, and where each value comes from.

use serde_json::Value;

use crate::support::content::push_image;
use crate::support::process::{ADMIN, Program};

#[tokio::test]
async fn every_command_reads_the_environment() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("coracle.toml");
    std::fs::write(&config, "[http]\nport = 0\nrealm = 'file'\n").unwrap();
    let password = root.path().join("password");
    std::fs::write(&password, format!("{}\n", ADMIN.1)).unwrap();
    let data = root.path().join("data");
    let program = |arguments: &[&str]| {
        let program = Program::new(arguments).env("CORACLE_CONFIG", &config);
        program.env("CORACLE_STORAGE_ROOTDIRECTORY", &data).env("CORACLE_ADMIN_PASSWORD_FILE", &password)
    };
    let running = program(&["serve"]).env("CORACLE_HTTP_REALM", "variable").start();
    push_image(&running.user(ADMIN), "admin/app", "1", 1).await;
    let status = program(&["status"]).run();
    assert!(status.stdout.contains(&format!("data directory  {}\n", data.display())), "{status:?}");
    // A change of the file does not end what the environment sets.
    std::fs::write(&config, "[http]\nport = 0\n[http.accessControl.repositories.'**']\nanonymousPolicy = ['read']\n")
        .unwrap();
    running.signal(rustix::process::Signal::HUP);
    running.wait_for("changed keys take effect after a restart");
    let log = running.stop().stderr;
    assert!(!log.contains("ERROR"), "{log}");
    // A wrong variable is a wrong configuration.
    let wrong = program(&["serve"]).env("CORACLE_HTTP_PROT", "1").run();
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("CORACLE_HTTP_PROT: unknown key, did you mean http.port?"), "{wrong:?}");
}

#[test]
fn check_config_checks_the_environment() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("coracle.toml");
    std::fs::write(&file, "[http]\nport = 5000\n").unwrap();
    let check = |variables: &[(&str, &str)]| {
        let program = Program::new(["check-config"]);
        variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run()
    };
    let named = ("CORACLE_CONFIG", file.to_str().unwrap());
    let right = check(&[named]);
    assert_eq!((right.code, right.stdout), (Some(0), format!("{} is valid\n", file.display())));
    let alone = check(&[("CORACLE_STORAGE_MINFREESPACE", "1GiB")]);
    assert_eq!((alone.code, alone.stdout.as_str()), (Some(0), "no file is named, and the environment is valid\n"));
    let lots = ("CORACLE_STORAGE_MINFREESPACE", "lots");
    for variables in [&[lots][..], &[named, lots]] {
        let wrong = check(variables);
        assert_eq!(wrong.code, Some(2), "{wrong:?}");
        assert!(wrong.stderr.starts_with("CORACLE_STORAGE_MINFREESPACE: storage.minFreeSpace: expected"), "{wrong:?}");
    }
    let empty = check(&[("CORACLE_HTTP_TLS_CERT", ""), ("CORACLE_HTTP_TLS_KEY", "")]);
    assert!(empty.code == Some(2) && empty.stderr.contains("http.tls.key: is empty: name a file"), "{empty:?}");
}

#[test]
fn the_source_of_each_value_is_shown() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("coracle.toml");
    std::fs::write(&config, "[http]\nport = 5000\n").unwrap();
    let ask = |more: &[&str]| {
        let program = Program::new(["check-config", "--effective"]).args(more);
        program.arg(&config).env("CORACLE_STORAGE_GCDELAY", "2h").run()
    };
    let shown = ask(&[]);
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let line = |key: &str| {
        let line = shown.stdout.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("http.port"), format!("http.port 5000 {}", config.display()));
    assert_eq!(line("storage.gcDelay"), "storage.gcDelay 2h $CORACLE_STORAGE_GCDELAY");
    assert_eq!(line("http.ui"), "http.ui true default");
    let values: Value = serde_json::from_str(&ask(&["--json"]).stdout).unwrap();
    let port = values.as_array().unwrap().iter().find(|value| value["key"] == "http.port").unwrap();
    assert_eq!((&port["value"], &port["source"]), (&"5000".into(), &config.to_str().unwrap().into()));
    // The environment is enough.
    let alone = Program::new(["check-config", "--effective"]).env("CORACLE_HTTP_PORT", "1").run();
    assert!(alone.stdout.contains("$CORACLE_HTTP_PORT"), "{alone:?}");
}

#[test]
fn completions_and_man_pages_cover_every_command() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef coracle"), ("fish", "complete -c coracle")] {
        let script = Program::new(["completions", shell]).run();
        assert_eq!(script.code, Some(0), "{script:?}");
        for word in [word, "check-config", "doctor"] {
            assert!(script.stdout.contains(word), "{shell}: {word} is missing");
        }
    }
    let pages = tempfile::tempdir().unwrap();
    assert_eq!(Program::new(["man"]).arg(pages.path()).run().code, Some(0));
    let read = |name: &str| std::fs::read_to_string(pages.path().join(name)).unwrap();
    assert!(read("coracle.1").contains("coracle\\-doctor(1)"), "{}", read("coracle.1"));
    assert!(read("coracle-serve.1").contains("CORACLE_ADMIN_PASSWORD_FILE"));
    assert!(read("coracle-user-add.1").contains("superuser"));
}
