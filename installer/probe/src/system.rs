//! Facts of the system itself: CPU, kernel, C library, memory, user.

use std::collections::BTreeMap;

use manifest_schema::chip::Processor;
use manifest_schema::os::OsTable;
use manifest_schema::site::{Cpu, Fact, Os, User};
use manifest_schema::{Arch, ByteSize, GlibcVersion};

use crate::host::Host;

/// A fact, where there is a value.
pub(crate) fn fact<T>(value: Option<T>, source: &str) -> Option<Fact<T>> {
    value.map(|value| Fact {
        value,
        source: source.to_owned(),
    })
}

/// Reads `/proc/cpuinfo`. Names come from the chip tables first, then from the kernel.
pub(crate) fn cpu(host: &dyn Host) -> Option<Fact<Cpu>> {
    let source = "/proc/cpuinfo";
    fact(parse_cpu(&host.read(source).ok()?), source)
}

/// What the kernel calls the processor, also where no program is built for it.
pub(crate) fn machine(host: &dyn Host) -> Option<Fact<String>> {
    let text = host.run("uname", &["-m"], &[]).ok()?;
    fact(
        Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        "uname -m",
    )
}

/// Asks `uname -m`, then looks which loader of shared libraries there is.
pub(crate) fn arch(host: &dyn Host) -> Option<Fact<Arch>> {
    arch_of(host, machine(host).as_ref())
}

/// The same, where the kernel's name of the machine is known already.
pub(crate) fn arch_of(host: &dyn Host, machine: Option<&Fact<String>>) -> Option<Fact<Arch>> {
    let named = machine.and_then(|machine| machine.value.parse().ok());
    fact(named, "uname -m").or_else(|| {
        LOADERS
            .into_iter()
            .find(|(path, _)| host.exists(path))
            .and_then(|(path, name)| fact(name.parse().ok(), path))
    })
}

/// Reads `/etc/os-release`, then `/usr/lib/os-release`.
pub(crate) fn os(host: &dyn Host) -> Option<Fact<Os>> {
    ["/etc/os-release", "/usr/lib/os-release"]
        .into_iter()
        .find_map(|path| fact(parse_os(&host.read(path).ok()?), path))
}

/// Kernel release.
pub(crate) fn kernel(host: &dyn Host) -> Option<Fact<String>> {
    let source = "/proc/sys/kernel/osrelease";
    let text = host.read(source).ok()?;
    fact(
        Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        source,
    )
}

/// Version of glibc. This program is static, so it cannot ask its own. In this order: `getconf`,
/// `ldd`, the file names of older releases, the banner inside the library.
pub(crate) fn glibc(host: &dyn Host) -> Option<Fact<GlibcVersion>> {
    let ask = |program: &str, argument: &str| {
        let text = host.run(program, &[argument], &[]).ok()?;
        fact(
            last_version(text.lines().next()?),
            &format!("{program} {argument}"),
        )
    };
    ask("getconf", "GNU_LIBC_VERSION")
        .or_else(|| ask("ldd", "--version"))
        .or_else(|| glibc_from_file_name(host))
        .or_else(|| glibc_from_banner(host))
}

/// Bytes of a page: `getconf`, then the first mapping of this process.
pub(crate) fn page_size(host: &dyn Host) -> Option<Fact<u64>> {
    let text = host.run("getconf", &["PAGESIZE"], &[]).ok();
    fact(
        text.and_then(|text| text.trim().parse().ok()),
        "getconf PAGESIZE",
    )
    .or_else(|| {
        let source = "/proc/self/smaps";
        let kib = kib_of(&host.read(source).ok()?, "KernelPageSize:")?;
        fact(kib.checked_mul(1024), source)
    })
}

/// Main memory.
pub(crate) fn memory(host: &dyn Host) -> Option<Fact<ByteSize>> {
    let source = "/proc/meminfo";
    let kib = kib_of(&host.read(source).ok()?, "MemTotal:")?;
    fact(kib.checked_mul(1024).map(ByteSize), source)
}

/// `SELinux`, where the kernel has it.
pub(crate) fn selinux(host: &dyn Host) -> Option<Fact<String>> {
    let source = "/sys/fs/selinux/enforce";
    let word = match host.read(source).ok()?.trim() {
        "1" => "enforcing",
        "0" => "permissive",
        _ => return None,
    };
    fact(Some(word.to_owned()), source)
}

