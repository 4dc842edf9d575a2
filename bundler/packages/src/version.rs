//! How versions are ordered: rpm's way and dpkg's way.

use std::cmp::Ordering;

use manifest_schema::PackageFormat;

/// Orders two versions as the package manager does.
pub fn compare(format: PackageFormat, a: &str, b: &str) -> Ordering {
    match format {
        PackageFormat::Rpm => compare_rpm(a, b, true),
        PackageFormat::Deb => compare_deb(a, b),
    }
}

/// Orders two rpm versions. A release counts where both have one, or where `whole` says that a missing one is older.
pub(crate) fn compare_rpm(a: &str, b: &str, whole: bool) -> Ordering {
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    let ((version_a, release_a), (version_b, release_b)) = (release(a), release(b));
    let releases = || match (release_a, release_b) {
        (Some(a), Some(b)) => rpmvercmp(a, b),
        _ if whole => release_a.is_some().cmp(&release_b.is_some()),
        _ => Ordering::Equal,
    };
    numbers(epoch_a, epoch_b)
        .then_with(|| rpmvercmp(version_a, version_b))
        .then_with(releases)
}

fn compare_deb(a: &str, b: &str) -> Ordering {
    let ((epoch_a, a), (epoch_b, b)) = (epoch(a), epoch(b));
    let ((upstream_a, revision_a), (upstream_b, revision_b)) = (release(a), release(b));
    numbers(epoch_a, epoch_b)
        .then_with(|| verrevcmp(upstream_a, upstream_b))
        .then_with(|| verrevcmp(revision_a.unwrap_or(""), revision_b.unwrap_or("")))
}

/// The epoch, `0` where there is none, and the rest.
fn epoch(text: &str) -> (&str, &str) {
    match text.split_once(':') {
        Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => (epoch, rest),
        _ => ("0", text),
    }
}

fn release(text: &str) -> (&str, Option<&str>) {
    text.rsplit_once('-')
        .map_or((text, None), |(version, release)| (version, Some(release)))
}

