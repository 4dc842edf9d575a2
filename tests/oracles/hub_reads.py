"""transformers and huggingface_hub find an installed model by its hub name, without a network.

usage: hub_reads.py NAME      with HF_HUB_CACHE and HF_HUB_OFFLINE as the installed env.sh sets them
"""

import os
import sys

from huggingface_hub import snapshot_download
from transformers import AutoModelForCausalLM, AutoTokenizer

name = sys.argv[1]
assert os.environ["HF_HUB_OFFLINE"] == "1"
folder = snapshot_download(name)
assert os.path.realpath(folder).startswith(os.path.realpath(os.environ["HF_HUB_CACHE"])), folder
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name)
ids = tokenizer("中国的首都是哪里?", return_tensors="pt").input_ids
logits = model(ids).logits
assert logits.shape[:2] == ids.shape, logits.shape
print(f"transformers loaded {name}: {sum(p.numel() for p in model.parameters())} numbers")
