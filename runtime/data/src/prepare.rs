//! Named datasets into examples, ready to batch.

use std::path::Path;

use crate::dataset::{Datasets, Dropped};
use crate::error::DataError;
use crate::example::{EncodeSettings, Example};
use crate::tokenizer::Tokenizer;

/// Examples of all datasets, one after another.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Examples, in the order of the datasets and their files.
    pub examples: Vec<Example>,
    /// Records left out.
    pub dropped: Vec<Dropped>,
}

/// Loads `names` from `folder`, at most `max_samples` records each, and encodes them.
///
/// The tokenizer must have been [adapted](Tokenizer::adapt_to) to the template.
pub fn prepare(
    folder: &Path,
    names: &[String],
    max_samples: Option<usize>,
    tokenizer: &Tokenizer,
    settings: &EncodeSettings,
) -> Result<Prepared, DataError> {
    let datasets = Datasets::open(folder)?;
    let mut prepared = Prepared::default();
    for name in names {
        let loaded = datasets.load(name, max_samples)?;
        for conversation in &loaded.conversations {
            let example = Example::encode(conversation, tokenizer, settings)?;
            prepared.examples.push(example);
        }
        prepared.dropped.extend(loaded.dropped);
    }
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde::Deserialize;

    use super::*;
    use crate::batch::Batch;
    use crate::template::Template;
    use crate::testing::{golden, golden_tokenizer};

    /// A micro-batch as the original fed it to the model.
    #[derive(Deserialize)]
    struct Recorded {
        input_ids: Vec<Vec<i64>>,
        labels: Vec<Vec<i64>>,
        attention_mask: Vec<Vec<i64>>,
    }

    #[test]
    fn micro_batches_are_the_originals_id_by_id() {
        let mut tokenizer = golden_tokenizer();
        let template = Template::named("qwen").unwrap();
        tokenizer.adapt_to(template).unwrap();
        let settings = EncodeSettings {
            template,
            default_system: None,
            cutoff_len: 192,
            train_on_prompt: false,
            mask_history: false,
        };
        let names = ["golden_alpaca", "golden_sharegpt", "golden_openai"].map(str::to_owned);
        let data = golden().join("data");
        let prepared = prepare(&data, &names, None, &tokenizer, &settings).unwrap();
        assert_eq!(prepared.dropped, []);
        assert!(prepared.examples.len() >= 80, "{}", prepared.examples.len());
        for run in ["sft_lora", "sft_full"] {
            let path = golden().join("traces").join(run).join("batches.json");
            let recorded: Vec<Recorded> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            assert_eq!(recorded.len(), 40, "{run}");
            for (index, (pair, expected)) in prepared.examples.chunks(2).zip(&recorded).enumerate()
            {
                let pair: Vec<&Example> = pair.iter().collect();
                let batch = Batch::collate(&pair, tokenizer.padding_id());
                assert_eq!(batch.rows, expected.input_ids.len(), "{run} {index}");
                assert_eq!(
                    batch.input_ids,
                    expected.input_ids.concat(),
                    "{run} {index}"
                );
                assert_eq!(batch.labels, expected.labels.concat(), "{run} {index}");
                let mask = expected.attention_mask.concat();
                assert_eq!(batch.attention_mask, mask, "{run} {index}");
            }
        }
    }
}