/// Orders digits of any length by their value.
fn numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// rpm's segments: runs of digits and runs of letters; `~` sorts before everything, `^` after the end alone.
fn rpmvercmp(mut a: &str, mut b: &str) -> Ordering {
    let plain = |c: char| !c.is_ascii_alphanumeric() && c != '~' && c != '^';
    loop {
        (a, b) = (a.trim_start_matches(plain), b.trim_start_matches(plain));
        match (a.strip_prefix('~'), b.strip_prefix('~')) {
            (Some(rest_a), Some(rest_b)) => {
                (a, b) = (rest_a, rest_b);
                continue;
            }
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        match (a.strip_prefix('^'), b.strip_prefix('^')) {
            (Some(rest_a), Some(rest_b)) => {
                (a, b) = (rest_a, rest_b);
                continue;
            }
            (Some(_), None) if b.is_empty() => return Ordering::Greater,
            (Some(_), None) => return Ordering::Less,
            (None, Some(_)) if a.is_empty() => return Ordering::Less,
            (None, Some(_)) => return Ordering::Greater,
            (None, None) => {}
        }
        if a.is_empty() || b.is_empty() {
            return a.len().min(1).cmp(&b.len().min(1));
        }
        let digits = a.starts_with(|c: char| c.is_ascii_digit());
        let kind = |c: char| {
            if digits {
                c.is_ascii_digit()
            } else {
                c.is_ascii_alphabetic()
            }
        };
        let cut = |text: &str| text.find(|c| !kind(c)).unwrap_or(text.len());
        let ((run_a, rest_a), (run_b, rest_b)) = (a.split_at(cut(a)), b.split_at(cut(b)));
        if run_b.is_empty() {
            // Digits are newer than letters.
            return if digits {
                Ordering::Greater
            } else {
                Ordering::Less
            };
        }
        let order = if digits {
            numbers(run_a, run_b)
        } else {
            run_a.cmp(run_b)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// dpkg's order: text and numbers in turn; `~` before the end, letters before other signs.
fn verrevcmp(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let weight = |byte: Option<&u8>| match byte {
        None => 0,
        Some(byte) if byte.is_ascii_digit() => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(b'~') => -1,
        Some(byte) => i32::from(*byte) + 256,
    };
    let is_text = |text: &[u8]| text.first().is_some_and(|byte| !byte.is_ascii_digit());
    while !a.is_empty() || !b.is_empty() {
        while is_text(a) || is_text(b) {
            let order = weight(a.first()).cmp(&weight(b.first()));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (a.get(1..).unwrap_or(&[]), b.get(1..).unwrap_or(&[]));
        }
        let cut = |text: &[u8]| {
            let end = text.iter().position(|byte| !byte.is_ascii_digit());
            end.unwrap_or(text.len())
        };
        let ((run_a, rest_a), (run_b, rest_b)) = (a.split_at(cut(a)), b.split_at(cut(b)));
        let digits = |run: &[u8]| {
            let zeros = run.iter().take_while(|byte| **byte == b'0').count();
            run[zeros..].to_vec()
        };
        let (run_a, run_b) = (digits(run_a), digits(run_b));
        let order = run_a
            .len()
            .cmp(&run_b.len())
            .then_with(|| run_a.cmp(&run_b));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(format: PackageFormat, cases: &[(&str, &str, Ordering)]) {
        for (a, b, expected) in cases {
            assert_eq!(compare(format, a, b), *expected, "{a} <=> {b}");
            assert_eq!(compare(format, b, a), expected.reverse(), "{b} <=> {a}");
        }
    }

    #[test]
    fn rpm_orders_as_its_own_tests_say() {
        use Ordering::{Equal, Greater, Less};
        // The cases of rpm's manual on versions and of its test of `rpmvercmp`, written anew.
        check(
            PackageFormat::Rpm,
            &[
                ("1.0", "1.0", Equal),
                ("1.0", "2.0", Less),
                ("2.0.1", "2.0", Greater),
                ("2.0.1a", "2.0.1", Greater),
                ("5.5p1", "5.5p2", Less),
                ("5.5p10", "5.5p1", Greater),
                ("10xyz", "10.1xyz", Less),
                ("xyz10", "xyz10.1", Less),
                ("xyz.4", "8", Less),
                ("xyz.4", "2", Less),
                ("5.5p2", "5.6p1", Less),
                ("6.0.rc1", "6.0", Greater),
                ("10b2", "10a1", Greater),
                ("1.0aa", "1.0a", Greater),
                ("10.0001", "10.1", Equal),
                ("10.0001", "10.0039", Less),
                ("4.999.9", "5.0", Less),
                ("20101121", "20101122", Less),
                ("2_0", "2.0", Equal),
                ("a+", "a_", Equal),
                ("+", "_", Equal),
                ("1.0~rc1", "1.0", Less),
                ("1.0~rc1", "1.0~rc2", Less),
                ("1.0~rc1~git123", "1.0~rc1", Less),
                ("1.0^", "1.0", Greater),
                ("1.0^git1", "1.0^git2", Less),
                ("1.0^git1", "1.01", Less),
                ("1.0^20160101", "1.0.1", Less),
                ("1.0^20160101^git1", "1.0^20160102", Less),
                ("1.0~rc1^git1", "1.0~rc1", Greater),
                ("1.0^git1~pre", "1.0^git1", Less),
                ("1:1.0-1", "2.0-1", Greater),
                ("0:1.0-1", "1.0-1", Equal),
                ("1.0-2.ky10", "1.0-10.ky10", Less),
                ("99999999999999999999999", "1", Greater),
            ],
        );
        assert_eq!(compare_rpm("1.0", "1.0-7", false), Equal);
        assert_eq!(compare_rpm("1.0", "1.0-7", true), Less);
    }

    #[test]
    fn dpkg_orders_as_its_own_tests_say() {
        use Ordering::{Equal, Greater, Less};
        check(
            PackageFormat::Deb,
            &[
                ("1.0-1", "1.0-1", Equal),
                ("0:1.0", "1.0", Equal),
                ("1.0-0", "1.0", Equal),
                ("1.0-1", "1.0-1+b1", Less),
                ("1.2~rc1", "1.2", Less),
                ("1.2~~", "1.2~", Less),
                ("1.2~~a", "1.2~", Less),
                ("1.2", "1.2a", Less),
                ("1.2a", "1.2+", Less),
                ("1.10", "1.9", Greater),
                ("1:0.1", "9.9", Greater),
                ("2.36-9+deb12u10", "2.36-9+deb12u9", Greater),
                ("6.1.0-35", "6.1.0-9", Greater),
                ("1.0010", "1.10", Equal),
                ("a", "1", Greater),
                ("1.2.3-4-5", "1.2.3-4-6", Less),
                ("0.2.1-1~bpo12+1", "0.2.1-1", Less),
            ],
        );
    }

    proptest! {
        #[test]
        fn the_order_is_an_order(a in "[0-9a-z.~^+:-]{0,12}", b in "[0-9a-z.~^+:-]{0,12}") {
            for format in [PackageFormat::Rpm, PackageFormat::Deb] {
                prop_assert_eq!(compare(format, &a, &a), Ordering::Equal);
                prop_assert_eq!(compare(format, &a, &b), compare(format, &b, &a).reverse());
            }
        }
    }
}
