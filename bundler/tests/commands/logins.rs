//! Logins at registries: where they may come from, and where they must never be seen.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::images::{from_registry, of_images, signed};
use crate::registry::Guarded;
use crate::world::{Said, TOKEN, World, script};

const BUILD: [&str; 7] = [
    "build",
    "ferry.lock",
    "--key",
    "key",
    "--passphrase-file",
    "passphrase",
    "--verbose",
];

/// No file of the world has the password, or a token that was given for it.
fn holds_no_secret(world: &World) {
    let found = Command::new("grep")
        .args(["-rlE", "nobody-may|token-[0-9]", "."])
        .current_dir(world.folder.path())
        .output();
    assert_eq!(String::from_utf8(found.unwrap().stdout).unwrap(), "");
}

fn says_no_secret(said: &Said) {
    let quiet = |text: &str| !text.contains("nobody-may");
    assert!(quiet(&said.data) && quiet(&said.words), "{said:?}");
}

#[test]
fn a_login_stands_in_no_file_and_no_word() {
    let world = World::new();
    let (shelf, _) = signed();
    let place = Guarded::new(shelf, Some("robot:a-password-nobody-may-see"), 9);
    let mut image = from_registry(&place.registry);
    image["source"]["oci"]["login"] = json!({ "user": "REG_USER", "password": "REG_PASSWORD" });
    world.keygen();
    world.write_plan(&of_images(&json!([image])));
    let unset = world
        .run(&["lock", "plan.json", "--json"])
        .ended_with(2)
        .json();
    assert_eq!(unset["error"]["args"]["variable"], "REG_USER");
    let run = |words: &[&str]| {
        let mut command = world.command(words);
        command
            .env("REG_USER", "robot")
            .env("REG_PASSWORD", "a-password-nobody-may-see");
        Said::of(command.output().unwrap())
    };
    let said = [
        run(&["lock", "plan.json", "--json"]).ended_with(0),
        run(&BUILD).ended_with(0),
    ];
    said.iter().for_each(says_no_secret);
    holds_no_secret(&world);
    // All is in the cache: nobody needs to log in again.
    world.build(&["-o", "again"]).ended_with(0);

    // The file that `docker login` writes does as well.
    let host = place.registry.url.trim_start_matches("http://");
    let auth = "cm9ib3Q6YS1wYXNzd29yZC1ub2JvZHktbWF5LXNlZQ==";
    fs::create_dir(world.path(".docker")).unwrap();
    world.write(
        ".docker/config.json",
        json!({ "auths": { host: { "auth": auth } } })
            .to_string()
            .as_bytes(),
    );
    world.write_plan(&of_images(&json!([from_registry(&place.registry)])));
    world.lock().ended_with(0);
}

#[test]
fn every_file_of_logins_is_asked_until_one_has_the_registry() {
    let world = World::new();
    let (shelf, _) = signed();
    let place = Guarded::new(shelf, Some("robot:a-password-nobody-may-see"), 9);
    let host = place.registry.url.trim_start_matches("http://");
    let auth = "cm9ib3Q6YS1wYXNzd29yZC1ub2JvZHktbWF5LXNlZQ==";
    let right = json!({ "auths": { host: { "auth": auth } } }).to_string();
    let other =
        json!({ "auths": { "elsewhere.example": { "auth": auth } }, "credsStore": "absent" });
    for folder in [".docker", "run/containers", ".config/containers"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    world.write(".docker/config.json", other.to_string().as_bytes());
    world.write_plan(&of_images(&json!([from_registry(&place.registry)])));
    let lock = |variables: &[(&str, &str)]| {
        let mut command = world.command(&["lock", "plan.json"]);
        for (name, file) in variables {
            command.env(name, world.path(file));
        }
        Said::of(command.output().unwrap())
    };
    // docker's file is there and has another registry; podman's has this one.
    let missed = lock(&[]).ended_with(1);
    assert!(
        missed.words.contains("docker-credential-absent"),
        "{missed:?}"
    );
    for (file, variables) in [
        (".config/containers/auth.json", &[][..]),
        ("run/containers/auth.json", &[("XDG_RUNTIME_DIR", "run")]),
        ("mine.json", &[("REGISTRY_AUTH_FILE", "mine.json")]),
    ] {
        world.write(file, right.as_bytes());
        says_no_secret(&lock(variables).ended_with(0));
        fs::remove_file(world.path(file)).unwrap();
    }
    // The file that a variable names is the only one.
    world.write(".config/containers/auth.json", right.as_bytes());
    lock(&[("REGISTRY_AUTH_FILE", "none.json")]).ended_with(1);
    // A file that cannot be read is an error, and is named.
    world.write(".docker/config.json", b"{");
    let said = lock(&[]).ended_with(5);
    assert!(said.words.contains(".docker/config.json"), "{said:?}");
}

#[test]
fn a_credential_helper_lends_a_login_and_learns_nothing_of_ours() {
    let (shelf, _) = signed();
    for (login, answer) in [
        (
            "robot:a-password-nobody-may-see",
            r#"{"ServerURL":"x","Username":"robot","Secret":"a-password-nobody-may-see"}"#,
        ),
        (
            "<token>:a-password-nobody-may-see",
            r#"{"ServerURL":"x","Username":"<token>","Secret":"a-password-nobody-may-see"}"#,
        ),
    ] {
        let world = World::new();
        let place = Guarded::new(shelf.clone(), Some(login), 9);
        let programs = tempfile::tempdir().unwrap();
        let program = programs.path().join("docker-credential-shop");
        let environment = programs.path().join("env");
        script(
            &program,
            &format!(
                "#!/bin/sh\nenv >{}\necho '{answer}'\n",
                environment.display()
            ),
        );
        fs::create_dir(world.path(".docker")).unwrap();
        world.write(
            ".docker/config.json",
            br#"{"auths":{},"credsStore":"shop"}"#,
        );
        world.keygen();
        world.write_plan(&of_images(&json!([from_registry(&place.registry)])));
        let run = |words: &[&str]| {
            let mut command = world.command(words);
            let folders = format!("{}:/usr/bin:/bin", programs.path().display());
            command.env("PATH", folders);
            command.env("FERRY_KEY_PASSPHRASE", "a passphrase");
            Said::of(command.output().unwrap())
        };
        let said = [
            run(&["lock", "plan.json", "--json"]).ended_with(0),
            run(&BUILD).ended_with(0),
        ];
        said.iter().for_each(says_no_secret);
        holds_no_secret(&world);
        let environment = fs::read_to_string(&environment).unwrap();
        assert!(environment.contains("HOME="), "{environment}");
        for ours in [TOKEN, "a passphrase"] {
            assert!(!environment.contains(ours), "{environment}");
        }

        // Without the program the error says what is missing.
        let error = world
            .run(&["lock", "plan.json", "--json"])
            .ended_with(1)
            .json();
        assert_eq!(error["error"]["code"], "mirror.login");
        let message = error["error"].to_string();
        assert!(message.contains("docker-credential-shop"), "{message}");
    }
}
