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

/// A bundle with a backend for every machine of this file.
fn fleet() -> Site {
    let data = b"[{\"text\": \"hello\"}]\n".to_vec();
    let mut fake = Fake::with_dataset("demo", 1, &[("data.json", data)]);
    let mut ascend = backend("ascend-910b", "ascend-910b", Arch::Aarch64);
    ascend.glibc = "2.28".parse().ok();
    for (name, version) in [("torch_npu", "2.9.0"), ("cann", "8.5.0")] {
        ascend.versions.insert(name.to_owned(), version.to_owned());
    }
    fake.profiles.backends = vec![
        ascend,
        backend("cpu-aarch64", "cpu", Arch::Aarch64),
        backend("cpu-x86-64", "cpu", Arch::X86_64),
    ];
    fake.blobs.push(RUNTIME.to_vec());
    Site::of(fake)
}

const LANGUAGES: [&str; 2] = ["en", "zh"];
const HOSTS: [&str; 3] = ["laptop", "kunpeng-910b-kylin", "kunpeng-910b-driver-broken"];

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
    for host in HOSTS {
        for lang in LANGUAGES {
            let folder = recorded(host);
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
            let words = [&["install", "--dry-run"], &rest[..]].concat();
            matches(
                &site,
                &format!("plan-{host}-{lang}"),
                &site.installer(&words),
            );
        }
    }
    assert!(!site.prefix().exists(), "looking changes nothing");
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
    let mut all = site.bare(&["--help"]).ended_with(0);
    let commands: Vec<String> = all
        .data
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .filter(|command| command != "help")
        .collect();
    for command in commands {
        let said = site.bare(&[&command, "--help"]).ended_with(0);
        all.data
            .push_str(&format!("\n===== {command}\n{}", said.data));
    }
    for line in all.data.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    matches(&site, "help", &all);
}
