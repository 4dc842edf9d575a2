//! Whole probes and whole verdicts of the recorded machines in `tests/hosts/`.

use std::path::Path;

use host_probe::{RecordedHost, SelectError, Verdict, facts, fit, probe, select};
use insta::assert_snapshot;
use manifest_schema::site::Site;
use manifest_schema::{Arch, Backend};

fn site(name: &str) -> Site {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/hosts")
        .join(name);
    probe(&RecordedHost { root })
}

fn backend(name: &str, chip: &str, arch: Arch, versions: &[(&str, &str)]) -> Backend {
    let versions = versions
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Backend {
        name: name.parse().unwrap(),
        chip: chip.to_owned(),
        arch,
        glibc: Some("2.28".parse().unwrap()),
        versions,
        files: Vec::new(),
        python: None,
    }
}

fn cpu(arch: Arch) -> Backend {
    backend(
        &format!("cpu-{}", arch.as_str().replace('_', "-")),
        "cpu",
        arch,
        &[],
    )
}

fn ascend() -> Backend {
    let versions = [("torch_npu", "2.9.0"), ("cann", "8.5.0")];
    backend("ascend-910b", "ascend-910b", Arch::Aarch64, &versions)
}

fn facts_of(site: &Site) -> String {
    let lines = facts(site);
    lines
        .iter()
        .map(|line| format!("{} = {}  <- {}\n", line.name, line.value, line.source))
        .collect()
}

fn checks_of(site: &Site, backend: &Backend) -> String {
    fit(site, backend)
        .iter()
        .map(|c| format!("{:?} {}: {} / {}\n", c.verdict, c.code, c.found, c.needed))
        .collect()
}

#[test]
fn facts_of_a_laptop() {
    assert_snapshot!(facts_of(&site("laptop")), @"");
}

#[test]
fn a_laptop_runs_on_its_cpu_only() {
    let site = site("laptop");
    assert_snapshot!(checks_of(&site, &cpu(Arch::X86_64)), @"");
    assert_snapshot!(checks_of(&site, &ascend()), @"");
    let backends = [ascend(), cpu(Arch::X86_64)];
    assert_eq!(select(&site, &backends, &[]).unwrap().backend.chip, "cpu");
}

#[test]
fn facts_of_a_server_with_eight_chips() {
    assert_snapshot!(facts_of(&site("kunpeng-910b-kylin")), @"");
}

#[test]
fn the_accelerator_wins_over_the_cpu() {
    let site = site("kunpeng-910b-kylin");
    assert_snapshot!(checks_of(&site, &ascend()), @"");
    let backends = [cpu(Arch::Aarch64), ascend()];
    assert_eq!(
        select(&site, &backends, &[]).unwrap().backend.chip,
        "ascend-910b"
    );
}

#[test]
fn a_broken_driver_is_not_an_absent_device() {
    let site = site("kunpeng-910b-driver-broken");
    assert_snapshot!(checks_of(&site, &ascend()), @"");
    let backends = [ascend()];
    let error = select(&site, &backends, &[]).unwrap_err();
    assert_snapshot!(error, @"");
    let SelectError::NoneFits { rejected } = error else {
        unreachable!("the only kind")
    };
    assert_eq!(rejected.len(), 1);
}

#[test]
fn what_the_vendor_does_not_list_stops_until_overridden_by_name() {
    let mut site = site("kunpeng-910b-kylin");
    let driver = &mut site.driver.as_mut().unwrap().value;
    driver.version = "24.1.0".into();
    driver.inner = Some("V100R001C19SPC001B101".into());
    let backends = [ascend()];
    assert_snapshot!(select(&site, &backends, &[]).unwrap_err(), @"");
    let waived = ["host.driver-unlisted".to_owned()];
    assert!(select(&site, &backends, &waived).is_ok());

    // What the files forbid stays forbidden.
    let driver = &mut site.driver.as_mut().unwrap().value;
    driver.inner = Some("V100R001C11SPC001B101".into());
    let waived = [
        "host.driver-unlisted".to_owned(),
        "host.driver-toolkit".to_owned(),
    ];
    assert_snapshot!(select(&site, &backends, &waived).unwrap_err(), @"");
}

#[test]
fn an_old_glibc_and_a_missing_toolkit_stop() {
    let mut site = site("kunpeng-910b-kylin");
    site.glibc.as_mut().unwrap().value = "2.17".parse().unwrap();
    site.cann = None;
    let stops: Vec<_> = fit(&site, &ascend())
        .into_iter()
        .filter(|check| check.verdict == Verdict::Stop)
        .map(|check| (check.code, check.overridable))
        .collect();
    assert_eq!(
        stops,
        [("host.glibc", false), ("host.toolkit-missing", true)]
    );
}

#[test]
fn every_code_has_a_text_and_a_hint_in_both_languages() {
    let source = include_str!("../src/fit.rs").to_owned() + include_str!("../src/select.rs");
    let codes = source.split('"').filter(|word| word.starts_with("host."));
    for code in codes {
        for text in [
            include_str!("../../console/catalog/en/host.toml"),
            include_str!("../../console/catalog/zh/host.toml"),
        ] {
            assert!(text.contains(&format!("[\"{code}\"]\ntext = ")), "{code}");
        }
    }
}
