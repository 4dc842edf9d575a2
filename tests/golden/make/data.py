"""What LLaMA-Factory 0.9.5, datasets, numpy and pyarrow make of small made-up data: writes tests/golden/vectors.

Run from the root of the repository with the Python that `cargo xtask bench training` makes:

    ~/.cache/ferry/llamafactory-0.9.5/bin/python tests/golden/make/data.py

    numpy.json      draws of numpy.random.default_rng; orders of interleave_datasets, train_test_split and shuffled streams
    tools.json      token ids and labels of conversations with tools, by template
    parquet/        files as pyarrow writes them, and parquet.json with what is in them
"""

import json
import os
import tempfile
from copy import deepcopy
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, concatenate_datasets, interleave_datasets

GOLDEN = Path("tests/golden")
VECTORS = GOLDEN / "vectors"


def save(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (VECTORS / name).write_text(text + "\n", encoding="utf-8")


def numbers(lengths):
    """Datasets that count on through all of them."""
    start, sets = 0, []
    for length in lengths:
        sets.append(Dataset.from_dict({"n": list(range(start, start + length))}))
        start += length
    return sets


def draws():
    cases = []
    for seed in [0, 1, 42, 2**32 - 1, 2**32, 2**40 + 7]:
        new = lambda: np.random.default_rng(seed)
        cases.append({
            "seed": seed,
            "raw": [int(new_draw) for new_draw in new().bit_generator.random_raw(5)],
            "below_7": new().integers(0, 7, size=20).tolist(),
            "below_16384": new().integers(0, 16384, size=20).tolist(),
            "permutation_33": new().permutation(33).tolist(),
            "choice": new().choice(3, size=20, p=[0.5, 0.2, 0.3]).tolist(),
        })
    return cases


def mixes():
    cases = []
    for lengths, probabilities, seed in [
        ([3, 4, 5], None, 42),
        ([5, 1, 4], None, 42),
        ([3, 4, 5], [0.5, 0.2, 0.3], 42),
        ([30, 4, 50], [0.1, 0.2, 0.7], 7),
        ([1000, 2000], [0.6, 0.4], 42),
    ]:
        for strategy in ["first_exhausted", "all_exhausted"]:
            mixed = interleave_datasets(
                numbers(lengths), probabilities=probabilities, seed=seed, stopping_strategy=strategy
            )
            cases.append({
                "lengths": lengths, "probabilities": probabilities, "seed": seed, "strategy": strategy,
                "order": mixed["n"][:],
            })
    return cases


def splits():
    cases = []
    for count, test_size, seed in [(10, 3, 42), (91, 0.1, 42), (7, 0.5, 0), (1000, 100, 7), (25, 1, 42), (11, 0.31, 123456789)]:
        # As LLaMA-Factory passes it: whole numbers above one are counts.
        size = test_size if test_size != 1 else 1
        made = numbers([count])[0].train_test_split(test_size=size, seed=seed)
        cases.append({
            "count": count, "test_size": test_size, "seed": seed,
            "train": made["train"]["n"][:], "test": made["test"]["n"][:],
        })
    return cases


def shuffles():
    cases = []
    for count, buffer, seed in [(20, 1, 42), (20, 8, 42), (50, 16, 0), (5, 16, 42), (3000, 1500, 42)]:
        for epoch in [0, 1, 2]:
            stream = numbers([count])[0].to_iterable_dataset(num_shards=1).shuffle(buffer_size=buffer, seed=seed)
            stream.set_epoch(epoch)
            cases.append({
                "count": count, "buffer": buffer, "seed": seed, "epoch": epoch, "order": [row["n"] for row in stream],
            })
    return cases


def streams():
    cases = []
    for lengths, strategy, probabilities in [
        ([9, 7, 5], None, None),
        ([9, 7, 5], "first_exhausted", None),
        ([9, 7, 5], "all_exhausted", None),
        ([9, 7, 5], "first_exhausted", [0.5, 0.2, 0.3]),
        ([9, 7, 5], "all_exhausted", [0.5, 0.2, 0.3]),
        ([2, 40], "all_exhausted", [0.6, 0.4]),
    ]:
        for epoch in [0, 1, 5]:
            sets = [one.to_iterable_dataset(num_shards=1) for one in numbers(lengths)]
            if strategy is None:
                mixed = concatenate_datasets(sets)
            else:
                mixed = interleave_datasets(sets, probabilities=probabilities, seed=42, stopping_strategy=strategy)
            stream = mixed.shuffle(buffer_size=6, seed=42)
            stream.set_epoch(epoch)
            cases.append({
                "lengths": lengths, "strategy": strategy, "probabilities": probabilities, "seed": 42, "buffer": 6,
                "epoch": epoch, "order": [row["n"] for row in stream],
            })
    return cases


ADDED = [
    "<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<tool_call>", "</tool_call>", "<think>", "</think>", "[INST]", "[/INST]", "[TOOL_CALLS]",
]

WEATHER = {
    "name": "get_weather",
    "description": "Weather of a city. 城市天气",
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city's \"name\""},
            "days": {"type": ["integer", "null"], "enum": ["1", "7"]},
            "hours": {"type": "array", "items": {"type": "number"}, "description": ""},
        },
        "required": ["city"],
    },
}
TIME = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}


