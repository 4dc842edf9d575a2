//! Several processes of this machine that train together.
//!
//! ```text
//! train --processes 2      this process is the first; it starts the others, watches them, and ends them with itself
//! RANK=1 WORLD_SIZE=2 …    this process is one of those that another program started, as torchrun does
//! ```
//!
//! They meet at 127.0.0.1 and nowhere else. The others say what they say to the first one, which keeps their last error.
//! Where tensors are added up on devices, nothing there notices that a process is gone: the first one then watches the others.

use std::env;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use report::Trouble;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, set_parent_process_death_signal, waitid,
};
use torch_backend::{Alarm, Bridge, Group, Meeting, Place};

use crate::error::RuntimeError;
use crate::exit::ending;
use crate::say_and_end;

/// Set by the first process for those that it starts.
const PARENT: &str = "FERRY_PARENT";

/// How long a process may take to end once another one has failed.
const GRACE: Duration = Duration::from_secs(10);

/// Part of what a process says that has lost another one.
const LOST: &str = "has lost another one";

/// What a process of a run knows of the run's others.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    rank: usize,
    meeting: Option<Meeting>,
    others: Vec<Other>,
}

/// A process that this one started.
#[derive(Debug)]
struct Other {
    rank: usize,
    child: Child,
    /// The last error that it told.
    said: Arc<Mutex<Option<String>>>,
}

impl Processes {
    /// Starts the others, or finds out which of them this is. `threads` is how many compute in each.
    pub(crate) fn gather(asked: usize, threads: usize) -> Result<Self, RuntimeError> {
        let not_started = |source| RuntimeError::NotStarted { source };
        if let Some(meeting) = of_environment()? {
            end_with_the_first().map_err(not_started)?;
            return Ok(Self {
                rank: meeting.rank,
                meeting: Some(meeting),
                others: Vec::new(),
            });
        }
        if asked < 2 {
            return Ok(Self::default());
        }
        let meeting = Meeting::open(asked).map_err(not_started)?;
        let mut processes = Self::default();
        for rank in 1..asked {
            let other = Other::start(rank, asked, meeting.port, threads).map_err(not_started)?;
            processes.others.push(other);
        }
        processes.meeting = Some(meeting);
        Ok(processes)
    }

    /// Which of the processes this is, counted from 0.
    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    /// How many processes there are: as the environment says, or as a command line asks.
    pub(crate) fn count(asked: usize) -> Result<usize, RuntimeError> {
        let told = read_environment()?;
        Ok(told.map_or(asked.max(1), |place| place.count))
    }

    /// Joins the others, unless this process is alone. `bridge` adds up on the devices themselves, of which `place` is this
    /// process's.
    pub(crate) fn join(
        &mut self,
        bridge: Option<Bridge>,
        place: Place,
    ) -> Result<Option<Group>, Trouble> {
        let Some(mut meeting) = self.meeting.take() else {
            return Ok(None);
        };
        if bridge.is_some() {
            for other in &self.others {
                other.watch(self.others.len() + 1, &meeting.alarm);
            }
        }
        meeting.bridge = bridge;
        let (sender, receiver) = channel();
        // The library waits for all who should come; meanwhile one of them may fail and never come.
        thread::spawn(move || sender.send(place.take().and_then(|()| Group::join(meeting))));
        loop {
            match receiver.recv_timeout(Duration::from_millis(20)) {
                Ok(Ok(group)) => return Ok(Some(group)),
                Ok(Err(error)) => return Err(self.explained(error.into())),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(ended) = self.ended() {
                        return Err(ended.into());
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let source = io::Error::other("the thread that joins the others ended");
                    return Err(RuntimeError::NotStarted { source }.into());
                }
            }
        }
    }

    /// Puts a trouble that comes of another process's end in that process's words.
    pub(crate) fn explained(&mut self, trouble: Trouble) -> Trouble {
        let code = trouble.diagnose().code();
        let lost = ["train.peer-lost", "device.peer-lost", "device.not-joined"].contains(&code)
            || trouble.causes().iter().any(|cause| cause.contains(LOST));
        // The process that failed by itself may take a moment to end.
        let until = Instant::now() + GRACE;
        while lost && !self.others.is_empty() && Instant::now() < until {
            if let Some(ended) = self.ended() {
                return ended.into();
            }
            sleep(Duration::from_millis(20));
        }
        trouble
    }

