"""The fields of requests. Unknown fields are tolerated, because OpenAI's clients keep adding new ones."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Stop = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(min_length=1)]
Item = TypeVar("Item")
Some = Annotated[list[Item], Field(min_length=1)]


class Open(BaseModel):
    """Keeps unknown fields."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


class StreamOptions(Open):
    include_usage: bool | None = None


class Part(Open):
    type: Literal["text"]
    text: str


class ChatMessage(Open):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class Ask(Open):
    """Fields that all requests share."""

    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    n: int | None = Field(None, ge=1, le=16)
    stop: Stop | list[Stop] | None = Field(None, max_length=200)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    topeng: dict[str, Any] | None = Field(
        None,
        description="Settings of the decoder (`topeng options generate`), `preset`, `fixed_words`, `template`, `gaps`.",
    )

    def given(self, name: str) -> Any:
        """The value of a field, whether it is declared or not."""
        return getattr(self, name, None)


class ChatAsk(Ask):
    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


class CompletionAsk(Ask):
    prompt: Text | Some[Text] | Some[int] | Some[Some[int]]
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0, le=5)
