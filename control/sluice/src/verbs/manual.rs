//! `sluice completions`, and what the package's man pages are made by: both from the arguments themselves, so that
//! neither can be out of date.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::print::print_line;
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// Folder for the pages; it must exist.
    folder: PathBuf,
}

/// Prints a script that completes the command line in this shell.
pub(crate) fn completions(args: &CompletionsArgs, mut command: Command) -> Outcome {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print_line(String::from_utf8_lossy(&script).trim_end())
}

/// Writes `sluice.1`, and a page for each verb.
pub(crate) fn manual(args: &ManualArgs, command: Command) -> Outcome {
    let failed = |error: std::io::Error| Failure::CouldNotAsk(format!("{}: {error}", args.folder.display()));
    clap_mangen::generate_to(command, &args.folder).map_err(failed)
}
