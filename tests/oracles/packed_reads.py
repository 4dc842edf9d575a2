"""transformers reads a model that Ferry exported in four bits, and must find what bitsandbytes itself makes of the numbers.

usage: packed_reads.py PACKED_MODEL SAME_MODEL_AS_NUMBERS
"""

import sys

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

packed, numbers = sys.argv[1:3]
config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
ours = AutoModelForCausalLM.from_pretrained(packed).eval()
theirs = AutoModelForCausalLM.from_pretrained(numbers, quantization_config=config, dtype=ours.dtype).eval()

compared = 0
theirs_by_name = dict(theirs.named_parameters())
for name, parameter in ours.named_parameters():
    other = theirs_by_name[name]
    assert parameter.dtype == other.dtype and torch.equal(parameter, other), name
    compared += parameter.dtype == torch.uint8
assert compared >= 28, compared

tokens = torch.arange(5, 45).reshape(2, 20)
with torch.no_grad():
    gap = (ours(tokens).logits - theirs(tokens).logits).abs().max().item()
# One of the 256 values of a scale may be its neighbour where it lies in the middle between two.
assert gap < 0.02, gap
print(f"{compared} packed matrices have bitsandbytes' own bytes; logits differ by at most {gap:.1e}")
