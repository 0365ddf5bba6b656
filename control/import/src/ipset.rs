//! The text of `ipset save`. Source: ipset(8).

use sluice_config::IpPrefix;

use crate::Source;
use crate::model::{Families, Ruleset, Set, SetKind};
use crate::report::{Place, Report};

/// Reads a text into `ruleset`.
///
/// # Errors
/// A line that is not ipset's.
pub(crate) fn read(source: &Source, ruleset: &mut Ruleset, report: &mut Report) -> Result<(), String> {
    let number = ruleset.sources;
    ruleset.sources += 1;
    let mut sets: Vec<Set> = Vec::new();
    for (line, text) in (1..).zip(source.text.lines()) {
        let text = text.trim();
        let place = Place { source: number, file: source.name.clone(), line, text: text.to_owned() };
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [comment, ..] if comment.starts_with('#') => {}
            ["create", name, kind, options @ ..] => sets.push(create(name, kind, options, place, report)),
            ["add", name, element, options @ ..] => {
                let Some(set) = sets.iter_mut().find(|set| set.name == *name) else {
                    return Err(format!("{}:{line}: there is no set {name}", source.name));
                };
                add(set, element, options, &place, report);
            }
            _ => return Err(format!("{}:{line}: `{text}` is no line of ipset save", source.name)),
        }
    }
    ruleset.sets.extend(sets);
    Ok(())
}

fn create(name: &str, kind: &str, options: &[&str], place: Place, report: &mut Report) -> Set {
    let option =
        |name: &str| options.windows(2).find(|pair| pair.first() == Some(&name)).and_then(|pair| pair.get(1));
    let families = if option("family") == Some(&"inet6") { Families::V6 } else { Families::V4 };
    let kind = match kind {
        "hash:ip" | "hash:net" | "bitmap:ip" if option("netmask").is_some() => {
            SetKind::Refused("addresses are not masked before they are looked up".to_owned())
        }
        "hash:ip" | "hash:net" | "bitmap:ip" => SetKind::Net,
        "bitmap:port" => SetKind::Port,
        "hash:ip,port" => SetKind::Pairs,
        "list:set" => SetKind::Sets,
        _ => SetKind::Refused(format!("a set of type {kind} holds more than addresses or ports")),
    };
    if option("timeout").is_some_and(|timeout| *timeout != "0") {
        report.untranslated(&place, "elements do not expire: those added later stay until they are deleted");
    }
    let (name, owner, named) = (name.to_owned(), None, String::new());
    Set { name, owner, named, place, kind, families, elements: Vec::new() }
}

fn add(set: &mut Set, element: &str, options: &[&str], place: &Place, report: &mut Report) {
    if matches!(set.kind, SetKind::Refused(_)) {
        return;
    }
    if options.contains(&"nomatch") {
        report.untranslated(place, "a set has no exceptions: the addresses of this one match");
        return;
    }
    let timeout =
        options.windows(2).find(|pair| pair.first() == Some(&"timeout")).and_then(|pair| pair.get(1));
    if timeout.is_some_and(|timeout| *timeout != "0") {
        report.untranslated(place, "it does not expire: it is in the set until it is deleted");
    }
    set.elements.push(plain(element));
}

/// A single address without the length of its prefix.
fn plain(element: &str) -> String {
    match element.parse::<IpPrefix>() {
        Ok(prefix) if prefix.is_host() => prefix.addr().to_string(),
        _ => element.to_owned(),
    }
}
