//! Errors for people: a stable code, the values to translate, a way out.

use std::error::Error;

use serde::Serialize;

/// Named values of an error, in the order the text mentions them.
pub type Args = Vec<(&'static str, String)>;

/// What a front end needs beyond an error's text.
pub trait Diagnose: Error + Send + Sync {
    /// Stable code such as `bundle.signature-invalid`: the key of the translated text and hint.
    fn code(&self) -> &'static str;
    /// The values that the translated text names in braces.
    fn args(&self) -> Args {
        Args::new()
    }
    /// How the program ends because of this error.
    fn outcome(&self) -> Outcome {
        Outcome::Failed
    }
}

/// How a command ended, as the shell sees it. Listed in `--help`; never renumbered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Outcome {
    /// Everything asked for was done.
    Done = 0,
    /// The work failed; nothing was half-done.
    Failed = 1,
    /// The command line, plan, lock or job file is wrong.
    Usage = 2,
    /// This machine does not fit what the bundle needs.
    HardwareUnfit = 3,
    /// A signature, digest or trust root does not hold.
    Untrusted = 4,
    /// The machine failed: disk, memory, permission, network.
    HostFault = 5,
    /// A part of the work is done, and the rest must wait: the machine is to be started anew.
    Unfinished = 6,
}

impl Outcome {
    /// The process exit status.
    pub fn status(self) -> u8 {
        self as u8
    }
}

/// A boxed [`Diagnose`]: what a command of any program returns when it fails.
pub struct Trouble(Box<dyn Diagnose>);

impl Trouble {
    /// The error itself.
    pub fn diagnose(&self) -> &dyn Diagnose {
        &*self.0
    }

    /// The texts of the causes below the error, outermost first.
    pub fn causes(&self) -> Vec<String> {
        let mut causes = Vec::new();
        let mut source = self.0.source();
        while let Some(error) = source {
            causes.push(error.to_string());
            source = error.source();
        }
        causes
    }

    /// The form that `--json` prints: `{code, args, message, causes, outcome}`.
    pub fn to_json(&self) -> serde_json::Value {
        let args: serde_json::Map<String, serde_json::Value> = self
            .0
            .args()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        serde_json::json!({
            "code": self.0.code(),
            "args": args,
            "message": self.0.to_string(),
            "causes": self.causes(),
            "outcome": self.0.outcome(),
        })
    }
}

impl<E: Diagnose + 'static> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl std::fmt::Debug for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0.code(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read `{path}`")]
    struct Unreadable {
        path: String,
        source: std::io::Error,
    }

    impl Diagnose for Unreadable {
        fn code(&self) -> &'static str {
            "test.unreadable"
        }
        fn args(&self) -> Args {
            vec![("path", self.path.clone())]
        }
        fn outcome(&self) -> Outcome {
            Outcome::HostFault
        }
    }

    #[test]
    fn json_carries_code_args_and_causes() {
        let source = std::io::Error::other("disk on fire");
        let trouble = Trouble::from(Unreadable {
            path: "a".into(),
            source,
        });
        let json = trouble.to_json();
        assert_eq!(json["code"], "test.unreadable");
        assert_eq!(json["args"]["path"], "a");
        assert_eq!(json["causes"][0], "disk on fire");
        assert_eq!(json["outcome"], "host-fault");
    }
}
