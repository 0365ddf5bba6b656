//! `sluice set`: elements of a set, without a new policy.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sluice_api::{Set, SetAction, SetChange, SetReply};
use sluice_config::policy::SetElements;

use crate::client::{Client, refused};
use crate::print::{print_json, print_line};
use crate::{Failure, Outcome};

/// Lines of a file that are named if they are no elements.
const NAMED: usize = 20;

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print the elements of a set, one a line.
    List {
        /// The set.
        name: String,
    },
    /// Add elements.
    Add(Elements),
    /// Take elements out; each must be there.
    Del(Elements),
    /// Put these elements in the place of all that are there.
    Replace(Elements),
}

#[derive(Debug, Args)]
struct Elements {
    /// The set.
    name: String,
    /// Addresses, prefixes and ranges, or ports, as in a policy.
    elements: Vec<String>,
    /// A file with more of them, one a line, `#` begins a comment; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Lists or changes.
pub(crate) async fn set(client: &Client, args: SetArgs, json: bool) -> Outcome {
    let (action, given) = match args.what {
        What::List { name } => return list(client, &name, json).await,
        What::Add(given) => (SetAction::Add, given),
        What::Del(given) => (SetAction::Del, given),
        What::Replace(given) => (SetAction::Replace, given),
    };
    let name = bare(&given.name);
    let mut elements = given.elements;
    if let Some(path) = &given.file {
        elements.extend(from_file(client, &name, path).await?);
    } else if elements.is_empty() {
        let hint = if action == SetAction::Replace { ": --file /dev/null empties it" } else { "" };
        return Err(Failure::No(Some(format!("no elements given{hint}"))));
    }
    let change = SetChange { name: name.clone(), action, elements };
    let reply: SetReply = client.post("/v1/sets", &change).await?.map_err(|e| refused(&e))?;
    if json {
        return print_json(&reply);
    }
    print_line(&format!(
        "{name}: {} elements, {} added, {} removed, generation {}",
        reply.elements, reply.added, reply.removed, reply.generation
    ))
}

async fn list(client: &Client, name: &str, json: bool) -> Outcome {
    // What a name may have in it beside these is escaped.
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    let path: String = bare(name).bytes().map(escape).collect();
    let set: Set = client.get(&format!("/v1/sets/{path}")).await?;
    if json {
        return print_json(&set);
    }
    set.elements.iter().try_for_each(|element| print_line(element))
}

/// As in rules, a set may be written with its `@`.
fn bare(name: &str) -> String {
    name.trim_start_matches('@').to_owned()
}

/// The elements in a file. Those that are none are named with their lines, if the daemon has the set.
async fn from_file(client: &Client, name: &str, path: &Path) -> Result<Vec<String>, Failure> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|e| Failure::CouldNotAsk(format!("cannot read {}: {e}", path.display())))?;
    let sets: Vec<Set> = client.get("/v1/sets").await?;
    let kind = sets.into_iter().find(|set| set.name == name).map(|set| set.kind);
    let mut known = match kind.as_deref() {
        Some("net") => Some(SetElements::Net(Vec::new())),
        Some("port") => Some(SetElements::Port(Vec::new())),
        _ => None,
    };
    let (mut elements, mut wrong) = (Vec::new(), 0);
    for (number, line) in (1..).zip(text.lines()) {
        let element = line.split('#').next().unwrap_or_default().trim();
        if element.is_empty() {
            continue;
        }
        if let Some(Err(why)) = known.as_mut().map(|known| known.add(element)) {
            wrong += 1;
            if wrong <= NAMED {
                eprintln!("{}:{number}: {why}", path.display());
            }
        }
        elements.push(element.to_owned());
    }
    match wrong {
        0 => Ok(elements),
        count => Err(Failure::No(Some(format!("{count} lines are no elements; nothing was changed")))),
    }
}
