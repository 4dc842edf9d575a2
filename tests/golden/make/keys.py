"""Every key of LLaMA-Factory 0.9.5 and of the transformers below it: writes tests/golden/vectors/keys.json.

Run from the root of the repository with the Python that `cargo xtask bench training` makes:

    ~/.cache/ferry/llamafactory-0.9.5/bin/python tests/golden/make/keys.py

Each line is `[key, default, [other values, ...]]`, of the dataclasses that its parser reads.
"""

import dataclasses
import enum
import json
import os
import types
import typing
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", DISABLE_VERSION_CHECK="1")

from llamafactory import hparams
from llamafactory.hparams.evaluation_args import EvaluationArguments

CLASSES = [
    hparams.ModelArguments,
    hparams.DataArguments,
    hparams.FinetuningArguments,
    hparams.GeneratingArguments,
    hparams.TrainingArguments,
    EvaluationArguments,
]


def plain(value):
    return value.value if isinstance(value, enum.Enum) else value


def kinds(hint):
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(hint) for kind in kinds(part)]
    return [hint]


def others(kind):
    """Values that the type has beside whatever is the default."""
    if typing.get_origin(kind) is typing.Literal:
        return list(typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return [member.value for member in kind]
    if kind is bool:
        return [True, False]
    if kind is int:
        return [3]
    if kind is float:
        return [0.25]
    if kind is str:
        return ["other"]
    if kind is dict or typing.get_origin(kind) is dict:
        return [{"a": 1}]
    if typing.get_origin(kind) is list:
        return [["a", "b"]]
    return []


found = {}
for cls in CLASSES:
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        default = plain(field.default)
        if field.default is dataclasses.MISSING:
            default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        values = [value for kind in kinds(hints[field.name]) for value in others(kind)]
        differing = [value for value in values if (type(value), value) != (type(default), default)]
        found.setdefault(field.name, (default, differing))

lines = [json.dumps([key, *found[key]], ensure_ascii=False) for key in sorted(found)]
Path("tests/golden/vectors/keys.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
