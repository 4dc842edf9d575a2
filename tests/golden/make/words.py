"""What LLaMA-Factory 0.9.5, transformers, datasets and sentencepiece make of small made-up words: writes tests/golden/vectors.

Run from the root of the repository with the Python that `cargo xtask bench training` makes:

    ~/.cache/ferry/llamafactory-0.9.5/bin/python tests/golden/make/words.py [NAME ...]

    stretch.json    configurations that `rope_scaling` changes
    beams.json      texts that the golden model's beam search finds
    pieces.json     a SentencePiece vocabulary, and ids of texts in it
    calls.json      answers with calls of tools, and prompts with tools, by family
    samples.json    records that `num_samples` draws
    arrow/          files as `datasets` and pyarrow write them, and arrow.json with what is in them
"""

import io
import json
import math
import os
import random
import sys
from pathlib import Path
from types import SimpleNamespace

os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_OFFLINE="1", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1"
)

GOLDEN = Path("tests/golden")
VECTORS = GOLDEN / "vectors"


def save(name, value):
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    (VECTORS / name).write_text(text + "\n", encoding="utf-8")


def stretch():
    from llamafactory.extras.constants import RopeScaling
    from llamafactory.model.model_utils.rope import configure_rope

    configs = [
        {"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        {"max_position_embeddings": 2048, "rope_theta": 500000.0},
        {
            "max_position_embeddings": 131072,
            "rope_theta": 500000.0,
            "rope_scaling": {
                "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        {"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 2.0}},
    ]
    cases = []
    for config in configs:
        for rule in ("linear", "dynamic", "yarn", "llama3"):
            for cutoff_len in (None, 5000, 9000, 20000):
                fields = {"rope_scaling": None, **config}
                changed = SimpleNamespace(**fields)
                changed.rope_scaling = config.get("rope_scaling") or config.get("rope_parameters")
                before = changed.rope_scaling
                model_args = SimpleNamespace(rope_scaling=RopeScaling(rule), model_max_length=cutoff_len)
                configure_rope(changed, model_args)
                if changed.rope_scaling is before:
                    continue
                cases.append({
                    "config": config, "rule": rule, "cutoff_len": cutoff_len,
                    "positions": int(changed.max_position_embeddings), "rope": changed.rope_scaling,
                })
    save("stretch.json", cases)


def beams():
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(GOLDEN / "model", dtype=torch.float32)
    prompts = [case["prompt_ids"] for case in json.load(open(VECTORS / "generate.json"))["base"]]
    # Where the model is less sure of what comes.
    prompts += [prompt[:-7] for prompt in prompts] + [prompts[1][5:20], [9, 300, 21, 450]]
    cases = []
    for prompt in prompts:
        for count, penalty, repetition, limit in [
            (2, 1.0, 1.0, 24), (4, 1.0, 1.0, 24), (4, 0.0, 1.0, 24), (4, 2.5, 1.0, 24), (3, -1.0, 1.0, 24), (5, 1.0, 1.3, 24),
            (4, 1.0, 1.0, 3), (4, 1.0, 1.2, 60),
        ]:
            ends = ([767], [765], [767, 13, 314])[len(cases) % 3]
            config = GenerationConfig(
                do_sample=False, num_beams=count, length_penalty=penalty, repetition_penalty=repetition,
                max_new_tokens=limit, eos_token_id=ends, pad_token_id=765,
            )
            with torch.no_grad():
                made = model.generate(torch.tensor([prompt]), generation_config=config)
            cases.append({
                "prompt": prompt, "beams": count, "length_penalty": penalty, "repetition_penalty": repetition,
                "limit": limit, "ends": ends, "made": made[0, len(prompt):].tolist(),
            })
    save("beams.json", cases)


TEXTS = [
    "the quick brown fox jumps over the lazy dog", "The model was trained on the data of the machine.",
    "  two blanks before and   three between", "trailing blank ", "", " ", "     ", "a", "aa aaa aaaa aaaaa",
    "line one\nline two\n\nline four\ttab", "12345 67 3.14159 2026-11-25", "你好，世界！这是一个测试。", "模型在数据上训练。",
    "naïve café über straße", "𠮷 👩‍👩‍👧 🇨🇳", "<0x41> <unk> in a text", "def f(x):\n    return x * 2  # twice\n",
    "\u00a0nbsp \u200bzero", "MiXeD CaSe WORDS", "e\u0301 decomposed", "▁already▁marked", "the the the the",
    "[INST] What is the capital of France? [/INST]", "Answer: Paris.",
]


def pieces():
    import sentencepiece as spm
    from transformers.integrations.ggml import convert_gguf_tokenizer

    draw = random.Random(7)
    words = "the model was trained on data of machine and it jumps over lazy dog quick brown fox return twice def text two three blank between line four What is capital France Paris Answer you are a helpful assistant user system question 你好 世界 这是 一个 测试 模型 在 数据 上 训练 北京 中国 首都".split()
    lines = [" ".join(draw.choices(words, k=draw.randint(3, 12))) for _ in range(3000)]
    lines += ["    indented " + " ".join(draw.choices(words, k=4)) for _ in range(300)]
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=560, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, character_coverage=0.999,
        allow_whitespace_only_pieces=True, num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1, minloglevel=2,
    )
    made = spm.SentencePieceProcessor(model_proto=model.getvalue())
    size = made.get_piece_size()
    tokens = [made.id_to_piece(i) for i in range(size)]
    scores = [made.get_score(i) for i in range(size)]
    kind = lambda i: 2 if made.is_unknown(i) else 3 if made.is_control(i) else 6 if made.is_byte(i) else 1
    types = [kind(i) for i in range(size)]
    cases = []
    for text in TEXTS:
        ids = made.encode(text)
        cases.append({"text": text, "ids": ids, "decoded": made.decode(ids)})
    skeleton = {
        "tokens": tokens, "scores": scores, "token_type": types, "unk_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "tokenizer_type": "llama",
    }
    converted, _ = convert_gguf_tokenizer("llama", skeleton)
    marked = []
    for text in ["<s>[INST] Hello you [/INST] the answer</s>", "<s> two<s>  three </s>\n", "a</s>b"]:
        marked.append({"text": text, "ids": converted.encode(text, add_special_tokens=False).ids})
    for case in cases:
        # Both readers agree but where a token's own text stands in a text.
        if "<unk>" not in case["text"]:
            assert converted.encode(case["text"], add_special_tokens=False).ids == case["ids"], case
    save("pieces.json", {"pieces": tokens, "scores": scores, "types": types, "cases": cases, "marked": marked})


