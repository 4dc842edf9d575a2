//! Each rule about what surrounds an install, on a recorded machine that is changed in one place.

#![expect(clippy::unwrap_used, reason = "what cannot be done is a failed test")]

use std::fs;
use std::path::Path;

use host_probe::{Check, RecordedHost, Verdict, fit, planned_packages, probe};
use manifest_schema::site::Site;
use manifest_schema::{
    Arch, Backend, BundlePath, ByteSize, Digest, OsPackage, OsPackages, PackageFormat, PlacedFile,
    Port,
};

/// A copy of a recorded machine.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn of(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hosts");
        copy(&hosts.join(name), folder.path());
        Self { folder }
    }

    /// A Kunpeng 920 with eight 910B on Kylin, on which everything is as it should be.
    fn good() -> Self {
        let machine = Self::of("kunpeng-910b-kylin");
        machine.write("cmd/getconf PAGESIZE.txt", "4096\n");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn site(&self) -> Site {
        let root = self.folder.path().to_owned();
        probe(&RecordedHost { root })
    }

    /// The checks whose code begins with `code`, with what was found and what is needed.
    fn checks(&self, code: &str) -> Vec<(Verdict, String)> {
        let checks = fit(&self.site(), &ascend());
        let ours = |check: &&Check| check.code.starts_with(code);
        let line = |c: &Check| (c.verdict, format!("{}: {} / {}", c.code, c.found, c.needed));
        checks.iter().filter(ours).map(line).collect()
    }

    fn check(&self, code: &str) -> (Verdict, String) {
        let checks = self.checks(code);
        assert_eq!(checks.len(), 1, "{code}: {checks:?}");
        checks.into_iter().next().unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn ascend() -> Backend {
    let versions = [("torch_npu", "2.9.0"), ("cann", "8.5.0")];
    let versions = versions.map(|(name, version)| (name.to_owned(), version.to_owned()));
    Backend {
        name: "ascend".parse().unwrap(),
        chip: "ascend-910b".to_owned(),
        arch: Arch::Aarch64,
        glibc: None,
        versions: versions.into_iter().collect(),
        files: Vec::new(),
        python: None,
        signatures: Vec::new(),
        eulas: Vec::new(),
        host: Vec::new(),
        ports: vec![Port {
            number: 7860,
            service: "web page".to_owned(),
        }],
    }
}

fn says(verdict: Verdict, text: &str) -> (Verdict, String) {
    (verdict, text.to_owned())
}

#[test]
fn a_umask_that_shuts_others_out_is_worth_a_look() {
    let machine = Machine::good();
    for (umask, expected) in [
        ("0022", None),
        ("0002", None),
        ("0027", Some("host.umask: 0027 / 0022")),
        ("0077", Some("host.umask: 0077 / 0022")),
        ("no number", None),
    ] {
        machine.write("proc/self/status", &format!("Name:\tsh\nUmask:\t{umask}\n"));
        let expected: Vec<_> = expected
            .map(|text| says(Verdict::Warn, text))
            .into_iter()
            .collect();
        assert_eq!(machine.checks("host.umask"), expected, "{umask}");
    }
}

#[test]
fn two_clocks_that_are_days_apart_are_worth_a_look() {
    let machine = Machine::good();
    // The recording's own clock: 2026-11-20T02:00:00Z.
    let now: u64 = 1_795_140_000;
    for (hardware, expected) in [
        (now, None),
        // Local time in China.
        (now + 8 * 3600, None),
        (now + 24 * 3600, None),
        (now + 26 * 3600, Some("host.clocks-apart: 26 h / 24 h")),
        (now - 48 * 3600, Some("host.clocks-apart: 48 h / 24 h")),
        (0, Some("host.clocks-apart: 498650 h / 24 h")),
    ] {
        machine.write("sys/class/rtc/rtc0/since_epoch", &format!("{hardware}\n"));
        let expected: Vec<_> = expected
            .map(|text| says(Verdict::Warn, text))
            .into_iter()
            .collect();
        assert_eq!(machine.checks("host.clocks-apart"), expected, "{hardware}");
    }
}

#[test]
fn a_clock_from_before_this_program_is_worth_a_look() {
    let machine = Machine::good();
    assert!(machine.checks("host.clock").is_empty());
    machine.write(
        "cmd/date -u +%Y-%m-%dT%H:%M:%SZ.txt",
        "1970-01-01T00:03:00Z\n",
    );
    let said = "host.clock: 1970-01-01T00:03:00Z / > 2026-01-01T00:00:00Z";
    assert_eq!(machine.check("host.clock"), says(Verdict::Warn, said));
}

#[test]
fn a_port_that_is_taken_is_worth_a_look_and_one_that_is_free_is_said() {
    let machine = Machine::good();
    // Nobody can tell: nothing is said.
    assert!(machine.checks("host.port").is_empty());
    let head = "  sl  local_address rem_address   st\n";
    machine.write("proc/net/tcp", head);
    assert_eq!(
        machine.check("host.port"),
        says(Verdict::Pass, "host.port: 7860 / 7860")
    );
    // 0x1EB4 is 7860; a connection that is open is not a listener.
    machine.write(
        "proc/net/tcp",
        &format!("{head}   0: 0100007F:1EB4 0200007F:C000 01\n"),
    );
    assert_eq!(machine.check("host.port").0, Verdict::Pass);
    for path in ["proc/net/tcp", "proc/net/tcp6"] {
        let machine = Machine::good();
        machine.write("proc/net/tcp", head);
        machine.write(
            path,
            &format!("{head}   0: 00000000:1EB4 00000000:0000 0A\n"),
        );
        let said = says(Verdict::Warn, "host.port-taken: 7860 / 7860");
        assert_eq!(machine.check("host.port"), said, "{path}");
    }
}

#[test]
fn container_engines_are_named_and_one_that_sleeps_is_marked() {
    let machine = Machine::good();
    assert!(machine.checks("host.engines").is_empty());
    machine.write(
        "cmd/docker --version.txt",
        "Docker version 20.10.7, build f0df350\n",
    );
    machine.write("cmd/podman --version.txt", "podman version 4.9.4\n");
    let said = "host.engines: docker 20.10.7 (-), podman 4.9.4 / -";
    assert_eq!(machine.check("host.engines"), says(Verdict::Pass, said));
    let there = fs::read_to_string(machine.folder.path().join("there.txt")).unwrap();
    machine.write("there.txt", &format!("{there}\n/run/docker.sock\n"));
    let said = "host.engines: docker 20.10.7, podman 4.9.4 / -";
    assert_eq!(machine.check("host.engines"), says(Verdict::Pass, said));
    machine.write("cmd/docker --version.txt", "command not found\n");
    assert_eq!(
        machine.check("host.engines").1,
        "host.engines: podman 4.9.4 / -"
    );
}

#[test]
fn selinux_that_enforces_is_worth_a_look() {
    let machine = Machine::good();
    for (enforce, expected) in [
        ("0\n", None),
        ("1\n", Some("host.selinux: enforcing / permissive")),
        ("?\n", None),
    ] {
        machine.write("sys/fs/selinux/enforce", enforce);
        let expected: Vec<_> = expected
            .map(|text| says(Verdict::Warn, text))
            .into_iter()
            .collect();
        assert_eq!(machine.checks("host.selinux"), expected, "{enforce}");
    }
}

#[test]
fn little_memory_is_worth_a_look_and_never_a_stop() {
    let machine = Machine::good();
    for (kib, verdict, found) in [
        ("33554432", Verdict::Pass, "32.0 GiB"),
        ("33554431", Verdict::Warn, "32.0 GiB"),
        ("16777216", Verdict::Warn, "16.0 GiB"),
        ("many", Verdict::Warn, "?"),
    ] {
        machine.write("proc/meminfo", &format!("MemTotal:       {kib} kB\n"));
        let said = says(verdict, &format!("host.memory: {found} / 32.0 GiB"));
        assert_eq!(machine.check("host.memory"), said, "{kib}");
    }
}

#[test]
fn another_page_than_the_usual_one_is_worth_a_look() {
    let machine = Machine::good();
    for (size, expected) in [
        ("4096\n", None),
        ("65536\n", Some("host.page-size: 65536 / 4096")),
        ("16384\n", Some("host.page-size: 16384 / 4096")),
        ("getconf: no such variable\n", None),
    ] {
        machine.write("cmd/getconf PAGESIZE.txt", size);
        let expected: Vec<_> = expected
            .map(|text| says(Verdict::Warn, text))
            .into_iter()
            .collect();
        assert_eq!(machine.checks("host.page-size"), expected, "{size}");
    }
}

#[test]
fn packages_of_the_bundle_count_as_the_programs_and_headers_that_they_bring() {
    let machine = Machine::of("vm-910b-no-driver");
    let missing = || machine.site().programs;
    assert!(!missing().contains(&"gcc".to_owned()));
    let kernel = machine.site().kernel.unwrap().value;
    let (version, arch) = kernel.rsplit_once('.').unwrap();
    let package = |name: &str, version: &str| OsPackage {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        arch: arch.to_owned(),
        license: None,
        file: PlacedFile {
            path: BundlePath::parse(&format!("Packages/{name}.rpm")).unwrap(),
            executable: false,
            size: ByteSize(1),
            digest: Digest::of(name.as_bytes()),
            made_from: None,
        },
    };
    let mut set = OsPackages {
        name: "kylin".parse().unwrap(),
        os: "kylin-v10".to_owned(),
        edition: None,
        arch: Arch::Aarch64,
        format: PackageFormat::Rpm,
        kernel: None,
        wanted: Vec::new(),
        packages: vec![package("gcc", "7.3.0-1"), package("kernel-devel", version)],
        metadata: Vec::new(),
    };
    let planned = planned_packages(&machine.site(), &set);
    assert!(planned.programs.contains(&"gcc".to_owned()));
    assert!(planned.kernel_headers.is_some());
    // The headers of another kernel are no headers here.
    set.packages[1] = package("kernel-devel", "4.19.90-1.ky10");
    let planned = planned_packages(&machine.site(), &set);
    assert!(planned.kernel_headers.is_none());
}
