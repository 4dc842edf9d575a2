//! Whole probes and whole verdicts of the recorded machines in `tests/hosts/`.

use std::fmt::Write as _;
use std::path::Path;

use host_probe::{
    Check, FactLine, Kinship, RecordedHost, Verdict, facts, fit, kinship, probe, select,
};
use insta::assert_snapshot;
use manifest_schema::site::{Site, VendorSoftware};
use manifest_schema::site_code::{SiteCode, SitePart, decode};
use manifest_schema::{Arch, Backend};
use report::Diagnose as _;

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
        name: name.parse().expect("a test writes good names"),
        chip: chip.to_owned(),
        arch,
        glibc: Some("2.28".parse().expect("a version")),
        versions,
        files: Vec::new(),
        python: None,
        signatures: Vec::new(),
        eulas: Vec::new(),
        host: Vec::new(),
        ports: Vec::new(),
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
    let line = |line: &FactLine| format!("{} = {}  <- {}\n", line.name, line.value, line.source);
    lines.iter().map(line).collect()
}

fn checks_of(site: &Site, backend: &Backend) -> String {
    let checks = fit(site, backend);
    let line = |c: &Check| format!("{:?} {}: {} / {}\n", c.verdict, c.code, c.found, c.needed);
    checks.iter().map(line).collect()
}

/// Every backend that a vendor's chip could have, for both processors where its software exists for both.
fn fleet() -> Vec<Backend> {
    let cann = [
        ("torch", "2.9.0"),
        ("torch_npu", "2.9.0"),
        ("cann", "8.5.0"),
    ];
    let old = [
        ("torch", "2.5.1"),
        ("torch_npu", "2.5.1"),
        ("cann", "8.1.RC1"),
    ];
    let (arm, x86) = (Arch::Aarch64, Arch::X86_64);
    vec![
        cpu(arm),
        cpu(x86),
        backend("ascend-910a", "ascend-910a", arm, &old),
        backend("ascend-910b", "ascend-910b", arm, &cann),
        backend("ascend-910c", "ascend-910c", arm, &cann),
        backend("ascend-310p", "ascend-310p", x86, &cann),
        backend(
            "hygon-dcu",
            "hygon-dcu",
            x86,
            &[("dtk", "26.04"), ("driver", "6.3")],
        ),
        backend(
            "cambricon-mlu",
            "cambricon-mlu",
            x86,
            &[("neuware", "3.7"), ("torch_mlu", "1.29.2")],
        ),
        backend("nvidia-gpu", "nvidia-gpu", x86, &[("driver", "525")]),
        backend("mthreads-gpu", "mthreads-gpu", x86, &[("musa", "4.3")]),
        backend("metax-gpu", "metax-gpu", x86, &[("maca", "3.2")]),
        backend("enflame-gcu", "enflame-gcu", x86, &[]),
        backend("iluvatar-gpu", "iluvatar-gpu", x86, &[("driver", "4.3")]),
        backend(
            "kunlunxin-xpu",
            "kunlunxin-xpu",
            x86,
            &[("driver", "5.0.21")],
        ),
    ]
}

const HOSTS: [&str; 18] = [
    "centos-kunlun-p800",
    "kunpeng-910b-driver-broken",
    "kunpeng-910b-kylin",
    "kylin-910c",
    "kylin-hygon-k100-ai",
    "kylin-mlu370",
    "laptop",
    "loongson",
    "mixed-910b-310p-nvidia",
    "ubuntu-300i-duo",
    "ubuntu-enflame-s60",
    "ubuntu-iluvatar-bi-v150",
    "ubuntu-metax-c500",
    "ubuntu-mtt-s4000",
    "ubuntu-nvidia-t4",
    "unknown-ascend-model",
    "uos-910a",
    "vm-910b-no-driver",
];

