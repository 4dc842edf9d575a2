"""Made-up datasets and jobs, drawn by chance: what `data_agrees.py` compares on."""

import json
from datetime import datetime
from pathlib import Path

TEMPLATES = [
    "qwen", "qwen3", "qwen3_nothink", "smollm2", "chatml", "yi", "llama3", "llama2", "llama2_zh", "mistral", "deepseek",
    "deepseek3", "deepseekr1", "alpaca", "vicuna", "default", "empty",
]
# Where the system text stands in the question, the original fails on marks around calls.
PLAIN_CALLS = ["llama2", "llama2_zh", "mistral"]
SPECIAL = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<tool_call>", "</tool_call>", "<think>", "</think>", "[INST]", "[/INST]", "[TOOL_CALLS]",
]
QWEN = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are a model.<|im_end|>\\n' }}{%- endif %}{%- for message in messages %}"
    "{%- if message.role != 'system' or not loop.first %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def tokenizers(model, work):
    """Folders of tokenizers: the golden one with other families' special tokens, in several settings, and one as Llama 2 has it."""
    made = json.loads((model / "tokenizer.json").read_text())
    first = max(token["id"] for token in made["added_tokens"]) + 1
    for at, content in enumerate(SPECIAL):
        made["added_tokens"].append({
            "id": first + at, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        })
    settings = json.loads((model / "tokenizer_config.json").read_text())
    begin = {"bos_token": "<|begin_of_text|>"}
    folders = {}
    for name, changes in [
        ("plain", {}), ("begin", begin), ("no-padding", {**begin, "pad_token": None, "eos_token": "<|endoftext|>"}),
    ]:
        changed = {key: value for key, value in {**settings, **changes, "chat_template": QWEN}.items() if value is not None}
        folders[name] = write_tokenizer(work / "models" / name, model, made, changed)
    end = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": QWEN}
    folders["pieces"] = write_tokenizer(work / "models/pieces", model, pieces(), {**end, "tokenizer_class": "TokenizersBackend"})
    return folders


