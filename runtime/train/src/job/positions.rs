//! How a job stretches a model's positions (`rope_scaling`).

use super::error::JobError;
use super::fields::Fields;
use crate::stretch::{Stretch, StretchRule};

/// Reads the rule; `longest` is the longest text of the job in tokens, where it has one.
pub(super) fn stretch(
    fields: &Fields,
    longest: Option<usize>,
) -> Result<Option<Stretch>, JobError> {
    const KEY: &str = "rope_scaling";
    let Some(name) = fields.text(KEY)?.filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let found = StretchRule::NAMES.iter().find(|(known, _)| *known == name);
    let rule = found.map(|(_, rule)| *rule).ok_or_else(|| {
        let known = StretchRule::NAMES.map(|(known, _)| known).join(", ");
        fields.wrong(KEY, &format!("one of {known}"))
    })?;
    Ok(Some(Stretch { rule, longest }))
}

/// The cutoff of an export: as in the original it counts where the job names another than the usual one and the export is
/// made on the processor.
pub(super) fn cutoff_of_export(fields: &Fields) -> Result<Option<usize>, JobError> {
    const USUAL: u64 = 2048;
    let on_processor = matches!(fields.text("export_device")?.as_deref(), None | Some("cpu"));
    let cutoff = fields.whole("cutoff_len", 2)?;
    let cutoff = cutoff.filter(|cutoff| on_processor && *cutoff != USUAL);
    Ok(cutoff.map(|cutoff| cutoff as usize))
}

#[cfg(test)]
mod tests {
    use super::super::{ChatJob, ExportJob, Job, PredictJob};
    use super::*;

    const MODEL: &str = "model_name_or_path: m\nrope_scaling: yarn\n";

    fn yarn(longest: Option<usize>) -> Stretch {
        Stretch {
            rule: StretchRule::Yarn,
            longest,
        }
    }

    #[test]
    fn training_and_predicting_know_the_longest_text_and_talking_does_not() {
        let more = "dataset: a\ntemplate: qwen\noutput_dir: o\nreport_to: none\ncutoff_len: 9000\n";
        let text = format!("{MODEL}{more}");
        let job = Job::parse("job.yaml", &text, &[]).unwrap();
        assert_eq!(job.stretch, Some(yarn(Some(9000))));
        let packed = Job::parse("job.yaml", &text, &["packing=true".to_owned()]).unwrap();
        assert_eq!(packed.stretch, Some(yarn(Some(8999))));
        let predict = PredictJob::parse("job.yaml", &text, &[]).unwrap();
        assert_eq!(predict.used.stretch, Some(yarn(Some(9000))));
        let chat = ChatJob::parse("job.yaml", MODEL, &[], None).unwrap();
        assert_eq!(chat.used.stretch, Some(yarn(None)));
        for (more, longest) in [
            ("", None),
            ("cutoff_len: 2048\n", None),
            ("cutoff_len: 9000\n", Some(9000)),
            ("cutoff_len: 9000\nexport_device: auto\n", None),
        ] {
            let text = format!("{MODEL}export_dir: out\n{more}");
            let job = ExportJob::parse("job.yaml", &text, &[]).unwrap();
            assert_eq!(job.stretch, Some(yarn(longest)), "{more}");
        }
        let none = ["rope_scaling=null".to_owned()];
        assert_eq!(Job::parse("job.yaml", &text, &none).unwrap().stretch, None);
        let wrong = ["rope_scaling=longrope".to_owned()];
        let error = Job::parse("job.yaml", &text, &wrong).unwrap_err();
        assert!(
            error.to_string().contains("linear, dynamic, yarn, llama3"),
            "{error}"
        );
    }
}
