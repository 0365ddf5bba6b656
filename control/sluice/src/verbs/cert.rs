//! `sluice cert`: certificates for remote control, made in a folder on the administrator's machine.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use sluice_certificates::{Authority, AuthorityError, Issued, Kind, Lifetime, Role};

use crate::print::{print_json, print_line};
use crate::table::Table;
use crate::{Failure, Outcome};

#[derive(Debug, Args)]
pub(crate) struct CertArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make an authority in a folder, which is to stay secret: who has its ca.key may do everything to all boxes.
    Init {
        /// The folder.
        dir: PathBuf,
        /// The authority's name, as certificates show it.
        #[arg(long, default_value = "Sluice")]
        name: String,
        /// How many days it holds.
        #[arg(long, default_value_t = 3650, value_parser = days)]
        days: u32,
    },
    /// Issue a certificate for a box.
    Server {
        /// The box's name, and the files'.
        #[arg(long)]
        name: String,
        /// Host names and addresses by which it is asked; its name unless given.
        #[arg(long, value_name = "HOST")]
        address: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Issue a certificate for a person or a program.
    Client {
        /// Whose it is, as the log and the history will show it, and the files' name.
        #[arg(long)]
        name: String,
        /// What it may do.
        #[arg(long, value_enum)]
        role: ClientRole,
        #[command(flatten)]
        place: Place,
    },
    /// Put certificates on the revocation list, which boxes read at their next reload.
    Revoke {
        /// A name, for all certificates of it, or a serial number.
        #[arg(required = true)]
        names: Vec<String>,
        /// The authority's folder.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
    /// List what was issued.
    List {
        /// The authority's folder.
        #[arg(long, default_value = ".")]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// The authority's folder; the new files are put there.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// How many days it holds.
    #[arg(long, default_value_t = 365, value_parser = days)]
    days: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClientRole {
    /// Ask everything that changes nothing.
    Read,
    /// Ask and change everything.
    Write,
}

/// A certificate as `--json` prints it.
#[derive(Serialize)]
struct Row<'a> {
    serial: &'a str,
    kind: &'a str,
    name: &'a str,
    not_after: i64,
    revoked: bool,
}

impl<'a> Row<'a> {
    fn of(issued: &'a Issued) -> Row<'a> {
        let Issued { serial, kind, not_after, name, revoked } = issued;
        Row { serial, kind, name, not_after: *not_after, revoked: *revoked }
    }
}

/// Makes, revokes or lists.
pub(crate) fn cert(args: CertArgs, json: bool) -> Outcome {
    match args.what {
        What::Init { dir, name, days } => {
            Authority::init(&dir, &name, Lifetime(days)).map_err(failed)?;
            let dir = dir.display();
            print_line(&format!("{dir}/ca.crt, {dir}/ca.key (keep it secret), {dir}/revoked.crl"))
        }
        What::Server { name, address, place } => {
            let hosts = if address.is_empty() { vec![name.clone()] } else { address };
            issue(&place, &name, &Kind::Server(hosts), json)
        }
        What::Client { name, role, place } => {
            let role = match role {
                ClientRole::Read => Role::Read,
                ClientRole::Write => Role::Write,
            };
            issue(&place, &name, &Kind::Client(role), json)
        }
        What::Revoke { names, dir } => revoke(&dir, &names, json),
        What::List { dir } => list(&dir, json),
    }
}

fn issue(place: &Place, name: &str, kind: &Kind, json: bool) -> Outcome {
    let authority = Authority::open(&place.dir).map_err(failed)?;
    let issued = authority.issue(name, kind, Lifetime(place.days)).map_err(failed)?;
    if json {
        return print_json(&Row::of(&issued));
    }
    let dir = place.dir.display();
    print_line(&format!(
        "{dir}/{name}.crt, {dir}/{name}.key: {}, serial {}, until {}",
        issued.kind,
        issued.serial,
        day(issued.not_after)
    ))
}

fn revoke(dir: &Path, names: &[String], json: bool) -> Outcome {
    let authority = Authority::open(dir).map_err(failed)?;
    let mut revoked = Vec::new();
    for name in names {
        revoked.extend(authority.revoke(name).map_err(failed)?);
    }
    if json {
        return print_json(&revoked.iter().map(Row::of).collect::<Vec<_>>());
    }
    for issued in &revoked {
        print_line(&format!("revoked {} {} {}", issued.serial, issued.kind, issued.name))?;
    }
    print_line(&format!(
        "now copy {}/revoked.crl to each box, and `sluice reload` there: until then it knows nothing of it",
        dir.display()
    ))
}

fn list(dir: &Path, json: bool) -> Outcome {
    let issued = Authority::open(dir).and_then(|authority| authority.issued()).map_err(failed)?;
    if json {
        return print_json(&issued.iter().map(Row::of).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["SERIAL", "KIND", "UNTIL", "NAME", ""]);
    for one in &issued {
        let note = if one.revoked { "revoked" } else { "" };
        let cells = [&one.serial, &one.kind, &day(one.not_after), &one.name, note];
        table.row(cells.map(str::to_owned).to_vec());
    }
    table.lines().iter().try_for_each(|line| print_line(line))
}

/// The day of a second since 1970.
fn day(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds);
    time.map_or_else(|_| "?".to_owned(), |time| time.strftime("%Y-%m-%d").to_string())
}

/// A lifetime: from a day to a hundred years.
fn days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok().filter(|days| (1..=36_500).contains(days));
    days.ok_or_else(|| "a number of days from 1 to 36500".to_owned())
}

fn failed(error: AuthorityError) -> Failure {
    match error {
        AuthorityError::Unknown { .. } | AuthorityError::Exists(_) => Failure::No(Some(error.to_string())),
        other => Failure::CouldNotAsk(other.to_string()),
    }
}
