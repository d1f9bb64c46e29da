"""Rows that a causal model writes itself, to pretrain the diffusion model on that is made of it.

    python tools/self_written.py MODEL.gguf rows.jsonl --rows 10000

It goes on from the beginning of a user's message, and then answers it (Magpie, arXiv 2406.08464). A kill loses the
batch that was being written; the same command goes on.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from topeng.models import find_device
from topeng.system.lines import LineFile

SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
BRIEF = "<|im_start|>system\nYou are a helpful assistant who answers in one or two short sentences.<|im_end|>\n"
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>"
QUESTION = {"max_new_tokens": 40, "temperature": 1.0, "top_p": 0.95}
ANSWER = {"max_new_tokens": 80, "temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.05}
SHORTEST, LONGEST = 8, 200
"""Characters of a question."""
CODE = ("python", "code", "function", "script")
"""Questions that ask for these get long answers, which would be cut."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file of a causal model of the chat format ChatML")
    parser.add_argument("out", type=Path, help="file of JSON Lines with `input` and `output`")
    parser.add_argument("--rows", type=int, default=10_000, help="how many at least (%(default)s)")
    parser.add_argument("--batch", type=int, default=128, help="questions at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    model, tokenizer = load(options.model)
    file = LineFile(options.out, {"model": options.model.name, "seed": options.seed, "batch": options.batch})
    batch = 1 + max((line["batch"] for line in file.lines), default=0)
    lines = list(file.lines)
    while len(lines) < options.rows:
        if batch > 10 and not lines:
            raise SystemExit(
                f"{options.model} ended none of {10 * options.batch:,} questions. Is it an instruct model?"
            )
        torch.manual_seed(options.seed * 2**16 + batch)
        new = [{"batch": batch, **row} for row in written(model, tokenizer, options.batch)]
        file.add(new)
        lines += new
        print(f"{len(lines):,} of {options.rows:,} rows", flush=True)
        batch += 1
    file.finish([{"input": line["input"], "output": line["output"]} for line in lines])


def load(path: Path) -> tuple[Any, Any]:
    device = find_device(None)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, padding_side="left")
    tokenizer.pad_token = END
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16, quantization_config=unpacked
    )
    return model.to(device).eval(), tokenizer


def written(model: Any, tokenizer: Any, count: int) -> list[dict[str, str]]:
    """Up to `count` rows: questions that ended, each once, with their answers up to the last whole sentence."""
    found = [text for text, ended in go_on(model, tokenizer, [SYSTEM + USER] * count, QUESTION) if ended]
    asked = sorted({text for text in found if SHORTEST <= len(text) <= LONGEST and not is_of_code(text)}, key=len)
    prompts = [f"{BRIEF}{USER}{text}{END}\n{ASSISTANT}" for text in asked]
    answers = go_on(model, tokenizer, prompts, ANSWER) if prompts else []
    rows = [(text, answer if ended else whole(answer)) for text, (answer, ended) in zip(asked, answers, strict=True)]
    return [{"input": text, "output": answer} for text, answer in rows if answer]


def is_of_code(question: str) -> bool:
    return any(word in question.lower() for word in CODE)


def whole(answer: str) -> str:
    """An answer that was cut, up to the end of its last sentence."""
    return answer[: 1 + max(answer.rfind(end) for end in (".", "!", "?"))]


@torch.inference_mode()
def go_on(model: Any, tokenizer: Any, texts: list[str], how: dict[str, Any]) -> list[tuple[str, bool]]:
    """What the model writes after each text, and whether it ended by itself."""
    end = tokenizer.convert_tokens_to_ids(END)
    given = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
    out = model.generate(**given, **how, do_sample=True, top_k=0, eos_token_id=end, pad_token_id=end)
    new = out[:, given["input_ids"].shape[1] :].tolist()
    ended = [end in tokens for tokens in new]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [(text.strip(), done) for text, done in zip(texts, ended, strict=True)]


if __name__ == "__main__":
    main()
