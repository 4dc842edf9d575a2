//! What lists of datasets say, and what is wrong with them.

use std::fs;

use super::*;
use crate::dataset::Slot;
use crate::example::Conversation;

fn load(info: &str, file: &str, data: &str) -> Result<Vec<Slot>, DataError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(LIST), info).unwrap();
    fs::write(folder.path().join(file), data).unwrap();
    let dataset = Datasets::open(folder.path())?.find("d", Stage::Supervised)?;
    dataset.slots().collect()
}

/// The conversations of slots, and the numbers of those that have none.
fn sorted(slots: Vec<Slot>) -> (Vec<Conversation>, Vec<usize>) {
    let (mut kept, mut dropped) = (Vec::new(), Vec::new());
    for slot in slots {
        match slot.content {
            Ok(conversation) => kept.push(conversation),
            Err(_) => dropped.push(slot.origin.record),
        }
    }
    (kept, dropped)
}

const ALPACA: &str = r#"{"d": {"file_name": "d.json"}}"#;

#[test]
fn usual_columns_need_no_listing() {
    let data = r#"[{"instruction": "a", "input": "b", "output": "c"}, {"instruction": "a"}]"#;
    let (kept, dropped) = sorted(load(ALPACA, "d.json", data).unwrap());
    assert_eq!(kept[0].turns[0].user, "a\nb");
    assert_eq!(dropped, [2]);
    let info = r#"{"d": {"file_name": "d.jsonl", "formatting": "openai"}}"#;
    let line = r#"{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]}"#;
    let (kept, _) = sorted(load(info, "d.jsonl", &format!("{line}\n\n{line}\n")).unwrap());
    assert_eq!(kept.len(), 2);
}

#[test]
fn a_table_is_read_like_a_list() {
    let info = r#"{"d": {"file_name": "d.csv"}}"#;
    let loaded = load(info, "d.csv", "instruction,input,output\na,b,c\nd,,e\n").unwrap();
    let (kept, _) = sorted(loaded);
    let asked: Vec<_> = kept.iter().map(|c| c.turns[0].user.as_str()).collect();
    assert_eq!(asked, ["a\nb", "d"]);
}

#[test]
fn turns_that_do_not_alternate_are_dropped_and_named() {
    let info = r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#;
    let data = r#"[{"conversations": [{"from": "gpt", "value": "a"}]},
        {"conversations": [{"from": "human", "value": "a"}]},
        {"conversations": []},
        {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]"#;
    let (kept, dropped) = sorted(load(info, "d.json", data).unwrap());
    assert_eq!(dropped, [1, 2, 3]);
    assert_eq!(kept[0].system, "s");
}

