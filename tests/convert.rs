//! `onebit convert` on the shipped model: there and back is the same file, and a loss is refused by name.

use crate::support::app::onebit;
use crate::support::root;

#[test]
fn there_and_back_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = root().join("packaging/models/onebit-mini.gguf");
    let [two, five] = ["t2.gguf", "t5.gguf"].map(|name| folder.path().join(name));
    let [shipped, two, five] = [&shipped, &two, &five].map(|path| path.to_str().unwrap());
    let wide = onebit(["convert", shipped, two, "--to", "t2", "--json"]);
    assert!(
        wide.status.success(),
        "{}",
        String::from_utf8_lossy(&wide.stderr)
    );
    let report: serde_json::Value = serde_json::from_slice(&wide.stdout).unwrap();
    assert_eq!(report["ternary"], 210, "{report}");
    assert_eq!(report["bytes"], std::fs::metadata(two).unwrap().len());
    let narrow = onebit(["convert", two, five, "--to", "t5"]);
    assert!(
        narrow.status.success(),
        "{}",
        String::from_utf8_lossy(&narrow.stderr)
    );
    assert!(!narrow.stderr.is_empty(), "progress in lines");
    // Key order and padding belong to the writer, so a second pass is compared, byte for byte.
    let again = folder.path().join("again.gguf");
    let again = again.to_str().unwrap();
    assert!(
        onebit(["convert", shipped, again, "--to", "t5"])
            .status
            .success()
    );
    assert!(std::fs::read(five).unwrap() == std::fs::read(again).unwrap());
}

#[test]
fn what_would_be_lost_is_named_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = root().join("packaging/models/onebit-mini.gguf");
    let output = folder.path().join("s34.gguf");
    let [shipped, output] = [&shipped, &output].map(|path| path.to_str().unwrap());
    for (to, said) in [("s34", "blk.0"), ("nonsense", "tq2_0")] {
        let refused = onebit(["convert", shipped, output, "--to", to]);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{error}");
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
