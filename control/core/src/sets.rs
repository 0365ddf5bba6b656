//! Elements of sets: as the running policy defines them, or as they were changed since by hand.
//!
//! A change takes effect without a new policy: the compiled rules stay, and count on. It is in `sets/NAME.json` in the
//! state folder before it is in force, with a digest of what the policy says of that set, and holds for every policy that
//! says the same. One that defines the set differently ends it, as soon as that one is to stay: while it waits to be
//! confirmed, the change waits too, for the way back. One that has no such set leaves it for the next that has.
//!
//! Not here: what an element is ([`sluice_config`]), and how sets are asked ([`sluice_engine::ruleset::AddressSet`]).

mod disk;
mod held;

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};
use sluice_api as api;
use sluice_compiler::{Difference, NamedSet, covered, range_text};
use sluice_config::nearest;
use sluice_config::policy::SetElements;
use tokio::task::spawn_blocking;

use crate::apply::ApplyError;
use crate::boot::Ready;
use crate::control::Control;
use crate::lock::locked;
use held::Held;

/// Elements that a set may grow to by changes: what a policy may hold in its set files comes to less.
const ROOM: usize = 4 << 20;

/// Elements of a set that the list of all sets shows.
const SHOWN: usize = 1000;

/// The sets of the running policy, and all that were changed by hand.
pub(crate) struct Sets {
    folder: PathBuf,
    live: LiveSets,
    changes: Changes,
}

/// Sets of a policy as they are asked.
pub(crate) type LiveSets = BTreeMap<String, LiveSet>;

/// A set of a policy.
#[derive(Clone, Debug)]
pub(crate) struct LiveSet {
    /// As it is asked.
    set: NamedSet,
    /// As the policy defines it.
    defined: Arc<SetElements>,
    /// [`digest`] of that, once it was asked for.
    digest: Arc<OnceLock<String>>,
}

impl LiveSet {
    fn changed(&self) -> bool {
        !Arc::ptr_eq(&self.defined, &self.set.elements)
    }

    /// What tells its definition from others.
    fn digest(&self) -> &str {
        self.digest.get_or_init(|| digest(&self.defined))
    }
}

/// All changes by the name of the set: one for each definition that it is a change to, which are two only while a policy
/// waits to be confirmed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(Arc<BTreeMap<String, Vec<Change>>>);

/// What a set holds in place of what a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    /// [`digest`] of what the policy says.
    defined: String,
    /// What it holds.
    held: Held,
}

impl Changes {
    /// Puts elements that were changed into a policy that defines these sets as they were defined then.
    pub(crate) fn settle(&self, ready: &mut Ready) {
        for (name, live) in &mut ready.sets {
            let Some(changes) = self.0.get(name) else { continue };
            let Some(change) = changes.iter().find(|change| change.defined == live.digest()) else {
                continue;
            };
            live.set.elements = change.held.elements(&live.defined);
            ready.compiled.ruleset = live.set.put_into(&ready.compiled.ruleset);
        }
    }

    /// What a set holds, of which the policy says what has this digest; None if that.
    fn held(&self, name: &str, defined: &str) -> Option<&Held> {
        let mut of_set = self.0.get(name)?.iter();
        of_set.find(|change| change.defined == defined).map(|change| &change.held)
    }

    /// With another change to a set.
    fn with(&self, name: &str, change: Change) -> Changes {
        let mut all = BTreeMap::clone(&self.0);
        let of_set = all.entry(name.to_owned()).or_default();
        of_set.retain(|known| known.defined != change.defined);
        of_set.push(change);
        Changes(Arc::new(all))
    }
}

/// The sets of a compiled policy, as it defines them.
pub(crate) fn as_defined(sets: BTreeMap<String, NamedSet>) -> LiveSets {
    let live = |set: NamedSet| LiveSet { defined: Arc::clone(&set.elements), set, digest: Arc::default() };
    sets.into_iter().map(|(name, set)| (name, live(set))).collect()
}

