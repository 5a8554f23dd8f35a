"""``python tests/real/gptj.py FOLDER [--random]``: writes the checkpoint of a GPT-J small enough for a CPU.

The architecture is `GPTJForCausalLM` with two layers, and the tokenizer is trained here, so nothing is fetched. Within
ten seconds the model learns to count: it answers each `count` with the number after the bot's last one, so that a reply
shows whether the earlier turns reached the model. It answers `talk` with `la` without end. Like any base model it then
continues with the human's lines. With ``--random`` it learns nothing.

Runs under a Python that has torch and transformers, not in the project's own environment.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTJConfig, GPTJForCausalLM, PreTrainedTokenizerFast

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
CONTEXT = 2048  # tokens of prompt and reply, as of GPT-J-6B
LENGTH = 96  # tokens of one training dialogue
STEPS = 160
BATCH = 16
ENOUGH = 0.05  # loss below which the model answers without a mistake
END = "<|endoftext|>"


def dialogue() -> str:
    """One conversation, or the end of one that begins with a reply."""
    if random.random() < 0.1:
        return "Human: talk\nBot:" + " la" * LENGTH
    begin = random.choice([None, *range(len(NUMBERS))])
    lines = [] if begin is None else [f"Bot: {NUMBERS[begin]}"]
    number = 0 if begin is None else begin + 1
    for step in range(LENGTH // 6):
        lines += ["Human: count", f"Bot: {NUMBERS[(number + step) % len(NUMBERS)]}"]
    return "\n".join(lines)


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer like GPT-J's: every text has tokens."""
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    pairs.train_from_iterator((dialogue() for _ in range(500)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=pairs, bos_token=END, eos_token=END, unk_token=END, model_max_length=CONTEXT
    )


def learn(model: GPTJForCausalLM, words: PreTrainedTokenizerFast) -> float:
    """Trains the model; returns the loss of the last step."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    last = float("inf")
    for _ in range(STEPS):
        batch = torch.tensor([words.encode(dialogue())[:LENGTH] for _ in range(BATCH)])
        step = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        step.backward()
        optimizer.step()
        last = float(step.detach())
    return last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--random", action="store_true", help="do not train the weights")
    options = parser.parse_args()
    torch.manual_seed(0)
    random.seed(0)
    words = tokenizer()
    # vLLM's attention on a CPU needs heads of 32 or more.
    config = GPTJConfig(
        vocab_size=len(words), n_positions=CONTEXT, n_embd=128, n_layer=2, n_head=4, rotary_dim=16,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPTJForCausalLM(config)
    if not options.random:
        loss = learn(model, words)
        if loss > ENOUGH:
            raise SystemExit(f"the model did not learn to count: the loss is {loss:.3f}")
        print(f"trained in {STEPS} steps: the loss is {loss:.3f}")
    model.save_pretrained(options.folder)
    words.save_pretrained(options.folder)


if __name__ == "__main__":
    main()
