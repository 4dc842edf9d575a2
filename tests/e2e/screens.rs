//! Whole screens, in both languages: exit status, standard output, standard error.

use std::fmt::Write as _;
use std::path::Path;

use bundle_format::fake::Fake;
use e2e::{RUNTIME, Said, Site, backend};
use manifest_schema::Arch;

/// What differs from run to run becomes a name in brackets.
fn matches(site: &Site, name: &str, said: &Said) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let folder = site.folder().display().to_string();
    let recorded = recorded("");
    for (found, shown) in [
        (recorded.trim_end_matches('/'), "[HOSTS]"),
        (&folder, "[SITE]"),
        ("[0-9a-f]{64}", "[SHA256]"),
        (r"demo-(\d+)-[0-9a-f]{12}", "demo-$1-[HEX]"),
        (r"([0-9a-f]{8} ){7}[0-9a-f]{8}", "[FINGERPRINT]"),
        (
            r"[0-9.]+ [KMGT]iB( free| available|，剩余| 可用)",
            "[SIZE]$1",
        ),
        (r"(free|剩余) [0-9.]+ [KMGT]iB", "$1 [SIZE]"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
        (r"[0-9.]+ s\b", "[SECONDS] s"),
    ] {
        settings.add_filter(found, shown);
    }
    settings.bind(|| insta::assert_snapshot!(name, said.shown()));
}

fn recorded(name: &str) -> String {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("hosts");
    hosts.join(name).display().to_string()
}

/// Name, chip, processor and versions of a backend.
type Made<'a> = (&'a str, &'a str, Arch, &'a [(&'a str, &'a str)]);

/// A bundle with a backend for every machine that is recorded, as far as one can be made.
fn fleet() -> Site {
    let data = b"[{\"text\": \"hello\"}]\n".to_vec();
    let mut fake = Fake::with_dataset("demo", 1, &[("data.json", data)]);
    let (arm, x86) = (Arch::Aarch64, Arch::X86_64);
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
    let made: [Made; 14] = [
        ("ascend-910a", "ascend-910a", arm, &old),
        ("ascend-910b", "ascend-910b", arm, &cann),
        ("ascend-910c", "ascend-910c", arm, &cann),
        ("ascend-310p", "ascend-310p", x86, &cann),
        (
            "hygon-dcu",
            "hygon-dcu",
            x86,
            &[("dtk", "26.04"), ("driver", "6.3")],
        ),
        (
            "cambricon-mlu",
            "cambricon-mlu",
            x86,
            &[("torch_mlu", "1.29.2")],
        ),
        ("nvidia-gpu", "nvidia-gpu", x86, &[("driver", "525")]),
        ("mthreads-gpu", "mthreads-gpu", x86, &[("musa", "4.3")]),
        ("metax-gpu", "metax-gpu", x86, &[("maca", "3.2")]),
        ("enflame-gcu", "enflame-gcu", x86, &[]),
        ("iluvatar-gpu", "iluvatar-gpu", x86, &[("driver", "4.3")]),
        (
            "kunlunxin-xpu",
            "kunlunxin-xpu",
            x86,
            &[("driver", "5.0.21")],
        ),
        ("cpu-aarch64", "cpu", arm, &[]),
        ("cpu-x86-64", "cpu", x86, &[]),
    ];
    for (name, chip, arch, versions) in made {
        let mut backend = backend(name, chip, arch);
        backend.glibc = "2.28".parse().ok();
        backend.versions = versions
            .iter()
            .map(|(name, version)| ((*name).into(), (*version).into()))
            .collect();
        fake.profiles.backends.push(backend);
    }
    fake.blobs.push(RUNTIME.to_vec());
    Site::of(fake)
}

const LANGUAGES: [&str; 2] = ["en", "zh"];
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
fn probes() {
    let site = fleet();
    for host in HOSTS {
        for lang in LANGUAGES {
            let said = site.bare(&["probe", "--host", &recorded(host), "--lang", lang]);
            matches(&site, &format!("probe-{host}-{lang}"), &said);
        }
    }
}

