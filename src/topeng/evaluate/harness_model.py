"""Topeng's models for lm-evaluation-harness. Importing this module registers `topeng`.

A masked diffusion model has no next-token probabilities. Instead of log p(continuation | context) it uses the bound of
`diffusion.likelihood`. For a continuation of one token the bound is exact, and all such continuations of a context are
read from one forward pass.

Shapes: R rows, L continuation tokens, V vocabulary.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import torch
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

import topeng
from topeng.diffusion import objective_of, response_nll
from topeng.diffusion.autoregressive import begun
from topeng.errors import HarnessError, RecipeError
from topeng.evaluate.harness_options import ModelOptions, check_device, decoding, parse_model_args
from topeng.evaluate.harness_text import content_id, cut_context, cut_windows, encode_context, encode_pair, render_chat
from topeng.generate.canvas import pad_left
from topeng.generate.decode import generate_ids
from topeng.generate.row import end_tokens
from topeng.generate.settings import PRESETS, Settings
from topeng.text.batches import collate, passes_of
from topeng.text.chat import encode_text, special_tokens
from topeng.text.formats import format_of
from topeng.text.tokens import Example

SLICE = 128
"""Number of continuations or texts that are scored before their values are stored in the harness's cache."""
LOGITS = 2**27
"""Number of logits of one forward pass: 1,061 positions with LLaDA's vocabulary."""

logger = logging.getLogger(__name__)
Pair = tuple[tuple[int, ...], tuple[int, ...]]  # tokens of a context and of its continuation


