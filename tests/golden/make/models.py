"""Tiny models with random weights, and what transformers makes of a text: families/NAME and model_moe.

usage: models.py [NAME ...]
"""

import json
import os
import shutil
import sys

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

torch.set_num_threads(1)
os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

SMALL = dict(
    vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, tie_word_embeddings=True, initializer_range=0.3, eos_token_id=31, bos_token_id=30, pad_token_id=30,
)
TOKENS = [3, 14, 15, 9, 26, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6]


def rope(**rule):
    return {"rope_theta": 10000.0, **rule}


def experts(**more):
    return {**SMALL, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "norm_topk_prob": True, **more}


FAMILIES = {
    # Longer than 8 positions, so that the rule is at work.
    "linear": (LlamaForCausalLM, LlamaConfig(**SMALL, rope_parameters=rope(rope_type="linear", factor=2.0))),
    "dynamic": (
        LlamaForCausalLM,
        LlamaConfig(**SMALL, max_position_embeddings=8, rope_parameters=rope(rope_type="dynamic", factor=2.0)),
    ),
    "qwen3_moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig(**experts())),
    "qwen3_moe_mixed": (
        Qwen3MoeForCausalLM,
        Qwen3MoeConfig(
            **experts(num_hidden_layers=5, norm_topk_prob=False, decoder_sparse_step=2, mlp_only_layers=[3], use_sliding_window=True,
                      sliding_window=7, output_router_logits=True, router_aux_loss_coef=0.02, attention_bias=True)
        ),
    ),
}


def family(name):
    kind, config = FAMILIES[name]
    torch.manual_seed(11)
    model = kind(config).float().eval()
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    folder = f"families/{name}"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    for extra in ("generation_config.json",):
        if os.path.exists(f"{folder}/{extra}"):
            os.remove(f"{folder}/{extra}")
    tokens = torch.tensor([TOKENS])
    with torch.no_grad():
        result = model(input_ids=tokens, labels=tokens)
    kept = {"tokens": tokens[0], "logits": result.logits[0].contiguous()}
    if getattr(result, "aux_loss", None) is not None:
        kept["loss"], kept["aux"] = result.loss.reshape(1), result.aux_loss.reshape(1)
    save_file(kept, f"{folder}/logits.safetensors")
    if name == "qwen3_moe":
        # The same weights under the names that the model itself has for them, and the same as saved.
        save_file({k: v.clone() for k, v in model.state_dict().items() if k != "lm_head.weight"}, f"{folder}/fused.safetensors", metadata={"format": "pt"})
        print(sorted(load_file(f"{folder}/model.safetensors"))[:4])
    print(name, float(result.loss))


def adapter():
    """An adapter on experts under the names that PEFT gave them with transformers 4, added to the weights by hand: PEFT 0.18
    does not read it with transformers 5."""
    folder = "families/qwen3_moe/adapter"
    os.makedirs(folder, exist_ok=True)
    base = load_file("families/qwen3_moe/model.safetensors")
    rank, targets = 2, ("q_proj", "gate_proj", "up_proj", "down_proj")
    torch.manual_seed(13)
    tensors, merged = {}, dict(base)
    for name, weight in sorted(base.items()):
        module = name.removesuffix(".weight")
        if module.split(".")[-1] in targets:
            rows, columns = weight.shape
            a, b = torch.randn(rank, columns) * 0.3, torch.randn(rows, rank) * 0.3
            tensors[f"base_model.model.{module}.lora_A.weight"] = a
            tensors[f"base_model.model.{module}.lora_B.weight"] = b
            merged[name] = weight + 4 / rank * b @ a
    save_file(tensors, f"{folder}/adapter_model.safetensors", metadata={"format": "pt"})
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 4, "lora_dropout": 0.0, "bias": "none", "target_modules": list(targets)}
    json.dump(config, open(f"{folder}/adapter_config.json", "w"), indent=1)
    shutil.copytree("families/qwen3_moe", "/tmp/golden_merged", dirs_exist_ok=True, ignore=shutil.ignore_patterns("adapter", "fused*"))
    save_file(merged, "/tmp/golden_merged/model.safetensors", metadata={"format": "pt"})
    tokens = torch.tensor([TOKENS])
    with torch.no_grad():
        before, after = (
            Qwen3MoeForCausalLM.from_pretrained(folder).eval()(input_ids=tokens).logits
            for folder in ("families/qwen3_moe", "/tmp/golden_merged")
        )
    print("adapter", float((before - after).abs().max()))
    save_file({"logits": after[0].contiguous()}, f"{folder}/logits.safetensors")


def moe():
    """The model of the moe_* traces: the tokenizer of `model`, a dense layer between two with experts."""
    config = Qwen3MoeConfig(
        vocab_size=768, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
        max_position_embeddings=4096, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16, norm_topk_prob=True,
        mlp_only_layers=[1], initializer_range=0.1, tie_word_embeddings=False, bos_token_id=765, eos_token_id=767, pad_token_id=765,
    )
    torch.manual_seed(12)
    Qwen3MoeForCausalLM(config).float().save_pretrained("model_moe")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(f"model/{name}", f"model_moe/{name}")


for name in sys.argv[1:] or [*FAMILIES, "adapter", "model_moe"]:
    {"model_moe": moe, "adapter": adapter}.get(name, lambda: family(name))()
