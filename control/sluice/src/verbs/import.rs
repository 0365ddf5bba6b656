//! `sluice import`: rulesets of netfilter to a policy, offline.
//!
//! The policy goes to standard output or a file, what has no translation to standard error, each line with its place and the
//! reason. Exit code 1 if there is any, unless `--lossy` says that this is known.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use sluice_import::{Format, Imported, Options, Source};

use crate::print::{print_json, print_line};
use crate::{Failure, Outcome};

/// Read are what `iptables-save`, `ip6tables-save`, `nft -j list ruleset` and `ipset save` write; all files given make one policy.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// What the files are: iptables-save, ip6tables-save, nft or ipset; then the files, `-` for standard input. Several kinds
    /// follow each other: `iptables-save rules.v4 ip6tables-save rules.v6 ipset sets`.
    #[arg(required = true, num_args = 2.., value_names = ["FORMAT", "FILE"])]
    what: Vec<String>,
    /// Write the policy to this file instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// An interface, or a pattern such as eth+, and the interfaces of the system file that it is: eth0=wan, ppp+=ppp0,ppp1.
    #[arg(long, value_name = "OLD=NEW,…", value_parser = rename)]
    rename: Vec<(String, Vec<String>)>,
    /// Exit code 0 also if something has no translation.
    #[arg(long)]
    lossy: bool,
}

/// Translates, and says what it could not.
pub(crate) fn import(args: &ImportArgs, json: bool) -> Outcome {
    let options = Options { rename: args.rename.iter().cloned().collect::<BTreeMap<_, _>>() };
    let imported =
        sluice_import::import(&sources(&args.what)?, &options).map_err(|why| Failure::No(Some(why)))?;
    let Imported { policy, untranslated, notes } = imported;
    if let Some(path) = &args.output {
        std::fs::write(path, &policy)
            .map_err(|e| Failure::CouldNotAsk(format!("cannot write {}: {e}", path.display())))?;
    }
    if json {
        let policy = args.output.is_none().then_some(&policy);
        print_json(&serde_json::json!({"policy": policy, "untranslated": untranslated, "notes": notes}))?;
    } else {
        if args.output.is_none() {
            print_line(policy.trim_end())?;
        }
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        untranslated.iter().for_each(|finding| eprintln!("not translated: {finding}"));
    }
    match untranslated.len() {
        0 => Ok(()),
        n if args.lossy => {
            eprintln!("sluice: {} not translated", lines(n));
            Ok(())
        }
        n => Err(Failure::No(Some(format!("{} not translated; --lossy if that is meant", lines(n))))),
    }
}

fn lines(count: usize) -> String {
    if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") }
}

/// Formats and files as they stand on the command line.
fn sources(words: &[String]) -> Result<Vec<Source>, Failure> {
    let known = || Format::ALL.map(Format::name).join(", ");
    let mut format = None;
    let mut sources = Vec::new();
    for word in words {
        if let Some(named) = Format::ALL.into_iter().find(|known| known.name() == word) {
            format = Some(named);
            continue;
        }
        let Some(format) = format else {
            return Err(Failure::CouldNotAsk(format!("`{word}` is no format: {}", known())));
        };
        let text = read(word).map_err(|e| Failure::CouldNotAsk(format!("cannot read {word}: {e}")))?;
        sources.push(Source { format, name: word.clone(), text });
    }
    if sources.is_empty() {
        return Err(Failure::CouldNotAsk("no file is given".to_owned()));
    }
    Ok(sources)
}

fn read(name: &str) -> std::io::Result<String> {
    if name != "-" {
        return std::fs::read_to_string(name);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// `OLD=NEW,NEW`.
fn rename(text: &str) -> Result<(String, Vec<String>), String> {
    let (old, new) = text.split_once('=').ok_or("it must be OLD=NEW")?;
    Ok((old.to_owned(), new.split(',').map(str::to_owned).collect()))
}
