//! The state folder after restarts, crashes and failures.

use super::*;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sluice-history-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn source(text: &str) -> PolicySource {
    PolicySource { name: "policy.yaml".into(), text: text.into(), files: [("a".into(), "b".into())].into() }
}

#[test]
fn what_was_applied_last_is_there_after_a_restart() {
    let folder = Folder::new("restart");
    let mut history = History::open(&folder.0).unwrap();
    assert!(history.last().is_none());
    for number in 1..=20 {
        history.add(source(&format!("text {number}")), None, "test").unwrap();
    }
    drop(history);
    fs::write(folder.0.join("policies/000021.json"), "{half a").unwrap();
    let history = History::open(&folder.0).unwrap();
    assert_eq!(history.last().unwrap().source, source("text 20"));
    assert_eq!(history.iter().count(), KEPT);
}

#[test]
fn a_file_is_new_until_it_was_read() {
    let folder = Folder::new("read");
    let mut history = History::open(&folder.0).unwrap();
    let (one, two) = (digest(&source("one")), digest(&source("two")));
    assert!(history.is_new(&one));
    history.note_read(&one).unwrap();
    assert!(!history.is_new(&one) && history.is_new(&two));
    history.add(source("two"), None, "test").unwrap();
    assert!(!history.is_new(&two), "it was applied by hand");
}

#[test]
fn one_daemon_has_a_state_folder() {
    let folder = Folder::new("lock");
    let _first = History::open(&folder.0).unwrap();
    let second = History::open(&folder.0).err().unwrap().to_string();
    assert!(second.ends_with("is in use by another sluiced"), "{second}");
}

#[test]
fn a_digest_covers_set_files_and_not_the_name() {
    let one = digest(&source("x"));
    assert_eq!(one.len(), 64);
    let mut renamed = source("x");
    renamed.name = "other.yaml".into();
    assert_eq!(digest(&renamed), one);
    renamed.files.insert("a".into(), "c".into());
    assert_ne!(digest(&renamed), one);
    renamed.files.clear();
    assert_ne!(digest(&renamed), one);
}

#[test]
fn a_file_that_holds_what_was_applied_and_left_again_is_not_new() {
    let folder = Folder::new("left");
    let mut history = History::open(&folder.0).unwrap();
    history.add(source("one"), None, "test").unwrap();
    history.note_read(&digest(&source("one"))).unwrap();
    // Edited, applied by hand, found wanting, and gone back from.
    history.add(source("two"), Some(0), "test").unwrap();
    history.add(source("one"), None, "test").unwrap();
    assert!(!history.is_new(&digest(&source("two"))), "it would undo the going back at the next start");
    assert!(history.is_new(&digest(&source("three"))));
    history.note_read(&digest(&source("three"))).unwrap();
    history.add(source("three"), None, "test").unwrap();
    assert!(history.is_new(&digest(&source("two"))), "edited back since");
}

#[test]
fn who_is_not_confirmed_in_time_goes() {
    let folder = Folder::new("time");
    let mut history = History::open(&folder.0).unwrap();
    assert_eq!(history.starts(0), None);
    history.add(source("one"), None, "test").unwrap();
    let now = unix_seconds();
    history.add(source("two"), Some(now + 60), "test").unwrap();
    drop(history);
    let mut history = History::open(&folder.0).unwrap();
    let text = |start: Option<Start<'_>>| match start.unwrap() {
        Start::Last(applied) => format!("last {}", applied.source.text),
        Start::Waiting(applied, seconds) => format!("{} for {seconds}", applied.source.text),
        Start::Back(applied) => format!("back to {}", applied.source.text),
    };
    assert_eq!(text(history.starts(now + 10)), "two for 50");
    assert_eq!(text(history.starts(now + 60)), "back to one");
    assert_eq!(text(history.starts(0)), "back to one", "a clock that was set back");
    history.confirm().unwrap();
    assert_eq!(text(history.starts(now + 60)), "last two");
    drop(history);
    assert_eq!(text(History::open(&folder.0).unwrap().starts(0)), "last two");
}

/// What happens at one step of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The machine stops: what was being written is there by half.
    Crash,
    /// The disk is full, and then again is not.
    Full,
}

struct FaultyDisk {
    steps: usize,
    fault: Fault,
}

impl FaultyDisk {
    /// Whether this step is done.
    fn step(&mut self) -> io::Result<()> {
        let fails = self.steps == 0 || (self.fault == Fault::Crash && self.steps == usize::MAX);
        self.steps =
            if fails && self.fault == Fault::Crash { usize::MAX } else { self.steps.wrapping_sub(1) };
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Disk for FaultyDisk {
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        // Two steps: a file may also be there and not all of it.
        for part in [&bytes[..bytes.len() / 2], bytes] {
            if let Err(error) = self.step() {
                if self.fault == Fault::Full {
                    let _ = fs::remove_file(path);
                }
                return Err(error);
            }
            fs::write(path, part)?;
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        fs::rename(from, to)
    }

    fn sync_folder(&mut self, _: &Path) -> io::Result<()> {
        self.step()
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        fs::remove_file(path)
    }
}

/// An apply with `--confirm`, its confirmation, and a plain apply, with a fault at each step on the way. Whatever comes
/// of it, one of the policies starts, whole; one that waits goes when its time is over; and one that was said to be
/// applied, or confirmed, stays.
#[test]
fn a_fault_between_any_two_steps_leaves_one_policy_or_the_other() {
    for fault in [Fault::Crash, Fault::Full] {
        let mut finished = false;
        for steps in 0..40 {
            let folder = Folder::new(&format!("fault-{fault:?}-{steps}"));
            History::open(&folder.0).unwrap().add(source("one"), None, "test").unwrap();
            let now = unix_seconds();
            let (mut expected, mut late) = (vec!["one", "two"], vec!["one"]);
            let mut history = History::open_on(&folder.0, Box::new(FaultyDisk { steps, fault })).unwrap();
            let added = history.add(source("two"), Some(now + 60), "test").is_ok();
            if added {
                expected = vec!["two"];
                let confirmed = history.confirm().is_ok();
                late = if confirmed { vec!["two"] } else { vec!["one", "two"] };
                let replaced = history.add(source("three"), None, "test").is_ok();
                if replaced {
                    (expected, late) = (vec!["three"], vec!["three"]);
                    finished |= confirmed;
                } else {
                    // A crash may have come behind the rename and before the answer.
                    expected.push("three");
                    late.push("three");
                }
            } else if fault == Fault::Full {
                expected = vec!["one"];
            }
            drop(history);
            let history = History::open(&folder.0).unwrap();
            let text = |now| match history.starts(now).expect("a policy starts") {
                Start::Last(applied) | Start::Waiting(applied, _) | Start::Back(applied) => {
                    applied.source.text.clone()
                }
            };
            let (soon, later) = (text(now + 1), text(now + 60));
            assert!(expected.contains(&soon.as_str()), "{fault:?} at {steps}: {soon}, not {expected:?}");
            assert!(late.contains(&later.as_str()), "{fault:?} at {steps}, late: {later}, not {late:?}");
        }
        assert!(finished, "{fault:?}: the last of the steps were beyond the end");
    }
}
