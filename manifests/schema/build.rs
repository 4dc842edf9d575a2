//! Lists the data files of `manifests/`, so that another chip or system is another file and nothing else.

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    for folder in ["chips", "oses", "policies"] {
        let path = root.join(folder).canonicalize()?;
        println!("cargo::rerun-if-changed={}", path.display());
        let mut files: Vec<PathBuf> = fs::read_dir(&path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
        });
        files.sort();
        let mut list = String::from("&[\n");
        for file in files {
            println!("cargo::rerun-if-changed={}", file.display());
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            writeln!(
                list,
                "    ({name:?}, include_str!({:?})),",
                file.display().to_string()
            )?;
        }
        list.push_str("]\n");
        fs::write(
            PathBuf::from(env::var("OUT_DIR")?).join(format!("{folder}.rs")),
            list,
        )?;
    }
    Ok(())
}
