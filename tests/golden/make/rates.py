"""Learning rates of transformers' schedules with settings: vectors/lr_settings.json."""

import json
import os

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

import torch
from llamafactory.train.trainer_utils import create_custom_scheduler
from transformers import TrainingArguments
from transformers.optimization import get_scheduler

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
TOTAL, PEAK = 20, 1e-3


def rates(kind, settings, warmup, evaluations=()):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    when = "steps" if kind == "reduce_lr_on_plateau" else "no"
    args = TrainingArguments(
        output_dir="/tmp/rates", lr_scheduler_type=kind, lr_scheduler_kwargs=dict(settings), warmup_steps=warmup, use_cpu=True, eval_strategy=when
    )
    create_custom_scheduler(args, TOTAL, optimizer)
    schedule = get_scheduler(args.lr_scheduler_type, optimizer, args.get_warmup_steps(TOTAL), TOTAL, args.lr_scheduler_kwargs)
    made = []
    for step in range(TOTAL):
        made.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if kind != "reduce_lr_on_plateau":
            schedule.step()
        elif step < len(evaluations):
            schedule.step(evaluations[step])
    job = {"lr_scheduler_type": kind, "learning_rate": PEAK}
    if settings:
        job["lr_scheduler_kwargs"] = settings
    if kind == "reduce_lr_on_plateau":
        job["eval_strategy"] = "steps"
    return {"job": job, "warmup": warmup, "evaluations": list(evaluations), "rates": made}


WARMED = [
    ("cosine", {"num_cycles": 1.5}),
    ("cosine_with_restarts", {"num_cycles": 3}),
    ("polynomial", {"lr_end": 1e-5, "power": 2.0}),
    ("inverse_sqrt", {"timescale": 7}),
    ("cosine_with_min_lr", {"min_lr": 1e-4}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.25, "num_cycles": 1}),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", {"min_lr": 2e-4, "warmup_lr_rate": 0.05}),
    ("warmup_stable_decay", {}),
    ("warmup_stable_decay", {"num_stable_steps": 5, "num_decay_steps": 4, "min_lr_ratio": 0.1, "warmup_type": "cosine", "decay_type": "1-sqrt"}),
    ("warmup_stable_decay", {"warmup_type": "1-sqrt", "decay_type": "linear"}),
    ("warmup_stable_decay", {"num_cycles": 1.5}),
]
SEEN = [3.0, 2.5, 2.4, 2.41, 2.39999, 2.5, 2.6, 2.0, 2.1, 2.2, 2.3, 2.4, 2.5, 2.6, 1.9, 1.95, 1.9, 1.9, 1.9]
PLATEAUS = [
    {"patience": 1},
    {"patience": 0, "factor": 0.5, "cooldown": 2, "min_lr": 1e-5},
    {"patience": 2, "threshold": 0.2, "threshold_mode": "abs", "factor": 0.3},
    {"patience": 0, "factor": 0.9999999, "eps": 1e-6},
]
cases = [rates(kind, settings, warmup) for kind, settings in WARMED for warmup in (0, 3)]
cases += [rates("reduce_lr_on_plateau", settings, 0, SEEN) for settings in PLATEAUS]
json.dump(cases, open("vectors/lr_settings.json", "w"), indent=0)
