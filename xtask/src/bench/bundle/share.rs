//! An aligned bundle on a file system that shares blocks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::{Bench, backend, fresh, head, ratio, ratios, row};
use crate::bench::noise::Noise;
use crate::shell;

/// XFS in a file, until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn make(bench: &Bench) -> Result<Self> {
        let image = bench.place.join("xfs.image");
        File::create(&image)?.set_len((bench.mib * 4 + 512) << 20)?;
        let place = fresh(bench.place.join("xfs"))?;
        let mut make = bench.command(Path::new("mkfs.xfs"), &["-q", "-m", "reflink=1"]);
        shell::run(make.arg(&image))?;
        let mut mount = bench.command(Path::new("mount"), &["-o", "loop"]);
        shell::run(mount.arg(&image).arg(&place))?;
        Ok(Self(place))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = shell::run(shell::command("umount").arg(&self.0));
    }
}

pub(super) fn measure(bench: &Bench) -> Result<()> {
    let mount = match Mount::make(bench) {
        Ok(mount) => mount,
        Err(error) => {
            println!("\nNot measured, for want of an XFS: {error:#}.");
            return Ok(());
        }
    };
    let mut noise = Noise::new(4);
    let names: Vec<String> = (0..4).map(|n| format!("part-{n}.noise")).collect();
    for name in &names {
        let path = bench.place.join("source").join(name);
        noise.write(&path, (bench.mib << 20) / 4)?;
    }
    bench.lock(&names, &json!([backend("cpu", &[])]))?;
    let (aligned, plain) = (mount.0.join("aligned.ferry"), mount.0.join("plain.ferry"));
    let mut costs = Vec::new();
    for (bundle, words) in [(&aligned, &["--align"][..]), (&plain, &[])] {
        bench.build(bundle, words)?;
        let prefix = mount.0.join("prefix");
        costs.push(bench.many(|bench| bench.install(bundle, &prefix, &[]))?);
        fs::remove_dir_all(prefix)?;
        fs::rename(bundle, mount.0.join("source"))?;
        if costs.len() == 1 {
            costs.push(bench.shell(&mount.0, "cp --reflink=never source copy && sync -f copy")?);
            costs.push(bench.shell(&mount.0, "cp --reflink=always source copy && sync -f copy")?);
        }
        let _ = fs::remove_file(mount.0.join("copy"));
        fs::remove_file(mount.0.join("source"))?;
    }
    let [aligned, copy, reflink, plain] = &costs[..] else {
        return Ok(());
    };
    head("on one XFS");
    row(
        "install, aligned: blocks shared, then hashed",
        bench.mib,
        aligned,
    );
    row("install, not aligned", bench.mib, plain);
    row("cp --reflink=never, sync", bench.mib, copy);
    row(
        "cp --reflink=always, sync: nothing is checked",
        bench.mib,
        reflink,
    );
    ratios("ratio of speeds");
    ratio("aligned install : cp", copy.seconds, aligned);
    ratio("aligned install : install", plain.seconds, aligned);
    Ok(())
}