impl Sets {
    /// Reads what was changed. A file that cannot be read is left out, and logged.
    pub(crate) fn load(state: &Path) -> Sets {
        let folder = state.join("sets");
        let changes = Changes(Arc::new(disk::load(&folder)));
        Sets { folder, live: LiveSets::new(), changes }
    }

    /// All that were changed.
    pub(crate) fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Sets whose changes end with the policy that these are of.
    pub(crate) fn ended_by(&self, next: &LiveSets) -> Vec<String> {
        let ends = |(name, live): &(&String, &LiveSet)| {
            live.changed() && next.get(*name).is_some_and(|next| !next.changed())
        };
        self.live.iter().filter(ends).map(|(name, _)| name.clone()).collect()
    }

    /// The policy with these sets runs.
    pub(crate) fn run(&mut self, live: LiveSets) {
        self.live = live;
    }

    /// The running policy is to stay: changes to what it defines differently are forgotten.
    pub(crate) fn keep(&mut self) {
        let mut all = BTreeMap::clone(&self.changes.0);
        let mut names = Vec::new();
        for (name, changes) in &mut all {
            let Some(live) = self.live.get(name) else { continue };
            let before = changes.len();
            changes.retain(|change| change.defined == live.digest());
            if changes.len() < before {
                names.push(name.clone());
            }
        }
        for name in names {
            let left = all.get(&name).map(Vec::as_slice).unwrap_or_default();
            // What stays in the file is of a definition that is gone: no harm until one defines the set so again.
            if let Err(error) = disk::save(&self.folder, &name, left) {
                tracing::warn!(set = name, %error, "a change to a set that ended could not be removed from the state folder");
            }
        }
        all.retain(|_, changes| !changes.is_empty());
        self.changes = Changes(Arc::new(all));
    }

    /// All sets, the large ones by their first elements.
    pub(crate) fn list(&self) -> Vec<api::Set> {
        self.live.iter().map(|(name, live)| describe(name, live, SHOWN)).collect()
    }

    /// That there is no such set, with the name of one that may be meant.
    pub(crate) fn lacks(&self, name: &str) -> String {
        let hint = nearest(name, self.live.keys().map(String::as_str));
        let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
        format!("there is no set {name}{hint}")
    }

    /// A set by name.
    pub(crate) fn get(&self, name: &str) -> Option<LiveSet> {
        self.live.get(name).cloned()
    }
}

/// A set with at most so many elements.
pub(crate) fn describe(name: &str, live: &LiveSet, most: usize) -> api::Set {
    let elements = &*live.set.elements;
    api::Set {
        name: name.to_owned(),
        kind: kind(elements).into(),
        count: elements.len(),
        elements: texts(elements, most),
        changed: live.changed(),
    }
}

impl Control {
    /// Changes elements of a set: on disk first, then on all workers.
    ///
    /// # Errors
    /// There is no such set or element, it could not be written, or a worker does not answer. Only in the last case is
    /// anything changed, for the workers that do.
    pub async fn change_set(&self, change: api::SetChange) -> Result<api::SetReply, ApplyError> {
        let _changing = self.changing.lock().await;
        let name = change.name.clone();
        let (found, changes, folder) = {
            let sets = locked(&self.sets);
            (sets.get(&name), sets.changes(), sets.folder.clone())
        };
        let live = found.ok_or_else(|| ApplyError::Asked(locked(&self.sets).lacks(&name)))?;
        let ruleset = Arc::clone(&self.publisher.world().ruleset);
        // Large sets take a while, and so may the disk: beside this thread.
        let work = spawn_blocking(move || {
            let (reply, live, difference) = changed(live, &change).map_err(ApplyError::Asked)?;
            let before = changes.held(&change.name, live.digest());
            let held = Held::after(before, &live.set.elements, difference.as_ref());
            let changes = changes.with(&change.name, Change { defined: live.digest().to_owned(), held });
            let ruleset = Arc::new(match &difference {
                Some(difference) => live.set.put_change_into(&ruleset, difference),
                None => live.set.put_into(&ruleset),
            });
            let of_set = changes.0.get(&change.name).map(Vec::as_slice).unwrap_or_default();
            disk::save(&folder, &change.name, of_set).map_err(ApplyError::State)?;
            Ok::<_, ApplyError>((reply, live, changes, ruleset))
        });
        let done = work.await.map_err(|_| ApplyError::Unsupported("the set could not be compiled"))?;
        let (mut reply, live, changes, ruleset) = done?;
        {
            let mut sets = locked(&self.sets);
            sets.changes = changes;
            sets.live.insert(name.clone(), live);
        }
        let (generation, _) = self.publisher.publish(|world| world.ruleset = ruleset).await?;
        reply.generation = generation.0;
        tracing::info!(
            set = name,
            elements = reply.elements,
            added = reply.added,
            removed = reply.removed,
            generation = generation.0,
            "set changed"
        );
        Ok(reply)
    }

