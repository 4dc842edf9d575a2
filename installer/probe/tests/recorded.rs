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
        name: name.parse().expect("a test writes good names"),
        chip: chip.to_owned(),
        arch,
        glibc: Some("2.28".parse().expect("a version")),
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
        .collect::<Vec<_>>()
        .concat()
}

fn checks_of(site: &Site, backend: &Backend) -> String {
    fit(site, backend)
        .iter()
        .map(|c| format!("{:?} {}: {} / {}\n", c.verdict, c.code, c.found, c.needed))
        .collect::<Vec<_>>()
        .concat()
}

#[test]
fn facts_of_a_laptop() {
    assert_snapshot!(facts_of(&site("laptop")), @r"
    cpu = 11th Gen Intel(R) Core(TM) i5-1135G7 @ 2.40GHz x 8  <- /proc/cpuinfo
    arch = x86_64  <- uname -m
    os = Debian GNU/Linux 12 (bookworm) [12]  <- /etc/os-release
    kernel = 6.1.0-28-amd64  <- /proc/sys/kernel/osrelease
    glibc = 2.36  <- getconf GNU_LIBC_VERSION
    page_size = 4096  <- getconf PAGESIZE
    memory = 15.5 GiB  <- /proc/meminfo
    python = 3.11.2  <- python3 --version
    user = me (me sudo video)  <- id
    ");
}

#[test]
fn a_laptop_runs_on_its_cpu_only() {
    let site = site("laptop");
    assert_snapshot!(checks_of(&site, &cpu(Arch::X86_64)), @r"
    Pass host.arch: x86_64 / x86_64
    Pass host.glibc: 2.36 / 2.28
    Pass host.os: Debian GNU/Linux 12 (bookworm) [12] / a system that lists CPU
    Pass host.memory: 15.5 GiB / 2.0 GiB
    ");
    assert_snapshot!(checks_of(&site, &ascend()), @r"
    Stop host.arch: x86_64 / aarch64
    Pass host.glibc: 2.36 / 2.28
    Stop host.os-unlisted: Debian GNU/Linux 12 (bookworm) [12] / a system that lists Ascend 910B
    Warn host.memory: 15.5 GiB / 32.0 GiB
    Stop host.device-absent: none / Ascend 910B
    Stop host.nodes: missing: davinci_manager devmm_svm hisi_hdc / /dev/{davinci_manager,devmm_svm,hisi_hdc,davinciN}
    Warn host.group: me: me sudo video / HwHiAiUser
    Stop host.toolkit-missing: none / cann 8.5.0
    Pass host.plugin-listed: 2.9.0 / toolkit 8.5.0: 2.9.0, 2.8.0.post2, 2.7.1.post2, 2.6.0.post5
    ");
    let backends = [ascend(), cpu(Arch::X86_64)];
    assert_eq!(select(&site, &backends, &[]).unwrap().backend.chip, "cpu");
}

#[test]
fn facts_of_a_server_with_eight_chips() {
    assert_snapshot!(facts_of(&site("kunpeng-910b-kylin")), @r"
    cpu = Kunpeng 920 (TaiShan v110) x 192  <- /proc/cpuinfo
    arch = aarch64  <- uname -m
    os = Kylin Linux Advanced Server V10 (Lance) [SP3]  <- /etc/os-release
    kernel = 4.19.90-52.22.v2207.ky10.aarch64  <- /proc/sys/kernel/osrelease
    glibc = 2.28  <- ldd --version
    page_size = 65536  <- getconf PAGESIZE
    memory = 1.5 TiB  <- /proc/meminfo
    python = 3.7.9  <- python3 --version
    user = trainer (trainer HwHiAiUser)  <- id
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:01:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:02:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:41:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:42:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:81:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:82:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:c1:00.0
    device = 19e5:d802 ascend-910b Atlas 800T A2 or 900 A2: Ready  <- 0000:c2:00.0
    nodes = davinci0 davinci1 davinci2 davinci3 davinci4 davinci5 davinci6 davinci7 davinci_manager devmm_svm hisi_hdc  <- /dev
    driver = 25.2.0 (V100R001C22SPC003B221)  <- /data/Ascend/driver/version.info
    firmware = 7.7.0.6.236  <- /data/Ascend/firmware/version.info
    cann = 8.5.0 (V100R001C25SPC001B212)  <- /data/Ascend/cann/aarch64-linux/ascend_toolkit_install.info
    tool = 8 chips listed  <- npu-smi info
    ");
}

#[test]
fn the_accelerator_wins_over_the_cpu() {
    let site = site("kunpeng-910b-kylin");
    assert_snapshot!(checks_of(&site, &ascend()), @r"
    Pass host.arch: aarch64 / aarch64
    Pass host.glibc: 2.28 / 2.28
    Pass host.os: Kylin Linux Advanced Server V10 (Lance) [SP3] / a system that lists Ascend 910B
    Pass host.memory: 1.5 TiB / 32.0 GiB
    Warn host.page-size: 65536 / 4096
    Pass host.device: 8/8 / Ascend 910B
    Pass host.nodes: 8 x davinciN / /dev/{davinci_manager,devmm_svm,hisi_hdc,davinciN}
    Pass host.group: trainer: trainer HwHiAiUser / HwHiAiUser
    Pass host.firmware: 7.7.0.6.236 / what driver 25.2.0 goes with
    Pass host.driver-toolkit: 8.5.0 / what driver 25.2.0 goes with
    Pass host.driver-listed: 25.2.0 / toolkit 8.5.0: 25.0, 25.2, 25.3, 25.5
    Pass host.plugin-listed: 2.9.0 / toolkit 8.5.0: 2.9.0, 2.8.0.post2, 2.7.1.post2, 2.6.0.post5
    ");
    let backends = [cpu(Arch::Aarch64), ascend()];
    assert_eq!(
        select(&site, &backends, &[]).unwrap().backend.chip,
        "ascend-910b"
    );
}

#[test]
fn a_broken_driver_is_not_an_absent_device() {
    let site = site("kunpeng-910b-driver-broken");
    assert_snapshot!(checks_of(&site, &ascend()), @r"
    Pass host.arch: aarch64 / aarch64
    Pass host.glibc: 2.28 / 2.28
    Pass host.os: Kylin Linux Advanced Server V10 (Lance) [SP3] / a system that lists Ascend 910B
    Pass host.memory: 1.5 TiB / 32.0 GiB
    Warn host.page-size: 65536 / 4096
    Stop host.driver-broken: 0/8: dcmi model initialized failed, because the driver is not started. ret is -8005 / Ascend 910B
    Stop host.nodes: missing: davinci_manager devmm_svm hisi_hdc / /dev/{davinci_manager,devmm_svm,hisi_hdc,davinciN}
    Pass host.group: trainer: trainer HwHiAiUser / HwHiAiUser
    Pass host.firmware: 7.7.0.6.236 / what driver 25.2.0 goes with
    Pass host.driver-toolkit: 8.5.0 / what driver 25.2.0 goes with
    Pass host.driver-listed: 25.2.0 / toolkit 8.5.0: 25.0, 25.2, 25.3, 25.5
    Pass host.plugin-listed: 2.9.0 / toolkit 8.5.0: 2.9.0, 2.8.0.post2, 2.7.1.post2, 2.6.0.post5
    ");
    let backends = [ascend()];
    let error = select(&site, &backends, &[]).unwrap_err();
    assert_snapshot!(error, @r"no backend of the bundle fits this machine: ascend-910b (host.driver-broken, host.nodes)");
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
    assert_snapshot!(select(&site, &backends, &[]).unwrap_err(), @r"no backend of the bundle fits this machine: ascend-910b (host.driver-unlisted)");
    let waived = ["host.driver-unlisted".to_owned()];
    assert!(select(&site, &backends, &waived).is_ok());

    // What the files forbid stays forbidden.
    let driver = &mut site.driver.as_mut().unwrap().value;
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
    site.cann.as_mut().unwrap().value.version = "8.3.RC1".into();
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
