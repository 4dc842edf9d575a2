//! What surrounds an install: temporary files, permission bits, clocks, ports, container engines, secure boot.

use manifest_schema::ByteSize;
use manifest_schema::site::{Engine, Fact, Site, Temporary};

use crate::host::Host;
use crate::system::fact;

/// Fills in everything about the surroundings. A fact that cannot be read is absent.
pub(crate) fn fill(host: &dyn Host, site: &mut Site) {
    site.secure_boot = secure_boot(host);
    site.temporary = temporary(host);
    site.umask = umask(host);
    site.hardware_clock = hardware_clock(host);
    site.listening = listening(host);
    site.engines = ENGINES
        .iter()
        .filter_map(|engine| engine_of(host, *engine))
        .collect();
}

/// The firmware's own variable; four bytes of attributes, then its value.
fn secure_boot(host: &dyn Host) -> Option<Fact<bool>> {
    let text = host.read(SECURE_BOOT).ok()?;
    fact(text.as_bytes().last().map(|byte| *byte == 1), SECURE_BOOT)
}

/// `/tmp`: how it is mounted, and what it can take.
fn temporary(host: &dyn Host) -> Option<Fact<Temporary>> {
    let path = "/tmp";
    let said = host.run("df", &["-Pk", path], &[]).ok()?;
    let free = parse_free(&said)?;
    let mounts = host.read("/proc/self/mounts").unwrap_or_default();
    let value = Temporary {
        path: path.to_owned(),
        free,
        programs_run: !mounted_with(&mounts, path, "noexec"),
    };
    fact(Some(value), "df -Pk /tmp")
}

/// The fourth column of the last line: POSIX promises one line and no more.
fn parse_free(said: &str) -> Option<ByteSize> {
    let line = said.lines().filter(|line| !line.is_empty()).nth(1)?;
    let kib: u64 = line.split_whitespace().nth(3)?.parse().ok()?;
    Some(ByteSize(kib.checked_mul(1024)?))
}

/// Whether the mount that holds `path` has an option: the longest mount point above it, of equal ones the last.
fn mounted_with(mounts: &str, path: &str, option: &str) -> bool {
    let mut best = ("", false);
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(point), Some(_), Some(options)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let above = point == "/"
            || path == point
            || path
                .strip_prefix(point)
                .is_some_and(|rest| rest.starts_with('/'));
        if above && point.len() >= best.0.len() {
            best = (point, options.split(',').any(|known| known == option));
        }
    }
    best.1
}

/// Of this process, which inherited it from the shell.
fn umask(host: &dyn Host) -> Option<Fact<String>> {
    let source = "/proc/self/status";
    let text = host.read(source).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    fact(Some(line.trim().to_owned()), source)
}

fn hardware_clock(host: &dyn Host) -> Option<Fact<u64>> {
    let source = "/sys/class/rtc/rtc0/since_epoch";
    fact(host.read(source).ok()?.trim().parse().ok(), source)
}

/// Ports that somebody listens on, of both families.
fn listening(host: &dyn Host) -> Option<Fact<Vec<u16>>> {
    let source = "/proc/net/tcp";
    let mut text = host.read(source).ok()?;
    text.push_str(&host.read("/proc/net/tcp6").unwrap_or_default());
    let mut ports: Vec<u16> = text.lines().filter_map(listening_port).collect();
    ports.sort_unstable();
    ports.dedup();
    fact(Some(ports), source)
}

/// The port of a line in state `0A`, which is listening.
pub(crate) fn listening_port(line: &str) -> Option<u16> {
    let mut fields = line.split_whitespace();
    let (local, state) = (fields.nth(1)?, fields.nth(1)?);
    let (_, port) = local.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok().filter(|_| state == "0A")
}

/// A program, and where its service listens.
type Known = (&'static str, &'static [&'static str]);

fn engine_of(host: &dyn Host, (name, sockets): Known) -> Option<Engine> {
    let said = host.run(name, &["--version"], &[]).ok()?;
    let version = said
        .split_whitespace()
        .map(|word| word.trim_start_matches('v').trim_end_matches(','))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    // Without a service of its own it runs whenever it is asked to.
    let running = sockets.is_empty() || sockets.iter().any(|path| host.exists(path));
    Some(Engine {
        name: name.to_owned(),
        version: version.to_owned(),
        running,
    })
}

const ENGINES: [Known; 4] = [
    ("docker", &["/run/docker.sock", "/var/run/docker.sock"]),
    ("podman", &[]),
    ("nerdctl", &["/run/containerd/containerd.sock"]),
    ("containerd", &["/run/containerd/containerd.sock"]),
];

const SECURE_BOOT: &str =
    "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_and_mount_options_are_read() {
        let said =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\ntmpfs 100 40 60 40% /tmp\n";
        assert_eq!(parse_free(said), Some(ByteSize(60 * 1024)));
        assert_eq!(parse_free("df: no\n"), None);
        let mounts = "/dev/a / ext4 rw,noexec 0 0\ntmpfs /tmp tmpfs rw 0 0\ngarbage\n";
        for (path, expected) in [
            ("/tmp", false),
            ("/tmp/x", false),
            ("/tmpx", true),
            ("/opt", true),
        ] {
            assert_eq!(mounted_with(mounts, path, "noexec"), expected, "{path}");
        }
    }

    #[test]
    fn only_listening_ports_count() {
        for (line, port) in [
            (
                "   0: 0100007F:1EDC 00000000:0000 0A 00000000:00000000",
                Some(7900),
            ),
            (
                "   1: 0100007F:1EDC 0200007F:C000 01 00000000:00000000",
                None,
            ),
            (
                "   2: 00000000000000000000000000000000:0016 00:00 0A",
                Some(22),
            ),
            ("  sl  local_address rem_address   st", None),
            ("", None),
        ] {
            assert_eq!(listening_port(line), port, "{line}");
        }
    }
}
