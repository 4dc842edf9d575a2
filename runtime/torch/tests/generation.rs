//! Texts made by the golden model, side by side and alone; and what it finds likely.

#![allow(
    clippy::unwrap_used,
    clippy::pedantic,
    unreachable_pub,
    reason = "a test says what it expects by unwrapping"
)]

use std::fs;
use std::path::{Path, PathBuf};

use report::Silent;
use serde_json::Value;
use tch::Kind;
use torch_backend::{
    BackendError, Beams, Continuation, Generator, Model, ModelFiles, Pass, Sampling, Threads,
    generate, open, use_threads,
};
use train_data::{Batch, Example};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn source() -> ModelFiles {
    use_threads(Threads::Exactly(1));
    open(&golden().join("model"), Path::new("unused"), &Silent).unwrap()
}

/// What the original was asked, and the tokens that it made of it.
fn cases() -> Vec<(Vec<i64>, Vec<i64>)> {
    let text = fs::read(golden().join("vectors/generate.json")).unwrap();
    let vectors: Value = serde_json::from_slice(&text).unwrap();
    let tokens = |list: &Value| -> Vec<i64> {
        let list = list.as_array().unwrap().iter();
        list.map(|n| n.as_i64().unwrap()).collect()
    };
    let cases = vectors["base"].as_array().unwrap().iter();
    let pair = |case: &Value| (tokens(&case["prompt_ids"]), tokens(&case["new_ids"]));
    cases.map(pair).collect()
}

fn continuation(model: &Model, prompt: &[i64], limit: usize) -> Continuation {
    Continuation {
        prompt: prompt.to_vec(),
        limit,
        ends: model.config().end_tokens.clone(),
        sampling: Sampling::greedy(),
        beams: None,
    }
}

#[test]
fn texts_side_by_side_are_those_made_alone() {
    let model = source().load().unwrap();
    let cases = cases();
    assert!(cases.len() > 2);
    let mut generator = Generator::new(&model);
    let mut found: Vec<Vec<i64>> = vec![Vec::new(); cases.len()];
    let mut waiting = cases.iter();
    // One joins at each step, whatever the others are at; two places, so that some leave before others come.
    loop {
        if generator.count() < 2
            && let Some((prompt, wanted)) = waiting.next()
        {
            let text = continuation(&model, prompt, wanted.len());
            generator.admit(text).unwrap();
        }
        if generator.count() == 0 {
            break;
        }
        for made in generator.step().unwrap() {
            found[made.text as usize].push(made.token);
            let (_, wanted) = &cases[made.text as usize];
            let whole = found[made.text as usize].len() == wanted.len();
            assert_eq!(made.ended.is_some(), whole, "{made:?}");
        }
    }
    for ((_, wanted), found) in cases.iter().zip(&found) {
        assert_eq!(found, wanted);
    }
}

