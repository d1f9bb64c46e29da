"""`topeng chat`: a conversation in the terminal that shows each answer while it is denoised."""

from pathlib import Path

from peft import PeftModel
from rich.console import Console
from rich.live import Live
from rich.text import Text

from topeng import load
from topeng.adapt.foreign import remove_adapter
from topeng.adapt.loading import load_adapter
from topeng.errors import AdapterError, TopengError
from topeng.generate.answer import empty_cause, prompt_canvas
from topeng.generate.canvas import Canvas
from topeng.generate.decode import denoise
from topeng.generate.settings import Settings
from topeng.models import is_checkpoint
from topeng.text.chat import Message, decode_answer, encode_prompt, recent_messages, recent_turns

HELP = "/adapter NAME switches to another adapter (`base`: none), /reset starts a new conversation, /exit quits"
MASK = "░"


class Chat:
    """A conversation with a model, with one adapter at a time."""

    def __init__(
        self,
        model: str,
        adapter: str | None,
        settings: Settings,
        console: Console | None = None,
        system: str | None = None,
        turns: int | None = None,
    ) -> None:
        """
        Args:
            system: message with which every conversation begins.
            turns: number of earlier turns that the model sees, by default as many as fit into its context.

        Raises:
            ModelError, AdapterError: the model or the adapter cannot be loaded.
        """
        self.base, self.tokenizer = load(model)
        self.model, self.adapters, self.name = self.base, Path(), model
        self.settings, self.console = settings, console or Console(highlight=False)
        self.opening: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self.messages, self.turns = list(self.opening), turns
        self.adapter: str | None = None
        if adapter:
            self.take_adapter(adapter)

    def talk(self) -> None:
        """Reads turns until /exit or the end of the input."""
        self._say(self._opening(), "dim")
        self._say(HELP, "dim")
        while True:
            try:
                line = self.console.input("[bold]> [/bold]" if self.console.is_terminal else "").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if line == "/exit":
                return
            try:
                self.turn(line)
            except (TopengError, OSError) as error:  # OSError if a name is too long for a file
                self._say(f"topeng: {error}", "red")

    def turn(self, line: str) -> None:
        """Executes a command or answers a question."""
        command, _, name = line.partition(" ")
        if command == "/adapter":
            self.take_adapter(name.strip())
            self.console.print(f"The adapter is now {name.strip()}.", style="dim", markup=False)
        elif command == "/reset":
            self.messages = list(self.opening)
            self.console.print("The conversation starts again.", style="dim")
        elif command.startswith("/"):
            self._say(HELP, "dim")
        elif line:
            self.answer(line)

    def answer(self, question: str) -> str:
        """Answers a question, given the conversation so far.

        Raises:
            GenerationError: the question alone exceeds the context.
        """
        room = self.model.config.max_position_embeddings - self.settings.max_new_tokens
        asked: Message = {"role": "user", "content": question}
        messages = recent_messages(self.tokenizer, recent_turns([*self.messages, asked], self.turns), room)
        canvas = prompt_canvas(self.model, [encode_prompt(self.tokenizer, messages)], self.settings)
        with Live(console=self.console, transient=True, auto_refresh=False) as live:
            for _ in denoise(self.model, canvas, self.settings):
                if self.console.is_terminal:
                    live.update(self._draw(canvas), refresh=True)
        text = decode_answer(self.tokenizer, canvas.tokens[0, canvas.prompt_length :].tolist())
        self._say(text if text.strip() else f"(an empty answer: {empty_cause(self.settings)})")
        self.messages = [*messages, {"role": "assistant", "content": text}]
        return text

    def take_adapter(self, name: str) -> None:
        """Replaces the current adapter by another.

        Args:
            name: a folder, the name of a folder next to the last adapter, or `base` for no adapter.

        Raises:
            ModelError, AdapterError: there is no such adapter, or it does not fit. The model is then the plain base.
        """
        if isinstance(self.model, PeftModel):
            self.base = remove_adapter(self.model)
        self.model, self.adapter = self.base, None
        if name == "base":
            return
        folder = Path(name) if Path(name).is_dir() else self.adapters / name
        if not name or not folder.is_dir():
            raise AdapterError(
                f"there is no adapter folder {name!r}. Give a path, or the name of a folder next to the last adapter."
            )
        self.model = load(folder)[0] if is_checkpoint(folder) else load_adapter(self.base, folder)
        self.adapters, self.adapter = folder.parent, name

    def _opening(self) -> str:
        """The model, the adapter and the settings, for the first line."""
        settings, adapter = self.settings, self.adapter or "none"
        steps = f"{settings.steps} steps" if settings.steps else "one token per step"
        how = f"up to {settings.max_new_tokens} tokens in blocks of {settings.block_length}, {steps}"
        noise = f"temperature {settings.temperature:g}" if settings.temperature else "greedy"
        seen = "" if self.turns is None else f", {self.turns or 'no'} earlier turns visible"
        return f"model {self.name}, adapter {adapter}; {how}, policy {settings.policy}, {noise}{seen}"

    def _say(self, text: str, style: str = "") -> None:
        """Prints text, wrapped between words in a terminal and unchanged in a file."""
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=not self.console.is_terminal)

    def _draw(self, canvas: Canvas) -> Text:
        """The answer so far, up to the last committed token."""
        start, masked = canvas.prompt_length, canvas.masked[0, canvas.prompt_length :].tolist()
        pieces = [
            MASK if hidden else self.tokenizer.decode([token], skip_special_tokens=True)
            for token, hidden in zip(canvas.tokens[0, start:].tolist(), masked, strict=True)
        ]
        drawn = Text("".join(pieces).rstrip())
        drawn.highlight_regex(f"{MASK}+", "dim")
        return drawn
