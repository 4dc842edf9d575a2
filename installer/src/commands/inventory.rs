//! `inventory`: what is here already, and which Python: what a bundler needs to carry only the rest.

use std::path::PathBuf;

use console::View;
use host_probe::{Host, RealHost, probe};
use install_steps::{Prefix, ReleaseRecord, stored_blobs};
use manifest_schema::Digest;
use manifest_schema::site::{Interpreter, Inventory, Site};
use report::{Outcome, Trouble};

use crate::cli::At;
use crate::write::write_new;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Write it to this file, which must not be there yet, instead of standard output
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
        let inventory = gather(view, &prefix, &host, site)?;
        let text = serde_json::to_string_pretty(&inventory).unwrap_or_default() + "\n";
        let digest = Digest::of(text.as_bytes()).hex();
        match self.output {
            // On one line for a program, in lines for a person.
            None if view.is_json() => {
                view.result(&serde_json::to_value(&inventory).unwrap_or_default(), "");
            }
            None => view.data(text.trim_end()),
            Some(path) => {
                write_new(&path, text.as_bytes())?;
                let args = [
                    ("path", path.display().to_string()),
                    ("blobs", inventory.blobs.len().to_string()),
                    ("digest", digest.clone()),
                ];
                let value = serde_json::json!({
                    "path": path, "blobs": inventory.blobs.len(), "sha256": digest,
                });
                view.result(&value, &view.text("installer.inventory-written", &args));
            }
        }
        Ok(Outcome::Done)
    }
}

fn gather(view: &View, prefix: &Prefix, host: &dyn Host, site: Site) -> Result<Inventory, Trouble> {
    let mut releases = Vec::new();
    for name in prefix.installed()? {
        releases.push(ReleaseRecord::read(prefix, &name)?.statement);
    }
    Ok(Inventory {
        format: 1,
        interpreters: interpreters(host, &site),
        site,
        releases,
        blobs: stored_blobs(prefix, view)?,
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