TOOLS = [
    {
        "name": "weather", "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Its name."},
                "unit": {"type": "string", "enum": ["c", "f"]},
            },
            "required": ["city"],
        },
    },
    {"name": "time", "description": "Now.", "parameters": {"type": "object", "properties": {}}},
]

# Names are those of a job's `tool_format`.
ANSWERS = {
    "default": [
        "It rains.", "Action: weather\nAction Input: {\"city\": \"北京\"}", "Action: weather\nAction Input: {\"city\":\"a\"}\n",
        "Let me see.\nAction: time\nAction Input: {}", "Action: a\nAction Input: {}\nAction: b\nAction Input: {\"x\": [1, 2.5]}",
        "Action: a\nAction Input: oops", "Action: a\nAction Input: {}\nAction: b\nAction Input: oops",
        "Action:   spaced   Action Input:   {\"k\": null}  ", "Action: a\nAction Input: ```{\"k\": true}```",
        "Action: a\nAction Input: \"text\"", "Action: a", "Action: \nAction Input: {}", "Action: a-b\nAction Input: {}",
        "Action: fooAction Input: {\"k\": 1}", "Action: a\nAction Input: {\"k\": \"Action: b\"}", "Action: a\nAction Input: {} and so on",
        "Action: x y\nAction: a\nAction Input: {\"k\": 1e3}", "Action: a\nAction Input:", "Action: a\nAction Input: 7",
    ],
    "qwen": [
        "It rains.", "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"北京\"}}\n</tool_call>",
        "See.\n<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"b\", \"arguments\": {\"k\": 1.0}}</tool_call>",
        "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call> and more", "<tool_call>{\"name\": \"a\"}</tool_call>",
        "<tool_call>oops</tool_call>", "<tool_call>{\"name\": \"a\", \"arguments\": {}}", "<tool_call></tool_call>",
        "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>  \n", "<think>\nhm\n</think>\n\n<tool_call>\n{\"name\": \"a\", \"arguments\": {\"k\": []}}\n</tool_call>",
        "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call><tool_call>oops</tool_call>",
        "<tool_call>{\"name\": \"a\", \"arguments\": {\"k\": \"</tool_call>\"}}</tool_call>",
        "<tool_call>{\"name\": \"a\", \"arguments\": 3}</tool_call>", "a</tool_call><tool_call>{\"arguments\": {}, \"name\": \"z\"}</tool_call>",
    ],
    "llama3": [
        "It rains.", "{\"name\": \"weather\", \"parameters\": {\"city\": \"北京\"}}", " \n{\"name\": \"a\", \"parameters\": {}}\n ",
        "[{\"name\": \"a\", \"parameters\": {}}, {\"name\": \"b\", \"parameters\": {\"k\": false}}]", "{\"name\": \"a\"}",
        "{\"name\": \"a\", \"arguments\": {}}", "[]", "{\"name\": \"a\", \"parameters\": {}} ok", "{\"parameters\": {}}",
        "{\"name\": \"a\", \"parameters\": {\"x\": \"é\\n\", \"y\": {\"z\": [1, {\"w\": null}]}}}", "{\"name\": \"a\", \"parameters\": null}",
        "{oops", "[{\"name\": \"a\", \"parameters\": {}}, {\"name\": \"b\"}]", "",
    ],
    "mistral": [
        "It rains.", "[{\"name\": \"weather\", \"arguments\": {\"city\": \"北京\"}}]", " [{\"name\": \"a\", \"arguments\": {}}]",
        "{\"name\": \"a\", \"arguments\": {\"k\": 1}}", "[{\"name\": \"a\"}]", "[{\"name\": \"a\", \"arguments\": {}}, {\"name\": \"b\", \"arguments\": {\"k\": [true]}}]",
        "[{\"name\": \"a\", \"arguments\": {}}", "[]", "[{\"name\": \"a\", \"parameters\": {}}]", "{}", "[{\"name\": \"a\", \"arguments\": {}}] ok",
        "[{\"name\": \"a\", \"arguments\": {\"big\": 12345678901234567890, \"small\": 1e-7}}]",
        "\n[{\"name\": \"a\", \"arguments\": \"text\"}]\n", "[{\"arguments\": {}}]",
    ],
}

