//! The two members that people read and run before any program of ours: `README.txt` and `install.sh`.

/// Picks the installer for this machine and runs it.
pub(crate) const INSTALL: &str = include_str!("documents/install.sh");

/// How to install, and how to check a bundle by hand. `name` is that of the bundle's file without its ending.
pub(crate) fn readme(name: &str, volumes: u32) -> String {
    let (bundle, note) = if volumes == 1 {
        (format!("{name}.ferry"), String::new())
    } else {
        let note = include_str!("documents/volumes.txt");
        let note = note
            .replace("{{name}}", name)
            .replace("{{volumes}}", &volumes.to_string());
        (format!("{name}.vol001.ferry"), note)
    };
    include_str!("documents/README.txt")
        .replace("{{volumes}}", &note)
        .replace("{{bundle}}", &bundle)
}
