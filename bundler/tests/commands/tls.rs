//! HTTPS: `openssl s_server` with a certificate of its own, which is believed only where it is named.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use manifest_schema::Digest;
use serde_json::json;

use crate::world::{Said, World};

struct Tls {
    child: Child,
    url: String,
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the folder's files, each of which is a whole HTTP answer.
fn serve(world: &World) -> Tls {
    world.write(
        "tls.cnf",
        b"[req]\ndistinguished_name = name\nprompt = no\nx509_extensions = leaf\n[name]\nCN = localhost\n\
          [leaf]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = DNS:localhost\n",
    );
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args([
            "-keyout", "tls.key", "-out", "tls.pem", "-days", "2", "-config", "tls.cnf",
        ])
        .current_dir(world.folder.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let mut child = Command::new("openssl")
        .args([
            "s_server",
            "-HTTP",
            "-accept",
            "127.0.0.1:0",
            "-key",
            "tls.key",
            "-cert",
            "tls.pem",
        ])
        .current_dir(world.folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines
            .next()
            .expect("the server says where it listens")
            .unwrap();
        if let Some(place) = line.strip_prefix("ACCEPT ") {
            let place = place.split(' ').next().unwrap();
            break place.rsplit(':').next().unwrap().to_owned();
        }
    };
    // Its talk must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let url = format!("https://localhost:{port}");
    Tls { child, url }
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_and_a_named_one_is_not() {
    let world = World::new();
    let body = "a vendor's file";
    let answer = format!(
        "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    world.write("vendor.run", answer.as_bytes());
    let tls = serve(&world);
    let mut plan = world.plan();
    plan["models"] = json!([]);
    plan["datasets"] = json!([]);
    plan["backends"][0]["python"] = json!(null);
    plan["backends"][0]["files"] = json!([{ "path": "vendor.run", "source": { "https": {
        "url": format!("{}/vendor.run", tls.url), "digest": Digest::of(body.as_bytes()) } } }]);
    world.write_plan(&plan);
    let refused = world.run(&["lock", "plan.json", "--json"]).ended_with(5);
    assert_eq!(refused.json()["error"]["code"], "mirror.connection");
    assert!(refused.data.contains("certificate"), "{}", refused.data);

    world.keygen();
    let named = |words: &[&str]| {
        let mut command = world.command(words);
        command.env("SSL_CERT_FILE", world.path("tls.pem"));
        Said::of(command.output().unwrap())
    };
    named(&["lock", "plan.json"]).ended_with(0);
    named(&[
        "build",
        "ferry.lock",
        "--key",
        "key",
        "--passphrase-file",
        "passphrase",
    ])
    .ended_with(0);
    assert!(world.path("demo-1.ferry").exists());
}