    /// A set of the running policy with all of its elements.
    pub(crate) async fn whole_set(&self, name: String) -> Option<api::Set> {
        let live = locked(&self.sets).get(&name)?;
        spawn_blocking(move || describe(&name, &live, usize::MAX)).await.ok()
    }
}

/// A set behind a change, what that did, and element by element, unless all of it is another.
fn changed(
    live: LiveSet,
    change: &api::SetChange,
) -> Result<(api::SetReply, LiveSet, Option<Difference>), String> {
    let name = &change.name;
    let before = &*live.set.elements;
    let given = parse(before, &change.elements).map_err(|why| format!("set {name}: {why}"))?;
    let removed = given.clone();
    let difference = |after: &SetElements| match change.action {
        api::SetAction::Add => {
            Some(Difference { added: tail(after, before.len()), removed: tail(after, usize::MAX) })
        }
        api::SetAction::Del => Some(Difference { added: tail(after, usize::MAX), removed }),
        api::SetAction::Replace => None,
    };
    let (after, added, removed) = match (before, given) {
        (SetElements::Net(before), SetElements::Net(given)) => {
            let edited = edit(before, given, change.action).map_err(|at| absent(change, at))?;
            (SetElements::Net(edited.after), edited.added, edited.removed)
        }
        (SetElements::Port(before), SetElements::Port(given)) => {
            let edited = edit(before, given, change.action).map_err(|at| absent(change, at))?;
            (SetElements::Port(edited.after), edited.added, edited.removed)
        }
        _ => return Err(format!("set {name} is of another type")),
    };
    if after.len() > ROOM {
        return Err(format!("set {name} would have {} elements (limit {ROOM})", after.len()));
    }
    let reply = api::SetReply { generation: 0, elements: after.len(), added, removed };
    let difference = difference(&after);
    let set = NamedSet { id: live.set.id, elements: Arc::new(after) };
    Ok((reply, LiveSet { set, ..live }, difference))
}

/// Elements from one on.
fn tail(elements: &SetElements, from: usize) -> SetElements {
    match elements {
        SetElements::Net(list) => SetElements::Net(list.get(from..).unwrap_or_default().to_vec()),
        SetElements::Port(list) => SetElements::Port(list.get(from..).unwrap_or_default().to_vec()),
    }
}

fn absent(change: &api::SetChange, at: usize) -> String {
    let text = change.elements.get(at).map_or("?", String::as_str);
    format!("set {}: {text} is no element of it", change.name)
}

/// What a change makes of a set.
#[derive(Debug, PartialEq, Eq)]
struct Edited<T> {
    /// Its elements in their order; what is new comes last.
    after: Vec<T>,
    added: usize,
    removed: usize,
}