/// As LLaMA-Factory 0.9.5 has it: an entry that names tags names all of them, but for `openai`.
#[test]
fn tags_that_an_entry_leaves_out_are_none() {
    let data = r#"[{"c": [{"role": "system", "text": "s"}, {"role": "u", "text": "a"}, {"role": "b", "text": "b"}]},
        {"c": [{"role": "u", "text": "a"}, {"role": "b", "text": "b"}]},
        {"c": [{"role": "observation", "text": null}, {"role": "b", "text": "b"}]}]"#;
    let tags =
        r#""role_tag": "role", "content_tag": "text", "user_tag": "u", "assistant_tag": "b""#;
    for (formatting, more, wanted) in [
        ("sharegpt", "", &[1, 3][..]),
        ("sharegpt", r#", "system_tag": "system""#, &[3]),
        ("sharegpt", r#", "system_tag": """#, &[1, 3]),
        ("openai", "", &[3]),
    ] {
        let info = format!(
            r#"{{"d": {{"file_name": "d.json", "formatting": "{formatting}", "columns": {{"messages": "c"}}, "tags": {{{tags}{more}}}}}}}"#
        );
        let (kept, dropped) = sorted(load(&info, "d.json", data).unwrap());
        assert_eq!(dropped, wanted, "{formatting}{more}");
        assert_eq!(kept.len(), 3 - wanted.len());
    }
    let unlisted = r#"{"d": {"file_name": "d.json", "columns": {"prompt": "q", "query": "", "response": "r"}}}"#;
    let (kept, _) = sorted(load(unlisted, "d.json", r#"[{"q": "a", "": "x", "r": "b"}]"#).unwrap());
    assert_eq!(kept[0].turns[0].user, "a");
}

#[test]
fn a_key_that_is_nearly_a_known_one_is_an_error_and_others_are_passed_over() {
    let data = r#"[{"instruction": "a", "output": "b"}]"#;
    for (entry, expected) in [
        (
            r#""colums": {}"#,
            "dataset d: expected `columns`, found `colums`",
        ),
        (
            r#""columns": {"promt": "q"}"#,
            "dataset d, columns: expected `prompt`, found `promt`",
        ),
        (
            r#""tags": {"user_tg": "q"}"#,
            "dataset d, tags: expected `user_tag`, found `user_tg`",
        ),
    ] {
        let info = format!(r#"{{"d": {{"file_name": "d.json", {entry}}}}}"#);
        let error = load(&info, "d.json", data).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let info = r#"{"d": {"file_name": "d.json", "license": "mit", "columns": {"prompt": "instruction", "response": "output", "id": "n"}}}"#;
    assert_eq!(load(info, "d.json", data).unwrap().len(), 1);
}

#[test]
fn a_limit_does_not_hide_a_column_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let info = r#"{"d": {"file_name": "d.json", "columns": {"prompt": "question", "response": "output"}}}"#;
    fs::write(folder.path().join(LIST), info).unwrap();
    let data = r#"[{"instruction": "a", "output": "b"}, {"instruction": "a", "output": "b"}]"#;
    fs::write(folder.path().join("d.json"), data).unwrap();
    let dataset = Datasets::open(folder.path())
        .unwrap()
        .find("d", Stage::Supervised)
        .unwrap();
    let read: Result<Vec<Slot>, DataError> = dataset.slots().up_to(1).collect();
    let error = read.unwrap_err().to_string();
    assert!(
        error.contains("`question`, which none of the first 1 records has"),
        "{error}"
    );
}

#[test]
fn wrong_shapes_name_file_place_expected_and_found() {
    for (info, file, data, expected) in [
        (
            "[]",
            "d.json",
            "[]",
            "top level: expected an object, found a list of 0",
        ),
        ("{\n\"d\": oops}", "d.json", "[]", "line 2"),
        (r#"{"e": {}}"#, "d.json", "[]", "listed: e"),
        (r#"{"d": {"file_name": 3}}"#, "d.json", "[]", "dataset d"),
        (
            r#"{"d": {}}"#,
            "d.json",
            "[]",
            "file_name: expected a file name",
        ),
        (
            r#"{"d": {"hf_hub_url": "a/b"}}"#,
            "d.json",
            "[]",
            "dataset d: `hf_hub_url` is not on this machine",
        ),
        (
            r#"{"d": {"file_name": "d.json", "script_url": "s.py"}}"#,
            "d.json",
            "[]",
            "dataset d: `script_url` is not on this machine",
        ),
        (ALPACA, "d.json", "[]", "d.json` holds no records"),
        (ALPACA, "d.json", "", "d.json` holds no records"),
        (
            r#"{"d": {"file_name": "d.json", "columns": {"prompt": "question", "response": "output"}}}"#,
            "d.json",
            r#"[{"instruction": "a", "output": "b"}]"#,
            "dataset d, columns, prompt: expected a column of",
        ),
        (
            r#"{"d": {"file_name": "d.json", "ranking": true}}"#,
            "d.json",
            "[]",
            "is made for comparisons (`ranking: true`); this job's stage is `sft`",
        ),
        (
            r#"{"d": {"file_name": "d.parquet"}}"#,
            "d.parquet",
            "a,b",
            "is not a parquet file that can be read: it does not begin",
        ),
        (
            r#"{"d": {"file_name": "d.arrow"}}"#,
            "d.arrow",
            "a,b",
            "is not an Arrow file that can be read: it is cut off",
        ),
        (
            r#"{"d": {"file_name": "d.json", "num_samples": 0}}"#,
            "d.json",
            "[]",
            "dataset d, num_samples: expected a whole number from 1",
        ),
        (
            r#"{"d": {"file_name": "d.json", "split": "train[:5]"}}"#,
            "d.json",
            "[]",
            "`split`: `train[:5]`",
        ),
        (
            r#"{"d": {"file_name": "d.xlsx"}}"#,
            "d.xlsx",
            "a,b",
            "kind `xlsx`",
        ),
    ] {
        let error = load(info, file, data).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

#[test]
fn records_of_another_shape_name_record_and_field() {
    for (info, file, data, expected) in [
        (
            ALPACA,
            "d.json",
            r#""text""#,
            "line 1: expected a list of records",
        ),
        (
            ALPACA,
            "d.json",
            "[1]",
            "record 1: expected an object, found the number 1",
        ),
        (
            ALPACA,
            "d.json",
            r#"[{"instruction": 7, "output": "a"}]"#,
            "record 1, field instruction: expected text",
        ),
        (ALPACA, "d.json", "[{}\n,]", "line 2"),
        (
            r#"{"d": {"file_name": "d.json", "columns": {"prompt": "p", "history": "h"}}}"#,
            "d.json",
            r#"[{"p": "a", "h": [["only one"]]}]"#,
            "record 1, field h",
        ),
        (
            r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#,
            "d.json",
            r#"[{"conversations": "x"}]"#,
            "field conversations: expected a list of turns",
        ),
        (
            r#"{"d": {"file_name": "d.json", "formatting": "sharegpt"}}"#,
            "d.json",
            r#"[{"conversations": [{"from": "human", "value": ["x"]}, {"from": "gpt", "value": "y"}]}]"#,
            "conversations, turn 1, value: expected text",
        ),
    ] {
        let error = load(info, file, data).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} / {expected}");
    }
}

#[test]
fn a_judged_answer_that_is_missing_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let info = r#"{"d": {"file_name": "d.csv", "columns": {"prompt": "q", "response": "r", "kto_tag": "good"}}}"#;
    fs::write(folder.path().join(LIST), info).unwrap();
    fs::write(
        folder.path().join("d.csv"),
        "q,r,good\na,,True\nb,c,False\n",
    )
    .unwrap();
    let datasets = Datasets::open(folder.path()).unwrap();
    let dataset = datasets.find("d", Stage::Feedback).unwrap();
    let slots = dataset.slots().collect::<Result<Vec<Slot>, DataError>>();
    let (kept, dropped) = sorted(slots.unwrap());
    assert!(dropped.is_empty());
    let said: Vec<_> = kept
        .iter()
        .map(|c| (c.turns[0].assistant.as_str(), c.desirable))
        .collect();
    assert_eq!(said, [("", Some(true)), ("c", Some(false))]);
    // Plain texts may be taken of it, too.
    assert!(datasets.find("d", Stage::Pretrain).is_ok());
}
