"""LLaMA-Factory and Ferry make the same token ids and labels of the same made-up data.

usage: data_agrees.py FERRY_RUNTIME MODEL WORK_FOLDER CASES [SEED]

Each case is a folder with datasets, a model's tokenizer and a job, all drawn by chance from SEED: formats, tools, thoughts, histories,
lengths, odd texts, mixes. The original reads it in this process, Ferry as `preview --json`; every id and label must agree.
What the original fails on is not compared. A case that differs is left in WORK_FOLDER, and named.
"""

import contextlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

os.environ.update(
    HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", LLAMAFACTORY_VERBOSITY="ERROR",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1", DISABLE_VERSION_CHECK="1", FORCE_TORCHRUN="0", CUDA_VISIBLE_DEVICES="",
)

from data_cases import Case, tokenizers  # noqa: E402


def original(folder, job):
    """Rows of the job as LLaMA-Factory makes them: of what is trained on, and of what is evaluated on."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer, template as templates
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    kept = dict(templates.TEMPLATES)
    templates.TEMPLATES.update(deepcopy(kept))
    try:
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(dict(job))
        module = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data_args)
        stage = {"dpo": "rm"}.get(finetuning_args.stage, finetuning_args.stage)
        made = get_dataset(template, model_args, data_args, training_args, stage=stage, **module)
    finally:
        templates.TEMPLATES.clear()
        templates.TEMPLATES.update(kept)
    evaluated = made.get("eval_dataset")
    parts = list(evaluated.values()) if isinstance(evaluated, dict) else [evaluated]
    every = lambda parts: [row_of(row) for part in parts if part is not None for row in part]
    return every([made.get("train_dataset")]), every(parts)


# Libraries of Ferry's own, and a thread: processes are many.
OURS = {"LD_LIBRARY_PATH": os.environ.get("FERRY_LIBRARIES", ""), "RAYON_NUM_THREADS": "1"}
KINDS = ["", "chosen_", "rejected_", "kl_"]


def row_of(row):
    """What both programs say of a row."""
    found = {}
    for kind in KINDS:
        if f"{kind}input_ids" in row:
            ids = row[f"{kind}input_ids"]
            found[f"{kind}input_ids"] = list(ids)
            # Of plain texts the original makes labels only as it trains.
            found[f"{kind}labels"] = list(row.get(f"{kind}labels", ids))
    if "kto_tags" in row:
        found["kto_tags"] = row["kto_tags"]
    if "position_ids" in row:
        found["position_ids"] = list(row["position_ids"])
        found["attention_mask"] = list(row["attention_mask"])
    return found


def ferry(program, folder, evaluated):
    """The same of Ferry, or what it says is wrong."""
    arguments = [program, "--json", "preview", "job.json", "--count", "1000000"]
    ran = subprocess.run(
        arguments + ["--eval"] * evaluated, cwd=folder, capture_output=True, text=True,
        env={**os.environ, **OURS, "FERRY_CACHE": str(folder / "cache")},
    )
    last = json.loads(ran.stdout.strip().split("\n")[-1]) if ran.stdout.strip() else {}
    if ran.returncode or "examples" not in last:
        return f"status {ran.returncode}: {last.get('message') or last.get('error') or ran.stdout[-500:] or ran.stderr[-500:]}"
    rows = []
    for example in last["examples"]:
        found = {}
        for kind in KINDS:
            if f"{kind}input_ids" in example:
                found[f"{kind}input_ids"] = example[f"{kind}input_ids"]
                found[f"{kind}labels"] = example[f"{kind}label_ids"]
        for name in ["kto_tags", "position_ids", "attention_mask"]:
            if name in example:
                found[name] = example[name]
        rows.append(found)
    return rows


def difference(theirs, ours):
    """The first difference in words, or nothing."""
    if isinstance(ours, str):
        return None if not theirs else f"{len(theirs)} rows there, here {ours}"
    if len(theirs) != len(ours):
        return f"{len(theirs)} rows there, {len(ours)} here"
    for number, (there, here) in enumerate(zip(theirs, ours)):
        for name in there:
            if name in here and there[name] == here[name]:
                continue
            return f"row {number}, {name}: there {there[name]}, here {here.get(name)}"
    return None


def main():
    program, model, work, count = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    work.mkdir(parents=True, exist_ok=True)
    os.environ["HF_DATASETS_CACHE"] = str(work / "datasets")
    import logging

    import datasets

    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    models = tokenizers(model, work)
    pool = ThreadPoolExecutor(1)
    totals, failures = Counter(), []
    for number in range(count):
        folder = work / f"case-{seed + number}"
        case = Case.draw(random.Random(seed + number), models)
        job = case.write(folder)
        evaluated = "val_size" in job or "eval_dataset" in job
        here = pool.submit(lambda: [ferry(program, folder, which) for which in [False, True][: 1 + evaluated]])
        said = io.StringIO()
        try:
            with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                there = original(folder, job)
        except (Exception, SystemExit) as error:
            there = None
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        ours = here.result()
        if there is None:
            here_too = isinstance(ours[0], str)
            totals["the original fails" + (", Ferry too" if here_too else "")] += 1
            if os.environ.get("SHOW_FAILURES"):
                print(f"{folder.name}: {case.words()}: there {reason}; here {ours[0] if here_too else 'fine'}", flush=True)
            shutil.rmtree(folder)
            continue
        found = [difference(*pair) for pair in zip(there, ours)]
        assert evaluated or not there[1], "rows to evaluate on that nobody asked for"
        if any(found):
            failures.append(folder.name)
            which = "trained on" if found[0] else "evaluated on"
            said = next(filter(None, found))
            print(f"{folder.name}: {case.words()}: {which}: {said[:1500]}", flush=True)
            continue
        totals["agree"] += 1
        totals["rows"] += len(there[0]) + len(there[1])
        shutil.rmtree(folder)
    print(", ".join(f"{name}: {value}" for name, value in sorted(totals.items())))
    if failures:
        sys.exit(f"{len(failures)} of {count} cases differ: {' '.join(failures)}")
    if totals["agree"] * 2 < count:
        sys.exit("the original failed on more than half of the cases")


if __name__ == "__main__":
    main()