# The template that shows a family's prompt.
SHOWN = {"default": "vicuna", "qwen": "qwen", "llama3": "llama3", "mistral": "mistral"}


def calls():
    from llamafactory.data import tool_utils
    from llamafactory.data.template import TEMPLATES
    from llamafactory.extras.constants import DATA_CONFIG  # noqa: F401
    from transformers import AutoTokenizer

    class Fixed:
        @staticmethod
        def now():
            return SimpleNamespace(strftime=lambda form: "26 Jul 2024")

    tool_utils.datetime = Fixed
    answers = []
    for name, texts in ANSWERS.items():
        for text in texts:
            found = tool_utils.get_tool_utils(name).tool_extractor(text)
            found = [list(call) for call in found] if isinstance(found, list) else []
            answers.append({"format": name, "answer": text, "calls": found})
    tools_made = json.load(open(VECTORS / "tools.json"))
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / "model")
    tokenizer.add_special_tokens({"additional_special_tokens": tools_made["added"]})
    tokenizer.bos_token = tools_made["bos"]
    function = json.dumps([{"name": "weather", "arguments": {"city": "北京"}}], ensure_ascii=False)
    chats = [
        [("user", "How is the weather?")],
        [("user", "How is the weather?"), ("function", function), ("observation", "rain, 12 degrees")],
        [
            ("user", "Hello"), ("assistant", "Hello!"), ("user", "How is the weather?"), ("function", function),
            ("observation", "rain"), ("assistant", "It rains."), ("user", "And now?"),
        ],
    ]
    prompts = []
    for name, shown in SHOWN.items():
        template = TEMPLATES[shown]
        for system in ("", "Be brief."):
            for chat in chats:
                messages = [{"role": role, "content": text} for role, text in chat]
                paired = messages + [{"role": "assistant", "content": ""}]
                ids, _ = template.encode_oneturn(tokenizer, paired, system, json.dumps(TOOLS, ensure_ascii=False))
                prompts.append({"template": shown, "format": name, "system": system, "chat": chat, "ids": ids})
    save("calls.json", {"tools": TOOLS, "answers": answers, "prompts": prompts})


