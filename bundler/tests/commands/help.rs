//! The help of all commands, so that a change of wording shows up in review.

use crate::world::World;

#[test]
fn help_of_all_commands() {
    let world = World::new();
    let mut help = world.run(&["--help"]).ended_with(0).data;
    for command in [
        "init",
        "schema",
        "plan",
        "lock",
        "build",
        "verify",
        "inspect",
        "diff",
        "export oci",
        "split",
        "parity",
        "repair",
        "cache",
        "keygen",
        "sign",
        "key list",
        "key add",
        "key remove",
        "key revoke",
        "key rotate",
        "key threshold",
        "key require",
        "key discard",
        "key export",
        "key sign",
        "key import",
    ] {
        let words: Vec<_> = command.split(' ').chain(["-h"]).collect();
        let said = world.run(&words).ended_with(0).data;
        let own = said.split("\nOutput:").next().unwrap().trim_end();
        help += &format!("\n$ ferry-bundler {command} -h\n{own}\n");
    }
    // The number of threads is that of the machine.
    let same = help
        .replace("[default: 1]", "[default: N]")
        .replace("[default: 2]", "[default: N]");
    insta::assert_snapshot!("help", same);
}
