"""PEFT reads an adapter that Ferry trained, and must answer as Ferry does.

usage: peft_reads.py BASE_MODEL ADAPTER GENERATE_JSON ANSWERS_JSONL
ANSWERS_JSONL is what `ferry-runtime chat --json --adapter ADAPTER` printed for the prompts of GENERATE_JSON, greedily.
"""

import json
import sys

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter, generate, answers = sys.argv[1:5]
tokenizer = AutoTokenizer.from_pretrained(base)
model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()

# Every tensor of the file was taken, unchanged, and nothing else was asked for.
file = load_file(f"{adapter}/adapter_model.safetensors")
taken = get_peft_model_state_dict(model)
assert file.keys() == taken.keys(), sorted(file.keys() ^ taken.keys())[:4]
for name, tensor in file.items():
    assert torch.equal(tensor, taken[name]), name

ours = [json.loads(line) for line in open(answers, encoding="utf-8") if line.strip()]
ours = [line for line in ours if "answer" in line]
prompts = json.load(open(generate, encoding="utf-8"))["sft_lora"]
assert len(ours) == len(prompts), (len(ours), len(prompts))
for prompt, answer in zip(prompts, ours):
    ids = torch.tensor([prompt["prompt_ids"]])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        made = model.generate(ids, max_new_tokens=64, do_sample=False, eos_token_id=end, pad_token_id=end)
    text = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
    assert text == answer["answer"], (text, answer)
    print(f"{answer['prompt']} -> {text}")
print(f"PEFT took {len(file)} tensors and gave {len(ours)} equal answers")
