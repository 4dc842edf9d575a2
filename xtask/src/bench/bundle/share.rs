//! An aligned bundle on a file system that shares blocks.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Bench, backend, fresh, ratios, remove};
use crate::bench::noise::Noise;
use crate::bench::watch::{Cost, children_seconds, median, watched};
use crate::shell;

/// XFS in a file, until it is dropped. What goes to it goes to the disk that holds the file, past the cache: otherwise
/// nothing would be slower to write than to read again.
struct Mount {
    place: PathBuf,
    device: PathBuf,
}

impl Mount {
    fn make(bench: &Bench) -> Result<Self> {
        let image = bench.place.join("xfs.image");
        File::create(&image)?.set_len((bench.mib * 4 + 512) << 20)?;
        let place = fresh(bench.place.join("xfs"))?;
        let mut make = bench.command(Path::new("mkfs.xfs"), &["-q", "-m", "reflink=1"]);
        shell::run(make.arg(&image))?;
        let mut attach = shell::command("losetup");
        attach.args(["--direct-io=on", "--show", "--find"]);
        let device = PathBuf::from(shell::output(attach.arg(&image))?.trim());
        let mount = Self { place, device };
        let mut command = bench.command(Path::new("mount"), &[]);
        shell::run(command.arg(&mount.device).arg(&mount.place))?;
        Ok(mount)
    }

    /// MB that the device read and wrote so far; the kernel counts in 512 bytes.
    fn moved(&self) -> Result<[f64; 2]> {
        let name = self.device.file_name().context("a device has a name")?;
        let counters = Path::new("/sys/class/block").join(name).join("stat");
        let text = fs::read_to_string(counters)?;
        let fields: Vec<&str> = text.split_whitespace().collect();
        let sectors = |at: usize| -> Result<f64> {
            let field = fields.get(at).context("the device's counters are cut")?;
            Ok(field.parse::<f64>()? * 512.0 / 1e6)
        };
        Ok([sectors(2)?, sectors(6)?])
    }

    /// Lets the cache forget `path`: a bundle is larger than memory, or was carried here yesterday.
    fn forget(path: &Path) -> Result<()> {
        let mut dd = shell::command("dd");
        let given = format!("if={}", path.display());
        shell::run(dd.args([&given, "iflag=nocache", "count=0", "status=none"]))
    }

    /// What `run` takes, the median of as many runs as the rest, with `source` out of the cache before each.
    fn measure(
        &self,
        bench: &Bench,
        source: &Path,
        run: impl Fn() -> Result<Cost>,
    ) -> Result<Moved> {
        let mut all = Vec::new();
        for _ in 0..bench.runs {
            shell::run(shell::command("sync").arg("-f").arg(&self.place))?;
            Self::forget(source)?;
            let (before, busy) = (self.moved()?, children_seconds()?);
            let cost = run()?;
            // Whatever was left to the kernel is a part of it.
            let after = self.moved()?;
            all.push(Moved {
                seconds: cost.seconds,
                busy: children_seconds()? - busy,
                read: after[0] - before[0],
                written: after[1] - before[1],
            });
        }
        let of = |value: fn(&Moved) -> f64| median(all.iter().map(value).collect());
        Ok(Moved {
            seconds: of(|one| one.seconds),
            busy: of(|one| one.busy),
            read: of(|one| one.read),
            written: of(|one| one.written),
        })
    }

    fn copy(&self, bench: &Bench, source: &Path, how: &str) -> Result<Moved> {
        let copy = self.place.join("copy");
        let script = format!("cp --reflink={how} source copy && sync -f copy");
        let cost = self.measure(bench, source, || {
            remove(&copy)?;
            let mut sh = bench.command(Path::new("sh"), &["-c", &script]);
            watched(sh.current_dir(&self.place), |_, _| ())
        });
        remove(&copy)?;
        cost
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = shell::run(shell::command("umount").arg(&self.place));
        let _ = shell::run(shell::command("losetup").arg("--detach").arg(&self.device));
    }
}

/// What a program took of time and of the disk.
struct Moved {
    seconds: f64,
    /// Seconds of all processors.
    busy: f64,
    /// MB that the disk read.
    read: f64,
    /// MB that the disk wrote.
    written: f64,
}

impl Moved {
    fn row(&self, name: &str) {
        println!(
            "| {name} | {:.2} | {:.2} | {:.0} | {:.0} |",
            self.seconds, self.busy, self.read, self.written
        );
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
    let (bundle, prefix) = (mount.place.join("source"), mount.place.join("prefix"));
    let install = |words: &[&str]| -> Result<Moved> {
        bench.build(&bundle, words)?;
        let cost = mount.measure(bench, &bundle, || bench.install(&bundle, &prefix, &[]))?;
        remove(&prefix)?;
        Ok(cost)
    };
    let plain = install(&[])?;
    let aligned = install(&["--align"])?;
    let copy = mount.copy(bench, &bundle, "never")?;
    let reflink = mount.copy(bench, &bundle, "always")?;
    let disk = mount.place.display().to_string();
    let hash = mount.measure(bench, &bundle, || {
        let words = ["dgst", "-sha256", &format!("{disk}/source")];
        let mut openssl = bench.command(Path::new("openssl"), &words);
        watched(&mut openssl, |_, _| ())
    })?;
    println!(
        "\n| one XFS, {} MiB, nothing in the cache | s | CPU s | MB read | MB written |",
        bench.mib
    );
    println!("| --- | --- | --- | --- | --- |");
    aligned.row("install, aligned: blocks shared, read once, hashed");
    plain.row("install, not aligned");
    copy.row("cp --reflink=never, sync: nothing is checked");
    reflink.row("cp --reflink=always, sync: nothing is checked, or read");
    hash.row("openssl dgst -sha256, one core");
    ratios("aligned install to the other, less is better");
    for (name, other) in [("cp", &copy), ("install, not aligned", &plain)] {
        println!(
            "| {name}: bytes written | {:.3} |",
            aligned.written / other.written
        );
        let all = |one: &Moved| one.read + one.written;
        println!(
            "| {name}: bytes moved | {:.2} |",
            all(&aligned) / all(other)
        );
        println!(
            "| {name}: seconds | {:.2} |",
            aligned.seconds / other.seconds
        );
    }
    println!(
        "| hashing alone: CPU seconds | {:.2} |",
        aligned.busy / hash.busy
    );
    Ok(())
}