def sharegpt():
    call = json.dumps({"name": "get_weather", "arguments": {"city": "北京", "days": 1.0, "x": 1e-7}})
    calls = '[{"name":"now","arguments":{}}, {"name": "get_weather", "arguments": {"city": "Ōsaka\\n"}}]'
    tools = json.dumps([WEATHER, TIME], ensure_ascii=False)
    said = lambda role, text: {"from": role, "value": text}
    return [
        {"conversations": [
            said("human", "Weather?"), said("function_call", call), said("observation", '{"t": 21}'), said("gpt", "21 degrees."),
            said("human", "And now?"), said("function_call", calls), said("observation", "12:00"), said("gpt", "Noon."),
        ], "system": "Be brief.", "tools": tools},
        {"conversations": [said("human", "Hi"), said("gpt", "Hello")], "system": "", "tools": tools},
        {"conversations": [said("human", "Hi"), said("gpt", "Hello")], "system": "", "tools": "[]"},
        {"conversations": [said("human", "Hi"), said("gpt", "Hello")], "system": "s", "tools": ""},
    ]


def marked():
    """Thoughts and text around calls."""
    call = json.dumps({"name": "get_weather", "arguments": {"city": "北京", "days": 1.0, "x": 1e-7}})
    calls = '[{"name":"now","arguments":{}}, {"name": "get_weather", "arguments": {"city": "Ōsaka\\n"}}]'
    tools = json.dumps([WEATHER, TIME], ensure_ascii=False)
    said = lambda role, text: {"from": role, "value": text}
    return [
        {"conversations": [
            said("human", "Think."), said("function_call", "<think>\nWhich?\n</think>\n\n" + call),
            said("observation", "ok"), said("gpt", "<think>\nGood.\n</think>\n\nDone."),
        ], "system": "", "tools": tools},
        {"conversations": [
            said("human", "Mixed."), said("function_call", "First this. <tool_call>" + call + "</tool_call> Then that."),
            said("observation", "ok"), said("function_call", calls),
        ], "system": "", "tools": ""},
    ]


def openai():
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "a"}'}}
    return [
        {"messages": [
            {"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [call, call]},
            {"role": "tool", "content": "one"}, {"role": "tool", "content": "two"},
            {"role": "assistant", "content": "r"},
        ], "tools": json.dumps([WEATHER])},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}], "tools": ""},
        {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                      {"role": "assistant", "content": "r"}], "tools": ""},
        {"messages": [{"role": "system", "content": "detailed thinking on"}, {"role": "user", "content": "q"},
                      {"role": "assistant", "content": "r"}], "tools": ""},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}], "tools": json.dumps([TIME])},
    ]


def alpaca():
    return [
        {"instruction": "a", "input": "b", "output": "c", "system": "s", "history": [["x", "y"], ["z", ""]], "tools": json.dumps([TIME])},
        {"instruction": "a", "input": "", "output": "c", "system": "", "history": [], "tools": ""},
        {"instruction": "", "input": "b", "output": "", "system": "", "history": [["x", "y"]], "tools": "[]"},
    ]


