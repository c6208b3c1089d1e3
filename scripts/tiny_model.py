"""Makes a Llama of a million random parameters with a tokenizer trained on Python's own sources.

Usage: tiny_model.py FOLDER. Run by scripts/setup_vllm.sh inside .venv-vllm: needs torch, transformers, tokenizers.
What it writes is nonsense, but it is served by the same code, and measured by the same metrics, as a real model.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

VOCABULARY, HIDDEN, LAYERS, CONTEXT = 4096, 128, 2, 8192
END, PAD = "<|end|>", "<|pad|>"


def make_tokenizer(folder: Path) -> tuple[int, int]:
    """This will train a byte-level tokenizer and give its size and the end token's number."""
    library = importlib.import_module("tokenizers")
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
    )
    sources = sorted(str(path) for path in Path(os.__file__).parent.glob("*.py"))
    tokenizer.train(sources, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "eos_token": END,
        "pad_token": PAD,
        "chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(described, indent=1))
    return tokenizer.get_vocab_size(), tokenizer.token_to_id(END)


def main() -> int:
    """This will write the model and give the exit code."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    size, end = make_tokenizer(folder)
    torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=size,
        hidden_size=HIDDEN,
        intermediate_size=2 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        eos_token_id=end,
        bos_token_id=None,
        pad_token_id=0,
    )
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