    /// A process that ended with a failure of its own, not because it lost another one.
    fn ended(&mut self) -> Option<RuntimeError> {
        let count = self.others.len() + 1;
        self.others.iter_mut().find_map(|other| {
            let status = other.child.try_wait().ok()??;
            let said = words(&other.said);
            let own = !status.success() && !said.contains(LOST);
            own.then(|| RuntimeError::ProcessEnded {
                rank: other.rank,
                count,
                how: ending(status),
                said,
            })
        })
    }

    /// Waits for the others after all is done.
    pub(crate) fn finish(mut self) {
        for other in &mut self.others {
            let _status = other.child.wait();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for other in &mut self.others {
            // One that has ended is not there any more, which is what is wanted.
            let _gone = other.child.kill();
            let _status = other.child.wait();
        }
    }
}

impl Other {
    fn start(rank: usize, count: usize, port: u16, threads: usize) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        let mut arguments: Vec<_> = env::args_os().skip(1).collect();
        if !arguments.iter().any(|argument| argument == "--json") {
            arguments.insert(0, "--json".into());
        }
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stdin(Stdio::null());
        for (name, value) in [
            ("RANK", rank.to_string()),
            ("LOCAL_RANK", rank.to_string()),
            ("WORLD_SIZE", count.to_string()),
            ("LOCAL_WORLD_SIZE", count.to_string()),
            ("MASTER_ADDR", "127.0.0.1".to_owned()),
            ("MASTER_PORT", port.to_string()),
            ("OMP_NUM_THREADS", threads.to_string()),
            (PARENT, std::process::id().to_string()),
        ] {
            command.env(name, value);
        }
        let mut child = command.spawn()?;
        let said = Arc::new(Mutex::new(None));
        if let Some(output) = child.stdout.take() {
            let keep = Arc::clone(&said);
            // Ends with the process's output.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Some(error) = error_of(&line) {
                        *keep.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                }
            });
        }
        Ok(Self { rank, child, said })
    }

    /// Rings the alarm when the process fails. A vendor's library may hold this program's thread even then: after a while
    /// the whole program ends, with the words that the thread would have had.
    fn watch(&self, count: usize, alarm: &Alarm) {
        let (rank, said, alarm) = (self.rank, Arc::clone(&self.said), alarm.clone());
        let pid = Pid::from_child(&self.child);
        thread::spawn(move || {
            // Its status stays there for who asks the child itself; no answer: that has been done, and it is gone.
            let status = waitid(
                WaitId::Pid(pid),
                WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
            );
            let Ok(Some(status)) = status else { return };
            let how = match (status.exit_status(), status.terminating_signal()) {
                (Some(0), _) | (None, None) => return,
                (Some(code), _) => format!("status {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
            };
            // From now on nothing waits for a device, and nothing new is begun.
            alarm.ring();
            sleep(GRACE);
            if alarm.is_waiting() {
                let ended = RuntimeError::ProcessEnded {
                    rank,
                    count,
                    how,
                    said: words(&said),
                };
                say_and_end(&ended.into());
            }
        });
    }
}

/// The last error that a process told.
fn words(said: &Mutex<Option<String>>) -> String {
    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
    said.clone().unwrap_or_default()
}

/// The text of an error in a line of `--json`, with its causes.
fn error_of(line: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(line).ok()?;
    let error = value.get("error")?;
    let mut text = error["message"].as_str()?.to_owned();
    for cause in error["causes"].as_array().into_iter().flatten() {
        text.push_str(": ");
        text.push_str(cause.as_str().unwrap_or_default());
    }
    Some(text)
}

/// What the environment says of a process's place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seat {
    rank: usize,
    count: usize,
    port: u16,
    /// The meeting place is this process's to serve.
    serves: bool,
}

/// The place of this process in a run that another program started; none where it is not part of one.
fn of_environment() -> Result<Option<Meeting>, RuntimeError> {
    let Some(place) = read_environment()? else {
        return Ok(None);
    };
    if place.serves {
        let meeting = Meeting::open_at(place.count, place.port);
        return meeting
            .map(Some)
            .map_err(|source| RuntimeError::NotStarted { source });
    }
    Ok(Some(Meeting {
        rank: place.rank,
        count: place.count,
        port: place.port,
        listener: None,
        bridge: None,
        alarm: Alarm::default(),
    }))
}

