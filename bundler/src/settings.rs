//! Flags and environment, read once.

use std::env;
use std::path::{Path, PathBuf};

use bundle_mirror::{Cache, MirrorError, Patience, Rewrite, Secret, Web};
use console::View;
use report::Trouble;

use crate::error::InputError;

/// The cache, in every command that fetches.
#[derive(clap::Args)]
pub(crate) struct CacheFlag {
    /// Folder of fetched files [default: $FERRY_CACHE, else $XDG_CACHE_HOME/ferry or ~/.cache/ferry]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl CacheFlag {
    pub(crate) fn open(&self) -> Result<Cache, MirrorError> {
        Cache::open(&self.folder())
    }

    /// The cache to look into; it is not made.
    pub(crate) fn look(&self) -> Cache {
        Cache::at(&self.folder())
    }

    fn folder(&self) -> PathBuf {
        self.cache
            .clone()
            .or_else(|| variable("FERRY_CACHE").map(PathBuf::from))
            .unwrap_or_else(|| {
                variable("XDG_CACHE_HOME")
                    .map(PathBuf::from)
                    .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")))
                    .unwrap_or_else(env::temp_dir)
                    .join("ferry")
            })
    }
}

/// The package index: the flag, else the variables that uv and pip read, else PyPI.
pub(crate) fn index_url(flag: Option<&str>) -> String {
    flag.map(str::to_owned)
        .or_else(|| {
            ["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]
                .into_iter()
                .find_map(variable)
        })
        .unwrap_or_else(|| "https://pypi.org/simple".to_owned())
}

/// The hub's address.
pub(crate) fn hub_endpoint() -> String {
    variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned())
}

/// The `uv` program: the flag, else `$FERRY_UV`, else the one on the path.
pub(crate) fn uv(flag: Option<&Path>) -> PathBuf {
    flag.map(Path::to_owned)
        .or_else(|| variable("FERRY_UV").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("uv"))
}

/// A client that shows the hub, and nobody else, the token in `HF_TOKEN`.
pub(crate) fn web() -> Result<Web, MirrorError> {
    let web = Web::new(Patience::default())?;
    match variable("HF_TOKEN") {
        Some(token) => web.with_token(&hub_endpoint(), Secret::new(&token)),
        None => Ok(web),
    }
}

/// Reads `FROM=TO`.
pub(crate) fn rewrite(text: &str) -> Result<Rewrite, String> {
    let (from, to) = text
        .split_once('=')
        .ok_or_else(|| "write it as FROM=TO".to_owned())?;
    Ok(Rewrite {
        from: from.to_owned(),
        to: to.to_owned(),
    })
}

/// The passphrase of a key: from a file, else `FERRY_KEY_PASSPHRASE`, else a question.
pub(crate) fn passphrase(view: &View, file: Option<&Path>, twice: bool) -> Result<String, Trouble> {
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(InputError::file(path))?;
        return Ok(text.lines().next().unwrap_or_default().to_owned());
    }
    match variable("FERRY_KEY_PASSPHRASE") {
        Some(passphrase) => Ok(passphrase),
        None => Ok(view.password("bundler.ask-passphrase", twice, "--passphrase-file")?),
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
