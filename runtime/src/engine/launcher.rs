//! What the original's launcher reads of its environment, and the command line says here.

use std::env;

use console::View;
use report::{Event, Sink as _};

use super::Asked;

/// A variable, what it is where nothing is meant, and the flag that says the same.
const VARIABLES: [(&str, &str, &str); 2] = [
    ("NPROC_PER_NODE", "1", "--processes"),
    ("NNODES", "1", "--nodes"),
];

/// Warns of variables that would start several processes there and start nothing here. Under a launcher they are its own.
pub(super) fn warn(asked: &Asked<'_>, view: &View) {
    if env::var_os("RANK").is_some() || asked.processes > 1 || asked.engine.nodes > 1 {
        return;
    }
    for (name, usual, flag) in VARIABLES {
        let value = env::var(name).unwrap_or_default();
        if !value.is_empty() && value != usual {
            let args = [("name", name), ("value", &value), ("flag", flag)];
            let args = args.map(|(name, value)| (name.to_owned(), value.to_owned()));
            view.emit(&Event::Warned {
                code: "engine.variable-unread".to_owned(),
                args: args.to_vec(),
            });
        }
    }
}
