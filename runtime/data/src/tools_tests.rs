//! Conversations with tools as the original encodes them, id by id.

use std::fs;

use report::Silent;
use serde_json::{Value, json};

use crate::batch::IGNORED;
use crate::cache::Cache;
use crate::example::{EncodeSettings, Example, Item};
use crate::prepare::{Request, prepare};
use crate::stage::Stage;
use crate::template::{Opening, Template, Turn};
use crate::testing::golden;
use crate::tokenizer::Tokenizer;
use crate::tools::ToolFormat;

/// The golden tokenizer with the special tokens of other families, as the original was given it.
fn tokenizer(vectors: &Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    let model = golden().join("model");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(model.join(name)).unwrap()).unwrap()
    };
    let mut made = read("tokenizer.json");
    let added = made["added_tokens"].as_array_mut().unwrap();
    let first = added
        .iter()
        .map(|token| token["id"].as_u64().unwrap())
        .max()
        .unwrap()
        + 1;
    for (id, content) in (first..).zip(vectors["added"].as_array().unwrap()) {
        added.push(json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    fs::write(folder.path().join("tokenizer.json"), made.to_string()).unwrap();
    let mut settings = read("tokenizer_config.json");
    settings["bos_token"] = vectors["bos"].clone();
    fs::write(
        folder.path().join("tokenizer_config.json"),
        settings.to_string(),
    )
    .unwrap();
    Tokenizer::from_folder(folder.path()).unwrap()
}

/// Ids, and labels as the lengths of stretches that the loss leaves out, counts, leaves out, …
fn shown(example: &Example) -> [Value; 2] {
    let (mut runs, mut counted) = (vec![0], false);
    for label in &example.labels {
        if (*label != IGNORED) != counted {
            runs.push(0);
            counted = !counted;
        }
        *runs.last_mut().unwrap() += 1;
    }
    [json!(example.input_ids), json!(runs)]
}

#[test]
fn tools_are_described_called_and_answered_as_in_the_original() {
    let text = include_str!("../../../tests/golden/vectors/tools.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut list = vectors["listed"].clone();
    for (name, records) in vectors["data"].as_object().unwrap() {
        fs::write(
            folder.path().join(format!("{name}.json")),
            records.to_string(),
        )
        .unwrap();
        list[name]["file_name"] = json!(format!("{name}.json"));
    }
    fs::write(folder.path().join("dataset_info.json"), list.to_string()).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let (name, changes) = (case["template"].as_str().unwrap(), &case["changes"]);
        let at = format!("{name} {changes} {}", case["data"]);
        let mut template = Template::named(name).unwrap().clone();
        if let Some(format) = changes["tool_format"].as_str() {
            let found = ToolFormat::NAMES.iter().find(|(known, _)| *known == format);
            template = template.with_tools(found.unwrap().1);
        }
        if let Some(system) = changes["default_system"].as_str() {
            template = template.with_default_system(system.to_owned());
        }
        let mut tokenizer = tokenizer(&vectors);
        tokenizer.adapt_to(&template).unwrap();
        let settings = EncodeSettings {
            mask_history: changes["mask_history"] == true,
            enable_thinking: changes["enable_thinking"] != false,
            tool_date: vectors["date"].as_str().unwrap(),
            ..EncodeSettings::of(
                &template,
                changes["cutoff_len"].as_u64().unwrap_or(4096) as usize,
            )
        };
        let names = [case["data"].as_str().unwrap().to_owned()];
        let ranking = names[0] == "ranking";
        let request = Request {
            stage: if ranking {
                Stage::Pairwise
            } else {
                Stage::Supervised
            },
            ..Request::of(folder.path(), &names)
        };
        let prepared =
            prepare(&request, &tokenizer, &settings, &Cache::default(), &Silent).unwrap();
        let rows: Vec<Value> = prepared
            .items
            .iter()
            .map(|item| match item {
                Item::Single(example) => json!(shown(example)),
                Item::Pair { chosen, rejected } => json!([shown(chosen), shown(rejected)].concat()),
                other @ Item::Judged { .. } => panic!("{other:?}"),
            })
            .collect();
        let expected = case["rows"].as_array().unwrap();
        assert_eq!(rows.len(), expected.len(), "{at}");
        for (index, (row, expected)) in rows.iter().zip(expected).enumerate() {
            let text = |row: &Value| -> String {
                let ids: Vec<u32> = serde_json::from_value(row[0].clone()).unwrap();
                tokenizer.decode(&ids, false).unwrap()
            };
            assert_eq!(text(row), text(expected), "{at}, record {index}");
            assert_eq!(row, expected, "{at}, record {index}");
        }
    }
}

/// What the original generates from where it is told of tools.
#[test]
fn prompts_with_tools_are_the_originals() {
    let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let special = read(include_str!("../../../tests/golden/vectors/tools.json"));
    let vectors = read(include_str!("../../../tests/golden/vectors/calls.json"));
    let tools = vectors["tools"].to_string();
    let cases = vectors["prompts"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let template = Template::named(case["template"].as_str().unwrap()).unwrap();
        let mut tokenizer = tokenizer(&special);
        tokenizer.adapt_to(template).unwrap();
        let opening = Opening {
            system: case["system"].as_str().unwrap(),
            tools: &tools,
            date: "26 Jul 2024",
        };
        let mut turns: Vec<Turn> = Vec::new();
        for message in case["chat"].as_array().unwrap() {
            let text = message[1].as_str().unwrap().to_owned();
            match message[0].as_str().unwrap() {
                role @ ("user" | "observation") => turns.push(Turn {
                    user: text,
                    observed: role == "observation",
                    ..Turn::default()
                }),
                role => {
                    let last = turns.last_mut().unwrap();
                    (last.assistant, last.called) = (text, role == "function");
                }
            }
        }
        let ids = template
            .open_prompt(&tokenizer, opening, &turns, true)
            .unwrap();
        let wanted: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let text = |ids: &[u32]| tokenizer.decode(ids, false).unwrap();
        assert_eq!(text(&ids), text(&wanted), "{}", case["chat"]);
        assert_eq!(ids, wanted, "{}", case["chat"]);
    }
}

#[test]
fn tools_that_are_none_name_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let list = json!({"d": {"file_name": "d.json", "columns": {
        "prompt": "instruction", "response": "output", "tools": "tools",
    }}});
    fs::write(folder.path().join("dataset_info.json"), list.to_string()).unwrap();
    let data = json!([
        {"instruction": "a", "output": "b", "tools": null},
        {"instruction": "a", "output": "b", "tools": "{oops"},
    ]);
    fs::write(folder.path().join("d.json"), data.to_string()).unwrap();
    let names = ["d".to_owned()];
    let request = Request::of(folder.path(), &names);
    let settings = EncodeSettings::of(Template::named("qwen").unwrap(), 100);
    let tokenizer = crate::testing::golden_tokenizer();
    let error = prepare(&request, &tokenizer, &settings, &Cache::default(), &Silent).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("record 2, tools: expected a JSON list of tools"),
        "{error}"
    );
}
