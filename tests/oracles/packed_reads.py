"""transformers reads a model that Ferry exported in four bits, and must find what bitsandbytes itself makes of the numbers.

usage: packed_reads.py SAME_MODEL_AS_NUMBERS PACKED_MODEL ...
"""

import sys

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

numbers, *packed = sys.argv[1:]
tokens = torch.arange(5, 45).reshape(2, 20)
for folder in packed:
    ours = AutoModelForCausalLM.from_pretrained(folder).eval()
    said = ours.config.quantization_config
    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type=said.bnb_4bit_quant_type, bnb_4bit_use_double_quant=said.bnb_4bit_use_double_quant
    )
    theirs = AutoModelForCausalLM.from_pretrained(numbers, quantization_config=config, dtype=ours.dtype).eval()

    compared = 0
    theirs_by_name = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = theirs_by_name[name]
        assert parameter.dtype == other.dtype and torch.equal(parameter, other), name
        compared += parameter.dtype == torch.uint8
    assert compared >= 28, compared
    with torch.no_grad():
        gap = (ours(tokens).logits - theirs(tokens).logits).abs().max().item()
    # A scale that lies in the middle between two of the 256 values may be its neighbour; with plain scales all is the same.
    assert gap < (0.1 if said.bnb_4bit_use_double_quant else 1e-5), gap
    print(f"{folder}: {compared} packed matrices have bitsandbytes' own bytes; logits differ by at most {gap:.1e}")
