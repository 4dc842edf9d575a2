//! `inventory`: what is here already, and which Python: what a bundler needs to carry only the rest.

use std::path::PathBuf;

use console::View;
use host_probe::{Host, RealHost, installed_packages, probe};
use install_steps::{Prefix, RealDisk, ReleaseRecord, site_key, stored_blobs};
use manifest_schema::Digest;
use manifest_schema::site::{Interpreter, Inventory, Site};
use report::{Event, Outcome, Sink as _, Trouble};

use crate::cli::At;
use crate::unread::Unread;
use crate::write::write_new;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Write it, signed, to this file, which must not be there yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    at: At,
}

impl Args {
    pub(crate) fn run(self, view: &View) -> Result<Outcome, Trouble> {
        let prefix = self.at.prefix()?;
        let host = RealHost::default();
        let site = probe(&host);
        let mut unread = Unread::default();
        let inventory = gather(view, &prefix, &host, site, &mut unread)?;
        let Some(path) = self.output else {
            show(view, &inventory);
            return Ok(unread.end(view, Outcome::Done));
        };
        let blobs = inventory.blobs.len();
        let (bytes, key) = match site_key(&RealDisk, &prefix) {
            Ok(key) => (key.sign(inventory), Some(key.id().clone())),
            Err(error) if error.is_denied() => {
                let folder = prefix.keys().display().to_string();
                view.emit(&Event::Warned {
                    code: "installer.inventory-unsigned".to_owned(),
                    args: vec![("folder".to_owned(), folder)],
                });
                (plain(&inventory), None)
            }
            Err(error) => return Err(error.into()),
        };
        let digest = Digest::of(&bytes).hex();
        write_new(&path, &bytes)?;
        let value = serde_json::json!({
            "path": path, "blobs": blobs, "sha256": digest, "site_key": key, "unread": unread.to_json(),
        });
        let mut args = vec![
            ("path", path.display().to_string()),
            ("blobs", blobs.to_string()),
            ("digest", digest),
        ];
        let mut text = view.text("installer.inventory-written", &args);
        if let Some(key) = key {
            args.push(("key", key.to_string()));
            text = format!("{text}\n{}", view.text("installer.inventory-signed", &args));
        }
        view.result(&value, &text);
        Ok(unread.end(view, Outcome::Done))
    }
}

/// On one line for a program, in lines for a person. What is read here is not carried: it needs no signature.
fn show(view: &View, inventory: &Inventory) {
    if view.is_json() {
        view.result(&serde_json::to_value(inventory).unwrap_or_default(), "");
    } else {
        view.data(String::from_utf8_lossy(&plain(inventory)).trim_end());
    }
}

fn plain(inventory: &Inventory) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(inventory).unwrap_or_default();
    text.push(b'\n');
    text
}

/// What cannot be read is left out: then the bundle that is made by this list brings it once more.
fn gather(
    view: &View,
    prefix: &Prefix,
    host: &dyn Host,
    site: Site,
    unread: &mut Unread,
) -> Result<Inventory, Trouble> {
    let mut releases = Vec::new();
    for name in prefix.installed()? {
        let record = unread.take(ReleaseRecord::read(prefix, &name));
        releases.extend(record.map(|record| record.statement));
    }
    let stored = stored_blobs(prefix, view)?;
    unread.extend(stored.unread);
    Ok(Inventory {
        format: 1,
        interpreters: interpreters(host, &site),
        site,
        releases,
        blobs: stored.blobs,
        key: None,
        os_packages: installed_packages(host),
    })
}

/// Every Python that the machine has under its usual names, by what it says of itself.
fn interpreters(host: &dyn Host, site: &Site) -> Vec<Interpreter> {
    let mut found: Vec<Interpreter> = Vec::new();
    let names = (7..=14)
        .map(|minor| format!("python3.{minor}"))
        .chain(["python3".to_owned()]);
    for name in names {
        let Ok(text) = host.run(&name, &["-I", "-S", "-c", SELF_PORTRAIT], &[]) else {
            continue;
        };
        let Ok(mut interpreter) = serde_json::from_str::<Interpreter>(text.trim()) else {
            continue;
        };
        interpreter.program.clone_from(&name);
        interpreter.platforms = platforms(site);
        let known = |known: &Interpreter| known.markers == interpreter.markers;
        if !found.iter().any(known) {
            found.push(interpreter);
        }
    }
    found
}

/// Platform tags of wheels that run here, newest first: every manylinux of glibc 2.17 up to the machine's.
fn platforms(site: &Site) -> Vec<String> {
    let (Some(arch), Some(glibc)) = (&site.arch, &site.glibc) else {
        return Vec::new();
    };
    let Some(newest) = glibc
        .value
        .to_string()
        .strip_prefix("2.")
        .and_then(|m| m.parse().ok())
    else {
        return Vec::new();
    };
    let arch = arch.value;
    let mut tags: Vec<String> = (17_u32..=newest)
        .rev()
        .map(|minor| format!("manylinux_2_{minor}_{arch}"))
        .collect();
    tags.push(format!("linux_{arch}"));
    tags
}

/// A Python tells its marker environment (PEP 508) and its own tags (PEP 425).
const SELF_PORTRAIT: &str = "\
import json, os, platform, sys, sysconfig
def full(v):
    s = '%d.%d.%d' % (v.major, v.minor, v.micro)
    return s if v.releaselevel == 'final' else s + v.releaselevel[0] + str(v.serial)
i = sys.implementation
tag = 'cp%d%d' % sys.version_info[:2] if i.name == 'cpython' else i.name
abi = tag + (getattr(sys, 'abiflags', '') if i.name == 'cpython' else '')
print(json.dumps({'interpreter': tag, 'abi': abi, 'markers': {
 'implementation_name': i.name, 'implementation_version': full(i.version), 'os_name': os.name,
 'platform_machine': platform.machine(), 'platform_release': platform.release(),
 'platform_system': platform.system(), 'platform_version': platform.version(),
 'platform_python_implementation': platform.python_implementation(),
 'python_full_version': platform.python_version(),
 'python_version': '%d.%d' % sys.version_info[:2], 'sys_platform': sys.platform}}))";
