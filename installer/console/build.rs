//! Joins the catalogue files of each language into one text to embed.
//!
//! A new file in `catalog/<lang>/` is picked up by itself, so an area of the product owns its own texts.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for language in ["en", "zh"] {
        let folder = PathBuf::from("catalog").join(language);
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<Result<_, _>>()?;
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        });
        files.sort();
        let mut joined = String::new();
        for file in files {
            println!("cargo::rerun-if-changed={}", file.display());
            joined.push_str(&fs::read_to_string(&file)?);
            joined.push('\n');
        }
        fs::write(out.join(format!("{language}.toml")), joined)?;
    }
    Ok(())
}
