//! Flags and environment, read once.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bundle_mirror::{Cache, DockerLogins, Helpers, MirrorError, Patience, Rewrite, Secret, Web};
use console::View;
use manifest_schema::plan::Login;
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

/// The `gpgv` program: `$FERRY_GPGV`, else the one on the path.
pub(crate) fn gpgv() -> PathBuf {
    PathBuf::from(variable("FERRY_GPGV").unwrap_or_else(|| "gpgv".to_owned()))
}

/// ModelScope's address.
pub(crate) fn modelscope_endpoint() -> String {
    variable("MODELSCOPE_ENDPOINT").unwrap_or_else(|| "https://www.modelscope.cn".to_owned())
}

/// A client that shows each hub, and nobody else, its token: `HF_TOKEN`, `MODELSCOPE_API_TOKEN`.
pub(crate) fn web() -> Result<Web, MirrorError> {
    let mut web = Web::on_demand(Patience::default());
    if let Some(token) = variable("HF_TOKEN") {
        web = web.with_token(&hub_endpoint(), &Secret::new(&token))?;
    }
    if let Some(token) = variable("MODELSCOPE_API_TOKEN") {
        let (home, token) = (modelscope_endpoint(), Secret::new(&token));
        // Some of its servers read the one, some the other.
        web = web.with_token(&home, &token)?;
        web = web.with_cookie(&home, "m_session_id", &token)?;
    }
    Ok(web)
}

/// A client that can log in at registries: with what the variables of `logins` hold, else as docker or podman would.
pub(crate) fn with_registries(
    web: Web,
    logins: &BTreeMap<String, Login>,
) -> Result<Web, MirrorError> {
    let mut web = web.with_docker_logins(docker_logins()?);
    for (registry, login) in logins {
        let value = |name: &str| {
            variable(name).ok_or_else(|| MirrorError::NoSecret {
                file_name: registry.clone(),
                header: "Authorization".to_owned(),
                variable: name.to_owned(),
            })
        };
        let (user, password) = (value(&login.user)?, Secret::new(&value(&login.password)?));
        web = web.with_registry_login(registry, &user, &password)?;
    }
    Ok(web)
}

/// The files that `docker login` and `podman login` wrote, in the order to ask them; with the programs that they name.
///
/// A file that a variable names takes the place of the usual ones, as it does for those programs.
fn docker_logins() -> Result<DockerLogins, MirrorError> {
    let below = |name: &str, rest: &str| Some(PathBuf::from(variable(name)?).join(rest));
    let places = match variable("REGISTRY_AUTH_FILE") {
        Some(path) => vec![Some(PathBuf::from(path))],
        None => vec![
            below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json")),
            below("XDG_RUNTIME_DIR", "containers/auth.json"),
            below("XDG_CONFIG_HOME", "containers/auth.json")
                .or_else(|| below("HOME", ".config/containers/auth.json")),
        ],
    };
    let mut logins = DockerLogins::default();
    for path in places.into_iter().flatten().filter(|path| path.is_file()) {
        let read = std::fs::read(&path).and_then(|bytes| {
            logins
                .add(&bytes)
                .map_err(|problem| io::Error::new(ErrorKind::InvalidData, problem))
        });
        read.map_err(|source| MirrorError::File { path, source })?;
    }
    let folders = variable("PATH").unwrap_or_default();
    Ok(logins.with_helpers(Helpers {
        folders: env::split_paths(&folders).collect(),
        patience: Duration::from_mins(1),
    }))
}

/// The values of headers whose secrets stand in variables.
pub(crate) fn secrets(
    file_name: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Vec<(String, Secret)>, MirrorError> {
    let mut secrets = Vec::new();
    for (header, name) in headers {
        let value = variable(name).ok_or_else(|| MirrorError::NoSecret {
            file_name: file_name.to_owned(),
            header: header.clone(),
            variable: name.clone(),
        })?;
        secrets.push((header.clone(), Secret::new(&value)));
    }
    Ok(secrets)
}

/// Reads a number of bytes: `500K`, `20M`, `4.7G`, or plain. `K` is 1000, `Ki` is 1024.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let unit = unit
        .trim()
        .trim_end_matches(['B', 'b'])
        .to_ascii_lowercase();
    let factor: u64 = match unit.as_str() {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return Err("write it as 500K, 20M, 4.7G or 4Gi".to_owned()),
    };
    let wrong = || "write it as 500K, 20M, 4.7G or 4Gi".to_owned();
    let exact = number.parse::<u64>().ok().map(|n| n.checked_mul(factor));
    let bytes = match exact {
        Some(bytes) => bytes.ok_or_else(wrong)?,
        None => (number.parse::<f64>().map_err(|_| wrong())? * factor as f64) as u64,
    };
    if bytes == 0 {
        Err("more than 0 bytes are needed".to_owned())
    } else {
        Ok(bytes)
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

/// Threads for files of this machine: more would make a disk with heads jump.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(4))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads the size of a volume: the name of a medium, or a number of bytes.
pub(crate) fn volume_size(text: &str) -> Result<u64, String> {
    match text {
        "fat32" => Ok(4_294_967_295),
        "dvd" => Ok(4_700_372_992),
        "bd25" => Ok(25_025_314_816),
        "bd50" => Ok(50_050_629_632),
        _ => bytes(text).map_err(|why| format!("{why}, or fat32, dvd, bd25, bd50")),
    }
}

/// Reads a share, with or without `%` behind it.
pub(crate) fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let share = number.filter(|share| (1..=100).contains(share));
    share.ok_or_else(|| "write it as a number from 1 to 100".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_medium_has_a_size_and_a_share_is_a_percentage() {
        assert_eq!(volume_size("dvd"), Ok(4_700_372_992));
        assert_eq!(volume_size("1G"), Ok(1_000_000_000));
        assert!(volume_size("floppy").is_err());
        assert_eq!((percent("10%"), percent("100")), (Ok(10), Ok(100)));
        assert!(percent("0").is_err() && percent("101").is_err() && percent("ten").is_err());
    }

    #[test]
    fn a_number_of_bytes_is_read_as_people_write_it() {
        for (text, expected) in [
            ("7", Some(7)),
            ("500K", Some(500_000)),
            ("4.7GB", Some(4_700_000_000)),
            ("4Gi", Some(4 << 30)),
            ("2 MiB", Some(2 << 20)),
            ("0", None),
            ("0.1", None),
            ("-1", None),
            ("1T5", None),
            ("99999999999999G", None),
        ] {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
    }
}
