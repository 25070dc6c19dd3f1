//! Replays the committed fuzz corpora: every input through its target's assertions.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;
use std::{fs, panic};

#[test]
fn every_input_of_every_corpus_keeps_the_promises_of_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (name, target) in targets::TARGETS {
        let inputs = fs::read_dir(corpora.join(name)).unwrap();
        let paths: Vec<_> = inputs.map(|entry| entry.unwrap().path()).collect();
        assert!(!paths.is_empty(), "{name} has no corpus");
        for path in paths {
            let bytes = fs::read(&path).unwrap();
            let kept = panic::catch_unwind(|| target(&bytes));
            assert!(kept.is_ok(), "{}", path.display());
        }
    }
}
