"""Owns the configuration of the transformer family: one class a shape, told apart by `kind`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ByteSize, Discriminator, Field, Tag, model_validator

from shared.config.accelerators import DEVICE_MEMORY
from shared.config.base import LocalModel, ModelConfig, PublicName, ServiceConfig, Source
from shared.config.text import (
    SPECIAL_TOKENS,
    USUAL_CONTEXT,
    SamplingDefaults,
    conversation_tokens,
    prompt_tokens,
    text_bound,
)
from shared.schemas.embeddings import EmbeddingRequest
from shared.schemas.text import ChatRequest, CompletionRequest

# A translation, a summary and a filled mask are the likeliest there are, unless a request says otherwise.
LIKELIEST = SamplingDefaults(temperature=0)
USUAL_ENCODER_CONTEXT = 512
MOST_GUESSED = 7  # with the token itself eight, which attention on the CPU takes without copying the cache
MOST_PREFIX = 256  # bytes of a prefix that a checkpoint may bring

Conversation = Literal["eos", "none"]


class TransformerModel(ModelConfig):
    """A decoder-only causal language model. `cache_memory` bounds its key-value cache, shared prefixes included."""

    TASKS: ClassVar = ("chat", "completion", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    kind: Literal["decoder"] = "decoder"
    context_length: int | None = Field(default=None, ge=16, description="None: the model's own, at most 2048")
    cache_memory: ByteSize = Field(default=ByteSize(256 * 2**20), gt=0)
    sampling: SamplingDefaults = SamplingDefaults()
    prefill_tokens: int = Field(default=64, ge=1, description="the most prompt tokens that one step reads for a row")
    prefix_cache: bool = Field(
        default=True, description="read a beginning that a tenant's prompts share once, in pieces of prefill_tokens"
    )
    guess_tokens: int = Field(
        default=6,
        ge=0,
        le=MOST_GUESSED,
        description="the most tokens that a step guesses ahead of a row, from what its text repeats, and checks; they "
        "change no answer, and are fed where that is faster; 0: none",
    )
    conversation: Conversation | None = Field(
        default=None,
        description="eos: a chat's turns are joined by the end token, whatever template there is; none: it does not "
        "chat; None: by the checkpoint's template, or by the end token where its configuration says it was trained so",
    )

    @property
    def does(self) -> tuple[str, ...]:
        """Without `conversation` it may chat: whether it does is known once it is loaded."""
        return tuple(task for task in self.TASKS if task != "chat" or self.conversation != "none")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """As `text_bound`."""
        return text_bound(body, limits.get("context_length", self.context_length or USUAL_CONTEXT))


class VllmModel(ModelConfig):
    """A decoder-only causal language model that vLLM runs, in processes of its own beside the replica.

    `cache_memory` bounds keys and values on each of its devices; `max_batch_size` is vLLM's max_num_seqs.
    """

    TASKS: ClassVar = TransformerModel.TASKS
    MODALITIES: ClassVar = TransformerModel.MODALITIES

    engine: Literal["vllm"]
    kind: Literal["decoder"] = "decoder"
    context_length: int | None = Field(default=None, ge=16, description="None: the model's own, at most 2048")
    tensor_parallel: int = Field(
        default=1, ge=1, le=64, description="devices that the model is spread over; the service's num_gpus is as many"
    )
    gpu_memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="the part of each device that weights, cache and activations take"
    )
    cache_memory: ByteSize | None = Field(
        default=None,
        gt=0,
        description="None: what gpu_memory_utilization leaves beside the weights; on a CPU 1GiB",
    )
    quantization: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9_-]{1,40}$",
        description="vLLM's name of a method: fp8, awq, gptq ...; None: as the checkpoint says",
    )
    enforce_eager: bool = Field(
        default=False, description="neither compile nor capture graphs: starts sooner, and runs slower on devices"
    )
    prefill_tokens: int | None = Field(
        default=None, ge=1, description="the most tokens that one step reads and makes of all rows; None: vLLM's own"
    )
    prefix_cache: bool = Field(default=True, description="read a beginning that a tenant's prompts share once")
    silence_s: float = Field(
        default=300, gt=0, description="rows run and vLLM says nothing of any for so long: the replica is unhealthy"
    )
    sampling: SamplingDefaults = SamplingDefaults()
    conversation: Literal["eos", "none"] | None = Field(default=None, description="as of a decoder of our own")

    @property
    def does(self) -> tuple[str, ...]:
        """As of `TransformerModel`."""
        return tuple(task for task in self.TASKS if task != "chat" or self.conversation != "none")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """As `text_bound`."""
        return text_bound(body, limits.get("context_length", self.context_length or USUAL_CONTEXT))

    @model_validator(mode="after")
    def _spread_over_devices(self) -> VllmModel:
        if self.tensor_parallel > 1 and self.device != "cuda":
            raise ValueError(f"tensor_parallel ({self.tensor_parallel}) needs device: cuda")
        return self


class AdapterModel(LocalModel):
    """A decoder of the same service, changed by an adapter (LoRA) as peft saves it. What is not said is as the base's.

    The base is in memory once, with its cache, however many adapters it has: their rows run beside its own.
    """

    TASKS: ClassVar = TransformerModel.TASKS
    MODALITIES: ClassVar = TransformerModel.MODALITIES

    kind: Literal["adapter"] = "adapter"
    base: PublicName = Field(description="the id of the decoder, in this service")
    adapter: Source = Field(description="a folder of adapter_config.json and adapter_model.safetensors")
    sampling: SamplingDefaults | None = None
    conversation: Conversation | None = None

    @model_validator(mode="before")
    @classmethod
    def _says_only_its_own(cls, entry: Any) -> Any:
        """Raises ValueError for what only a base has to say: its weights, its place and its memory."""
        if isinstance(entry, Mapping):
            known = cast("Mapping[str, object]", entry)
            whole = TransformerModel.model_fields.keys() - cls.model_fields.keys()
            if said := sorted(whole & known.keys()):
                raise ValueError(f"an entry with base and adapter has no {', '.join(said)}: that is its base's to say")
        return entry

    @property
    def does(self) -> tuple[str, ...]:
        """It may chat, as its base may."""
        return tuple(task for task in self.TASKS if task != "chat" or self.conversation != "none")

    @property
    def weights(self) -> str:
        return self.adapter

    @property
    def based_on(self) -> str:
        return self.base

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """As `text_bound`; before the first report the base's context is not known here."""
        return text_bound(body, limits.get("context_length", USUAL_CONTEXT))