#[test]
fn every_recorded_machine_has_its_facts_and_its_backend() {
    let fleet = fleet();
    let mut choices = String::new();
    for host in HOSTS {
        let site = site(host);
        let mut text = facts_of(&site);
        // The checks of the backends that come nearest.
        let nearest = fleet.iter().map(|backend| kinship(&site, backend)).max();
        for backend in fleet
            .iter()
            .filter(|backend| Some(kinship(&site, backend)) == nearest)
        {
            if nearest == Some(Kinship::SameChip) || backend.chip == "ascend-910b" {
                let _ = write!(text, "\n{}\n{}", backend.name, checks_of(&site, backend));
            }
        }
        assert_snapshot!(host, text);
        let chosen = match select(&site, &fleet, &[]) {
            Ok(choice) => choice.backend.name.to_string(),
            Err(error) => format!("{}: {error}", error.code()),
        };
        let _ = writeln!(choices, "{host}: {chosen}");
    }
    assert_snapshot!("choices", choices);
}

#[test]
fn every_recorded_machine_is_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/hosts");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(HOSTS.contains(&name.as_str()), "{name}");
    }
}

fn vendor<'a>(site: &'a mut Site, family: &str) -> &'a mut VendorSoftware {
    site.vendors
        .iter_mut()
        .find(|vendor| vendor.family == family)
        .unwrap_or_else(|| panic!("no {family}"))
}

#[test]
fn what_the_vendor_does_not_list_stops_until_overridden_by_name() {
    let mut site = site("kunpeng-910b-kylin");
    let driver = &mut vendor(&mut site, "ascend").driver.as_mut().unwrap().value;
    driver.version = "24.1.0".into();
    driver.inner = Some("V100R001C19SPC001B101".into());
    let backends = [ascend()];
    assert_snapshot!(select(&site, &backends, &[]).unwrap_err(), @r"no backend of the bundle fits this machine: ascend-910b (host.driver-unlisted)");
    let waived = ["host.driver-unlisted".to_owned()];
    assert!(select(&site, &backends, &waived).is_ok());

    // What the files forbid stays forbidden.
    let driver = &mut vendor(&mut site, "ascend").driver.as_mut().unwrap().value;
    driver.inner = Some("V100R001C11SPC001B101".into());
    let waived = [
        "host.driver-unlisted".to_owned(),
        "host.driver-toolkit".to_owned(),
    ];
    assert_snapshot!(select(&site, &backends, &waived).unwrap_err(), @r"no backend of the bundle fits this machine: ascend-910b (host.driver-toolkit)");
}

#[test]
fn a_post_release_of_an_adapter_belongs_to_its_own_toolkit() {
    let mut site = site("kunpeng-910b-kylin");
    vendor(&mut site, "ascend")
        .toolkit
        .as_mut()
        .unwrap()
        .value
        .version = "8.3.RC1".into();
    for (plugin, fits) in [("2.7.1", true), ("2.7.1.post4", false)] {
        let mut backend = ascend();
        backend.versions.insert("torch_npu".into(), plugin.into());
        let checks = fit(&site, &backend);
        let check = checks
            .iter()
            .find(|check| check.code.starts_with("host.plugin"));
        assert_eq!(check.unwrap().verdict == Verdict::Pass, fits, "{plugin}");
    }
}

