//! The rules for files, against a folder that is full of ways out.

use super::*;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

/// `shared/` with a few files, and `secret.txt` beside it.
fn folder() -> (tempfile::TempDir, Roots) {
    let top = tempfile::tempdir().unwrap();
    let shared = top.path().join("shared");
    std::fs::create_dir_all(shared.join("notes/deep")).unwrap();
    std::fs::write(top.path().join("secret.txt"), "the secret").unwrap();
    std::fs::write(shared.join("notes/plan.md"), "one\nBuy bread\nthree\n").unwrap();
    std::fs::write(shared.join("notes/deep/bread.txt"), "x\n").unwrap();
    std::fs::write(shared.join(".hidden"), "the secret").unwrap();
    std::fs::write(shared.join("picture.bin"), b"a\0b").unwrap();
    symlink("../secret.txt", shared.join("link.txt")).unwrap();
    symlink("..", shared.join("out")).unwrap();
    symlink("/", shared.join("notes/slash")).unwrap();
    let roots = Roots::new(&[shared]);
    (top, roots)
}

#[test]
fn files_are_listed_read_and_searched() {
    let (_top, roots) = folder();
    let (all, total) = roots.list("").unwrap();
    let names: Vec<&str> = all.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        (names, total),
        (vec!["shared/notes", "shared/picture.bin"], 2)
    );
    let reading = roots.read("shared/notes/plan.md", 1, 1000).unwrap();
    assert_eq!(
        (reading.text.as_str(), reading.next),
        ("one\nBuy bread\nthree\n", None)
    );
    // The only shared folder's name may be left out, and a long file is read in parts.
    let part = roots.read("notes/plan.md", 2, 10).unwrap();
    assert_eq!((part.text.as_str(), part.next), ("Buy bread\n", Some(3)));
    let found = roots.search("bread", "").unwrap();
    let places: Vec<_> = found
        .found
        .iter()
        .map(|one| (one.file.name.as_str(), one.line.as_ref().map(|l| l.0)))
        .collect();
    assert_eq!(places, [("plan.md", Some(2)), ("bread.txt", None)]);
    assert!(!found.cut);
}

#[test]
fn what_leads_out_is_refused_by_its_letters() {
    let (_top, roots) = folder();
    for (path, rule) in [
        ("../secret.txt", "path_outside"),
        ("shared/../secret.txt", "path_outside"),
        ("shared/notes/../../secret.txt", "path_outside"),
        ("/etc/passwd", "path_outside"),
        ("~/x", "path_outside"),
        ("shared\\..\\secret.txt", "path_outside"),
        ("shared/no\0tes", "nul_byte"),
        (".hidden", "hidden"),
        ("shared/.hidden", "hidden"),
        ("shared/.git/config", "hidden"),
    ] {
        for error in [
            roots.read(path, 1, 10).unwrap_err(),
            roots.list(path).unwrap_err(),
            roots.search("x", path).unwrap_err(),
            roots.bytes(path, 10).unwrap_err(),
        ] {
            assert_eq!(error.rule(), Some(rule), "{path:?}: {error}");
        }
    }
    assert_eq!(
        roots.read(&"x/".repeat(4000), 1, 1).unwrap_err().rule(),
        Some("path_too_long")
    );
    // A folder that is nowhere: nothing on the disk is asked to refuse these.
    let nowhere = Roots::new(&[PathBuf::from("/nonexistent/shared")]);
    for (path, rule) in [
        ("../x", "path_outside"),
        ("shared/.x", "hidden"),
        ("a\0", "nul_byte"),
    ] {
        assert_eq!(nowhere.read(path, 1, 1).unwrap_err().rule(), Some(rule));
    }
}

#[test]
fn links_are_never_followed_and_never_shown() {
    let (_top, roots) = folder();
    for path in [
        "link.txt",
        "out/secret.txt",
        "notes/slash/etc/passwd",
        "out",
        "notes/slash",
    ] {
        let error = roots.read(path, 1, 10).unwrap_err();
        assert_eq!(error.rule(), Some("symlink"), "{path}: {error}");
        let error = roots.list(path).unwrap_err();
        assert!(
            matches!(error, FileError::Link(_) | FileError::IsFile(_)),
            "{path}: {error}"
        );
    }
    assert!(roots.search("secret", "").unwrap().found.is_empty());
}

#[test]
fn the_older_way_follows_no_link_either() {
    let (top, _) = folder();
    let root = rustix::fs::open(
        top.path().join("shared"),
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )
    .unwrap();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    assert!(step_by_step(&root, "notes/plan.md", flags).is_ok());
    for path in ["link.txt", "out/secret.txt", "notes/slash/etc"] {
        assert_eq!(
            step_by_step(&root, path, flags).unwrap_err(),
            Errno::LOOP,
            "{path}"
        );
    }
    assert_eq!(
        step_by_step(&root, "none", flags).unwrap_err(),
        Errno::NOENT
    );
}

#[test]
fn only_regular_text_is_read() {
    let (top, roots) = folder();
    assert!(matches!(
        roots.read("picture.bin", 1, 10),
        Err(FileError::NoText(_))
    ));
    assert!(matches!(
        roots.read("notes", 1, 10),
        Err(FileError::IsFolder(_))
    ));
    assert!(matches!(
        roots.list("notes/plan.md"),
        Err(FileError::IsFile(_))
    ));
    assert!(matches!(
        roots.read("none.txt", 1, 10),
        Err(FileError::Missing(_))
    ));
    assert!(matches!(
        roots.bytes("notes/plan.md", 3),
        Err(FileError::Unreadable { .. })
    ));
    // A pipe that nobody writes to would hold a reader for ever.
    let pipe = top.path().join("shared/pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert_eq!(
        roots.read("pipe", 1, 10).unwrap_err().rule(),
        Some("not_regular")
    );
    assert!(matches!(
        Roots::default().read("x", 1, 1),
        Err(FileError::NothingShared)
    ));
}

#[test]
fn a_folder_that_is_swapped_for_a_link_meanwhile_gives_nothing_away() {
    let (top, roots) = folder();
    let shared = top.path().join("shared");
    std::fs::create_dir_all(top.path().join("elsewhere")).unwrap();
    std::fs::write(top.path().join("elsewhere/plan.md"), "the secret").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Renames are atomic: the name is now the folder, now the link.
            symlink("../elsewhere", shared.join("trap")).unwrap();
            while !done.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    shared.join("notes"),
                    rustix::fs::CWD,
                    shared.join("trap"),
                    rustix::fs::RenameFlags::EXCHANGE,
                )
                .unwrap();
            }
        });
        let (mut read, mut refused) = (0, 0);
        while (read < 200 || refused < 200) && read + refused < 2_000_000 {
            match roots.read("shared/notes/plan.md", 1, 100) {
                Ok(reading) => {
                    assert!(!reading.text.contains("secret"), "a link was followed");
                    read += 1;
                }
                Err(error) => {
                    assert_eq!(error.rule(), Some("symlink"), "{error}");
                    refused += 1;
                }
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(
            read >= 200 && refused >= 200,
            "{read} read, {refused} refused"
        );
    });
}

#[test]
fn folders_of_one_name_are_told_apart() {
    let roots = Roots::new(&[
        "/a/docs".into(),
        "/b/docs".into(),
        "/".into(),
        "/c/.config".into(),
    ]);
    assert_eq!(roots.names(), ["docs", "docs-2", "root", "config"]);
    assert!(matches!(
        roots.read("other/x", 1, 1),
        Err(FileError::NoRoot { .. })
    ));
}
