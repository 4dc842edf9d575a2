"""gptqmodel reads models that Ferry rounded by GPTQ, and the original's own way makes nearly the same of the same job.

usage: gptq_reads.py MODEL TEXTS WINDOWS LENGTH FOLDER=FERRYS_LOSS ...

MODEL is what the folders were made of, by WINDOWS windows of LENGTH tokens of TEXTS, whose loss Ferry has said of each folder.
"""

import json
import random
import sys
import types
from pathlib import Path

import numpy
import torch
from llamafactory.model.model_utils.quantization import _get_quantization_dataset
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTQConfig

ROW = 64


def numbers_of(words: numpy.ndarray, bits: int, count: int) -> numpy.ndarray:
    """The numbers in each column of words, as the format has them: without a gap, the lowest bits first."""
    bytes_ = numpy.ascontiguousarray(words.T).view(numpy.uint8)
    each = numpy.unpackbits(bytes_, axis=1, bitorder="little").reshape(bytes_.shape[0], -1, bits)
    return (each * (1 << numpy.arange(bits))).sum(-1)[:, :count].T


def widened(tensors: dict, name: str, bits: int) -> torch.Tensor:
    part = {p: tensors[f"{name}.{p}"].numpy() for p in ("qweight", "qzeros", "scales", "g_idx")}
    numbers = numbers_of(part["qweight"], bits, len(part["g_idx"]))
    zeros = numbers_of(part["qzeros"].T, bits, part["scales"].shape[1]).T
    zeros = (zeros + 1) % (1 << bits)
    of_column = part["g_idx"]
    wide = part["scales"].astype(numpy.float32)[of_column] * (numbers - zeros[of_column])
    return torch.from_numpy(wide.T.astype(numpy.float32))


def loss(model, rows: torch.Tensor) -> float:
    with torch.no_grad():
        logits = model(rows).logits.float()
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten()).item()


source, texts, windows, length, *folders = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(source)
lines = [json.loads(line)["text"] for line in Path(texts).read_text().splitlines()]
ids = [i for line in lines for i in tokenizer(line + tokenizer.eos_token, add_special_tokens=False)["input_ids"]]
rows = torch.tensor(ids[: len(ids) // ROW * ROW]).view(-1, ROW)
whole = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
print(f"the model itself: loss {loss(whole, rows):.4f}")

for given in folders:
    folder, ferrys = given.rsplit("=", 1)
    tensors = {}
    for file in sorted(Path(folder).glob("*.safetensors")):
        tensors |= load_file(file)
    bits = json.loads((Path(folder) / "config.json").read_text())["quantization_config"]["bits"]
    layers = sorted(name.removesuffix(".qweight") for name in tensors if name.endswith(".qweight"))

    # What the format says, in numpy.
    plain = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    state = {name: tensor.float() for name, tensor in tensors.items() if name in plain.state_dict()}
    state |= {f"{name}.weight": widened(tensors, name, bits) for name in layers}
    plain.load_state_dict(state, strict=not plain.config.tie_word_embeddings)

    # What gptqmodel's kernel makes of it.
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=GPTQConfig(bits=bits, backend="gptq_torch")
    ).eval()
    with torch.no_grad():
        gap = (plain(rows).logits - theirs(rows).logits).abs().max().item()
    assert gap < 2e-2, f"{folder}: logits of gptqmodel are {gap} from the format's"
    own = loss(theirs, rows)
    assert abs(own - float(ferrys)) < 1e-3, f"{folder}: loss {own}, Ferry says {ferrys}"

    # What the original makes of the same job.
    random.seed(42)
    asked = types.SimpleNamespace(
        export_quantization_dataset=texts, export_quantization_maxlen=int(length),
        export_quantization_nsamples=int(windows), cache_dir=None, hf_hub_token=None,
    )
    drawn = _get_quantization_dataset(tokenizer, asked)
    config = GPTQConfig(bits=bits, tokenizer=tokenizer, dataset=drawn, backend="gptq_torch")
    original = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, quantization_config=config).eval()
    made = original.state_dict()
    share = {}
    for name in layers:
        count = len(tensors[f"{name}.g_idx"])
        ours, others = (numbers_of(t[f"{name}.qweight"].cpu().numpy(), bits, count) for t in (tensors, made))
        share[name] = (ours == others).mean()
    first = min(share[name] for name in layers if ".layers.0.self_attn" in name and "o_proj" not in name)
    mean = numpy.mean(list(share.values()))
    print(
        f"{folder}: {bits} bits, {len(layers)} matrices; logits of gptqmodel within {gap:.1e} of the format's; loss {own:.4f} "
        f"(Ferry says {float(ferrys):.4f}), the original's export {loss(original, rows):.4f}; the same numbers: first "
        f"matrices {first:.2%}, all {mean:.2%}"
    )
    # Scales that are rounded before and not after shift what lies between two numbers; of 256 more than of 16.
    assert first > 0.9, share
