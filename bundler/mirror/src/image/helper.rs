//! Programs that keep logins for docker and podman: `docker-credential-NAME get`.
//!
//! The name comes from a file, so it may be no more than a name, and the program must lie in a folder of the search
//! path. It is told a registry, never anything else of ours, and has a moment to say a bounded answer. What it says is
//! shown to nobody: it may be a password even where the program failed.

use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::login::Login;
use crate::Secret;

/// Where credential helpers may lie, and how long one may take.
#[derive(Clone, Debug)]
pub struct Helpers {
    /// Folders to look in, in this order; only absolute ones count.
    pub folders: Vec<PathBuf>,
    /// How long a helper may take: it may have to ask a person.
    pub patience: Duration,
}

/// What a helper answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helpers {
    /// Asks the helper `name` for its login at `server`; `None` where it has none.
    ///
    /// # Errors
    /// Says which program could not be asked, and why; never what it said.
    pub(super) fn ask(&self, name: &str, server: &str) -> Result<Option<Login>, String> {
        if !is_name(name) {
            return Err("the name of its credential helper is no name of a program".to_owned());
        }
        let file_name = format!("docker-credential-{name}");
        let failed = |why: &str| format!("the credential helper `{file_name}` {why}");
        let program = self.find(&file_name);
        let program = program.ok_or_else(|| failed("is not in any folder of the search path"))?;
        let mut command = Command::new(program);
        command.arg("get");
        // It needs much of the environment (`HOME`, a session bus), but none of these.
        for ours in OUR_SECRETS {
            command.env_remove(ours);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.stderr(Stdio::null()).spawn();
        let child = child.map_err(|error| failed(&format!("cannot be run: {error}")))?;
        let (status, said) = self.listen(child, server).map_err(|error| failed(&error))?;
        if status.success() {
            let answer: Answer =
                serde_json::from_slice(&said).map_err(|_| failed("gave no answer in JSON"))?;
            return Ok(login(&answer));
        }
        // By its protocol this is how it says that it has none.
        let said = String::from_utf8_lossy(&said);
        if NOTHING.iter().any(|nothing| said.trim() == *nothing) {
            return Ok(None);
        }
        Err(failed(&format!("failed: {status}")))
    }

    fn find(&self, file_name: &str) -> Option<PathBuf> {
        let folders = self.folders.iter().filter(|folder| folder.is_absolute());
        let mut found = folders.map(|folder| folder.join(file_name));
        found.find(|path| {
            let kind = path.metadata();
            kind.is_ok_and(|kind| kind.is_file() && kind.permissions().mode() & 0o111 != 0)
        })
    }

    /// Tells the program the server, and waits for its answer and its end.
    fn listen(&self, mut child: Child, server: &str) -> Result<(ExitStatus, Vec<u8>), String> {
        let until = Instant::now() + self.patience;
        let ended = self.answer(&mut child, server, until);
        if ended.is_err() {
            let _ = child.kill();
        }
        let _ = child.wait();
        ended
    }

    fn answer(
        &self,
        child: &mut Child,
        server: &str,
        until: Instant,
    ) -> Result<(ExitStatus, Vec<u8>), String> {
        let too_long = || format!("did not answer in {} seconds", self.patience.as_secs());
        if let Some(mut input) = child.stdin.take() {
            // A few bytes, so this cannot block; a program that does not read them may still answer.
            let _ = input.write_all(server.as_bytes());
        }
        let output = child.stdout.take();
        let (sender, receiver) = mpsc::channel();
        // On a thread of its own: a program may close nothing, and leave its output to another one.
        thread::spawn(move || {
            let mut said = Vec::new();
            let output = output.map(|output| output.take(LONGEST_ANSWER + 1));
            let read = output.map_or(Ok(0), |mut output| output.read_to_end(&mut said));
            let _ = sender.send(read.map(|_| said));
        });
        let left = until.saturating_duration_since(Instant::now());
        let said: io::Result<Vec<u8>> = receiver.recv_timeout(left).map_err(|_| too_long())?;
        let said = said.map_err(|error| format!("cannot be heard: {error}"))?;
        if said.len() as u64 > LONGEST_ANSWER {
            return Err(format!("said more than {LONGEST_ANSWER} bytes"));
        }
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Ok((status, said)),
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
                Ok(None) => return Err(too_long()),
                Err(error) => return Err(format!("cannot be heard: {error}")),
            }
        }
    }
}

