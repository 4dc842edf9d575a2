//! Which refusals of the native engine the other one does not share.

use console::View;
use report::{Event, Sink as _, Trouble};

use super::keys::{has_template, takes};
use super::python::Python;
use super::{Asked, Engine};
use crate::home::Home;

/// Whether LLaMA-Factory may do what the native engine refused with this error.
pub(crate) fn may_do(trouble: &Trouble) -> bool {
    let error = trouble.diagnose();
    let value = |name: &str| {
        let found = error.args().into_iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value).unwrap_or_default()
    };
    match error.code() {
        "job.unsupported" => {
            let key = value("key");
            takes(&key).is_some() && !OF_BOTH.contains(&key.as_str())
        }
        "data.unknown-template" | "data.mistyped-template" => has_template(&value("name")),
        // Ferry's own training knows neither the word nor the number; the original may.
        "job.value" => value("key") == "lr_scheduler_type",
        code => REFUSALS.contains(&code),
    }
}

/// Keys that neither engine takes as they are refused: what sends something, what does not train, what lacks another key.
const OF_BOTH: [&str; 9] = [
    "do_train",
    "eval_strategy",
    "export_dir",
    "mix_strategy",
    "push_to_hub",
    "report_to",
    "streaming",
    "trackio_space_id",
    "use_swanlab",
];

/// What the native engine has not, and LLaMA-Factory may have.
const REFUSALS: [&str; 13] = [
    "data.chat-template",
    "data.token-missing",
    "data.tokenizer",
    "data.unsupported",
    "device.library-missing",
    "device.library-unfit",
    "engine.flag-of-other",
    "runtime.not-native",
    "runtime.other-host",
    "torch.not-on-packed",
    "torch.unknown-architecture",
    "torch.unsupported-setting",
    "torch.unsupported-type",
];

/// Has LLaMA-Factory do what the native engine refused because of `reason`, where the command line lets it and it can.
///
/// # Errors
/// The reason, where this engine's answer is the only one.
pub(super) fn take_over(asked: &Asked<'_>, reason: Trouble, view: &View) -> Result<(), Trouble> {
    let lets = asked.engine.engine == Engine::Auto && may_do(&reason);
    if !lets || Python::find(asked.engine.python.as_deref(), &Home::find()).is_err() {
        return Err(reason);
    }
    view.emit(&Event::Warned {
        code: "engine.takes-over".to_owned(),
        args: vec![("reason".to_owned(), reason.diagnose().to_string())],
    });
    Ok(())
}

/// What the native engine would refuse the job with, if the other one may do it; nothing is written.
#[cfg(feature = "native")]
pub(super) fn refusal(asked: &Asked<'_>, view: &View) -> Option<Trouble> {
    if asked.engine.nodes > 1 {
        let flag = "--nodes";
        return Some(super::EngineError::FlagOfOther { flag }.into());
    }
    native_judges(asked, view).err().filter(may_do)
}

#[cfg(not(feature = "native"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "with the native engine it may be none"
)]
pub(super) fn refusal(_asked: &Asked<'_>, _view: &View) -> Option<Trouble> {
    Some(crate::error::RuntimeError::NotNative.into())
}

/// Reads the job, the model's configuration, its tokenizer and template as a native run would, and no data.
#[cfg(feature = "native")]
fn native_judges(asked: &Asked<'_>, view: &View) -> Result<(), Trouble> {
    use crate::device::Chosen;
    use crate::job_file;
    use crate::material::{Ready, Sources};

    let home = Home::find();
    let chosen = Chosen::by(asked.device, &home);
    let job = job_file::try_for(&chosen, &asked.job.job, &asked.job.settings)?;
    let Some(model) = home.model(&job.model) else {
        return Ok(());
    };
    let files = torch_backend::open(&model, &home.cache, view)?;
    files.shape()?;
    Ready::open(&Sources::of_job(&job), files.folder(), &home, view)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use train::JobError;

    use super::*;
    use crate::error::RuntimeError;

    fn unsupported(key: &str) -> Trouble {
        JobError::Unsupported {
            place: "job.yaml".to_owned(),
            key: key.to_owned(),
            value: "x".to_owned(),
            reason: "y".to_owned(),
        }
        .into()
    }

    #[test]
    fn what_neither_engine_does_is_not_offered() {
        for (trouble, expected) in [
            (unsupported("deepspeed"), true),
            (unsupported("use_galore"), true),
            (unsupported("report_to"), false),
            (unsupported("group_by_length"), false),
            (
                RuntimeError::NoSuchModel {
                    name: "a".to_owned(),
                }
                .into(),
                false,
            ),
        ] {
            assert_eq!(may_do(&trouble), expected, "{trouble:?}");
        }
    }
}
