//! The command line: `coracle serve`, `coracle check-config`.
//!
//! Standard output has what a script wants to read, standard error what a person does. Exit codes:
//! 0 done, 1 it could not be done, 2 the command line or the configuration is wrong.

mod check_config;
mod logging;
mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "coracle",
    version,
    about = "An OCI registry in one binary with one data directory",
    after_help = "Start one and push to it:\n  coracle serve\n  skopeo login --tls-verify=false 127.0.0.1:8080\n  \
                  skopeo copy --dest-tls-verify=false docker-archive:image.tar docker://127.0.0.1:8080/image:1",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    CheckConfig(check_config::CheckConfig),
}

/// Runs the command line of this process.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(command) => command.run(),
        Command::CheckConfig(command) => command.run(),
    }
}

/// It could not be done.
fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("coracle: {error}");
    ExitCode::from(1)
}

/// What was asked for is wrong.
fn wrong(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("coracle: {error}");
    ExitCode::from(2)
}
