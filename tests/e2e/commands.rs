//! `gc`, `log`, `trust`, `inventory`, `support-bundle` and the deep audit through the real program.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use bundle_format::Received;
use e2e::Site;
use manifest_schema::Digest;

fn installed() -> Site {
    let site = Site::new();
    let _ = site.install("1").ended_with(0);
    site
}

#[test]
fn gc_takes_what_nothing_needs_and_nothing_else() {
    let site = installed();
    let said = site.installer(&["gc"]).ended_with(0);
    assert!(said.data.contains("nothing to remove"), "{said:?}");
    let store = site.prefix().join("store/sha256");
    let stray = store.join(Digest::of(b"stray").hex());
    fs::write(&stray, "stray").unwrap();
    fs::write(store.join(format!(".part-{}", "0".repeat(64))), "half").unwrap();
    fs::create_dir(site.prefix().join("releases/.staging-demo-9-cpu")).unwrap();
    let converted = site
        .prefix()
        .join("cache/converted")
        .join(Digest::of(b"gone").hex());
    fs::create_dir_all(&converted).unwrap();
    fs::write(converted.join("model.safetensors"), "12345").unwrap();

    let said = site
        .installer(&["gc", "--dry-run", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(
        said["garbage"]["blobs"].as_array().unwrap().len(),
        1,
        "{said}"
    );
    assert_eq!(
        said["garbage"]["leftovers"].as_array().unwrap().len(),
        2,
        "{said}"
    );
    assert_eq!(said["garbage"]["bytes"], 5 + 4 + 5, "{said}");
    assert!(stray.exists() && converted.exists());
    let _ = site.installer(&["gc"]).ended_with(0);
    assert!(!stray.exists() && !converted.exists());
    let _ = site.installer(&["audit"]).ended_with(0);
    let log = site.installer(&["log", "--json"]).ended_with(0).json();
    assert_eq!(
        log["entries"].as_array().unwrap().last().unwrap()["action"],
        "sweep"
    );
}

#[test]
fn the_log_tells_everything_and_any_edit_is_found() {
    let site = installed();
    let _ = site.install("2").ended_with(0);
    let said = site.installer(&["log"]).ended_with(0);
    assert!(said.data.contains("trusted the root"), "{said:?}");
    assert!(said.data.contains("installed `demo-2-"), "{said:?}");
    let good = site
        .installer(&["log", "verify", "--json"])
        .ended_with(0)
        .json();
    let head = good["head"]
        .as_str()
        .unwrap()
        .trim_start_matches("sha256:")
        .to_owned();
    for head in [head.clone(), format!("sha256:{head}")] {
        let _ = site
            .installer(&["log", "verify", "--head", &head])
            .ended_with(0);
    }

    let path = site.prefix().join("log/actions.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for (case, changed) in [
        ("a time", text.replacen("\"time\":\"2", "\"time\":\"1", 1)),
        ("a user", text.replacen("\"user\":", "\"user\":4", 1)),
        ("a line gone", format!("{}\n{}\n", lines[0], lines[2])),
        (
            "two lines swapped",
            format!("{}\n{}\n{}\n", lines[1], lines[0], lines[2]),
        ),
        ("a line twice", format!("{text}{}\n", lines[2])),
    ] {
        fs::write(&path, changed).unwrap();
        for command in [
            &["log", "verify"][..],
            &["audit"],
            &["status"],
            &["rollback"],
        ] {
            let said = site.installer(command).ended_with(4);
            assert!(
                said.words.contains("install.log-broken"),
                "{case}: {said:?}"
            );
        }
    }
    // The end cut off: the chain still holds, and yet it is found.
    fs::write(&path, format!("{}\n{}\n", lines[0], lines[1])).unwrap();
    let said = site
        .installer(&["log", "verify", "--json"])
        .ended_with(4)
        .json();
    assert_eq!(said["unlogged"][0]["kind"], "release", "{said}");
    let said = site
        .installer(&["log", "verify", "--head", &head])
        .ended_with(4);
    assert!(said.words.contains("installer.log-other"), "{said:?}");
    fs::remove_file(&path).unwrap();
    let _ = site.installer(&["log", "verify"]).ended_with(4);
    let _ = site.installer(&["audit", "--deep"]).ended_with(4);
}

#[test]
fn roots_are_added_listed_and_removed_by_fingerprint() {
    let site = Site::new();
    let said = site.installer(&["trust", "list"]).ended_with(0);
    assert!(said.data.contains("no root is trusted"), "{said:?}");
    let bundle = site.bundle("1").display().to_string();
    let fingerprint = site.fingerprint();
    // Nobody to ask, and another fingerprint than the one that was compared.
    let said = site
        .installer(&["trust", "add", &bundle, "--yes"])
        .ended_with(2);
    assert!(said.words.contains("--fingerprint"), "{said:?}");
    let other = "1".repeat(64);
    let said = site
        .installer(&["trust", "add", &bundle, "--fingerprint", &other])
        .ended_with(4);
    assert!(said.words.contains("install.root-other"), "{said:?}");
    assert!(!site.prefix().join("trust.d").exists());

    let _ = site
        .installer(&["trust", "add", &bundle, "--fingerprint", &fingerprint])
        .ended_with(0);
    let listed = site
        .installer(&["trust", "list", "--json"])
        .ended_with(0)
        .json();
    let root = &listed["roots"][0];
    assert!(
        root["fingerprint"]
            .as_str()
            .unwrap()
            .ends_with(&fingerprint),
        "{listed}"
    );
    assert_eq!(
        (root["threshold"].as_u64(), root["version"].as_u64()),
        (Some(1), Some(1))
    );
    // Now a bundle under it needs no flag.
    let _ = site.installer(&["install", &bundle, "--yes"]).ended_with(0);
    let said = site
        .installer(&["trust", "remove", &fingerprint, "--yes"])
        .ended_with(1);
    assert!(said.words.contains("install.root-in-use"), "{said:?}");
    let _ = site.installer(&["uninstall", "--yes"]).ended_with(0);
    let _ = site
        .installer(&["trust", "remove", &fingerprint, "--yes"])
        .ended_with(0);
    let said = site
        .installer(&["install", &bundle, "--yes", "--allow-downgrade"])
        .ended_with(2);
    assert!(said.words.contains("--trust-root"), "{said:?}");
    let said = site
        .installer(&["trust", "remove", &fingerprint, "--yes"])
        .ended_with(2);
    assert!(said.words.contains("install.root-unknown"), "{said:?}");
    let _ = site.installer(&["log", "verify"]).ended_with(0);
}

#[test]
fn a_root_document_alone_can_be_trusted_too() {
    let mut site = Site::new();
    let document = site.folder().join("root.json");
    fs::write(&document, site.fake().root()).unwrap();
    let (path, fingerprint) = (document.display().to_string(), site.fingerprint());
    let words = ["trust", "add", &path, "--fingerprint", &fingerprint];
    let _ = site.installer(&words).ended_with(0);
    let _ = site.installer(&words).ended_with(0);
    fs::write(&document, "{\"format\": 1}").unwrap();
    let fingerprint = Digest::of(b"{\"format\": 1}").hex();
    let said = site
        .installer(&["trust", "add", &path, "--fingerprint", &fingerprint])
        .ended_with(4);
    assert!(said.words.contains("bundle.root-malformed"), "{said:?}");
}

#[test]
fn an_inventory_names_whole_blobs_and_pythons() {
    let site = installed();
    let store = site.prefix().join("store/sha256");
    let names: Vec<String> = fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let said = site.installer(&["inventory", "--quiet"]).ended_with(0);
    let inventory: serde_json::Value = serde_json::from_str(&said.data).unwrap();
    let one_line = site
        .installer(&["inventory", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(one_line["blobs"], inventory["blobs"]);
    assert_eq!(inventory["blobs"].as_array().unwrap().len(), names.len());
    assert_eq!(inventory["releases"].as_array().unwrap().len(), 1);
    assert!(inventory["site"]["kernel"]["value"].is_string());
    for python in inventory["interpreters"].as_array().unwrap() {
        let version = python["markers"]["python_version"].as_str().unwrap();
        let tag = format!("cp{}", version.replace('.', ""));
        assert_eq!(python["interpreter"], tag, "{python}");
        assert!(
            python["platforms"].as_array().unwrap().len() > 5,
            "{python}"
        );
    }
    // A damaged blob is not claimed: a delta without it would not install.
    let path = store.join(&names[0]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "damaged").unwrap();
    let file = site.folder().join("inventory.json").display().to_string();
    let said = site
        .installer(&["inventory", "--output", &file, "--json"])
        .ended_with(0)
        .json();
    assert_eq!(said["blobs"], names.len() - 1);
    let text = fs::read(&file).unwrap();
    assert_eq!(said["sha256"], Digest::of(&text).hex());
    let received = Received::read(&text).unwrap();
    assert_eq!(received.inventory.blobs.len(), names.len() - 1);
    assert_eq!(said["site_key"], received.signed_by.unwrap().as_str());
    // The key is made once, and is nobody else's.
    let again = site.folder().join("again.json").display().to_string();
    let words = ["inventory", "--output", &again, "--json"];
    let again = site.installer(&words).ended_with(0).json();
    assert_eq!(again["site_key"], said["site_key"]);
    let key = site.prefix().join("keys/site.pem");
    assert_eq!(
        fs::metadata(&key).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let other = site.folder().join("other.json").display().to_string();
    let loose = site
        .installer(&["inventory", "--output", &other])
        .ended_with(4);
    assert!(loose.words.contains("install.site-key-loose"), "{loose:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let said = site
        .installer(&["inventory", "--output", &file])
        .ended_with(2);
    assert!(said.words.contains("installer.output-exists"), "{said:?}");
    // The key is nobody's stranger; the damaged blob is told.
    let audit = site.installer(&["audit", "--json"]).ended_with(4).json();
    let files = audit["audit"]["files"].as_array().unwrap();
    assert!(!files.iter().any(|file| file["path"] == "keys"), "{audit}");
}

#[test]
fn a_support_bundle_says_what_is_wrong_and_names_nobody() {
    let site = installed();
    fs::write(site.prefix().join("log/actions.jsonl"), "{}\n").unwrap();
    let home = site.folder().join("home-of-li");
    let file = site.folder().join("support.json");
    let mut command = site.command();
    command
        .env("HOME", &home)
        .args(["support-bundle", "--output"])
        .arg(&file);
    let prefix = home.join("../prefix");
    fs::create_dir(&home).unwrap();
    let said = e2e::say(command.arg("--prefix").arg(&prefix)).ended_with(0);
    assert!(said.data.contains("read it before it leaves"), "{said:?}");
    let text = fs::read_to_string(&file).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["log"]["error"], "install.log-broken", "{text}");
    assert!(value["site"]["os"]["value"]["name"].is_string());
    assert!(value["releases"].as_array().unwrap().len() == 1);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(
        host.trim().len() < 3 || !text.contains(host.trim()),
        "{text}"
    );
}

#[test]
fn a_support_bundle_names_neither_who_accepted_terms_nor_secrets_nor_serial_numbers() {
    let mut site = Site::new();
    let text = b"Only for research.\n".to_vec();
    let eula = manifest_schema::Eula {
        name: "demo-data".parse().unwrap(),
        text: bundle_format::fake::placed_file("LICENSE.txt", &text),
    };
    site.fake().profiles.components[0].eulas.push(eula);
    site.fake().blobs.push(text);
    site.carry("terms");
    let mut command = site.command();
    // Root by `sudo` is still somebody, and a short name is a name too.
    command
        .env("SUDO_USER", "xq")
        .env("HF_TOKEN", "hf_VerySecretToken");
    command.args(site.words_to_install("terms"));
    command
        .args(["--accept-eula", "demo-data", "--prefix"])
        .arg(site.prefix());
    let _ = e2e::say(&mut command).ended_with(0);
    let log = site.installer(&["log", "--json"]).ended_with(0).data;
    assert!(
        log.contains("\"login\":\"xq\""),
        "the log of the site itself knows: {log}"
    );

    let file = site.folder().join("support.json");
    let mut command = site.command();
    command
        .env("HF_TOKEN", "hf_VerySecretToken")
        .env("LOGNAME", "zhangwei");
    command.args(["support-bundle", "--output"]).arg(&file);
    let _ = e2e::say(command.arg("--prefix").arg(site.prefix())).ended_with(0);
    let text = fs::read_to_string(&file).unwrap();
    for secret in ["\"xq\"", "zhangwei", "hf_VerySecretToken"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let entries = value["log"]["entries"].as_array().unwrap();
    let terms = entries
        .iter()
        .find(|entry| entry["action"] == "accept-terms")
        .unwrap();
    assert_eq!(terms["login"], "[USER]", "{terms}");
    let serial =
        |key: &str| key.to_lowercase().contains("serial") || key.to_lowercase().contains("uuid");
    let mut open = vec![&value];
    while let Some(value) = open.pop() {
        match value {
            serde_json::Value::Object(fields) => {
                assert!(!fields.keys().any(|key| serial(key)), "{fields:?}");
                open.extend(fields.values());
            }
            serde_json::Value::Array(items) => open.extend(items),
            _ => {}
        }
    }
}

#[test]
fn a_deep_audit_sees_other_releases_and_loose_permissions() {
    let site = installed();
    let _ = site.install("2").ended_with(0);
    let _ = site.installer(&["audit", "--deep"]).ended_with(0);
    // Release 1 is not current: only the deep audit reads it.
    let old = fs::read_dir(site.prefix().join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("demo-1-")
        })
        .unwrap();
    fs::write(old.join("backend/stowaway.so"), "x").unwrap();
    let _ = site.installer(&["audit"]).ended_with(0);
    let said = site.installer(&["audit", "--deep"]).ended_with(4);
    assert!(said.data.contains("backend/stowaway.so"), "{said:?}");
    fs::remove_file(old.join("backend/stowaway.so")).unwrap();

    let env = site.prefix().join("current/env.sh");
    fs::set_permissions(&env, fs::Permissions::from_mode(0o666)).unwrap();
    let report = site
        .installer(&["audit", "--deep", "--json"])
        .ended_with(4)
        .json();
    assert_eq!(report["loose"][0]["how"], "world-writable", "{report}");
    fs::set_permissions(&env, fs::Permissions::from_mode(0o4755)).unwrap();
    let report = site
        .installer(&["audit", "--deep", "--json"])
        .ended_with(4)
        .json();
    assert_eq!(report["loose"][0]["how"], "setuid", "{report}");
}

#[test]
fn an_audit_is_written_as_a_page_and_as_data() {
    let site = installed();
    fs::write(site.prefix().join("current/backend/<script>alert(1)"), "x").unwrap();
    let page = site.folder().join("audit.html").display().to_string();
    for (lang, title) in [("en", "Audit of an installation"), ("zh", "安装审计报告")] {
        let words = [
            "audit", "--report", "html", "--output", &page, "--lang", lang,
        ];
        let _ = site.installer(&words).ended_with(4);
        let text = fs::read_to_string(&page).unwrap();
        assert!(
            text.contains(title) && text.contains("https://example.org/"),
            "{text}"
        );
        assert!(
            text.contains("&lt;script&gt;alert(1)") && !text.contains("<script"),
            "{text}"
        );
        fs::remove_file(&page).unwrap();
    }
    let _ = site.installer(&["audit", "--report", "json"]).ended_with(4);
    let text = fs::read(site.folder().join("ferry-audit.json")).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert!(value["audits"][0]["files"].as_array().unwrap().len() > 10);
    let said = site
        .installer(&["audit", "--output", "x.json"])
        .ended_with(2);
    assert!(said.words.contains("--report"), "{said:?}");
}

#[test]
fn a_place_that_cannot_take_an_install_is_named_beforehand() {
    let site = Site::new();
    let bundle = site.bundle("1").display().to_string();
    let fingerprint = site.fingerprint();
    let words = ["preflight", &bundle, "--trust-root", &fingerprint, "--json"];
    let report = site.installer(&words).ended_with(0).json();
    let codes: Vec<&str> = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        codes,
        ["installer.bundle-trusted", "install.place", "install.space"]
    );
    let said = site.bare(&[&words[..], &["--prefix", "/proc/ferry"]].concat());
    let report = said.ended_with(3).json();
    assert_eq!(report["fits"], false, "{report}");
    let _ = site.install("2").ended_with(0);
    let report = site.installer(&words).ended_with(3).json();
    let downgrade = &report["checks"][2];
    assert_eq!(downgrade["code"], "install.downgrade", "{report}");
    assert!(downgrade["remedy"].is_string());
}
