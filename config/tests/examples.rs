//! The examples that people start from load as they are.

use std::path::{Path, PathBuf};

use sluice_config::{Policy, System};

fn examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = std::fs::read_dir(folder).expect("config/examples is there");
    entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("policy.yaml").exists())
        .collect()
}

#[test]
fn every_example_loads() {
    let examples = examples();
    assert!(examples.len() >= 3);
    for example in examples {
        let (system, warnings) = System::load(&example.join("sluice.yaml")).unwrap_or_else(|e| panic!("{e}"));
        assert!(warnings.is_empty(), "{warnings}");
        assert_eq!(system.policy, example.join("policy.yaml"));
        let names = system.interface_names();
        let (policy, warnings) = Policy::load(&system.policy, Some(&names)).unwrap_or_else(|e| panic!("{e}"));
        // A set that is filled at runtime is the one thing that an example may be warned about.
        let other: Vec<_> = warnings.iter().filter(|w| !w.message.ends_with("is empty")).collect();
        assert!(other.is_empty(), "{warnings}");
        let (again, _) = Policy::from_source(&policy.source, Some(&names)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(again.rules().count(), policy.rules().count());
    }
}