#[test]
fn beams_find_the_texts_that_transformers_finds() {
    let model = source().load().unwrap();
    let text = fs::read(golden().join("vectors/beams.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_slice(&text).unwrap();
    assert!(cases.len() > 30);
    let tokens = |case: &Value, name: &str| -> Vec<i64> {
        serde_json::from_value(case[name].clone()).unwrap()
    };
    let asked = |case: &Value| Continuation {
        prompt: tokens(case, "prompt"),
        limit: case["limit"].as_u64().unwrap() as usize,
        ends: tokens(case, "ends"),
        sampling: Sampling {
            repetition_penalty: case["repetition_penalty"].as_f64().unwrap(),
            ..Sampling::greedy()
        },
        beams: Some(Beams {
            count: case["beams"].as_u64().unwrap() as usize,
            length_penalty: case["length_penalty"].as_f64().unwrap(),
        }),
    };
    // Each by itself, and all that have three beside each other with a text that goes on alone.
    for case in &cases {
        let found = generate(&model, asked(case), |_| true).unwrap();
        assert_eq!(found, tokens(case, "made"), "{case}");
    }
    let (prompt, wanted) = cases_of_one();
    let mut generator = Generator::new(&model);
    let alone = generator
        .admit(continuation(&model, &prompt, wanted.len()))
        .unwrap();
    let some: Vec<&Value> = cases.iter().step_by(7).collect();
    let numbers: Vec<u64> = some
        .iter()
        .map(|case| generator.admit(asked(case)).unwrap())
        .collect();
    let mut found: std::collections::HashMap<u64, Vec<i64>> = Default::default();
    while generator.count() > 0 {
        for made in generator.step().unwrap() {
            found.entry(made.text).or_default().push(made.token);
        }
    }
    assert_eq!(found[&alone], wanted);
    for (case, number) in some.iter().zip(numbers) {
        assert_eq!(found[&number], tokens(case, "made"), "{case}");
    }
}

fn cases_of_one() -> (Vec<i64>, Vec<i64>) {
    cases().remove(0)
}

#[test]
fn beams_that_are_drawn_repeat_with_their_seed() {
    let model = source().load().unwrap();
    let (prompt, _) = cases_of_one();
    let drawn = |seed| {
        let text = Continuation {
            sampling: Sampling {
                draws: true,
                temperature: 50.0,
                top_k: 400,
                top_p: 0.95,
                seed,
                ..Sampling::greedy()
            },
            beams: Some(Beams {
                count: 3,
                length_penalty: 1.0,
            }),
            ..continuation(&model, &prompt, 12)
        };
        generate(&model, text, |_| true).unwrap()
    };
    assert_eq!(drawn(1), drawn(1));
    let others: std::collections::HashSet<Vec<i64>> = (0..6).map(drawn).collect();
    assert!(others.len() > 1);
}

#[test]
fn a_text_that_is_dismissed_gets_no_more_and_disturbs_none() {
    let model = source().load().unwrap();
    let [(first, wanted), (second, _)] = <[_; 2]>::try_from(cases()[..2].to_vec()).unwrap();
    let mut generator = Generator::new(&model);
    let kept = generator.admit(continuation(&model, &first, 64)).unwrap();
    let gone = generator.admit(continuation(&model, &second, 64)).unwrap();
    generator.step().unwrap();
    generator.dismiss(gone);
    let next = generator.step().unwrap();
    assert_eq!(next.len(), 1);
    assert_eq!((next[0].text, next[0].token), (kept, wanted[1]));
    for prompt in [vec![], vec![1; model.config().positions as usize]] {
        assert!(generator.admit(continuation(&model, &prompt, 1)).is_err());
    }
}

#[test]
fn a_model_that_makes_no_numbers_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        fs::copy(golden().join("model").join(name), folder.path().join(name)).unwrap();
    }
    let bytes = fs::read(golden().join("model/model.safetensors")).unwrap();
    let mut broken = bytes.clone();
    let end = broken.len();
    // The last tensor of the file, whole.
    for number in broken[end - 256..].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::NAN.to_le_bytes());
    }
    fs::write(folder.path().join("model.safetensors"), broken).unwrap();
    let source = open(folder.path(), Path::new("unused"), &Silent).unwrap();
    let model = source.load().unwrap();
    let error = generate(&model, continuation(&model, &[1, 2], 3), |_| true).unwrap_err();
    assert!(
        matches!(error, BackendError::BrokenWeight { .. }),
        "{error}"
    );
    assert!(model.choose_among(&[&[1, 2]], &[5, 6]).is_err());
}

#[test]
fn choices_and_losses_are_those_of_the_logits() {
    let model = source().load().unwrap();
    let prompts: Vec<Vec<i64>> = cases().into_iter().map(|(prompt, _)| prompt).collect();
    let all: Vec<&[i64]> = prompts.iter().map(Vec::as_slice).collect();
    let choices = [666_i64, 445, 314, 767];
    let found = model.choose_among(&all, &choices).unwrap();
    for (prompt, found) in prompts.iter().zip(found) {
        let logits = tch::no_grad(|| model.logits(&Pass::of_text(prompt), false)).unwrap();
        let last = logits.get(prompt.len() as i64 - 1);
        let of = |choice: i64| last.double_value(&[choice]);
        let best = choices
            .iter()
            .position(|c| choices.iter().all(|d| of(*c) >= of(*d)));
        assert_eq!(Some(found), best);
    }
    let example = |ids: &[i64]| Example {
        input_ids: ids.iter().map(|id| *id as u32).collect(),
        labels: ids.to_vec(),
        packed: None,
    };
    let examples: Vec<Example> = all.iter().map(|ids| example(ids)).collect();
    let batch = Batch::collate(&examples.iter().collect::<Vec<_>>(), 0);
    let (sum, count) = model.text_loss(&batch).unwrap();
    let mut wanted = 0.0;
    for ids in &all {
        let logits = tch::no_grad(|| model.logits(&Pass::of_text(ids), false)).unwrap();
        let likely = logits.log_softmax(-1, Kind::Double);
        for (at, id) in ids.iter().enumerate().skip(1) {
            wanted -= likely.double_value(&[at as i64 - 1, *id]);
        }
    }
    assert_eq!(count, all.iter().map(|ids| ids.len() - 1).sum::<usize>());
    assert!((sum - wanted).abs() < 1e-3, "{sum} {wanted}");
}
