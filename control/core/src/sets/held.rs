//! What a set holds in place of what the policy says: all of it, or what differs.
//!
//! A list of a million prefixes is not to be kept, and written, a second time for each address that is banned. So
//! changes are kept as what differs from the definition, until that is more than a part of it ([`PART`]); from then on,
//! and after a `replace`, all elements are.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use sluice_compiler::Difference;
use sluice_config::policy::SetElements;

/// What differs may be as much as one of so many parts of the set.
const PART: usize = 8;

/// Elements that may differ in small sets.
const FEW: usize = 64;

/// Elements of a set that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// These.
    Whole(Arc<SetElements>),
    /// Those of the definition, but for these.
    Differs(Difference),
}

impl Held {
    /// Of a set that had `before` and has `elements` after a change, which made that difference; None: all is another.
    pub(super) fn after(
        before: Option<&Held>,
        elements: &Arc<SetElements>,
        difference: Option<&Difference>,
    ) -> Held {
        let differs = match (before, difference) {
            (Some(Held::Whole(_)), _) | (_, None) => None,
            (Some(Held::Differs(before)), Some(now)) => both(before, now),
            (None, Some(now)) => Some(now.clone()),
        };
        let most = (elements.len() / PART).max(FEW);
        match differs.filter(|differs| differs.added.len() + differs.removed.len() <= most) {
            Some(differs) => Held::Differs(differs),
            None => Held::Whole(Arc::clone(elements)),
        }
    }

    /// All elements of a set that is defined so.
    pub(super) fn elements(&self, defined: &SetElements) -> Arc<SetElements> {
        match self {
            Held::Whole(elements) => Arc::clone(elements),
            Held::Differs(Difference { added, removed }) => Arc::new(match (defined, added, removed) {
                (SetElements::Net(defined), SetElements::Net(added), SetElements::Net(removed)) => {
                    SetElements::Net(applied(defined, added, removed))
                }
                (SetElements::Port(defined), SetElements::Port(added), SetElements::Port(removed)) => {
                    SetElements::Port(applied(defined, added, removed))
                }
                // A digest is of one type.
                (other, ..) => other.clone(),
            }),
        }
    }
}

/// One difference behind another; None if they are not of one type.
fn both(before: &Difference, now: &Difference) -> Option<Difference> {
    use SetElements::{Net, Port};
    Some(match (&before.added, &before.removed, &now.added, &now.removed) {
        (Net(added), Net(removed), Net(come), Net(gone)) => {
            let (added, removed) = joined(added, removed, come, gone);
            Difference { added: Net(added), removed: Net(removed) }
        }
        (Port(added), Port(removed), Port(come), Port(gone)) => {
            let (added, removed) = joined(added, removed, come, gone);
            Difference { added: Port(added), removed: Port(removed) }
        }
        _ => return None,
    })
}

/// What was added and removed, after more came and went. What goes stays among the removed, be it of the definition or
/// not, so that what it says holds for both.
fn joined<T: Copy + Eq + Hash>(added: &[T], removed: &[T], come: &[T], gone: &[T]) -> (Vec<T>, Vec<T>) {
    let leaving: HashSet<T> = gone.iter().copied().collect();
    let known: HashSet<T> = removed.iter().copied().collect();
    let added = added.iter().filter(|item| !leaving.contains(item)).chain(come);
    let removed = removed.iter().chain(gone.iter().filter(|item| !known.contains(item)));
    (added.copied().collect(), removed.copied().collect())
}

/// The definition without what was removed, and what was added behind it.
fn applied<T: Copy + Eq + Hash>(defined: &[T], added: &[T], removed: &[T]) -> Vec<T> {
    let removed: HashSet<T> = removed.iter().copied().collect();
    defined.iter().filter(|item| !removed.contains(item)).chain(added).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(list: &[&str]) -> SetElements {
        let mut elements = SetElements::Net(Vec::new());
        list.iter().for_each(|text| elements.add(text).unwrap());
        elements
    }

    /// What a set holds after changes, as the state folder would say it again.
    #[test]
    fn differences_come_to_the_same_as_the_elements() {
        let defined = net(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let (mut held, mut elements): (Option<Held>, _) = (None, Arc::new(defined.clone()));
        for (added, removed, expected) in [
            (&["10.0.0.9"][..], &[][..], &["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9"][..]),
            (&[], &["10.0.0.2", "10.0.0.9"], &["10.0.0.1", "10.0.0.3"]),
            (&["10.0.0.2"], &[], &["10.0.0.1", "10.0.0.3", "10.0.0.2"]),
            (&[], &["10.0.0.2"], &["10.0.0.1", "10.0.0.3"]),
            (&["10.0.0.9"], &[], &["10.0.0.1", "10.0.0.3", "10.0.0.9"]),
        ] {
            elements = Arc::new(net(expected));
            let difference = Difference { added: net(added), removed: net(removed) };
            let next = Held::after(held.as_ref(), &elements, Some(&difference));
            assert!(matches!(next, Held::Differs(_)), "{next:?}");
            assert_eq!(next.elements(&defined), elements);
            held = Some(next);
        }
        let replaced = Held::after(held.as_ref(), &elements, None);
        assert_eq!(replaced, Held::Whole(Arc::clone(&elements)));
        let difference = Difference { added: net(&["10.0.0.8"]), removed: net(&[]) };
        assert!(matches!(Held::after(Some(&replaced), &elements, Some(&difference)), Held::Whole(_)));
    }

    #[test]
    fn large_differences_are_kept_whole() {
        let many: Vec<String> = (0..100).map(|n| format!("10.0.0.{n}")).collect();
        let many = net(&many.iter().map(String::as_str).collect::<Vec<_>>());
        let difference = Difference { added: many.clone(), removed: net(&[]) };
        assert!(matches!(Held::after(None, &Arc::new(many), Some(&difference)), Held::Whole(_)));
    }
}