/// The clock, asked of a program so that a recording keeps its answer.
pub(crate) fn clock(host: &dyn Host) -> Option<Fact<String>> {
    let text = host.run("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"], &[]).ok()?;
    let text = text.trim().to_owned();
    fact(
        Some(text).filter(|text| text.len() == 20 && text.ends_with('Z')),
        "date -u",
    )
}

/// What a driver is built against: the headers of exactly this kernel.
pub(crate) fn kernel_headers(
    host: &dyn Host,
    kernel: Option<&Fact<String>>,
) -> Option<Fact<String>> {
    let path = format!("/lib/modules/{}/build", kernel?.value);
    host.exists(&path).then(|| Fact {
        value: path.clone(),
        source: path,
    })
}

/// Of the programs that installing a backend or a driver may need, those that are there.
pub(crate) fn programs(host: &dyn Host) -> Vec<String> {
    let there = |name: &&&str| {
        let folders = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin"];
        folders
            .iter()
            .any(|folder| host.exists(&format!("{folder}/{name}")))
    };
    PROGRAMS
        .iter()
        .filter(there)
        .map(|name| (*name).to_owned())
        .collect()
}

/// Version of the system's Python.
pub(crate) fn python(host: &dyn Host) -> Option<Fact<String>> {
    let text = host.run("python3", &["--version"], &[]).ok()?;
    fact(
        text.trim().strip_prefix("Python ").map(str::to_owned),
        "python3 --version",
    )
}

/// Who runs the probe.
pub(crate) fn user(host: &dyn Host) -> Option<Fact<User>> {
    let name = host.run("id", &["-un"], &[]).ok()?;
    let groups = host.run("id", &["-nG"], &[]).ok()?;
    fact(parse_user(&name, &groups), "id")
}

/// Where a number has no name, as when a directory of groups does not answer, `id` prints the number and complains.
fn parse_user(name: &str, groups: &str) -> Option<User> {
    let said = |line: &&str| !line.starts_with("id:") && !line.trim().is_empty();
    let groups = groups.lines().filter(said).flat_map(str::split_whitespace);
    Some(User {
        name: name.lines().find(said)?.trim().to_owned(),
        groups: groups.map(str::to_owned).collect(),
    })
}

fn parse_cpu(text: &str) -> Option<Cpu> {
    let value_of = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            // One space belongs to the layout; the vendor `  Shanghai  ` keeps its own.
            (key.trim() == wanted).then(|| value.strip_prefix(' ').unwrap_or(value).to_owned())
        })
    };
    let processors = text
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    // Loongson's kernel prints neither: its model name begins with the maker's.
    let model = || value_of("Model Name").or_else(|| value_of("model name"));
    let maker = || model().and_then(|name| name.split([' ', '-']).next().map(str::to_owned));
    let vendor = value_of("vendor_id")
        .or_else(|| value_of("CPU implementer"))
        .or_else(maker)?;
    let part = value_of("CPU part");
    let known = || Processor::named(&vendor, part.as_deref());
    let name = model().or_else(|| known().map(|row| row.name.clone()));
    Some(Cpu {
        vendor,
        part,
        name,
        processors: u32::try_from(processors).ok()?,
    })
}

fn parse_os(text: &str) -> Option<Os> {
    let mut release: BTreeMap<String, String> = BTreeMap::new();
    for line in text.lines().take(1024) {
        if let Some((key, value)) = line.split_once('=') {
            let value = value.trim().trim_matches(['"', '\'']);
            release.insert(key.trim().to_owned(), value.to_owned());
        }
    }
    let first = |keys: [&str; 2]| keys.iter().find_map(|key| release.get(*key)).cloned();
    let table = OsTable::recognise(&release);
    Some(Os {
        id: release.get("ID")?.clone(),
        name: first(["PRETTY_NAME", "NAME"])?,
        version: first(["VERSION", "VERSION_ID"]),
        table: table.map(|table| table.name.clone()),
        edition: table
            .and_then(|table| table.edition(&release))
            .map(|edition| edition.name.clone()),
    })
}

fn last_version(line: &str) -> Option<GlibcVersion> {
    let word = line.split_whitespace().next_back()?;
    let mut parts = word.trim_end_matches('.').split('.');
    format!("{}.{}", parts.next()?, parts.next()?).parse().ok()
}

fn library_folders(host: &dyn Host) -> impl Iterator<Item = String> {
    let triplets = ["x86_64-linux-gnu", "aarch64-linux-gnu"];
    let multi = triplets.map(|triplet| format!("/lib/{triplet}"));
    ["/lib64".to_owned(), "/usr/lib64".to_owned()]
        .into_iter()
        .chain(multi)
        .filter(|folder| host.exists(folder))
}

