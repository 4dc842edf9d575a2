//! The two members that people read and run before any program of ours: `README.txt` and `install.sh`.

/// Picks the installer for this machine and runs it.
pub(crate) const INSTALL: &str = include_str!("documents/install.sh");

/// How to install, and how to check a bundle by hand. `name` is that of the bundle's file.
pub(crate) fn readme(name: &str) -> String {
    include_str!("documents/README.txt").replace("{{bundle}}", name)
}