/// What the parts of an answer mean together.
fn login(answer: &Answer) -> Option<Login> {
    if answer.secret.is_empty() {
        return None;
    }
    let secret = Secret::new(&answer.secret);
    Some(match answer.username.as_str() {
        "<token>" => Login::Identity(secret),
        user => Login::Password(user.to_owned(), secret),
    })
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let begins = name
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_alphanumeric());
    begins && name.len() <= 64 && name.bytes().all(plain)
}

const LONGEST_ANSWER: u64 = 64 << 10;
/// The words of the helpers' own library.
const NOTHING: [&str; 3] = [
    "credentials not found in native keychain",
    "no credentials server URL",
    "no credentials username",
];
const OUR_SECRETS: [&str; 3] = ["FERRY_KEY_PASSPHRASE", "HF_TOKEN", "MODELSCOPE_API_TOKEN"];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn helper(folder: &Path, name: &str, script: &str) {
        let path = folder.join(format!("docker-credential-{name}"));
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn helpers(folder: &Path, patience: Duration) -> Helpers {
        Helpers {
            folders: vec![PathBuf::from("."), folder.to_owned()],
            patience,
        }
    }

    #[test]
    fn a_helper_is_told_the_registry_and_gives_a_password_a_token_or_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let echo = r#"read server || true
test "$1" = get || exit 9
case "$server" in
  a.example) echo '{"ServerURL":"a.example","Username":"me","Secret":"hush"}' ;;
  b.example) echo '{"ServerURL":"b.example","Username":"<token>","Secret":"hush"}' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac"#;
        helper(folder.path(), "echo", echo);
        let helpers = helpers(folder.path(), Duration::from_mins(1));
        let ask = |server| helpers.ask("echo", server).unwrap();
        assert!(
            matches!(ask("a.example"), Some(Login::Password(user, secret))
            if user == "me" && secret.reveal() == "hush")
        );
        assert!(
            matches!(ask("b.example"), Some(Login::Identity(secret)) if secret.reveal() == "hush")
        );
        assert!(ask("c.example").is_none());
    }

    #[test]
    fn a_helper_that_hangs_babbles_or_fails_is_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        helper(folder.path(), "hangs", "exec sleep 600");
        helper(
            folder.path(),
            "lingers",
            "echo '{}'; exec >&-; exec sleep 600",
        );
        helper(folder.path(), "leaves", "sleep 2 & exit 0");
        helper(folder.path(), "babbles", "yes hush");
        helper(
            folder.path(),
            "breaks",
            r#"echo '{"Secret":"hush"'; exit 0"#,
        );
        helper(folder.path(), "fails", "echo hush; echo hush >&2; exit 3");
        fs::write(folder.path().join("docker-credential-plain"), "").unwrap();
        let short = helpers(folder.path(), Duration::from_millis(300));
        let long = helpers(folder.path(), Duration::from_mins(1));
        for (helpers, name, expected) in [
            (&short, "hangs", "did not answer"),
            (&short, "lingers", "did not answer"),
            (&short, "leaves", "did not answer"),
            (&long, "babbles", "more than"),
            (&long, "breaks", "no answer in JSON"),
            (&long, "fails", "exit status: 3"),
            (&long, "plain", "not in any folder"),
            (&long, "absent", "not in any folder"),
            (&long, "../sh", "no name"),
            (&long, "", "no name"),
            (&long, "-x", "no name"),
        ] {
            let error = helpers.ask(name, "a.example").unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
            assert!(!error.contains("hush"), "{name}: {error}");
        }
    }
}
