//! Who is let in at a registry, by what, and who never learns of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bundle_mirror::{Cache, DockerLogins, Helpers, Secret, Web};
use report::Diagnose as _;

use crate::pull::{Pull, web};
use crate::registry::{Guarded, Shelf};
use crate::server::{Answer, Asked, Server};

#[test]
fn a_token_is_fetched_once_shown_to_its_registry_alone_and_renewed() {
    let mut shelf = Shelf::default();
    shelf.both("1");
    for login in [None, Some("me:hush:hush")] {
        let place = Guarded::new(shelf.clone(), login, 3);
        let url = place.registry.url.clone();
        let mut web = web();
        if login.is_some() {
            let password = Secret::new("hush:hush");
            web = web.with_registry_login(&url, "me", &password).unwrap();
        }
        let pull = Pull::of(&web, &[&url]);
        let taken = pull.take().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for platform in &taken.platforms {
            for blob in platform.blobs() {
                pull.fetch(blob, &cache).unwrap();
            }
        }
        let with_token = place.registry.asked();
        let with_token = with_token
            .iter()
            .filter(|a| a.header("authorization").is_some());
        assert!(
            with_token
                .clone()
                .all(|a| a.header("authorization").unwrap().starts_with("Bearer "))
        );
        let tokens = place.tokens.asked().len();
        assert!(
            (3..=5).contains(&tokens),
            "renewed after three uses, not asked for each time: {tokens}"
        );
        let storage = place.storage.asked();
        assert_eq!(
            storage.len(),
            4 + 2,
            "configurations while locking too: {storage:?}"
        );
        assert!(
            storage
                .iter()
                .all(|asked| asked.header("authorization").is_none())
        );
    }
}

