//! Standard output. A reader that went away (`| head`) ends the program quietly, as other tools do.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use serde::Serialize;

use crate::{Failure, Outcome};

/// Lines that come fast: written many at once.
pub(crate) struct Printer(BufWriter<StdoutLock<'static>>);

impl Printer {
    /// Standard output belongs to it as long as it lives.
    pub(crate) fn new() -> Printer {
        Printer(BufWriter::with_capacity(64 << 10, io::stdout().lock()))
    }

    /// Adds a line.
    pub(crate) fn line(&mut self, line: &[u8]) -> Outcome {
        quiet(self.0.write_all(line).and_then(|()| self.0.write_all(b"\n")))
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self) -> Outcome {
        quiet(self.0.flush().and_then(|()| self.0.get_mut().flush()))
    }
}

/// Prints a value as JSON, on one line.
pub(crate) fn print_json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string(value).map_err(|e| Failure::CouldNotAsk(e.to_string()))?;
    print_line(&text)
}

/// Prints a line.
pub(crate) fn print_line(line: &str) -> Outcome {
    quiet(writeln!(io::stdout().lock(), "{line}"))
}

fn quiet(written: io::Result<()>) -> Outcome {
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}