#[test]
fn an_old_glibc_and_a_missing_toolkit_stop() {
    let mut site = site("kunpeng-910b-kylin");
    site.glibc.as_mut().unwrap().value = "2.17".parse().unwrap();
    vendor(&mut site, "ascend").toolkit = None;
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
fn a_framework_of_another_release_than_its_adapter_stops() {
    let site = site("kunpeng-910b-kylin");
    for (torch, verdict) in [
        ("2.9.0", Verdict::Pass),
        ("2.9.0+cpu", Verdict::Pass),
        ("2.10.0", Verdict::Stop),
    ] {
        let mut backend = ascend();
        backend.versions.insert("torch".into(), torch.into());
        let checks = fit(&site, &backend);
        let check = checks.iter().find(|check| check.code == "host.framework");
        assert_eq!(check.unwrap().verdict, verdict, "{torch}");
    }
}

#[test]
fn a_wrong_clock_and_an_old_driver_are_named() {
    let mut site = site("kylin-hygon-k100-ai");
    site.clock.as_mut().unwrap().value = "1970-01-01T00:00:12Z".into();
    let backend = backend(
        "dcu",
        "hygon-dcu",
        Arch::X86_64,
        &[("driver", "6.4"), ("dtk", "25.04")],
    );
    let codes: Vec<_> = fit(&site, &backend)
        .into_iter()
        .filter(|check| check.verdict != Verdict::Pass)
        .map(|check| (check.code, check.verdict))
        .collect();
    assert_eq!(
        codes,
        [
            ("host.clock", Verdict::Warn),
            ("host.training-unlisted", Verdict::Warn),
            ("host.driver-age", Verdict::Stop),
            ("host.toolkit-differs", Verdict::Stop),
            ("host.driver-no-table", Verdict::Warn),
        ]
    );
}

#[test]
fn every_code_has_a_text_and_a_hint_in_both_languages() {
    let source = [
        include_str!("../src/fit/mod.rs"),
        include_str!("../src/fit/system.rs"),
        include_str!("../src/fit/device.rs"),
        include_str!("../src/fit/stack.rs"),
        include_str!("../src/select.rs"),
    ];
    let source = source.concat();
    let codes: Vec<&str> = source
        .split('"')
        .filter(|word| word.starts_with("host."))
        .collect();
    assert!(codes.len() > 30, "{codes:?}");
    for text in [
        include_str!("../../console/catalog/en/host.toml"),
        include_str!("../../console/catalog/zh/host.toml"),
    ] {
        for code in &codes {
            assert!(text.contains(&format!("[\"{code}\"]\ntext = ")), "{code}");
        }
        // And nothing in the catalogue that no rule says.
        for line in text.lines().filter_map(|line| line.strip_prefix("[\"")) {
            let code = line.trim_end_matches("\"]");
            assert!(codes.contains(&code), "{code} is said by no rule");
        }
    }
}

/// What a verdict is made of, but for facts that stay on site: who asks, when, and which small programs are there.
fn verdicts(site: &Site, backend: &Backend) -> Vec<String> {
    let stays = [
        "host.group",
        "host.clock",
        "host.selinux",
        "host.programs",
        "host.headers",
    ];
    let line = |c: &Check| match c.code {
        // The tables' name for the system takes the place of the system's own.
        "host.os" | "host.os-unlisted" | "host.os-no-list" => format!("{:?} {}", c.verdict, c.code),
        code => format!("{:?} {code}: {} / {}", c.verdict, c.found, c.needed),
    };
    fit(site, backend)
        .iter()
        .filter(|check| !stays.iter().any(|code| check.code.starts_with(code)))
        .map(line)
        .collect()
}

#[test]
fn a_photograph_of_a_machine_gets_the_verdict_of_the_machine() {
    let fleet = fleet();
    for host in HOSTS {
        let here = site(host);
        let parts = SiteCode::of(&here).parts(619).expect("a few codes");
        let text: String = parts.iter().map(SitePart::text).collect();
        let there = decode(&text).expect("a code that was just made");
        assert!(parts.len() <= 2, "{host} takes {} codes", parts.len());
        for backend in &fleet {
            let (name, found) = (&backend.name, verdicts(&there, backend));
            assert_eq!(found, verdicts(&here, backend), "{host}, {name}");
        }
        let chosen = |site| {
            let choice = select(site, &fleet, &[]);
            choice
                .map(|choice| choice.backend.name.clone())
                .map_err(|error| error.code())
        };
        assert_eq!(chosen(&there), chosen(&here), "{host}");
    }
}