@register_model("topeng")
class TopengLM(LM):
    """A model and its tokenizer, as `topeng.load` returns them."""

    def __init__(self, model: Any, tokenizer: Any, options: ModelOptions | None = None, settings: Any = None) -> None:
        super().__init__()
        self.model, self.tokenizer = model, tokenizer
        self.options, self.settings = options or ModelOptions(), settings or Settings(**PRESETS["reference"])
        self._device = next(model.parameters()).device
        self.max_length = model.config.max_position_embeddings
        self.eot_token_id = special_tokens(tokenizer).eot

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Self:
        """Loads what `--model_args` names.

        Args:
            additional_config: the harness's own flags: `device`, `batch_size`, `max_batch_size`.

        Raises:
            RecipeError: an argument is unknown or missing, or a value breaks a rule.
            ModelError, AdapterError: the model or the adapter cannot be loaded.
        """
        flags = {name: value for name, value in (additional_config or {}).items() if value is not None}
        options, settings = parse_model_args(arg_dict)
        if options.pretrained is None:
            raise RecipeError("--model_args names no model. Write pretrained=FOLDER or pretrained=MODEL_ID.")
        if flags.get("batch_size", 1) != 1 or "max_batch_size" in flags:
            logger.warning("the batch size is ignored: batch_tokens = %d limits forward passes", options.batch_tokens)
        device = check_device(options.device or flags.get("device"), by_default=options.device is None)
        model, tokenizer = topeng.load(options.pretrained, options.adapter, options.dtype, device, options.revision)
        return cls(model, tokenizer, options, settings)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: dict[str, Any] | None = None) -> Self:
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def get_model_info(self) -> dict[str, Any]:
        """Description of the model in the harness's results."""
        return {"topeng": {"version": topeng.__version__, **asdict(self.options), "generate": asdict(self.settings)}}

    @property
    def tokenizer_name(self) -> str:
        """Part of the name of the harness's cache of requests."""
        return self.tokenizer.name_or_path.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        if isinstance(chat_template, str):
            raise RecipeError(
                f"--apply_chat_template {chat_template}: there is only one chat format. Leave its name out."
            )
        return format_of(self.tokenizer).template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return render_chat(chat_history, add_generation_prompt)

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """For each request (context, continuation), minus the bound in nats, and whether every token of the
        continuation is the most likely one in a forward pass in which it is completely masked."""
        pairs = [self._pair(*request.args) for request in requests]
        requests_of: dict[Pair, list[Any]] = {}
        for request, pair in zip(requests, pairs, strict=True):
            requests_of.setdefault(pair, []).append(request)
        answers: dict[Pair, tuple[float, bool]] = {}
        with tqdm(total=len(requests_of), desc="loglikelihood", disable=disable_tqdm) as bar:
            for batch in self._answered(list(requests_of)):
                for pair, answer in batch.items():
                    for request in requests_of[pair]:
                        self.cache_hook.add_partial("loglikelihood", request.args, answer)
                answers |= batch
                bar.update(len(batch))
        return [answers[pair] for pair in pairs]

    def _answered(self, pairs: Sequence[Pair]) -> Iterator[dict[Pair, tuple[float, bool]]]:
        """Scores a few requests at a time: first those for which one forward pass is enough, then the others."""
        yield {pair: (0.0, True) for pair in pairs if not pair[1]}
        if objective_of(self.model.config).exact:
            yield from left_to_right(self.model, [pair for pair in pairs if pair[1]], self.options.batch_tokens)
            return
        greedy: dict[Pair, bool] = {}
        for seen in wholly_masked(self.model, [pair for pair in pairs if pair[1]], self.options.batch_tokens):
            yield {pair: answer for pair, answer in seen.items() if len(pair[1]) == 1}
            greedy |= {pair: likeliest for pair, (_, likeliest) in seen.items() if len(pair[1]) > 1}
        for now in _slices(sorted(greedy, key=lambda pair: (-len(pair[0]), pair[0])), SLICE):
            values = self._log_likelihoods(now)
            yield {pair: (value, greedy[pair]) for pair, value in zip(now, values, strict=True)}

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Minus the bound of each text in nats, without a prompt, in windows of the model's context."""
        values = []
        with tqdm(total=len(requests), desc="loglikelihood_rolling", disable=disable_tqdm) as bar:
            for now in _slices(requests, SLICE):
                windows = [
                    [
                        (tuple(before), tuple(scored))
                        for before, scored in cut_windows(encode_text(self.tokenizer, text), self.max_length)
                    ]
                    for (text,) in (request.args for request in now)
                ]
                found = iter(self._log_likelihoods([window for text in windows for window in text]))
                for request, text in zip(now, windows, strict=True):
                    values.append(sum(next(found) for _ in text))
                    self.cache_hook.add_partial("loglikelihood_rolling", request.args, values[-1])
                bar.update(len(now))
        return values

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """The answer to each request (context, generation arguments), cut at its first `until`."""
        texts = [""] * len(requests)
        by_arguments: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            by_arguments.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
        seen: Counter[int] = Counter()  # repetitions of a request have different noise
        with tqdm(total=len(requests), desc="generate_until", disable=disable_tqdm) as bar:
            for arguments, places in by_arguments.items():
                settings, limit, until = decoding(self.settings, json.loads(arguments))
                prompts = {place: self._prompt(requests[place].args[0], settings) for place in places}
                row_ids = {}
                for place, prompt in prompts.items():
                    row_ids[place] = content_id(prompt, seen[content_id(prompt)])
                    seen[content_id(prompt)] += 1
                for now in self._batches(prompts, settings.max_new_tokens):
                    rows = self._generate(
                        [prompts[place] for place in now], settings, [row_ids[place] for place in now]
                    )
                    for place, ids in zip(now, rows, strict=True):
                        texts[place] = self._text(ids[:limit], until)
                        self.cache_hook.add_partial("generate_until", requests[place].args, texts[place])
                    bar.update(len(now))
        return texts

    def _batches(self, prompts: Mapping[int, list[int]], new_tokens: int) -> Iterator[list[int]]:
        places = list(prompts)
        for rows in passes_of([len(prompts[place]) + new_tokens for place in places], self.options.batch_tokens):
            yield [places[row] for row in rows]

    def _generate(self, prompts: list[list[int]], settings: Settings, row_ids: list[int]) -> list[list[int]]:
        input_ids, attention_mask = pad_left(prompts, self.model.config.eos_token_id)
        tokens = generate_ids(self.model, input_ids, attention_mask, settings, row_ids)
        return tokens[:, input_ids.shape[1] :].tolist()

    def _text(self, ids: list[int], until: Sequence[str]) -> str:
        ends = set(end_tokens(self.model).tolist())
        length = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        text = self.tokenizer.decode(ids[:length], skip_special_tokens=True)
        for stop in filter(None, until):
            text = text.split(stop)[0]
        return text

    def _prompt(self, context: str, settings: Settings) -> list[int]:
        room = self.max_length - settings.max_new_tokens
        if room < 1:
            raise HarnessError(
                f"an answer of {settings.max_new_tokens} tokens leaves no room for its prompt in the model's context "
                f"of {self.max_length}. Set a lower limit with --gen_kwargs max_gen_toks=N."
            )
        return self._cut(context, encode_context(self.tokenizer, context), room)

    def _pair(self, context: str, answer: str) -> Pair:
        ids, continuation = encode_pair(self.tokenizer, context, answer)
        if len(continuation) > self.max_length:
            raise HarnessError(
                f"a continuation of {len(continuation)} tokens does not fit the model's context of {self.max_length}. "
                "This task needs another model."
            )
        return tuple(self._cut(context, ids, self.max_length - len(continuation))), tuple(continuation)

    def _cut(self, context: str, ids: Sequence[int], room: int) -> list[int]:
        kept = cut_context(self.tokenizer, context, ids, room)
        if len(kept) < len(ids):
            logger.warning("a context of %d tokens was cut to %d", len(ids), len(kept))
        return kept

    def _log_likelihoods(self, pairs: Sequence[Pair]) -> list[float]:
        """Minus the bound of each continuation in nats, as in `topeng evaluate`. Its content seeds its masks."""
        examples = [
            Example(content_id(context, continuation), [*context, *continuation], len(context))
            for context, continuation in pairs
        ]
        options = self.options
        nats = response_nll(self.model, examples, options.draws, options.seed, options.replicates, options.batch_tokens)
        return (-nats.mean(axis=1)).tolist()


