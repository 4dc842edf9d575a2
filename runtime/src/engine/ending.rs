//! How a run of LLaMA-Factory ended, in Ferry's words: by its status and the last that it said.
//!
//! The texts are those of LLaMA-Factory 0.9.5, transformers 5.6 and torch 2.13. What fits none of them is a failure with
//! its own last lines.

use std::process::ExitStatus;

use report::Outcome;

use crate::exit::ending;

/// A bad end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ended {
    /// What kind of failure it is.
    pub(crate) kind: Kind,
    /// What it is about, such as the name of a package; may be empty.
    pub(crate) subject: String,
    /// How the process ended, such as `status 1`.
    pub(crate) how: String,
    /// Its own last words.
    pub(crate) said: String,
}

/// A kind of failure that has a next step of its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// The device's or the machine's memory ran out.
    OutOfMemory,
    /// A Python package is missing.
    MissingPackage,
    /// The model's architecture is not known.
    UnknownModel,
    /// The template is not known.
    UnknownTemplate,
    /// A dataset or its file is not there.
    DataMissing,
    /// A key, or keys together, were refused.
    KeysRefused,
    /// It wanted something from the network.
    WantedNetwork,
    /// The system killed it.
    Killed,
    /// Anything else.
    Other,
}

impl Kind {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::OutOfMemory => "engine.out-of-memory",
            Self::MissingPackage => "engine.missing-package",
            Self::UnknownModel => "engine.unknown-model",
            Self::UnknownTemplate => "engine.unknown-template",
            Self::DataMissing => "engine.data-missing",
            Self::KeysRefused => "engine.keys-refused",
            Self::WantedNetwork => "engine.wanted-network",
            Self::Killed => "engine.killed",
            Self::Other => "engine.failed",
        }
    }

    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::OutOfMemory | Self::Killed => Outcome::HostFault,
            Self::Other => Outcome::Failed,
            _ => Outcome::Usage,
        }
    }
}

/// Judges an end that is not a success by the last part of what was said.
pub(crate) fn judge(status: ExitStatus, said: &str) -> Ended {
    let words = last_words(said);
    let (kind, subject) = kind_of(&words);
    let killed = std::os::unix::process::ExitStatusExt::signal(&status) == Some(KILL);
    // The launcher of several processes tells of a worker's signal in words.
    let killed = killed || words.contains("SIGKILL") || said.contains("Signal 9 (SIGKILL)");
    let kind = match kind {
        Kind::Other if killed => Kind::Killed,
        kind => kind,
    };
    Ended {
        kind,
        subject,
        how: ending(status),
        said: words,
    }
}

fn kind_of(words: &str) -> (Kind, String) {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let none = String::new();
    if has(&[
        "OutOfMemoryError",
        "out of memory",
        "can't allocate memory",
        "Cannot allocate memory",
        "MemoryError",
    ]) {
        return (Kind::OutOfMemory, none);
    }
    if has(&[
        "No module named",
        "distribution was not found",
        "PackageNotFoundError",
    ]) {
        return (Kind::MissingPackage, quoted(words));
    }
    if has(&[
        "does not recognize this architecture",
        "Unrecognized model in",
    ]) {
        return (Kind::UnknownModel, quoted(words));
    }
    if words.contains("ValueError: Template ") && words.contains(" does not exist") {
        let name = between(words, "ValueError: Template ", " does not exist");
        return (Kind::UnknownTemplate, name);
    }
    if words.contains("ValueError: Undefined dataset ") {
        return (
            Kind::DataMissing,
            between(words, "Undefined dataset ", " in "),
        );
    }
    if words.contains("ValueError: File ") && words.contains(" not found") {
        return (
            Kind::DataMissing,
            between(words, "ValueError: File ", " not found"),
        );
    }
    if words.contains("ValueError: Cannot open ") {
        return (Kind::DataMissing, between(words, "Cannot open ", " due to"));
    }
    if has(&["are not used by the HfArgumentParser"]) {
        return (
            Kind::KeysRefused,
            between(words, "HfArgumentParser: ", "\n"),
        );
    }
    if has(&[
        "OfflineModeIsEnabled",
        "LocalEntryNotFoundError",
        "outgoing traffic has been disabled",
        "is not a valid model identifier",
        "couldn't connect to",
        "Couldn't reach",
        "Max retries exceeded",
        "Network is unreachable",
    ]) {
        return (Kind::WantedNetwork, none);
    }
    // What is left of the checks of its arguments: `Please specify …`, `Cannot use …`, `… is incompatible with …`.
    let refused = [
        "ValueError: Please ",
        "ValueError: Cannot ",
        "ValueError: `",
    ];
    if has(&refused) && !words.contains('\n') {
        return (Kind::KeysRefused, none);
    }
    (Kind::Other, none)
}

/// The message of the exception that ended it, or else its last lines.
fn last_words(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(|line| without_rank(line.rsplit('\r').next().unwrap_or(line)))
        .collect();
    let told = |line: &&str| exception(line).is_some_and(|name| !AFTERWARDS.contains(&name));
    // Of several processes the first one that fails takes the others with it; its own words stand before theirs.
    let at = lines.iter().rposition(told);
    let words = if let Some(at) = at {
        let rest = &lines[at..];
        let more = rest[1..].iter().take_while(|line| continues(line)).count();
        &rest[..=more.min(MOST_LINES - 1)]
    } else {
        let end = lines.iter().rposition(|line| !line.trim().is_empty());
        let end = end.map_or(0, |end| end + 1);
        &lines[end.saturating_sub(MOST_LINES)..end]
    };
    let text = words.join("\n");
    text.trim().chars().take(MOST_LETTERS).collect()
}