#[test]
fn a_login_that_is_wanted_refused_or_kept_elsewhere_is_said_so_without_a_secret() {
    let mut shelf = Shelf::default();
    shelf.both("1");
    let guarded = Guarded::new(shelf.clone(), Some("me:right"), 9);
    let url = guarded.registry.url.clone();
    let basic = Server::new(move |_, asked| match asked.header("authorization") {
        Some("Basic bWU6cmlnaHQ=") => shelf.answer(asked),
        _ => Answer::new(401, b"").with("WWW-Authenticate", "Basic realm=\"x\""),
    });
    let silent = Server::new(|_, _| {
        Answer::new(
            401,
            br#"{"errors":[{"code":"UNAUTHORIZED","message":"no\u001b[1m"}]}"#,
        )
    });
    let with = |url: &str, password: &str| {
        web()
            .with_registry_login(url, "me", &Secret::new(password))
            .unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let absent = || with_helpers(r#"{"credsStore": "desktop"}"#, folder.path());
    for (web, url, expected) in [
        (web(), &url, "wants a user name"),
        (with(&url, "hush"), &url, "does not take the login"),
        (web(), &basic.url, "wants a user name"),
        (absent(), &basic.url, "`docker-credential-desktop` is not"),
        (absent(), &url, "`docker-credential-desktop` is not"),
        (with(&basic.url, "hush"), &basic.url, "401"),
        (with(&silent.url, "hush"), &silent.url, "does not say how"),
    ] {
        let error = Pull::of(&web, &[url]).take().unwrap_err();
        assert_eq!(error.code(), "mirror.login", "{expected}: {error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let host = basic.url.trim_start_matches("http://");
    let file = format!(r#"{{"auths": {{"{host}": {{"auth": "bWU6cmlnaHQ="}}}}}}"#);
    let web = web().with_docker_logins(file_of(&file));
    Pull::of(&web, &[&basic.url]).take().unwrap();
}

#[test]
fn a_password_follows_no_redirect_and_goes_to_no_mirror() {
    let mut shelf = Shelf::default();
    shelf.both("1");
    let mirror = shelf.serve();
    let other = Server::new(|_, _| Answer::new(200, br#"{"token":"x"}"#));
    let elsewhere = format!("{}/token", other.url);
    let tokens = Server::new(move |_, _| Answer::new(302, b"").with("Location", &elsewhere));
    let challenge = format!("Bearer realm=\"{}/token\"", tokens.url);
    let registry =
        Server::new(move |_, _| Answer::new(401, b"").with("WWW-Authenticate", &challenge));
    let password = Secret::new("hush");
    let web = web()
        .with_registry_login(&registry.url, "me", &password)
        .unwrap();
    Pull::of(&web, &[&registry.url, &mirror.url])
        .take()
        .unwrap();
    assert!(tokens.asked()[0].header("authorization").is_some());
    for server in [&other, &mirror] {
        assert!(
            server
                .asked()
                .iter()
                .all(|a| a.header("authorization").is_none())
        );
    }
}

/// The logins of one file.
fn file_of(text: &str) -> DockerLogins {
    let mut logins = DockerLogins::default();
    logins.add(text.as_bytes()).unwrap();
    logins
}

/// A client with the logins of a file, whose helpers lie in `folder`.
fn with_helpers(file: &str, folder: &Path) -> Web {
    web().with_docker_logins(file_of(file).with_helpers(Helpers {
        folders: vec![folder.to_owned()],
        patience: Duration::from_mins(1),
    }))
}

/// Writes a helper that notes each server that it is asked for, and answers with the same login.
fn helper(folder: &Path, name: &str, login: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    let script = format!(
        "#!/bin/sh\nread -r server || true\necho \"$1 $server\" >>{}\necho '{login}'\n",
        folder.join("asked").display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_helper_is_asked_once_for_the_registry_that_wants_a_login() {
    let mut shelf = Shelf::default();
    shelf.both("1");
    let open = shelf.clone().serve();
    for (login, answer) in [
        ("me:right", r#"{"Username":"me","Secret":"right"}"#),
        (
            "<token>:right",
            r#"{"Username":"<token>","Secret":"right"}"#,
        ),
    ] {
        let place = Guarded::new(shelf.clone(), Some(login), 1);
        let host = place.registry.url.trim_start_matches("http://");
        for file in [
            r#"{"credsStore":"shop"}"#.to_owned(),
            format!(r#"{{"credHelpers":{{"{host}":"shop"}}, "credsStore":"absent"}}"#),
        ] {
            let folder = tempfile::tempdir().unwrap();
            helper(folder.path(), "shop", answer);
            let web = with_helpers(&file, folder.path());
            Pull::of(&web, &[&open.url]).take().unwrap();
            assert!(!folder.path().join("asked").exists(), "nobody asked for it");
            Pull::of(&web, &[&place.registry.url]).take().unwrap();
            let asked = fs::read_to_string(folder.path().join("asked")).unwrap();
            assert_eq!(asked, format!("get {host}\n"), "{file}");
        }
    }
}

#[test]
fn an_identity_token_is_exchanged_and_goes_nowhere_else() {
    let mut shelf = Shelf::default();
    shelf.both("1");
    let place = Guarded::new(shelf.clone(), Some("<token>:right"), 9);
    let url = &place.registry.url;
    let file = |url: &str, entry: &str| {
        let host = url.trim_start_matches("http://");
        let text = format!(r#"{{"auths":{{"{host}":{{{entry}}}}}}}"#);
        web().with_docker_logins(file_of(&text))
    };
    let web = file(url, r#""identitytoken":"right""#);
    Pull::of(&web, &[url]).take().unwrap();
    let shown = |asked: &Asked| format!("{asked:?}").contains("right");
    assert!(!place.registry.asked().iter().any(shown));
    assert!(!place.storage.asked().iter().any(shown));

    let error = Pull::of(&file(url, r#""identitytoken":"hush""#), &[url])
        .take()
        .unwrap_err();
    assert_eq!(error.code(), "mirror.login", "{error}");
    assert!(error.to_string().contains("identity token"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");

    // A token server that sends the form elsewhere.
    let other = Server::new(|_, _| Answer::new(200, br#"{"token":"x"}"#));
    let elsewhere = format!("{}/token", other.url);
    let tokens = Server::new(move |_, _| Answer::new(307, b"").with("Location", &elsewhere));
    let challenge = format!("Bearer realm=\"{}/token\"", tokens.url);
    let registry =
        Server::new(move |_, _| Answer::new(401, b"").with("WWW-Authenticate", &challenge));
    let web = file(&registry.url, r#""identitytoken":"hush""#);
    let error = Pull::of(&web, &[&registry.url]).take().unwrap_err();
    assert_eq!(error.code(), "mirror.redirect", "{error}");
    assert!(tokens.asked()[0].body.contains("refresh_token=hush"));
    assert!(other.asked().is_empty());

    // A registry that wants a password has no use for it.
    let basic =
        Server::new(|_, _| Answer::new(401, b"").with("WWW-Authenticate", "Basic realm=\"x\""));
    let web = file(&basic.url, r#""identitytoken":"hush""#);
    let error = Pull::of(&web, &[&basic.url]).take().unwrap_err();
    assert!(error.to_string().contains("not a token"), "{error}");
    let asked = basic.asked();
    assert!(asked.iter().all(|a| a.header("authorization").is_none()));
}

#[test]
fn a_token_of_the_registrys_own_is_shown_as_it_is() {
    let mut shelf = Shelf::default();
    shelf.both("1");
    let challenge = "Bearer realm=\"http://127.0.0.1:1/token\"";
    let registry = Server::new(move |_, asked| match asked.header("authorization") {
        Some("Bearer right") => shelf.answer(asked),
        _ => Answer::new(401, b"").with("WWW-Authenticate", challenge),
    });
    let host = registry.url.trim_start_matches("http://");
    let text = format!(r#"{{"auths":{{"{host}":{{"registrytoken":"right"}}}}}}"#);
    let web = web().with_docker_logins(file_of(&text));
    Pull::of(&web, &[&registry.url]).take().unwrap();
}