def _slices(items: Sequence[Any], count: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), count):
        yield items[start : start + count]


@torch.no_grad()
def left_to_right(model: Any, pairs: Sequence[Pair], batch_tokens: int) -> Iterator[dict[Pair, tuple[float, bool]]]:
    """Yields the log-probability of each continuation under an autoregressive model, and whether each token is the most
    likely one after those before it, apart from the mask token. One pass at a time."""
    device, eos = next(model.parameters()).device, model.config.eos_token_id
    for places in _passes(model, [(len(context), len(continuation)) for context, continuation in pairs], batch_tokens):
        now = [pairs[place] for place in places]
        batch = collate([begun(Example(0, [*before, *scored], len(before)), eos) for before, scored in now], eos)
        response = batch["response_mask"]
        log_p = (
            model(
                input_ids=batch["input_ids"].to(device),
                attention_mask=batch["attention_mask"].to(device),
                head_positions=response.to(device),
            )
            .logits.float()
            .log_softmax(dim=-1)
        )  # [N, V]
        targets = batch["input_ids"][response].to(device)
        values = log_p.gather(1, targets[:, None]).squeeze(1)
        log_p[:, model.config.mask_token_id] = -torch.inf
        likeliest = log_p.argmax(dim=-1) == targets
        lengths = [len(pair[1]) for pair in now]
        parts = zip(now, values.split(lengths), likeliest.split(lengths), strict=True)
        yield {pair: (float(value.double().sum()), bool(best.all())) for pair, value, best in parts}


@torch.no_grad()
def wholly_masked(model: Any, pairs: Sequence[Pair], batch_tokens: int) -> Iterator[dict[Pair, tuple[float, bool]]]:
    """Yields, one pass at a time, the log-probability of each continuation if all its tokens are masked (for one token,
    its likelihood), and whether each token is the most likely one, apart from the mask token.

    A completely masked row only depends on its context and length, so all continuations of the same length share it.
    """
    rows: dict[tuple[tuple[int, ...], int], list[Pair]] = {}
    for pair in pairs:
        rows.setdefault((pair[0], len(pair[1])), []).append(pair)
    mask_token_id, device = model.config.mask_token_id, next(model.parameters()).device
    keys = list(rows)
    for places in _passes(model, [(len(context), length) for context, length in keys], batch_tokens):
        now = [keys[place] for place in places]
        examples = [Example(0, [*context, *[mask_token_id] * length], len(context)) for context, length in now]
        batch = {name: value.to(device) for name, value in collate(examples, model.config.eos_token_id).items()}
        logits = model(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            head_positions=batch["response_mask"],
            noise_level=torch.ones(len(now), device=device),
        ).logits  # [N, V], N the masked positions of all rows
        seen: dict[Pair, tuple[float, bool]] = {}
        for row, row_logits in zip(now, logits.split([length for _, length in now]), strict=True):
            log_p = row_logits.float().log_softmax(dim=-1)  # [L, V]
            targets = torch.tensor([pair[1] for pair in rows[row]], device=device)  # [R, L]
            values = log_p.gather(1, targets.T).sum(dim=0).tolist()
            log_p[:, mask_token_id] = -torch.inf
            likeliest = (log_p.argmax(dim=-1) == targets).all(dim=1).tolist()
            seen |= dict(zip(rows[row], zip(values, likeliest, strict=True), strict=True))
        yield seen


def _passes(model: Any, sizes: Sequence[tuple[int, int]], batch_tokens: int) -> Iterator[list[int]]:
    """Divides pairs into forward passes with at most `LOGITS` logits.

    Args:
        sizes: number of tokens of each context and of its continuation.
    """
    heads = [continuation for _, continuation in sizes]
    return passes_of(list(map(sum, sizes)), batch_tokens, heads, LOGITS // model.config.vocab_size)