/// Changes elements; or the place of one that should go and is not there. What is there is only passed through, since it
/// may be a million elements and what is given a few.
fn edit<T: Copy + Eq + Hash>(
    before: &[T],
    given: Vec<T>,
    action: api::SetAction,
) -> Result<Edited<T>, usize> {
    let mut named: HashSet<T> = given.iter().copied().collect();
    match action {
        api::SetAction::Add => {
            for known in before {
                named.remove(known);
            }
            let new = given.into_iter().filter(|item| named.remove(item));
            let after: Vec<T> = before.iter().copied().chain(new).collect();
            Ok(Edited { added: after.len() - before.len(), removed: 0, after })
        }
        api::SetAction::Del => {
            let after: Vec<T> = before.iter().copied().filter(|known| !named.contains(known)).collect();
            for known in before {
                named.remove(known);
            }
            match given.iter().position(|item| named.contains(item)) {
                Some(at) => Err(at),
                None => Ok(Edited { added: 0, removed: before.len() - after.len(), after }),
            }
        }
        api::SetAction::Replace => {
            let (distinct, was): (usize, HashSet<T>) = (named.len(), before.iter().copied().collect());
            let same = was.intersection(&named).count();
            let after = given.into_iter().filter(|item| named.remove(item)).collect();
            Ok(Edited { after, added: distinct - same, removed: was.len() - same })
        }
    }
}

/// Elements of the type that `like` has; else why one is none.
fn parse(like: &SetElements, list: &[String]) -> Result<SetElements, String> {
    let mut elements = match like {
        SetElements::Net(_) => SetElements::Net(Vec::with_capacity(list.len())),
        SetElements::Port(_) => SetElements::Port(Vec::with_capacity(list.len())),
    };
    list.iter().try_for_each(|text| elements.add(text).map_err(|why| why.to_string()))?;
    Ok(elements)
}

/// As one would write them, at most so many.
fn texts(elements: &SetElements, most: usize) -> Vec<String> {
    match elements {
        SetElements::Net(ranges) => ranges.iter().take(most).map(range_text).collect(),
        SetElements::Port(ranges) => ranges.iter().take(most).map(ToString::to_string).collect(),
    }
}

const fn kind(elements: &SetElements) -> &'static str {
    match elements {
        SetElements::Net(_) => "net",
        SetElements::Port(_) => "port",
    }
}

/// SHA-256 over the type and what is covered, hexadecimal: another order or spelling is no other definition.
fn digest(elements: &SetElements) -> String {
    let mut hash = Sha256::new();
    hash.update(kind(elements));
    for (is_v6, first, last) in covered(elements) {
        hash.update([u8::from(is_v6)]);
        hash.update(first.to_be_bytes());
        hash.update(last.to_be_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_edited_in_order_and_once() {
        use api::SetAction::{Add, Del, Replace};
        for (action, given, expected) in [
            (Add, vec![3, 1, 3], Ok((vec![1, 2, 3], 1, 0))),
            (Del, vec![1], Ok((vec![2], 0, 1))),
            (Del, vec![2, 9], Err(1)),
            (Replace, vec![7, 7, 2], Ok((vec![7, 2], 1, 1))),
            (Replace, vec![], Ok((vec![], 0, 2))),
        ] {
            let edited =
                edit(&[1, 2], given, action).map(|edited| (edited.after, edited.added, edited.removed));
            assert_eq!(edited, expected, "{action:?}");
        }
    }

    #[test]
    fn a_digest_is_of_what_is_covered() {
        let net = |list: &[&str]| {
            let mut elements = SetElements::Net(Vec::new());
            list.iter().for_each(|text| elements.add(text).unwrap());
            digest(&elements)
        };
        assert_eq!(net(&["10.0.0.0/25", "10.0.0.128/25", "::1"]), net(&["::1", "10.0.0.0-10.0.0.255"]));
        assert_ne!(net(&["10.0.0.1"]), net(&["10.0.0.2"]));
        assert_ne!(net(&[]), digest(&SetElements::Port(Vec::new())));
    }
}
