//! What is said when there is no memory.

use std::fs::{self, File};
use std::process::Command;

use serde_json::json;

use crate::bench::Bench;

/// A model of one embedding and one layer, whose weights are a hole of a file: 16 GB as numbers, nothing on the disk.
fn hollow(bench: &Bench) {
    let (hidden, feed, vocabulary) = (256_u64, 256, 1 << 24);
    let text = fs::read(bench.path("model/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (name, value) in [
        ("num_hidden_layers", 1),
        ("hidden_size", hidden),
        ("intermediate_size", feed),
        ("vocab_size", vocabulary),
    ] {
        config[name] = value.into();
    }
    config.as_object_mut().unwrap().remove("layer_types");
    bench.write("model/config.json", config.to_string());
    let end = vocabulary * hidden * 2;
    let header = json!({"model.embed_tokens.weight": {
        "dtype": "BF16", "shape": [vocabulary, hidden], "data_offsets": [0, end],
    }});
    let mut bytes = (header.to_string().len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.to_string().as_bytes());
    let length = bytes.len() as u64 + end;
    bench.write("model/model.safetensors", bytes);
    let file = File::options()
        .write(true)
        .open(bench.path("model/model.safetensors"));
    file.unwrap().set_len(length).unwrap();
}

#[test]
fn memory_that_runs_out_is_answered_with_what_to_change() {
    let bench = Bench::new();
    hollow(&bench);
    // The program is given 12 GB of addresses, of which it uses few. PiSSA changes the weights, which are then wanted as
    // numbers of 32 bits.
    let program = bench.command(&["--json", "train", "job.yaml", "pissa_init=true"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 12000000; exec \"$@\"", "sh"]);
    limited.arg(program.get_program()).args(program.get_args());
    limited.current_dir(bench.path("")).env_clear();
    limited.envs(
        program
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = limited.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("\"code\":\"torch.out-of-memory\""), "{said}");
    assert!(!bench.path("out").exists());
}