class EncoderDecoderModel(ModelConfig):
    """A model that reads a source and writes a target: T5, BART, Marian. `cache_memory` bounds keys and values of both.

    `context_length` bounds either of them.
    """

    TASKS: ClassVar = ("chat", "completion", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    kind: Literal["encoder_decoder"]
    context_length: int | None = Field(default=None, ge=16, description="None: the model's own, at most 2048")
    cache_memory: ByteSize = Field(default=ByteSize(256 * 2**20), gt=0)
    sampling: SamplingDefaults = LIKELIEST
    encode_tokens: int = Field(
        default=128, ge=1, description="the most source tokens, padding included, that a step reads of several rows"
    )
    prefix: str | None = Field(
        default=None, max_length=1024, description='what a source begins with, as "translate English to German: "'
    )
    purpose: str | None = Field(
        default=None,
        max_length=128,
        description="the entry of the checkpoint's task_specific_params whose prefix is taken, as translation_en_to_de",
    )

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A token is the unit: what the sources can hold, and what may be written, each within the context."""
        context = limits.get("context_length", self.context_length or USUAL_CONTEXT)
        given = SPECIAL_TOKENS + len((self.prefix or "").encode())
        if isinstance(body, ChatRequest):
            sources, wanted = [conversation_tokens(body)], body.max_new_tokens
        elif isinstance(body, CompletionRequest):
            sources, wanted = [prompt_tokens(prompt) for prompt in body.prompts], body.max_tokens
        else:
            return 1.0
        if self.purpose is not None:
            given += MOST_PREFIX  # of the checkpoint's own, which is not known here
        new = min(context, context if wanted is None else wanted)
        return float(body.n * sum(min(context, source + given) + new for source in sources))


class MaskedModel(ModelConfig):
    """An encoder that fills masked tokens in: BERT, RoBERTa."""

    TASKS: ClassVar = ("completion", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    kind: Literal["masked"]
    context_length: int | None = Field(default=None, ge=2, description="None: the model's own")
    sampling: SamplingDefaults = LIKELIEST
    step_tokens: int = Field(default=128, ge=1, description="the most tokens that a step reads of several rows")

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A token that is read is the unit."""
        if not isinstance(body, CompletionRequest):
            return 1.0
        context = limits.get("context_length", self.context_length or USUAL_ENCODER_CONTEXT)
        return float(body.n * sum(min(context, prompt_tokens(prompt)) for prompt in body.prompts))


class EmbeddingModel(ModelConfig):
    """An encoder that turns texts into vectors. What is not said is as its sentence-transformers files say."""

    TASKS: ClassVar = ("embedding", "tokenize", "detokenize")
    MODALITIES: ClassVar = ("text",)

    kind: Literal["embedding"]
    context_length: int | None = Field(default=None, ge=2, description="None: the model's own")
    step_tokens: int = Field(default=128, ge=1, description="the most tokens that a step reads of several rows")
    pooling: Literal["mean", "cls", "max", "last"] | None = Field(
        default=None, description="from vectors of tokens to one; None: as its own files say, else the mean"
    )
    normalize: bool | None = Field(default=None, description="to length 1; None: as its own files say, else not")
    prefix: str = Field(default="", max_length=1024, description='what every text begins with, as "query: "')

    def cost_bound(self, body: BaseModel, limits: Mapping[str, float]) -> float:
        """A token that is read is the unit."""
        if not isinstance(body, EmbeddingRequest):
            return 1.0
        context = limits.get("context_length", self.context_length or USUAL_ENCODER_CONTEXT)
        more = len(self.prefix.encode()) + MOST_PREFIX
        sizes = (
            len(item) if isinstance(item, list) else prompt_tokens(item) + more if isinstance(item, str) else 1
            for item in body.items
        )
        return float(sum(min(context, size) for size in sizes))


AnyTransformer = TransformerModel | VllmModel | EncoderDecoderModel | MaskedModel | EmbeddingModel


def _kind(entry: Any) -> str:
    """Of an entry, as written or as checked. One that says nothing is a decoder, which an `engine` may run, or an
    adapter if it names a base."""
    if isinstance(entry, Mapping):
        said = cast("Mapping[str, object]", entry)
        if said.get("engine") == "vllm":
            return "vllm"
        return str(said.get("kind", "adapter" if said.keys() & {"base", "adapter"} else "decoder"))
    return str(getattr(entry, "engine", None) or getattr(entry, "kind", "decoder"))


class TransformerService(ServiceConfig):
    family: Literal["transformer"]
    models: tuple[
        Annotated[
            Annotated[TransformerModel, Tag("decoder")]
            | Annotated[VllmModel, Tag("vllm")]
            | Annotated[AdapterModel, Tag("adapter")]
            | Annotated[EncoderDecoderModel, Tag("encoder_decoder")]
            | Annotated[MaskedModel, Tag("masked")]
            | Annotated[EmbeddingModel, Tag("embedding")],
            Discriminator(
                _kind,
                custom_error_type="kind",
                custom_error_message="kind is decoder, adapter, encoder_decoder, masked or embedding",
            ),
        ],
        ...,
    ] = Field(min_length=1)

    @property
    def devices(self) -> int:
        """Of the model that vLLM spreads, else as of every service."""
        return max(model.tensor_parallel if isinstance(model, VllmModel) else 1 for model in self.models)

    @model_validator(mode="after")
    def _vllm_has_the_service_to_itself(self) -> TransformerService:
        found = next((model for model in self.models if isinstance(model, VllmModel)), None)
        if found is None:
            return self
        if len(self.models) > 1:
            raise ValueError(f"vLLM takes its devices for itself: {found.id} must be its service's only model")
        self._check_devices(found)
        return self

    def _check_devices(self, model: VllmModel) -> None:
        given = self.resources
        if model.tensor_parallel > 1 and given.num_gpus != model.tensor_parallel:
            raise ValueError(
                f"tensor_parallel ({model.tensor_parallel}) needs as many num_gpus, not {given.num_gpus:g}"
            )
        if given.gpu_memory is None or given.accelerator is None:
            return
        takes = int(model.gpu_memory_utilization * DEVICE_MEMORY[given.accelerator])
        if takes > given.gpu_memory:
            part = given.gpu_memory / DEVICE_MEMORY[given.accelerator]
            raise ValueError(
                f"gpu_memory_utilization ({model.gpu_memory_utilization:g}) is over the part of a device that "
                f"gpu_memory is ({part:.3g})"
            )

    @model_validator(mode="after")
    def _bases_are_here(self) -> TransformerService:
        by_id = {model.id: model for model in self.models}
        for model in self.models:
            if not isinstance(model, AdapterModel):
                continue
            base = by_id.get(model.base)
            if base is None:
                raise ValueError(f"{model.id}: its base {model.base} is no model of service {self.name}")
            if not isinstance(base, TransformerModel):
                raise ValueError(f"{model.id}: its base {model.base} is of kind {base.kind}, not a decoder")
        return self
