//! Which crates may link what: the installer and the runtime cannot reach a network, and only one crate
//! each knows libtorch and the terminal.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::shell;

/// A library and the crates of ours that may depend on it directly.
const RULES: [(&str, &[&str]); 7] = [
    ("reqwest", &["bundle-mirror"]),
    ("hyper", &["ferry-runtime"]),
    ("tch", &["torch-backend", "torch-device"]),
    ("torch-sys", &["torch-device"]),
    ("resolvo", &["os-packages"]),
    ("indicatif", &["ferry-console"]),
    ("dialoguer", &["ferry-console"]),
];

/// Programs that must not contain a library at all, however deep.
const ABSENT: [(&str, &str); 5] = [
    ("ferry-installer", "reqwest"),
    ("ferry-installer", "tch"),
    ("ferry-runtime", "reqwest"),
    ("ferry-installer", "resolvo"),
    ("ferry-bundler", "tch"),
];

/// Checks every rule against `cargo tree`.
pub(crate) fn check() -> Result<()> {
    let mut broken = Vec::new();
    for (library, allowed) in RULES {
        let users = direct_users(library)?;
        for user in users
            .iter()
            .filter(|user| !allowed.contains(&user.as_str()))
        {
            broken.push(format!("`{user}` uses `{library}`; only {allowed:?} may"));
        }
    }
    for (program, library) in ABSENT {
        let mut tree = shell::cargo();
        tree.args([
            "tree",
            "--offline",
            "-p",
            program,
            "--all-features",
            "-e",
            "normal",
            "--prefix",
            "none",
        ]);
        let tree = shell::output(&mut tree)?;
        if tree
            .lines()
            .any(|line| line.split(' ').next() == Some(library))
        {
            broken.push(format!("`{program}` links `{library}` and must not"));
        }
    }
    if links_a_client()? {
        broken
            .push("`ferry-runtime` links the client of `hyper`; only its server may be".to_owned());
    }
    if !broken.is_empty() {
        bail!("arrows point the wrong way:\n  {}", broken.join("\n  "));
    }
    println!("arrows: {} rules hold", RULES.len() + ABSENT.len() + 1);
    Ok(())
}

/// Whether the runtime's HTTP library can do more than serve.
fn links_a_client() -> Result<bool> {
    let mut tree = shell::cargo();
    tree.args(["tree", "--offline", "-p", "ferry-runtime", "--all-features"]);
    tree.args(["-e", "normal,features", "--prefix", "none", "-i", "hyper"]);
    let tree = shell::output(&mut tree)?;
    Ok(tree
        .lines()
        .any(|line| line.starts_with("hyper feature \"client\"")))
}

/// Members of this workspace that name `library` among their own dependencies.
fn direct_users(library: &str) -> Result<BTreeSet<String>> {
    let mut tree = shell::cargo();
    tree.args([
        "tree",
        "--offline",
        "--workspace",
        "--all-features",
        "-e",
        "normal,build,dev",
    ]);
    tree.args(["--depth", "1", "--prefix", "depth", "--no-dedupe"]);
    let mut users = BTreeSet::new();
    let mut member = String::new();
    for line in shell::output(&mut tree)?.lines() {
        if let Some(name) = line.strip_prefix('0') {
            name.split(' ')
                .next()
                .unwrap_or_default()
                .clone_into(&mut member);
        } else if line
            .strip_prefix('1')
            .and_then(|name| name.split(' ').next())
            == Some(library)
        {
            users.insert(member.clone());
        }
    }
    Ok(users)
}
