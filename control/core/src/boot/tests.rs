//! A start with files as users leave them.

use std::fs;

use super::*;

const SYSTEM: &str = "
interfaces:
  lan: {device: \"kernel:eth1\", addresses: [10.0.0.1/24]}
neighbours: [{address: 10.0.0.9, mac: \"02:00:00:00:00:09\"}]
policy: policy.yaml
state: state
";
const ACCEPT: &str = "filter: {forward: {policy: accept, rules: []}}\n";
const DROP: &str = "filter: {forward: {policy: drop, rules: []}}\n";
const BAD: &str = "filter: {forwards: {policy: drop}}\n";

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sluice-boot-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("sluice.yaml"), SYSTEM).unwrap();
        Folder(path)
    }

    fn policy(&self, text: &str) -> &Folder {
        fs::write(self.0.join("policy.yaml"), text).unwrap();
        self
    }

    fn boot(&self) -> Result<Boot, BootError> {
        Boot::load(&self.0.join("sluice.yaml"))
    }

    /// The text of the policy that starts, and runs.
    fn starts(&self) -> String {
        let mut boot = self.boot().unwrap();
        boot.remember();
        boot.policy.source.text
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_changed_file_starts_and_an_unchanged_one_does_not_undo_what_was_applied() {
    let folder = Folder::new("choice");
    assert_eq!(folder.policy(ACCEPT).starts(), ACCEPT);
    let mut boot = folder.boot().unwrap();
    boot.history.add(PolicySource { text: DROP.into(), ..PolicySource::default() }, None, "test").unwrap();
    drop(boot);
    assert_eq!(folder.starts(), DROP, "applied by hand, the file is as it was");
    let edited = format!("{ACCEPT}# edited\n");
    assert_eq!(folder.policy(&edited).starts(), edited);
}

#[test]
fn a_bad_file_does_not_keep_the_last_policy_from_running() {
    let folder = Folder::new("bad");
    folder.policy(ACCEPT).starts();
    assert_eq!(folder.policy(BAD).starts(), ACCEPT);
    fs::remove_file(folder.0.join("policy.yaml")).unwrap();
    assert_eq!(folder.starts(), ACCEPT);
}

#[test]
fn a_policy_that_never_ran_is_not_the_last_applied_one() {
    let folder = Folder::new("never-ran");
    drop(folder.policy(ACCEPT).boot().unwrap());
    assert!(folder.policy(BAD).boot().is_err());
}

#[test]
fn with_nothing_else_a_bad_file_is_a_start_error() {
    let folder = Folder::new("first");
    let error = folder.policy(BAD).boot().err().unwrap().to_string();
    assert!(error.contains("policy.yaml:1:"), "{error}");
    fs::write(folder.0.join("sluice.yaml"), "interfaces: {lan: {devices: x}}").unwrap();
    let error = folder.boot().err().unwrap().to_string();
    assert!(error.contains("sluice.yaml:1:"), "{error}");
}

#[test]
fn workers_start_with_what_the_files_say() {
    let folder = Folder::new("launch");
    let mut boot = folder.policy(DROP).boot().unwrap();
    let launch = boot.launch(&[MacAddr([2, 0, 0, 0, 0, 1])], 2);
    assert_eq!((launch.counters.len(), launch.world.interfaces.len()), (2, 1));
    assert_eq!(launch.world.neighbours.iter().count(), 1);
    assert_eq!(launch.budget.max(), u64::from(boot.system().conntrack.max));
}

#[test]
fn a_policy_that_is_to_be_confirmed_starts_while_there_is_time() {
    let source = |text: &str| PolicySource { text: text.into(), ..PolicySource::default() };
    let edited = format!("{DROP}# edited\n");
    for (name, deadline, starts, waits) in
        [("soon", unix_seconds() + 60, &*edited, true), ("late", unix_seconds() - 1, ACCEPT, false)]
    {
        let folder = Folder::new(name);
        folder.policy(ACCEPT).starts();
        let mut boot = folder.boot().unwrap();
        boot.history.add(source(&edited), Some(deadline), "test").unwrap();
        drop(boot);
        // The file itself was edited and applied: it must not come back at a start as if it were news.
        let boot = folder.policy(&edited).boot().unwrap();
        assert_eq!((boot.policy.source.text.as_str(), boot.to_be_confirmed().is_some()), (starts, waits));
        drop(boot);
        assert_eq!(folder.starts(), starts);
        assert_eq!(folder.starts(), starts, "and again");
        let third = format!("{ACCEPT}# another\n");
        assert_eq!(folder.policy(&third).starts(), third, "what was edited since is read");
    }
}

#[test]
fn a_policy_that_ran_starts_even_if_its_tests_fail_by_now() {
    let tested =
        format!("{DROP}tests: [{{name: own, packet: {{in: lan, dst: 10.0.0.1}}, expect: accept}}]\n");
    let folder = Folder::new("tests");
    assert_eq!(folder.policy(&tested).starts(), tested);
    fs::write(folder.0.join("sluice.yaml"), SYSTEM.replace("10.0.0.1/24", "10.0.0.7/24")).unwrap();
    assert_eq!(folder.starts(), tested);
}

#[test]
fn a_set_that_was_changed_starts_changed() {
    const SET: &str =
        "sets: {m: {type: port, elements: [22]}}\nfilter: {input: [{dport: \"@m\", action: drop}]}\n";
    let folder = Folder::new("set");
    let elements = |folder: &Folder| folder.boot().unwrap().sets.list()[0].elements.clone();
    folder.policy(SET).starts();
    assert_eq!(elements(&folder), ["22"]);
    let digest = "122f7613707c8e0d5ec26fabc755169eb8e7ee76e2bf4dd3ded21c14fc51610d";
    let stored = |defined: &str| {
        format!(r#"[{{"defined": "{defined}", "type": "port", "elements": ["80", "8000-8080"]}}]"#)
    };
    let path = folder.0.join("state/sets/m.json");
    fs::create_dir_all(folder.0.join("state/sets")).unwrap();
    for (content, expected) in [
        (stored(digest), vec!["80", "8000-8080"]),
        (stored("of another"), vec!["22"]),
        ("[{half".into(), vec!["22"]),
    ] {
        fs::write(&path, &content).unwrap();
        assert_eq!(elements(&folder), expected, "{content}");
    }
}