#[test]
fn preflights_and_plans() {
    let site = fleet();
    let bundle = site.bundle("1").display().to_string();
    let trust = site.fingerprint();
    let mut chosen = String::new();
    for host in HOSTS {
        let folder = recorded(host);
        for lang in LANGUAGES {
            let rest = [
                &bundle,
                "--host",
                &folder,
                "--lang",
                lang,
                "--trust-root",
                &trust,
            ];
            let words = [&["preflight"], &rest[..]].concat();
            matches(
                &site,
                &format!("preflight-{host}-{lang}"),
                &site.installer(&words),
            );
            // What would be done, or the whole refusal.
            let words = [&["install", "--dry-run"], &rest[..]].concat();
            matches(
                &site,
                &format!("plan-{host}-{lang}"),
                &site.installer(&words),
            );
        }
        // What install does is what preflight says.
        let rest = [&bundle, "--host", &folder, "--json", "--trust-root", &trust];
        let said = site.installer(&[&["preflight"], &rest[..]].concat());
        let would = said.json()["chosen"].as_str().map(str::to_owned);
        let install = site.installer(&[&["install", "--dry-run"], &rest[..]].concat());
        let does = install.json()["backend"].as_str().map(str::to_owned);
        assert_eq!(
            (would.clone(), said.status),
            (does, install.status),
            "{host}"
        );
        let _ = writeln!(chosen, "{host}: {}", would.as_deref().unwrap_or("-"));
    }
    assert!(!site.prefix().exists(), "looking changes nothing");
    insta::assert_snapshot!(chosen, @r"
    centos-kunlun-p800: -
    kunpeng-910b-driver-broken: -
    kunpeng-910b-kylin: ascend-910b
    kylin-910c: ascend-910c
    kylin-hygon-k100-ai: hygon-dcu
    kylin-mlu370: cambricon-mlu
    laptop: cpu-x86-64
    loongson: -
    mixed-910b-310p-nvidia: ascend-910b
    ubuntu-300i-duo: -
    ubuntu-enflame-s60: -
    ubuntu-iluvatar-bi-v150: -
    ubuntu-metax-c500: metax-gpu
    ubuntu-mtt-s4000: mthreads-gpu
    ubuntu-nvidia-t4: nvidia-gpu
    unknown-ascend-model: -
    uos-910a: ascend-910a
    vm-910b-no-driver: -
    ");
}

#[test]
fn life_of_an_installation() {
    let site = Site::new();
    for lang in LANGUAGES {
        matches(
            &site,
            &format!("status-empty-{lang}"),
            &site.installer(&["status", "--lang", lang]),
        );
    }
    let _ = site.install("1").ended_with(0);
    let mut words = site.words_to_install("2");
    words.extend(["--backend".to_owned(), "cpu".to_owned()]);
    let _ = site.installer(&words).ended_with(0);
    for lang in LANGUAGES {
        for command in ["status", "audit"] {
            let said = site.installer(&[command, "--lang", lang]);
            matches(&site, &format!("{command}-{lang}"), &said);
        }
    }
}

#[test]
fn help_of_every_command() {
    let site = Site::new();
    for (lang, heading) in [("en", "Commands:"), ("zh", "命令:")] {
        let mut all = site.bare(&["--help", "--lang", lang]).ended_with(0);
        let commands: Vec<String> = all
            .data
            .lines()
            .skip_while(|line| *line != heading)
            .skip(1)
            .take_while(|line| line.starts_with("  "))
            .filter(|line| !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .filter(|command| command != "help")
            .collect();
        assert!(commands.len() > 10, "{all:?}");
        for command in commands {
            let said = site
                .bare(&[&command, "--help", "--lang", lang])
                .ended_with(0);
            let _ = write!(all.data, "\n===== {command}\n{}", said.data);
        }
        for words in [["log", "verify"], ["trust", "add"], ["trust", "remove"]] {
            let words = [&words[..], &["--help", "--lang", lang]].concat();
            let said = site.bare(&words).ended_with(0);
            let _ = write!(all.data, "\n===== {} {}\n{}", words[0], words[1], said.data);
        }
        for line in all.data.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        matches(&site, &format!("help-{lang}"), &all);
    }
}
