// SPDX-License-Identifier: GPL-2.0

//! `dmox`: the command for people who have volumes.

mod device;
mod failure;
mod output;
mod vdo;

use clap::Parser;
use clap::Subcommand;
use std::process::ExitCode;

/// Looks at volumes of dmox, checks, formats and repairs them.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    target: Target,
}

#[derive(Subcommand)]
enum Target {
    /// Thin volumes of the target vdo
    #[command(subcommand, arg_required_else_help = true)]
    Vdo(vdo::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Target::Vdo(command) = arguments.target;
    match command.run() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("dmox: {failure}");
            ExitCode::FAILURE
        }
    }
}