def samples():
    import numpy as np
    from datasets import Dataset
    from llamafactory.data import loader
    from transformers import set_seed

    cases = []
    for seed in (0, 1, 42, 2**32 - 1):
        set_seed(seed)
        draws = []
        for count, wanted in ((10, 4), (7, 20), (1, 3), (300, 300), (5, 5)):
            loader.load_dataset = lambda count=count, **rest: Dataset.from_dict({"n": list(range(count))})
            loader.align_dataset = lambda dataset, *rest: dataset
            attributes = SimpleNamespace(load_from="hf_hub", dataset_name="d", subset=None, folder=None, split="train", num_samples=wanted)
            data = SimpleNamespace(streaming=False, max_samples=None, preprocessing_num_workers=1)
            model = SimpleNamespace(cache_dir=None, hf_hub_token=None)
            found = loader._load_single_dataset(attributes, model, data, None)
            draws.append({"all": count, "count": wanted, "order": found["n"][:]})
        cases.append({"seed": seed, "draws": draws})
    save("samples.json", cases)


def arrow():
    import pyarrow as pa
    from datasets import Dataset

    folder = VECTORS / "arrow"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    rows = [
        {
            "conversations": [{"from": "human", "value": f"q{n} 你好"}, {"from": "gpt", "value": "r" * n}], "n": n, "x": n / 4,
            "ok": n % 2 == 0, "maybe": None if n % 3 == 0 else f"t{n}", "nothing": None, "list": list(range(n % 4)),
        }
        for n in range(21)
    ]
    wanted = {}

    def written(name, table, batch, writer):
        with writer(str(folder / f"{name}.arrow"), table.schema) as out:
            out.write_table(table, max_chunksize=batch)
        wanted[name] = table.to_pylist()

    kept = Dataset.from_list(rows)
    saved = folder / "saved"
    kept.save_to_disk(str(saved))
    file = next(saved.glob("*.arrow"))
    file.rename(folder / "datasets.arrow")
    for rest in saved.iterdir():
        rest.unlink()
    saved.rmdir()
    wanted["datasets"] = rows
    plain = pa.table(pa.Table.from_pylist(rows[:9]))
    written("stream", plain, 4, pa.ipc.new_stream)
    written("file", plain, 3, pa.ipc.new_file)
    kinds = pa.table({
        "i8": pa.array([-1, None, 127], pa.int8()), "u16": pa.array([0, 1, 65535], pa.uint16()),
        "i64": pa.array([-(2**63), 0, 2**63 - 1], pa.int64()), "u64": pa.array([0, 5, 2**64 - 1], pa.uint64()),
        "f16": pa.array([0.5, -2.0, None], pa.float16()), "f32": pa.array([0.25, None, -1.5], pa.float32()),
        "long": pa.array(["a", None, "ä"], pa.large_string()), "longs": pa.array([[1], None, []], pa.large_list(pa.int32())),
        "pair": pa.array([[1, 2], [3, 4], None], pa.list_(pa.int16(), 2)), "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "deep": pa.array([{"a": {"b": [None, "x"]}}, None, {"a": None}]),
    })
    written("kinds", kinds, 2, pa.ipc.new_stream)
    for row in wanted["kinds"]:
        row["map"] = dict(row["map"]) if row["map"] is not None else None
    # Columns that hold no text or numbers are passed over.
    passed = kinds.select(["i8"]).append_column("when", pa.array([0, None, 1], pa.timestamp("s"))).append_column(
        "bytes", pa.array([b"\xff", None, b""], pa.binary())
    ).append_column("after", pa.array(["x", "y", None]))
    written("passed", passed, 10, pa.ipc.new_stream)
    for row in wanted["passed"]:
        del row["when"], row["bytes"]
    save("arrow.json", wanted)


ALL = [stretch, beams, pieces, calls, samples, arrow]
for make in ALL:
    if not sys.argv[1:] or make.__name__ in sys.argv[1:]:
        make()
        print("==", make.__name__, flush=True)
