//! `preview`: the first examples of a job as the model will read them, under the names that LLaMA-Factory prints at the
//! start of a run.

use console::View;
use report::Trouble;
use serde_json::{Map, Value, json};
use train_data::{DataError, Example, IGNORED, Item, Tokenizer};

use crate::home::Home;
use crate::material::{Keep, Ready};
use crate::{JobArguments, PreviewArguments, job_file, model_folder};

pub(crate) fn run(arguments: &PreviewArguments, view: &View) -> Result<(), Trouble> {
    let home = Home::find();
    let JobArguments { job, settings } = &arguments.job;
    let job = job_file::read(job, settings, view)?;
    let folder = model_folder::find(&job.model, &home, view)?;
    let ready = Ready::gather(&job, &folder, &home, Keep::No, view)?;
    let PreviewArguments { count, skip, .. } = *arguments;
    let chosen =
        |items: &[Item]| -> Vec<Item> { items.iter().skip(skip).take(count).cloned().collect() };
    let (examples, all) = if let Some(streaming) = job.data.streaming {
        ready.stream(&job, streaming, |streamed| {
            if arguments.eval {
                let items = streamed.eval_items();
                return Ok((chosen(items), Some(items.len())));
            }
            let items = streamed.epoch(0, skip)?.take(count);
            Ok((items.collect::<Result<_, DataError>>()?, None))
        })?
    } else {
        let items = if arguments.eval {
            &ready.prepared.eval_items
        } else {
            &ready.prepared.items
        };
        (chosen(items), Some(items.len()))
    };
    ready.warn(view);
    let shown = Shown(&ready.tokenizer);
    let values = examples.iter().map(|item| shown.item(item));
    let values = values.collect::<Result<Vec<_>, DataError>>()?;
    let shown = values.iter().zip(&examples).enumerate();
    let human = shown.map(|(at, (value, item))| {
        let args = [
            ("number", (skip + at + 1).to_string()),
            ("tokens", item.tokens().to_string()),
            ("labels", item.labels().to_string()),
        ];
        view.text("runtime.preview-example", &args) + "\n" + &lines(value)
    });
    let human: Vec<String> = human.collect();
    let value = json!({
        "template": ready.template.name, "of": all, "skipped": skip, "examples": values,
        "dropped": ready.dropped(),
    });
    view.result(&value, &human.join("\n\n"));
    Ok(())
}

/// Examples with the texts of their tokens.
struct Shown<'a>(&'a Tokenizer);

impl Shown<'_> {
    fn item(&self, item: &Item) -> Result<Map<String, Value>, DataError> {
        let mut fields = Map::new();
        match item {
            Item::Single(example) => self.row("", example, &mut fields)?,
            Item::Pair { chosen, rejected } => {
                self.row("chosen_", chosen, &mut fields)?;
                self.row("rejected_", rejected, &mut fields)?;
            }
            Item::Judged {
                example,
                mismatched,
                desirable,
            } => {
                self.row("", example, &mut fields)?;
                self.row("kl_", mismatched, &mut fields)?;
                fields.insert("kto_tags".to_owned(), (*desirable).into());
            }
        }
        Ok(fields)
    }

    fn row(
        &self,
        prefix: &str,
        row: &Example,
        fields: &mut Map<String, Value>,
    ) -> Result<(), DataError> {
        let learnt = row.labels.iter().filter(|label| **label != IGNORED);
        let learnt: Vec<u32> = learnt
            .filter_map(|label| u32::try_from(*label).ok())
            .collect();
        let text = |ids: &[u32]| self.0.decode(ids, false);
        for (name, value) in [
            ("input_ids", json!(row.input_ids)),
            ("inputs", text(&row.input_ids)?.into()),
            ("label_ids", json!(row.labels)),
            ("labels", text(&learnt)?.into()),
        ] {
            fields.insert(format!("{prefix}{name}"), value);
        }
        if let Some(packed) = &row.packed {
            fields.insert(format!("{prefix}attention_mask"), json!(packed.segments));
            fields.insert(format!("{prefix}position_ids"), json!(packed.positions));
        }
        Ok(())
    }
}

/// A field after the other: its name, and on the next line its value.
fn lines(fields: &Map<String, Value>) -> String {
    let fields = fields.iter().map(|(name, value)| match value {
        Value::String(text) => format!("{name}:\n{text}"),
        other => format!("{name}:\n{other}"),
    });
    fields.collect::<Vec<_>>().join("\n")
}