def write_tokenizer(folder, model, tokenizer, settings):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def pieces():
    """A small tokenizer of pieces with blanks before words and bytes for what it does not know, as Llama 2 has it."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>", "<s>", "</s>", *bytes_], show_progress=False)
    tokenizer.train_from_iterator(WORDS * 4 + ["[INST] <<SYS>>\nHuman: \nAssistant: User:"] * 9, trainer)
    made = json.loads(tokenizer.to_str())
    made["added_tokens"] = [token for token in made["added_tokens"] if not token["content"].startswith("<0x")]
    again = Tokenizer.from_str(json.dumps(made))
    again.add_special_tokens([AddedToken(word, normalized=False) for word in ["<|im_end|>", "<|im_start|>", *SPECIAL]])
    return json.loads(again.to_str())


WORDS = [
    "What is the capital of France?", "Paris.", "你好，世界！", "请把下面的合同翻译成英文：甲方、乙方。", "こんにちは", "Привет", "مرحبا",
    "a", " leading", "trailing ", "  two  blanks ", "\n", "\n\nlines\n\n", "tab\there", "1234567890", "3.14159e-10", "x" * 40,
    "👩‍👩‍👧 🇨🇳 ❤️", "é e\u0301 ﬁ Å", "\u200b\ufeff\u2028", "<|im_end|>", "<|im_start|>user", "<|eot_id|>", "[INST]", "</s>",
    "{{content}}", "{{system}} {% if %}", "def f(x):\n    return x + 1\n", "C:\\path\\n \"quoted\" 'single'", "\r\nwindows\r\n", "\x01\x7f",
    "<think>", "</think>", "𠮷龘", "don't we'll I'M",
]

WEATHER = {
    "name": "get_weather", "description": "Weather of a city. 城市天气",
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
ARGUMENTS = [
    {}, {"city": "北京"}, {"city": "a\nb", "days": 1.0}, {"x": [1, None, True, -0.5, 1e-7, 1e22, 2**53]}, {"n": {"m": {"k": "\\\"/"}}},
]
CALLED = [{"name": "get_weather", "arguments": arguments} for arguments in ARGUMENTS]


class Case:
    """One job with its datasets."""

    @classmethod
    def draw(cls, chance, models):
        case = cls()
        case.chance = chance
        case.stage = chance.choices(["sft", "pt", "dpo", "kto"], [8, 2, 2, 2])[0]
        name = chance.choice(list(models))
        case.template = chance.choice([*TEMPLATES, None] if name != "pieces" else [*TEMPLATES])
        if name == "pieces" and case.template in ["llama3"]:
            case.template = "llama2"
        case.model = models[name]
        case.sets = {}
        several = chance.random() < 0.3
        trained = [case.dataset(f"d{at}") for at in range(chance.randint(2, 3) if several else 1)]
        job = {
            "stage": case.stage, "do_train": True, "model_name_or_path": str(case.model), "dataset": ",".join(trained),
            "dataset_dir": "data", "finetuning_type": "lora", "output_dir": "out", "overwrite_output_dir": True, "use_cpu": True,
            "report_to": "none", "overwrite_cache": True,
            "cutoff_len": chance.choice([2, 7, 16, 32, 64, 100, 256, 4096]), "seed": chance.choice([0, 7, 42, 2**31 - 1]),
            "preprocessing_batch_size": chance.choice([1, 3, 7, 1000, 1000]),
        }
        if chance.random() < 0.1:
            job["preprocessing_num_workers"] = chance.choice([1, 2, 3])
        if case.template:
            job["template"] = case.template
        case.options(job, several)
        case.job = job
        return case

    def options(self, job, several):
        chance = self.chance
        if self.stage == "sft":
            job.update(chance.choice([{}, {}, {"train_on_prompt": True}, {"mask_history": True}]))
            job.update(chance.choice([{}, {}, {"packing": True}, {"neat_packing": True}, {"packing": False}]))
        if self.stage == "pt":
            job.update(chance.choice([{}, {"packing": False}, {"packing": True}]))
        if chance.random() < 0.3:
            job["enable_thinking"] = False
        if chance.random() < 0.3:
            job["default_system"] = chance.choice(["", "Own words.", "系统"])
        if chance.random() < 0.15:
            job["tool_format"] = chance.choice(["default", "qwen", "llama3", "mistral"])
        streams = chance.random() < 0.15
        if streams:
            job.update(streaming=True, max_steps=10, buffer_size=chance.choice([1, 4, 16384]), dataloader_num_workers=1)
        elif chance.random() < 0.2:
            job["max_samples"] = chance.choice([1, 3, 10])
        if several:
            strategy = chance.choice(["concat", "interleave_under", "interleave_over"])
            job["mix_strategy"] = strategy
            count = len(job["dataset"].split(","))
            if strategy != "concat" and chance.random() < 0.5:
                job["interleave_probs"] = "0.5,0.5" if count == 2 else "0.5,0.2,0.3"
        held = chance.random()
        # What a mix repeats is trained on there even if it is held out.
        repeats = streams and job.get("mix_strategy") == "interleave_over"
        if held < 0.2 and not repeats:
            job["val_size"] = 2 if streams else chance.choice([2, 0.1, 0.5, 0.34])
        elif held < 0.3 and "interleave_probs" not in job:
            names = [self.dataset("e0")] + ([self.dataset("e1")] if chance.random() < 0.5 else [])
            job["eval_dataset"] = ",".join(names)
            if not streams and chance.random() < 0.5:
                job["eval_on_each_dataset"] = True

    def words(self):
        keys = "template cutoff_len train_on_prompt mask_history packing neat_packing enable_thinking default_system tool_format"
        keys += " streaming mix_strategy val_size eval_dataset max_samples preprocessing_batch_size preprocessing_num_workers"
        said = " ".join(f"{key}={self.job[key]}" for key in keys.split() if key in self.job)
        kinds = " ".join(f"{entry.get('formatting', 'alpaca')}:{entry['file_name']}" for entry, _ in self.sets.values())
        return f"{self.stage} {self.model.name} {said} {kinds}"

    def write(self, folder):
        """Writes it; returns the job as the original takes it."""
        (folder / "data").mkdir(parents=True)
        for entry, records in self.sets.values():
            write_records(folder / "data" / entry["file_name"], records)
        listed = {name: entry for name, (entry, _) in self.sets.items()}
        (folder / "data/dataset_info.json").write_text(json.dumps(listed), encoding="utf-8")
        ours = {**self.job, "tool_date": datetime.now().strftime("%d %b %Y")}
        (folder / "job.json").write_text(json.dumps(ours), encoding="utf-8")
        return self.job

    def text(self, most=4, empty=0.1):
        chance = self.chance
        if chance.random() < empty:
            return ""
        words = [chance.choice(WORDS) for _ in range(chance.randint(1, most))]
        return chance.choice(["", " ", " ", "\n"]).join(words)

    def answer(self):
        chance = self.chance
        thought = chance.random()
        if thought < 0.15:
            return f"<think>\n{self.text()}\n</think>\n\n{self.text()}"
        if thought < 0.2:
            return f"{self.text(1)}<think>\n\n</think>\n\n\n\n{self.text()}"
        if thought < 0.25:
            return f"<think>{self.text(1)}</think>{self.text()}"
        return self.text()

    def call(self):
        chance = self.chance
        calls = [chance.choice(CALLED) for _ in range(chance.choice([1, 1, 2]))]
        text = json.dumps(calls[0] if len(calls) == 1 else calls, ensure_ascii=chance.random() < 0.5)
        if self.template in PLAIN_CALLS or chance.random() < 0.6:
            return text
        return chance.choice([f"<think>\nWhich?\n</think>\n\n{text}", f"First. <tool_call>{text}</tool_call> Then.", f"<tool_call>\n{text}\n</tool_call>"])

    def tools(self):
        chosen = self.chance.choice([None, [], [WEATHER], [TIME], [WEATHER, TIME]])
        return "" if chosen is None else json.dumps(chosen, ensure_ascii=False)

    def dataset(self, name):
        chance = self.chance
        if self.stage == "pt" and chance.random() < 0.5:
            records = [{"text": self.text(8)} for _ in range(chance.randint(2, 30))]
            entry = {"columns": {"prompt": "text"}}
            kinds = ["json", "jsonl", "parquet", "txt", "arrow"]
        else:
            form = chance.choice(["alpaca", "sharegpt", "openai"])
            count = chance.choice([4, 12, 40])
            entry, records = getattr(self, form)(count)
            kinds = ["json", "jsonl", "parquet", "arrow"] + (["csv"] if form == "alpaca" and "history" not in records[0] else [])
        entry["file_name"] = f"{name}.{chance.choice(kinds)}"
        if chance.random() < 0.1:
            entry["num_samples"] = chance.choice([2, len(records) + 5])
        self.sets[name] = (entry, records)
        return name

    def alpaca(self, count):
        chance = self.chance
        columns = {"prompt": "instruction", "query": "input", "response": "output"}
        given = [key for key in ["system", "history", "tools"] if chance.random() < 0.4]
        columns.update({key: key for key in given})
        entry, stage = {}, self.stage
        if stage == "dpo":
            columns.update(chosen="chosen", rejected="rejected")
            entry["ranking"] = True
        if stage == "kto":
            columns["kto_tag"] = "label"
        records = []
        for _ in range(count):
            record = {"instruction": self.text(empty=0.05), "input": chance.choice([None, "", self.text()]), "output": self.answer()}
            if "system" in given:
                record["system"] = chance.choice([None, "", self.text()])
            if "history" in given:
                record["history"] = [[self.text(), self.answer()] for _ in range(chance.randint(0, 3))]
            if "tools" in given:
                record["tools"] = self.tools()
            if stage == "dpo":
                record.update(chosen=self.answer(), rejected=chance.choice([self.answer(), None] if chance.random() < 0.1 else [self.answer()]))
            elif stage == "kto":
                record["label"] = chance.random() < 0.5
            elif chance.random() < 0.05:
                record["output"] = None
            records.append(record)
        if entry or given or stage == "kto" or chance.random() < 0.5:
            entry["columns"] = columns
        return entry, records

    def turns(self, roles, open_, calls=True):
        """Turns in order, now and then out of it."""
        chance = self.chance
        role_tag, content_tag, user, assistant, observation, function, _ = roles
        said = lambda role, text: {role_tag: role, content_tag: text}
        turns = []
        for _ in range(chance.randint(1, 4)):
            if calls and chance.random() < 0.2:
                turns += [said(user, self.text()), said(function, self.call()), said(observation, self.text()), said(assistant, self.answer())]
            else:
                turns += [said(user, self.text(empty=0.03)), said(assistant, self.answer())]
        if calls and chance.random() < 0.05:
            turns.insert(0, said(function, self.call()))
            turns.insert(0, said(observation, self.text()))
        broken = chance.random()
        if broken < 0.03:
            turns.pop()
        elif broken < 0.06:
            turns[chance.randrange(len(turns))][role_tag] = chance.choice([user, assistant])
        elif broken < 0.08:
            turns = []
        if open_ and turns:
            turns.pop()
        return turns

    def sharegpt(self, count):
        chance = self.chance
        tags = chance.choice([None, ["role", "content", "user", "assistant", "tool", "call", "system"]])
        roles = tags or ["from", "value", "human", "gpt", "observation", "function_call", "system"]
        entry = {"formatting": "sharegpt", "columns": {"messages": "conversations"}}
        names = ["role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"]
        if tags:
            left_out = chance.choice([[], [], ["system_tag"], ["observation_tag", "function_tag"]])
            entry["tags"] = {name: tag for name, tag in zip(names, tags) if name not in left_out}
        return self.listed(entry, roles, count, "conversations")

    def openai(self, count):
        chance = self.chance
        roles = ["role", "content", "user", "assistant", "tool", "function", "system"]
        names = ["role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"]
        entry = {"formatting": "openai", "columns": {"messages": "messages"}, "tags": dict(zip(names, roles))}
        entry, records = self.listed(entry, roles, count, "messages")
        for record in records:
            for turn in record["messages"]:
                turn["tool_calls"] = None
                if turn["role"] == "assistant" and chance.random() < 0.2:
                    calls = [chance.choice(CALLED) for _ in range(chance.randint(1, 2))]
                    turn["content"] = chance.choice([None, "", "text"])
                    turn["tool_calls"] = [
                        {"id": "1", "type": "function", "function": {**call, "arguments": json.dumps(call["arguments"])}} for call in calls
                    ]
        return entry, records

    def listed(self, entry, roles, count, column):
        """Records with a list of turns."""
        chance, stage = self.chance, self.stage
        role_tag, content_tag, _, assistant, _, function, system = roles
        given = [key for key in ["system", "tools"] if chance.random() < 0.4]
        entry["columns"].update({key: key for key in given})
        if stage == "dpo":
            entry["ranking"] = True
            entry["columns"].update(chosen="chosen", rejected="rejected")
        if stage == "kto":
            entry["columns"]["kto_tag"] = "label"
        records = []
        for _ in range(count):
            record = {column: self.turns(roles, stage == "dpo", calls=stage != "pt")}
            if chance.random() < 0.2:
                record[column].insert(0, {role_tag: system, content_tag: self.text()})
            if "system" in given:
                record["system"] = chance.choice([None, "", self.text()])
            if "tools" in given:
                record["tools"] = self.tools()
            if stage == "dpo":
                for name in ["chosen", "rejected"]:
                    called = chance.random() < 0.15
                    record[name] = {role_tag: function if called else assistant, content_tag: self.call() if called else self.answer()}
            if stage == "kto":
                record["label"] = chance.random() < 0.5
            records.append(record)
        return entry, records


def write_records(path, records):
    kind = path.suffix[1:]
    if kind == "json":
        path.write_text(json.dumps(records, ensure_ascii=False, indent=1), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    elif kind == "txt":
        path.write_bytes("\n".join(record["text"] for record in records).encode())
    elif kind == "csv":
        import csv

        with open(path, "w", encoding="utf-8", newline="") as file:
            rows = csv.DictWriter(file, list(records[0]))
            rows.writeheader()
            rows.writerows(records)
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_pylist(records)
        if kind == "parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table)
