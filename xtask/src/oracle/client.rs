//! The `openai` client, and a server of ours that it asks.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use super::python_with;
use crate::{libtorch, paths, programs, shell};

/// The client, as most programs that talk with such servers have it.
const CLIENT: &str = "openai==3.57.0";

/// What it must show.
const TOKEN: &str = "a-token-of-this-folder";

/// Starts `api` on the golden model; the client must find what it expects.
pub(super) fn asks(place: &Path) -> Result<()> {
    let libtorch = libtorch::obtain()?;
    let runtime = programs::runtime(&libtorch)?;
    let python = python_with("oracle-openai", &[CLIENT])?;
    let token = place.join("token");
    fs::write(&token, TOKEN)?;
    let golden = paths::root().join("tests/golden");
    let mut api = shell::command(&runtime);
    api.envs(libtorch.environment()).current_dir(&golden);
    api.args(["--json", "api", "--model", "model", "--template", "qwen"]);
    api.args(["--listen", "127.0.0.1:0", "--token-file"])
        .arg(&token);
    let mut server = Server(api.stdout(Stdio::piped()).spawn()?);
    let output = server.0.stdout.take().context("a server says something")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let said: Value = serde_json::from_str(&line).context("the server did not start")?;
    let url = said["listening"].as_str().context("no address")?;
    let mut asks = shell::command(&python);
    asks.args(["tests/oracles/openai_asks.py", url, TOKEN]);
    shell::run(asks.arg(golden.join("vectors/generate.json")))
}

/// A server that ends with the check.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