/// The name of the exception that a line tells, such as `ValueError` of `ValueError: no`.
fn exception(line: &str) -> Option<&str> {
    let name = line.split(':').next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) {
        return None;
    }
    let last = name.rsplit('.').next()?;
    let told = ["Error", "Exception", "Interrupt", "Enabled"];
    told.iter().any(|end| last.ends_with(end)).then_some(last)
}

/// Whether a line belongs to the message of the exception above it.
fn continues(line: &str) -> bool {
    let other = [
        "Traceback ",
        "During handling",
        "The above exception",
        "  File ",
        "[",
    ];
    !line.trim().is_empty() && !other.iter().any(|start| line.starts_with(start))
}

/// torchrun's processes put their number before what they say.
fn without_rank(line: &str) -> &str {
    let Some(rest) = line.strip_prefix("[rank") else {
        return line;
    };
    rest.split_once("]: ").map_or(line, |(_, rest)| rest)
}

/// What stands between the first pair of `'` or `` ` ``.
fn quoted(words: &str) -> String {
    let mut parts = words.split(['\'', '`']);
    parts.nth(1).unwrap_or_default().to_owned()
}

fn between(words: &str, start: &str, end: &str) -> String {
    let rest = words.split_once(start).map_or("", |(_, rest)| rest);
    rest.split(end).next().unwrap_or_default().trim().to_owned()
}

/// What programs say because of another failure.
const AFTERWARDS: [&str; 4] = [
    "ChildFailedError",
    "CalledProcessError",
    "KeyboardInterrupt",
    "DistBackendError",
];

const KILL: i32 = 9;
const MOST_LINES: usize = 8;
const MOST_LETTERS: usize = 2000;

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    #[test]
    fn failures_that_are_known_have_a_kind_and_a_subject() {
        let traceback = "Traceback (most recent call last):\n  File \"a.py\", line 1, in <module>\n    main()\n";
        for (said, kind, subject) in [
            (
                "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
                Kind::OutOfMemory,
                "",
            ),
            (
                "RuntimeError: NPU out of memory. Tried to allocate 20.00 MiB",
                Kind::OutOfMemory,
                "",
            ),
            (
                "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory",
                Kind::OutOfMemory,
                "",
            ),
            (
                "ModuleNotFoundError: No module named 'torchaudio'",
                Kind::MissingPackage,
                "torchaudio",
            ),
            (
                "importlib.metadata.PackageNotFoundError: The 'deepspeed' distribution was not found and is required",
                Kind::MissingPackage,
                "deepspeed",
            ),
            (
                "ValueError: The checkpoint you are trying to load has model type `qwen9` but Transformers does not recognize this architecture.",
                Kind::UnknownModel,
                "qwen9",
            ),
            (
                "ValueError: Template qwne does not exist.",
                Kind::UnknownTemplate,
                "qwne",
            ),
            (
                "ValueError: Undefined dataset towns in dataset_info.json.",
                Kind::DataMissing,
                "towns",
            ),
            (
                "ValueError: File data/a.json not found.",
                Kind::DataMissing,
                "data/a.json",
            ),
            (
                "ValueError: Some keys are not used by the HfArgumentParser: ['lora_rnak']",
                Kind::KeysRefused,
                "['lora_rnak']",
            ),
            (
                "ValueError: Please specify dataset for training.",
                Kind::KeysRefused,
                "",
            ),
            (
                "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co",
                Kind::WantedNetwork,
                "",
            ),
            ("IndexError: list index out of range", Kind::Other, ""),
        ] {
            let ended = judge(
                ExitStatus::from_raw(1 << 8),
                &format!("begins\n{traceback}{said}\n"),
            );
            assert_eq!(
                (ended.kind, ended.subject.as_str()),
                (kind, subject),
                "{said}"
            );
            assert_eq!(
                (ended.said.as_str(), ended.how.as_str()),
                (said, "status 1")
            );
        }
    }

    #[test]
    fn the_cause_is_found_below_what_torchrun_says_of_it() {
        let said = "[rank1]: Traceback (most recent call last):\n[rank1]:   File \"a.py\", line 1\n\
                    [rank1]: ValueError: Template qwne does not exist.\n\
                    W1125 09:00:00 torch/distributed/elastic] Sending process 7 closing signal SIGTERM\n\
                    Traceback (most recent call last):\n  File \"torchrun\", line 8\n\
                    torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\nlauncher.py FAILED\n\
                    subprocess.CalledProcessError: Command '['torchrun']' returned non-zero exit status 1.\n";
        let ended = judge(ExitStatus::from_raw(1 << 8), said);
        assert_eq!(ended.kind, Kind::UnknownTemplate);
    }

    #[test]
    fn who_says_nothing_of_it_is_quoted() {
        let killed = judge(ExitStatus::from_raw(9), "loading\n50%|#####\r60%|######\n");
        assert_eq!(
            (killed.kind, killed.how.as_str()),
            (Kind::Killed, "signal 9")
        );
        assert_eq!(killed.said, "loading\n60%|######");
        assert_eq!(judge(ExitStatus::from_raw(3 << 8), "").said, "");
        let long = "x".repeat(5000);
        assert_eq!(
            judge(ExitStatus::from_raw(1 << 8), &long).said.len(),
            MOST_LETTERS
        );
    }
}
