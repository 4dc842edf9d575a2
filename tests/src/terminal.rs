//! A program on a terminal of its own: what it shows, and a person who types.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A running program and the terminal that it believes to be a person's.
pub struct Terminal {
    child: Child,
    keys: File,
    seen: Receiver<Vec<u8>>,
    screen: String,
    /// How much of the screen was looked at.
    read: usize,
}

#[expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    reason = "a terminal that cannot be made is a failed test"
)]
impl Terminal {
    /// Starts `command` on a new terminal.
    pub fn start(command: &mut Command) -> Self {
        // No other test's programs may hold it: they would keep it from ever being closed.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a terminal");
        grantpt(&master).expect("a terminal");
        unlockpt(&master).expect("a terminal");
        let name = ptsname(&master, Vec::new()).expect("a terminal has a name");
        let name = name.into_string().expect("its name is text");
        let side = || File::options().read(true).write(true).open(&name);
        let side = || OwnedFd::from(side().expect("the other side opens"));
        let child = command
            .env("TERM", "xterm")
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("the program starts");
        let keys = File::from(master);
        let mut output = keys
            .try_clone()
            .expect("a terminal can be read and written");
        let (send, seen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The other side being closed is an error on Linux, and the end.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                if send.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keys,
            seen,
            screen: String::new(),
            read: 0,
        }
    }

    /// Waits until `text` was shown after what was waited for before.
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.screen[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.seen.recv_timeout(left) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(error) => panic!(
                    "{error}: `{text}` was never shown; there is:\n{}",
                    &self.screen[self.read..]
                ),
            }
        }
    }

    /// Types.
    pub fn send(&mut self, keys: &str) {
        self.keys
            .write_all(keys.as_bytes())
            .expect("the terminal takes keys");
    }

    /// Sends what Ctrl-C sends.
    pub fn interrupt(&mut self) {
        let id = i32::try_from(self.child.id()).ok();
        let id = id
            .and_then(rustix::process::Pid::from_raw)
            .expect("a program has a number");
        rustix::process::kill_process(id, rustix::process::Signal::INT).expect("a signal");
    }

    /// The program's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end. Returns the exit status and all that was shown.
    pub fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("the program ends");
        while let Ok(bytes) = self.seen.recv_timeout(Duration::from_secs(1)) {
            self.screen.push_str(&String::from_utf8_lossy(&bytes));
        }
        (
            status.code().unwrap_or(-1),
            std::mem::take(&mut self.screen),
        )
    }
}

/// Longer than a machine under load ever takes.
const PATIENCE: Duration = Duration::from_mins(2);
