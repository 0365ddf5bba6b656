//! Certificates made and judged: by the same code that both ends use.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::client::{ClientFiles, client_config};
use crate::identity::Identity;
use crate::server::{ServerFiles, ServerSide};

const YEAR: Lifetime = Lifetime(365);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("sluice-t-certificates-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Folder(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn identity(&self, name: &str) -> Identity {
        let list = files::certificates(&self.join(&format!("{name}.crt"))).unwrap();
        Identity::read(&list[0]).unwrap()
    }

    fn server(&self) -> ServerFiles {
        ServerFiles {
            certificate: self.join("box.crt"),
            key: self.join("box.key"),
            ca: self.join("ca.crt"),
            revoked: Some(self.join("revoked.crl")),
        }
    }

    fn client(&self, name: &str) -> ClientFiles {
        ClientFiles {
            certificate: self.join(&format!("{name}.crt")),
            key: self.join(&format!("{name}.key")),
            ca: self.join("ca.crt"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

/// An authority with a box, a reader and a writer.
fn with_everyone(name: &str) -> (Folder, Authority) {
    let folder = Folder::new(name);
    let authority = Authority::init(&folder.0, "Test CA", YEAR).unwrap();
    authority.issue("box", &Kind::Server(vec!["box".into(), "192.0.2.1".into()]), YEAR).unwrap();
    authority.issue("alice", &Kind::Client(Role::Write), YEAR).unwrap();
    authority.issue("bob", &Kind::Client(Role::Read), YEAR).unwrap();
    (folder, authority)
}

#[test]
fn a_certificate_says_who_it_is_for() {
    let (folder, authority) = with_everyone("names");
    let (alice, bob, own) = (folder.identity("alice"), folder.identity("bob"), folder.identity("box"));
    assert_eq!((alice.name.as_str(), alice.role), ("alice", Some(Role::Write)));
    assert_eq!((bob.name.as_str(), bob.role), ("bob", Some(Role::Read)));
    assert_eq!((own.name.as_str(), own.role), ("box", None));
    let serials: Vec<_> = authority.issued().unwrap().into_iter().map(|issued| issued.serial).collect();
    assert_eq!(serials, [own.serial, alice.serial, bob.serial]);
}

#[test]
fn keys_are_private_and_nothing_is_written_over() {
    let (folder, authority) = with_everyone("files");
    for name in ["ca", "box", "alice"] {
        let mode = fs::metadata(folder.join(&format!("{name}.key"))).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let key = fs::read(folder.join("alice.key")).unwrap();
    let again = authority.issue("alice", &Kind::Client(Role::Read), YEAR).unwrap_err();
    assert!(matches!(&again, AuthorityError::Exists(path) if path.ends_with("alice.key")), "{again}");
    assert_eq!(fs::read(folder.join("alice.key")).unwrap(), key);
    assert_eq!(authority.issued().unwrap().len(), 3);
    assert!(matches!(Authority::init(&folder.0, "Other", YEAR), Err(AuthorityError::Exists(_))));
    for name in ["", "ca", "../x", "a b", ".hidden", "revoked", "a/b", &"x".repeat(65)] {
        let refused = authority.issue(name, &Kind::Client(Role::Read), YEAR).unwrap_err();
        assert!(matches!(refused, AuthorityError::Name(_)), "{name}: {refused}");
    }
    let host = authority.issue("c", &Kind::Server(vec!["a b".into()]), YEAR).unwrap_err();
    assert_eq!(host.to_string(), "`a b` is no host name and no address");
}

#[test]
fn who_is_revoked_is_admitted_no_more() {
    let (folder, authority) = with_everyone("revoked");
    let chain = |name: &str| files::certificates(&folder.join(&format!("{name}.crt"))).unwrap();
    let (alice, bob, own) = (chain("alice"), chain("bob"), chain("box"));
    let before = ServerSide::load(&folder.server(), now()).unwrap();
    let when = u64::try_from(now()).unwrap();
    assert!(before.still_admits(&alice, when) && before.still_admits(&bob, when));
    // A server's certificate is no client's; one whose time is over is none.
    assert!(!before.still_admits(&own, when) && !before.still_admits(&alice, when + 366 * 86_400));

    assert_eq!(authority.revoke("alice").unwrap().len(), 1);
    assert_eq!(authority.revoke("alice").unwrap(), []);
    let after = ServerSide::load(&folder.server(), now()).unwrap();
    assert!(!after.still_admits(&alice, when) && after.still_admits(&bob, when));
    authority.revoke(&folder.identity("bob").serial).unwrap();
    let after = ServerSide::load(&folder.server(), now()).unwrap();
    assert!(!after.still_admits(&alice, when) && !after.still_admits(&bob, when));
    let revoked: Vec<_> = authority.issued().unwrap().iter().map(|issued| issued.revoked).collect();
    assert_eq!(revoked, [false, true, true]);
    assert!(matches!(authority.revoke("carol"), Err(AuthorityError::Unknown { .. })));
}

#[test]
fn errors_name_the_file_and_what_is_wrong_with_it() {
    let (folder, authority) = with_everyone("errors");
    let other = Folder::new("errors-other");
    Authority::init(&other.0, "Test CA", YEAR).unwrap();
    let load = |change: fn(&mut ServerFiles, &Folder)| {
        let mut files = folder.server();
        change(&mut files, &folder);
        ServerSide::load(&files, now()).unwrap_err().to_string()
    };
    fs::write(folder.join("open.key"), fs::read(folder.join("box.key")).unwrap()).unwrap();
    fs::set_permissions(folder.join("open.key"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(folder.join("damaged.crt"), "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    type Change = fn(&mut ServerFiles, &Folder);
    let cases: [(Change, &str); 6] = [
        (|files, folder| files.key = folder.join("alice.key"), "box.crt"),
        (|files, folder| files.key = folder.join("open.key"), "chmod o="),
        (|files, folder| files.ca = folder.join("missing.crt"), "missing.crt: No such file"),
        (|files, folder| files.certificate = folder.join("ca.key"), "ca.key: no certificate in PEM form"),
        (|files, folder| files.certificate = folder.join("damaged.crt"), "damaged.crt: "),
        (|files, folder| files.revoked = Some(folder.join("ca.crt")), "ca.crt: no revocation list"),
    ];
    for (change, expected) in cases {
        let error = load(change);
        assert!(error.contains(expected), "expected '{expected}': {error}");
    }
    authority.issue("short", &Kind::Server(vec!["box".into()]), Lifetime(1)).unwrap();
    let files = ServerFiles {
        certificate: folder.join("short.crt"),
        key: folder.join("short.key"),
        ..folder.server()
    };
    let late = ServerSide::load(&files, now() + 2 * 86_400).unwrap_err().to_string();
    assert!(late.contains("short.crt: the certificate expired on 20"), "{late}");
    let early = client_config(&folder.client("bob"), now() - 86_400).unwrap_err().to_string();
    assert!(early.contains("bob.crt: the certificate is not valid before 20"), "{early}");
    client_config(&folder.client("bob"), now()).unwrap();
}
