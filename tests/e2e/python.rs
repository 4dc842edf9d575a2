//! A backend with a Python environment, made on site from the bundle's wheels by the bundle's uv.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use e2e::{Site, Uv, interpreter, say};

fn installs_an_environment(uv: &Uv) {
    let Some((folder, version)) = interpreter() else {
        eprintln!("skipped: this machine has no python3");
        return;
    };
    let mut site = Site::new().with_programs_of(&folder);
    uv.add_to(site.fake(), &version);
    site.carry("python");
    let _ = site.install("python").ended_with(0);

    let env = site.prefix().join("current/env");
    // What Python compiles on the way would lie among the signed files; `env.sh` sends it to the cache.
    let said = say(Command::new(env.join("bin/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([
            "-c",
            "import ferry_hello, sys; print(ferry_hello.WORD, sys.prefix)",
        ]));
    assert_eq!(
        said.data,
        format!("across the water {}\n", env.display()),
        "{said:?}"
    );
    // The command that the wheel names works where the environment is now, not where it was made.
    let said = say(Command::new(env.join("bin/ferry-hello")).env("PYTHONDONTWRITEBYTECODE", "1"));
    assert_eq!(said.data, "across the water\n", "{said:?}");

    let report = site.installer(&["audit", "--json"]).ended_with(0).json();
    let files = report["audit"]["files"].as_array().unwrap();
    let standing = |end: &str| {
        let file = files
            .iter()
            .find(|file| file["path"].as_str().unwrap().ends_with(end));
        let file = file.unwrap_or_else(|| panic!("{end} is not named"));
        (
            file["standing"].as_str().unwrap().to_owned(),
            file["made_from"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let wheel = "ferry_hello-1.0-py3-none-any.whl".to_owned();
    assert_eq!(
        standing("ferry_hello/__init__.py"),
        ("from-wheel".to_owned(), wheel)
    );
    assert_eq!(
        standing("env/bin/ferry-hello"),
        ("made-on-site".to_owned(), "uv".to_owned())
    );
    assert!(
        !files
            .iter()
            .any(|file| file["path"].as_str().unwrap().contains(".uv-cache"))
    );

    let module = env.join(format!(
        "lib/python{version}/site-packages/ferry_hello/__init__.py"
    ));
    fs::set_permissions(&module, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&module, "WORD = 'somebody else was here'\n").unwrap();
    let report = site.installer(&["audit", "--json"]).ended_with(4).json();
    assert_eq!(report["wrong"], 1, "{report}");
}

#[test]
fn the_machines_own_uv_makes_an_environment() {
    match Uv::real() {
        Some(uv) => installs_an_environment(&uv),
        None => eprintln!("skipped: no uv: set FERRY_UV, or run `cargo xtask demo` once"),
    }
}

#[test]
fn a_stand_in_for_uv_makes_an_environment() {
    installs_an_environment(&Uv::StandIn);
}

#[test]
fn a_python_that_nobody_has_is_refused_before_anything_is_written() {
    let mut site = Site::new();
    Uv::StandIn.add_to(site.fake(), "3.99");
    site.carry("python");
    let said = site.install("python").ended_with(3);
    assert!(said.words.contains("install.no-python"), "{said:?}");
    assert!(!site.prefix().exists());
}

#[test]
fn a_wheel_that_is_none_leaves_the_release_before_it() {
    let Some((folder, version)) = interpreter() else {
        eprintln!("skipped: this machine has no python3");
        return;
    };
    let mut site = Site::new().with_programs_of(&folder);
    let _ = site.install("1").ended_with(0);
    Uv::StandIn.add_to(site.fake(), &version);
    let python = site.fake().profiles.backends[0].python.as_mut().unwrap();
    python.requirements.push("absent==1.0".to_owned());
    site.carry("python");
    let said = site.install("python").ended_with(1);
    assert!(said.words.contains("install.program-failed"), "{said:?}");
    assert_eq!(site.current().as_deref(), Some("1"));
    let _ = site.installer(&["audit"]).ended_with(0);
    let releases = fs::read_dir(site.prefix().join("releases")).unwrap();
    assert_eq!(releases.count(), 1, "the unfinished release is gone");
}