/// Until 2.33 the library was `libc-2.28.so`, and `libc.so.6` a link to it.
fn glibc_from_file_name(host: &dyn Host) -> Option<Fact<GlibcVersion>> {
    library_folders(host).find_map(|folder| {
        host.list(&folder).ok()?.iter().find_map(|name| {
            let version = name
                .strip_prefix("libc-")?
                .strip_suffix(".so")?
                .parse()
                .ok();
            fact(version, &format!("{folder}/{name}"))
        })
    })
}

fn glibc_from_banner(host: &dyn Host) -> Option<Fact<GlibcVersion>> {
    library_folders(host).find_map(|folder| {
        let path = format!("{folder}/libc.so.6");
        let text = host.read(&path).ok()?;
        let (_, banner) = text.split_once("GNU C Library")?;
        let line = banner.lines().next()?;
        let (_, version) = line.split_once("release version ")?;
        fact(last_version(version), &path)
    })
}

fn kib_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `tar`, `gzip`, `xz` and `bash` unpack vendors' installers, those up to `automake` build a driver, the last two run containers.
pub(crate) const PROGRAMS: [&str; 14] = [
    "tar", "gzip", "xz", "bash", "gcc", "make", "dkms", "cmake", "automake", "rpm", "dpkg",
    "lspci", "docker", "podman",
];

const LOADERS: [(&str, &str); 2] = [
    ("/lib64/ld-linux-x86-64.so.2", "x86_64"),
    ("/lib/ld-linux-aarch64.so.1", "aarch64"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_without_names_are_users_and_groups_too() {
        let user = parse_user(
            "0\nid: cannot find name for user ID 0\n",
            "0 4\nid: cannot find name for group ID 4\n",
        );
        let groups = vec!["0".to_owned(), "4".to_owned()];
        let name = "0".to_owned();
        assert_eq!(user, Some(User { name, groups }));
        assert_eq!(parse_user("\n", "x"), None);
    }

    #[test]
    fn cpus_are_named_by_numbers_or_by_the_kernel() {
        for (text, vendor, name) in [
            (
                "processor\t: 0\nCPU implementer\t: 0x48\nCPU part\t: 0xd01\n",
                "0x48",
                Some("Kunpeng 920 (TaiShan v110)"),
            ),
            (
                "processor\t: 0\nCPU implementer\t: 0x70\nCPU part\t: 0x663\n",
                "0x70",
                Some("Phytium S2500"),
            ),
            (
                "processor\t: 0\nCPU implementer\t: 0x70\nCPU part\t: 0x999\n",
                "0x70",
                Some("Phytium"),
            ),
            (
                "processor\t: 0\nCPU implementer\t: 0x48\nCPU part\t: 0x999\n",
                "0x48",
                None,
            ),
            (
                "processor\t: 0\nvendor_id\t: HygonGenuine\n",
                "HygonGenuine",
                Some("Hygon"),
            ),
            (
                "processor\t: 0\nvendor_id\t:   Shanghai  \n",
                "  Shanghai  ",
                Some("Zhaoxin"),
            ),
            (
                "processor\t: 0\nvendor_id\t: HygonGenuine\nmodel name\t: Hygon C86 7285\n",
                "HygonGenuine",
                Some("Hygon C86 7285"),
            ),
            (
                "processor\t: 0\nCPU Family\t: Loongson-64bit\nModel Name\t: Loongson-3C5000\n",
                "Loongson",
                Some("Loongson-3C5000"),
            ),
        ] {
            let cpu = parse_cpu(text).unwrap();
            assert_eq!(
                (cpu.vendor.as_str(), cpu.name.as_deref()),
                (vendor, name),
                "{text}"
            );
            assert_eq!(cpu.processors, 1);
        }
        assert_eq!(parse_cpu("nothing"), None);
    }

    #[test]
    fn glibc_versions_come_out_of_every_banner() {
        for (line, expected) in [
            ("glibc 2.28", Some("2.28")),
            ("ldd (Debian GLIBC 2.36-9+deb12u14) 2.36", Some("2.36")),
            ("ldd (GNU libc) 2.28", Some("2.28")),
            ("2.36.", Some("2.36")),
            ("musl libc (x86_64)", None),
            ("", None),
        ] {
            let found = last_version(line).map(|version| version.to_string());
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}
