//! `sluice schema`: JSON Schema of both files, for editors.

use clap::{Args, ValueEnum};
use sluice_config::schema as of;

use crate::print::print_line;
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    /// The file; without it, a schema that either file fulfils.
    #[arg(value_enum)]
    file: Option<File>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum File {
    /// The policy file.
    Policy,
    /// The system file.
    System,
}

/// Prints the schema.
pub(crate) fn schema(args: &SchemaArgs) -> Outcome {
    let schema = match args.file {
        Some(File::Policy) => of::policy(),
        Some(File::System) => of::system(),
        None => of::both(),
    };
    let text = serde_json::to_string_pretty(&schema).map_err(|e| Failure::CouldNotAsk(e.to_string()))?;
    print_line(&text)
}