fn read_environment() -> Result<Option<Seat>, RuntimeError> {
    settle(&|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

fn settle(read: &dyn Fn(&str) -> Option<String>) -> Result<Option<Seat>, RuntimeError> {
    let (Some(rank), Some(count)) = (read("RANK"), read("WORLD_SIZE")) else {
        return Ok(None);
    };
    let bad = |name: &'static str, value: &str| RuntimeError::BadVariable {
        name,
        value: value.to_owned(),
    };
    let whole = |name: &'static str, value: &str| value.parse().map_err(|_| bad(name, value));
    let (rank, count): (usize, usize) = (whole("RANK", &rank)?, whole("WORLD_SIZE", &count)?);
    if count < 2 {
        return Ok(None);
    }
    if rank >= count {
        return Err(bad("RANK", &rank.to_string()));
    }
    let other_host = |name: &'static str, value: String| RuntimeError::OtherHost { name, value };
    let here = read("LOCAL_WORLD_SIZE").unwrap_or_else(|| count.to_string());
    if here != count.to_string() {
        return Err(other_host("LOCAL_WORLD_SIZE", here));
    }
    let address = read("MASTER_ADDR").unwrap_or_else(|| "127.0.0.1".to_owned());
    if address != "localhost" && !address.starts_with("127.") {
        return Err(other_host("MASTER_ADDR", address));
    }
    let port = read("MASTER_PORT").unwrap_or_else(|| "29500".to_owned());
    let port = port.parse().map_err(|_| bad("MASTER_PORT", &port))?;
    // torchrun serves the meeting place itself where it says so.
    let served = read("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
    Ok(Some(Seat {
        rank,
        count,
        port,
        serves: rank == 0 && !served,
    }))
}

/// Lets the system end this process when the one that started it is gone, however that ended.
fn end_with_the_first() -> io::Result<()> {
    let first = env::var(PARENT).ok().and_then(|pid| pid.parse().ok());
    let Some(first) = first.and_then(Pid::from_raw) else {
        return Ok(());
    };
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it could be watched.
    if getppid() == Some(first) {
        Ok(())
    } else {
        Err(io::Error::other(
            "the process that started this one is gone",
        ))
    }
}

#[cfg(test)]
mod tests {
    use report::Diagnose as _;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<(usize, usize, u16)>, &'static str> {
        let read = |name: &str| {
            let found = pairs.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let seat = settle(&read).map_err(|error| error.code())?;
        Ok(seat.map(|seat| (seat.rank, seat.count, seat.port)))
    }

    #[test]
    fn a_process_finds_its_place_in_what_torchrun_sets() {
        let two = [("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "4321")];
        assert_eq!(of(&two), Ok(Some((1, 2, 4321))));
        for (more, expected) in [
            (("MASTER_ADDR", "localhost"), Ok(Some((1, 2, 4321)))),
            (("MASTER_ADDR", "10.0.0.7"), Err("runtime.other-host")),
            (("LOCAL_WORLD_SIZE", "1"), Err("runtime.other-host")),
        ] {
            assert_eq!(of(&[&two[..], &[more]].concat()), expected, "{more:?}");
        }
        assert_eq!(of(&[("RANK", "0"), ("WORLD_SIZE", "1")]), Ok(None));
        assert_eq!(of(&[("RANK", "0")]), Ok(None));
        for wrong in [
            [("RANK", "2"), ("WORLD_SIZE", "2")],
            [("RANK", "x"), ("WORLD_SIZE", "2")],
            [("RANK", "1"), ("WORLD_SIZE", "-2")],
        ] {
            assert_eq!(of(&wrong), Err("runtime.bad-variable"), "{wrong:?}");
        }
    }

    #[test]
    fn the_last_error_of_another_process_is_kept_with_its_causes() {
        let line =
            r#"{"error":{"code":"a.b","message":"cannot read `x`","causes":["no such file"]}}"#;
        assert_eq!(
            error_of(line).as_deref(),
            Some("cannot read `x`: no such file")
        );
        for other in ["", "{}", "text", r#"{"event":"warned"}"#] {
            assert_eq!(error_of(other), None, "{other}");
        }
    }
}
