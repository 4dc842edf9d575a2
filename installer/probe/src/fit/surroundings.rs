//! Rules about what surrounds an install: permission bits, clocks, ports, container engines.

use manifest_schema::Backend;
use manifest_schema::site::Site;

use super::{Check, NOTHING, Verdict};

pub(super) fn checks(site: &Site, backend: &Backend) -> Vec<Check> {
    let mut checks = Vec::new();
    checks.extend(umask(site));
    checks.extend(clocks(site));
    checks.extend(ports(site, backend));
    checks.extend(engines(site));
    checks
}

/// Nothing is said where others may read what is installed.
fn umask(site: &Site) -> Option<Check> {
    let found = &site.umask.as_ref()?.value;
    let bits = u32::from_str_radix(found, 8).ok()?;
    (bits & 0o055 != 0).then(|| Check::new("host.umask", Verdict::Warn, found, "0022"))
}

/// Two clocks that are far apart: one of them is wrong, and nobody here can say which.
fn clocks(site: &Site) -> Option<Check> {
    let system = seconds(&site.clock.as_ref()?.value)?;
    let hardware = site.hardware_clock.as_ref()?.value;
    let apart = system.abs_diff(hardware) / 3600;
    // A hardware clock may run in local time.
    (apart > 24).then(|| {
        let found = format!("{apart} h");
        Check::new("host.clocks-apart", Verdict::Warn, &found, "24 h")
    })
}

fn ports(site: &Site, backend: &Backend) -> Vec<Check> {
    let Some(listening) = site.listening.as_ref() else {
        return Vec::new();
    };
    let check = |port: &manifest_schema::Port| {
        let taken = listening.value.contains(&port.number);
        let (code, verdict) = if taken {
            ("host.port-taken", Verdict::Warn)
        } else {
            ("host.port", Verdict::Pass)
        };
        let number = port.number.to_string();
        Check::new(code, verdict, &number, &number).with("service", &port.service)
    };
    backend.ports.iter().map(check).collect()
}

/// Which engines there are. Nothing that Ferry installs today runs in one: for information.
fn engines(site: &Site) -> Option<Check> {
    let one = |engine: &manifest_schema::site::Engine| {
        let mark = if engine.running { "" } else { " (-)" };
        format!("{} {}{mark}", engine.name, engine.version)
    };
    let found: Vec<String> = site.engines.iter().map(one).collect();
    (!found.is_empty())
        .then(|| Check::new("host.engines", Verdict::Pass, &found.join(", "), NOTHING))
}

/// Seconds since 1970 of `2026-01-31T08:00:00Z`.
fn seconds(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // Years begin in March, so that the leap day is a year's last (H. Hinnant).
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year;
    Some((days.checked_sub(719_468)?) * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_since_1970() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2025-12-31T23:59:59Z", Some(1_767_225_599)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
