//! Replays every seed, and everything that fuzzers found worth keeping.

use std::fs;
use std::path::Path;

use fuzz_targets::TARGETS;

#[test]
fn nothing_that_was_ever_found_makes_a_reader_stumble() {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        let mut inputs = (target.seeds)();
        let seeds = inputs.len();
        assert!(seeds > 0, "`{}` begins nowhere", target.name);
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            inputs.push(fs::read(entry.unwrap().path()).unwrap());
        }
        assert!(inputs.len() > seeds, "`{}` has no corpus", target.name);
        for input in inputs {
            (target.run)(&input);
            // What is cut or has a wrong byte is input as well.
            (target.run)(&input[..input.len() / 2]);
        }
    }
}
