"""LLaMA-Factory's Evaluator, with the loading script that datasets 4 does not run any more in its place."""
import sys, os, json
import datasets, pandas as pd
def load(path, name, **_):
    out = {}
    for split, folder in (("train","dev"),("validation","val"),("test","test")):
        df = pd.read_csv(f"{path}/{folder}/{name}_{folder}.csv", encoding="utf-8")
        out[split] = datasets.Dataset.from_pandas(df, preserve_index=False)
    return datasets.DatasetDict(out)
import llamafactory.eval.evaluator as ev
ev.load_dataset = load
ev.Evaluator(dict(model_name_or_path="../model", template="qwen", task="tiny_validation", task_dir="evaluation", lang=sys.argv[1], n_shot=int(sys.argv[2]), batch_size=3, save_dir=sys.argv[3])).eval()
