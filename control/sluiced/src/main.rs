//! `sluiced`: the daemon. Puts the data plane and control together, and takes them apart again.
//!
//! Runs in the foreground and logs to stderr. A start error is one clear line and exit code 1; SIGTERM ends it with exit
//! code 0 and leaves the kernel's interfaces as they were; SIGHUP reads both files again.

mod confine;
mod dataplane;
mod run;
mod watchdog;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Flow tables and large sets are on huge pages, where the kernel has any to give.
#[global_allocator]
static ALLOCATOR: sluice_worker::LargePageAllocator = sluice_worker::LargePageAllocator;

/// A stateful firewall router on DPDK: the daemon.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The system file.
    #[arg(long, default_value = "/etc/sluice/sluice.yaml")]
    config: PathBuf,
    /// Take over a kernel interface even if it carries this ssh session.
    #[arg(long)]
    force: bool,
    /// Let DPDK and its drivers log more than warnings.
    #[arg(long)]
    debug_dpdk: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
    match run::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluiced: {}", in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, but for those that it quotes already.
fn in_one_line(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |mut line, cause| {
        if !line.contains(&cause) {
            line.push_str(if line.is_empty() { "" } else { ": " });
            line.push_str(&cause);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::in_one_line;

    #[test]
    fn a_cause_is_said_once() {
        let cause = std::io::Error::from_raw_os_error(1);
        let error = anyhow::Error::new(cause).context("port taken").context("metrics: port taken");
        assert_eq!(in_one_line(&error), "metrics: port taken: Operation not permitted (os error 1)");
    }
}