def ranking():
    said = lambda role, text: {"from": role, "value": text}
    call = '{"name": "now", "arguments": {"a": [1, null, true]}}'
    return [
        {"conversations": [said("human", "q")], "chosen": said("function_call", call), "rejected": said("gpt", "no"), "tools": json.dumps([TIME])},
        {"conversations": [said("human", "q"), said("function_call", call), said("observation", "o")],
         "chosen": said("gpt", "yes"), "rejected": said("function_call", call), "tools": ""},
    ]


LISTED = {
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations", "system": "system", "tools": "tools"}},
    "openai": {
        "formatting": "openai", "columns": {"messages": "messages", "tools": "tools"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant",
                 "observation_tag": "tool", "function_tag": "function", "system_tag": "system"},
    },
    "alpaca": {"columns": {"prompt": "instruction", "query": "input", "response": "output", "system": "system",
                           "history": "history", "tools": "tools"}},
    "ranking": {"formatting": "sharegpt", "ranking": True,
                "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "tools": "tools"}},
}
LISTED["marked"] = LISTED["sharegpt"]
DATA = {"sharegpt": sharegpt(), "marked": marked(), "openai": openai(), "alpaca": alpaca(), "ranking": ranking()}
TEMPLATES = [
    "qwen", "qwen3", "qwen3_nothink", "smollm2", "chatml", "yi", "llama3", "llama2", "llama2_zh", "mistral", "deepseek",
    "deepseek3", "deepseekr1", "alpaca", "vicuna", "default", "empty",
]
DATE = "26 Jul 2024"


def tokenizer_folder(place):
    """The golden tokenizer with the special tokens of other families."""
    made = json.loads((GOLDEN / "model/tokenizer.json").read_text())
    first = max(token["id"] for token in made["added_tokens"]) + 1
    for at, content in enumerate(ADDED):
        made["added_tokens"].append({
            "id": first + at, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        })
    (place / "tokenizer.json").write_text(json.dumps(made))
    config = json.loads((GOLDEN / "model/tokenizer_config.json").read_text())
    config["bos_token"] = "<|begin_of_text|>"
    (place / "tokenizer_config.json").write_text(json.dumps(config))


def runs(ids, labels):
    """Lengths of the stretches that the loss leaves out, counts, leaves out, …"""
    lengths, counted = [0], False
    for token, label in zip(ids, labels, strict=True):
        assert label in (-100, token)
        if (label != -100) != counted:
            lengths.append(0)
            counted = not counted
        lengths[-1] += 1
    return lengths


def tools():
    from datetime import datetime

    from transformers import AutoTokenizer

    from llamafactory.data import tool_utils
    from llamafactory.data.converter import get_dataset_converter
    from llamafactory.data.parser import DatasetAttr
    from llamafactory.data.processor import PairwiseDatasetProcessor, SupervisedDatasetProcessor
    from llamafactory.data import template as templates
    from llamafactory.hparams import DataArguments

    class Day(datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2024, 7, 26)

    tool_utils.datetime = Day
    cases = []
    with tempfile.TemporaryDirectory() as place:
        tokenizer_folder(Path(place))
        asked = [(name, {}, "sharegpt") for name in TEMPLATES]
        asked += [(name, {}, sets) for name in ["qwen3", "llama3", "mistral", "default"] for sets in ["openai", "alpaca"]]
        asked += [(name, {}, "ranking") for name in ["qwen", "qwen3", "llama3", "mistral", "default"]]
        # Where the system text stands in the question, the original fails on marks.
        asked += [(name, {}, "marked") for name in TEMPLATES if name not in ["llama2", "llama2_zh", "mistral"]]
        asked += [("default", {"tool_format": other}, "sharegpt") for other in ["qwen", "llama3", "mistral"]]
        asked += [(name, {"mask_history": True}, "marked") for name in ["qwen3", "llama3"]]
        asked += [("qwen3", {"enable_thinking": False}, "marked"), ("qwen", {"cutoff_len": 64}, "sharegpt")]
        asked += [("mistral", {"default_system": "Own words."}, "sharegpt")]
        for name, changes, which in asked:
            tokenizer = AutoTokenizer.from_pretrained(place)
            kept = {**templates.TEMPLATES}
            templates.TEMPLATES[name] = deepcopy(kept[name])
            arguments = DataArguments(template=name, **{"cutoff_len": 4096, **changes})
            template = templates.get_template_and_fix_tokenizer(tokenizer, arguments)
            attributes = DatasetAttr("file", "d")
            attributes.join(LISTED[which])
            convert = get_dataset_converter(attributes.formatting, attributes, arguments)
            rows = [convert(record) for record in DATA[which]]
            columns = {key: [row[key] for row in rows] for key in rows[0]}
            kind = PairwiseDatasetProcessor if which == "ranking" else SupervisedDatasetProcessor
            made = kind(template=template, tokenizer=tokenizer, processor=None, data_args=arguments).preprocess_dataset(columns)
            names = ["chosen_input_ids", "chosen_labels", "rejected_input_ids", "rejected_labels"]
            names = names if which == "ranking" else ["input_ids", "labels"]
            rows = [[made[key][at] for key in names] for at in range(len(made[names[0]]))]
            for row in rows:
                for at in range(1, len(row), 2):
                    row[at] = runs(row[at - 1], row[at])
            cases.append({"template": name, "changes": changes, "data": which, "rows": rows})
            templates.TEMPLATES[name] = kept[name]
    return {"added": ADDED, "bos": "<|begin_of_text|>", "date": DATE, "listed": LISTED, "data": DATA, "cases": cases}


def parquet():
    folder = VECTORS / "parquet"
    folder.mkdir(exist_ok=True)
    turns = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
    flat = pa.table({
        "instruction": ["a", "问", None, "d"] * 5, "input": pa.array([None, "", "x", "y"] * 5, pa.large_string()),
        "output": [f"answer {at}" for at in range(20)],
        "score": pa.array([1.5, float("nan"), None, -2.0] * 5), "count": pa.array([1, None, -3, 2**40] * 5),
        "good": [True, False, None, True] * 5,
    })
    said = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]
    nested = pa.table({
        "conversations": pa.array([said, [], None, [*said, {"from": "human", "value": None}, None]], turns),
        "tags": pa.array([["x", None], [], None, ["y"]], pa.list_(pa.string())),
        "meta": pa.array([{"a": 1, "b": {"c": ["z"]}}, None, {"a": None, "b": None}, {"a": 2, "b": {"c": []}}],
                         pa.struct([("a", pa.int32()), ("b", pa.struct([("c", pa.list_(pa.string()))]))])),
        "named": pa.array([[("k", 1)], [], None, [("k", 2), ("l", None)]], pa.map_(pa.string(), pa.int64())),
    })
    expected = {}
    for name, table, options in [
        ("flat.snappy", flat, {"compression": "snappy", "row_group_size": 6}),
        ("flat.zstd", flat, {"compression": "zstd", "data_page_version": "2.0", "use_dictionary": False}),
        ("flat.gzip", flat, {"compression": "gzip", "data_page_size": 16}),
        ("flat.none", flat, {"compression": "none", "use_dictionary": ["instruction"],
                             "column_encoding": {"output": "DELTA_BYTE_ARRAY", "count": "DELTA_BINARY_PACKED"}}),
        ("nested.snappy", nested, {"compression": "snappy"}),
        ("nested.zstd", nested, {"compression": "zstd", "data_page_version": "2.0", "row_group_size": 2}),
    ]:
        pq.write_table(table, folder / f"{name}.parquet", store_schema=False, **options)
        expected[name] = json.loads(json.dumps(table.to_pylist()).replace("NaN", "null"))
    # A map comes out of pyarrow as pairs.
    for name in ["nested.snappy", "nested.zstd"]:
        for row in expected[name]:
            row["named"] = None if row["named"] is None else dict(row["named"])
    save("parquet.json", expected)


if __name__ == "__main__":
    save("numpy.json", {"draws": draws(), "mixes": mixes(), "splits": splits(), "shuffles": shuffles(), "streams": streams()})
    parquet()
    save("tools.json", tools())
