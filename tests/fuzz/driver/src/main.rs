//! libFuzzer around one target, which `FERRY_FUZZ_TARGET` names. `FERRY_FUZZ_SEEDS` is a folder for its seeds.

#![no_main]

use std::sync::LazyLock;
use std::{env, fs};

use fuzz_targets::{Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("FERRY_FUZZ_TARGET").unwrap_or_default();
    target(&name).unwrap_or_else(|| panic!("FERRY_FUZZ_TARGET names no target: `{name}`"))
});

fuzz_target!(
    init: {
        if let Some(folder) = env::var_os("FERRY_FUZZ_SEEDS") {
            for (number, seed) in (TARGET.seeds)().iter().enumerate() {
                let path = std::path::Path::new(&folder).join(format!("seed-{number}"));
                fs::write(path, seed).expect("the seeds can be written");
            }
        }
    },
    |bytes: &[u8]| (TARGET.run)(bytes)
);
