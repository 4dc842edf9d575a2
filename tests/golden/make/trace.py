"""Runs LLaMA-Factory on configs/NAME.yaml and keeps what it computed in traces/NAME, or in FOLDER/NAME.

usage: trace.py [--out FOLDER] NAME ...

NAME-RULE is the same job on a model whose configuration has that rule of ropes.json for positions.
"""

import glob
import json
import os
import shutil
import sys
from types import SimpleNamespace

os.environ.update(
    HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", CUDA_VISIBLE_DEVICES="", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false"
)

import torch
import transformers
import yaml
from llamafactory.hparams import parser
from llamafactory.model import patcher
from llamafactory.train.tuner import run_exp
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback

# The original refuses `pure_bf16` without an accelerator; processors compute it all the same.
parser.is_torch_bf16_gpu_available = lambda: True

configure_rope = patcher.configure_rope


def stretched(config, model_args):
    """What `rope_scaling` asks for. The original fails with transformers 5, which takes no fraction for a number of positions and
    keeps the base of the angles beside the rule."""
    plain = SimpleNamespace(rope_scaling=config.rope_parameters, max_position_embeddings=config.max_position_embeddings)
    configure_rope(plain, model_args)
    if plain.rope_scaling is not config.rope_parameters:
        config.max_position_embeddings = int(plain.max_position_embeddings)
        config.rope_parameters = {**plain.rope_scaling, "rope_theta": config.rope_parameters["rope_theta"]}


patcher.configure_rope = stretched

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True, warn_only=True)
os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

# Where runs write, and what some of them start from.
SCRATCH = "/tmp/golden_out"
TRACES = "traces"


def prepare():
    """The end of sft_lora as PEFT keeps an adapter, and another one: half of it."""
    ended = load_file("traces/sft_lora/final_trainable.safetensors")
    ended = {name.replace(".default", ""): tensor for name, tensor in ended.items()}
    for name, factor in (("first", 1.0), ("second", 0.5)):
        folder = f"{SCRATCH}/{name}"
        os.makedirs(folder, exist_ok=True)
        shutil.copy("traces/sft_lora/adapter_config.json", folder)
        halved = {key: (tensor * factor if "lora_B" in key else tensor).contiguous() for key, tensor in ended.items()}
        save_file(halved, f"{folder}/adapter_model.safetensors", metadata={"format": "pt"})
    # The model as most are published.
    shutil.copytree("model", f"{SCRATCH}/model_bf16", dirs_exist_ok=True)
    weights = {name: tensor.bfloat16() for name, tensor in load_file("model/model.safetensors").items()}
    save_file(weights, f"{SCRATCH}/model_bf16/model.safetensors", metadata={"format": "pt"})
    for rule, fields in json.load(open("ropes.json")).items():
        shutil.copytree("model", f"{SCRATCH}/model-{rule}", dirs_exist_ok=True)
        config = json.load(open("model/config.json")) | fields
        json.dump(config, open(f"{SCRATCH}/model-{rule}/config.json", "w"), indent=1)


class Recorder(TrainerCallback):
    def __init__(self):
        self.steps, self.batches, self.meta = [], [], {}

    def on_train_begin(self, args, state, control, model=None, **rest):
        self.model = model
        trained = [p for p in model.parameters() if p.requires_grad]
        self.meta = {
            "n_trainable": sum(p.numel() for p in trained),
            "n_all": sum(p.numel() for p in model.parameters()),
            "trainable_names": [n for n, p in model.named_parameters() if p.requires_grad],
            "dtypes": sorted({str(p.dtype) for p in trained}),
        }

    def on_log(self, args, state, control, logs=None, **rest):
        if logs and "loss" in logs:
            self.steps.append({"step": state.global_step, "epoch": logs.get("epoch"), "logged": dict(logs)})

    def on_train_end(self, args, state, control, **rest):
        self.final = {
            name: {"l2": p.detach().double().norm().item(), "first4": p.detach().flatten()[:4].double().tolist()}
            for name, p in self.model.named_parameters()
            if p.requires_grad
        }


def run(name):
    job, _, rule = name.partition("-")
    config = yaml.safe_load(open(f"configs/{job}.yaml"))
    if rule:
        config["model_name_or_path"] = f"{SCRATCH}/model-{rule}"
    recorder = Recorder()
    original = transformers.Trainer.training_step

    def step(self, model, inputs, *more, **named):
        kept = ("input_ids", "labels", "attention_mask")
        recorder.batches.append({key: inputs[key].tolist() for key in kept if isinstance(inputs.get(key), torch.Tensor)})
        return original(self, model, inputs, *more, **named)

    transformers.Trainer.training_step = step
    shutil.rmtree(config["output_dir"], ignore_errors=True)
    try:
        run_exp(dict(config), callbacks=[recorder])
    finally:
        transformers.Trainer.training_step = original
    out = f"{TRACES}/{name}"
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    versions = {m: __import__(m).__version__ for m in ("torch", "transformers", "peft", "trl", "accelerate")}
    trace = {"config": config, "meta": recorder.meta, "steps": recorder.steps, "versions": versions}
    json.dump(trace, open(f"{out}/trace.json", "w"), ensure_ascii=False, indent=1)
    json.dump(recorder.final, open(f"{out}/final_stats.json", "w"), indent=0)
    # The batches of the older runs on the same data, or a beginning of them, are not kept twice.
    usual = json.load(open("traces/sft_lora/batches.json"))
    if recorder.batches != usual[: len(recorder.batches)]:
        json.dump(recorder.batches, open(f"{out}/batches.json", "w"))
    made = config["output_dir"]
    if os.path.exists(f"{made}/adapter_config.json"):
        shutil.copy(f"{made}/adapter_config.json", out)
        tensors = load_file(f"{made}/adapter_model.safetensors")
        keys = {key: [str(t.dtype), list(t.shape)] for key, t in sorted(tensors.items())}
        json.dump({"keys": keys}, open(f"{out}/adapter_model.keys.json", "w"), indent=0)
    for folder in sorted(glob.glob(f"{made}/pissa_*")):
        tensors = load_file(f"{folder}/adapter_model.safetensors")
        lengths = {key: t.double().norm().item() for key, t in sorted(tensors.items())}
        json.dump(lengths, open(f"{out}/{os.path.basename(folder)}.lengths.json", "w"), indent=0)
    print("==", name, [round(s["logged"]["loss"], 5) for s in recorder.steps], flush=True)


names = sys.argv[1:]
if names[:1] == ["--out"]:
    TRACES, names = os.path.abspath(names[1]), names[2:]
prepare()
for name in names:
    run(name)
