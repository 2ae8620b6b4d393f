"""Adapters beside their base in one engine: peft's answers, neighbours that notice nothing, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.engine.contract import FinishReason
from services.engine.engine import Engine
from services.families import LoadedModel
from services.families.transformer.adapters.lora import children, linear_sites
from services.families.transformer.family import load
from services.nn.text.params import GenerateParams, TextChunk
from shared.config.text import SamplingDefaults
from shared.config.transformer import AdapterModel, TransformerModel
from shared.schemas.text import CompletionRequest
from tests.adapters import make_adapter, peft_answers
from tests.unit.transformer.driver import GREEDY, random_prompts

PROMPTS = random_prompts(2, longest=40, seed=9)
NEW = 12
LLAMA = {"target_modules": ["q_proj", "v_proj", "down_proj"]}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "ends of names": ("llama", LLAMA),
    "an expression": ("llama", {"target_modules": r"model\.layers\.[12]\.(self_attn\.o_proj|mlp\.up_proj)"}),
    "all, and layers left out": ("llama", {"target_modules": "all-linear", "exclude_modules": ["k_proj"]}),
    "some layers": (
        "llama",
        {"target_modules": ["gate_proj"], "layers_to_transform": [0, 2], "layers_pattern": "layers"},
    ),
    "the output": ("llama", {"target_modules": ["lm_head", "k_proj"]}),
    "ranks and alphas by layer": (
        "llama",
        {
            **LLAMA,
            "rank_pattern": {"down_proj": 2, r"layers\.1\.self_attn\.q_proj": 6},
            "alpha_pattern": {"v_proj": 3, "^model.layers.0.self_attn.q_proj": 20},
        },
    ),
    "rank-stabilised": ("llama", {**LLAMA, "use_rslora": True, "r": 9}),
    "Conv1D": ("gpt2", {"target_modules": "all-linear", "fan_in_fan_out": True}),
}


@dataclass
class Family:
    """A base, and adapters upon it by name; `answers` runs rows of all of them in one engine."""

    folder: Path
    base: LoadedModel
    adapters: dict[str, LoadedModel]

    def adapt(self, name: str, folder: Path) -> LoadedModel:
        assert self.base.adapt is not None
        self.adapters[name] = self.base.adapt(AdapterModel(id=name, base="base", adapter="file:///a"), folder)
        return self.adapters[name]

    def row(self, name: str, prompt: Sequence[int], new: int = NEW, **options: Any) -> GenerateParams:
        loaded = self.base if name == "base" else self.adapters[name]
        adapter = loaded.tasks["completion"].generation.adapter
        options = {"sampling": GREEDY, "ignore_eos": True, "logprobs": 0, **options}
        return GenerateParams("completion", tuple(prompt), new, 0, adapter=adapter, **options)

    def answers(self, rows: Sequence[tuple[str, GenerateParams]]) -> list[list[TextChunk]]:
        engine = Engine({"base": self.base.sampler}, max_waiting_cost=1e9)
        for name, loaded in self.adapters.items():
            engine.register(name, loaded.sampler, base="base")
        chunks: dict[int, list[TextChunk]] = {engine.submit(name, [row]): [] for name, row in rows}
        while engine.has_work:
            for output in engine.step():
                assert output.finish_reason in (None, FinishReason.LENGTH), output.error
                chunks[output.request] += [] if output.chunk is None else [output.chunk]
        return list(chunks.values())


def tokens(chunks: Sequence[TextChunk]) -> list[int]:
    return [entry.token for chunk in chunks for entry in chunk.logprobs or ()]


def scores(chunks: Sequence[TextChunk]) -> list[float]:
    return [entry.logprob for chunk in chunks for entry in chunk.logprobs or ()]


@pytest.fixture(scope="module")
def families(folders: Callable[..., Path]) -> Callable[..., Family]:
    """A loaded base of an architecture, made once; its adapters are each test's own."""
    made: dict[Any, LoadedModel] = {}

    def family(architecture: str, **options: Any) -> Family:
        folder = folders(architecture)
        key = (architecture, *sorted(options.items()))
        if key not in made:
            options = {"cache_memory": 16 * 2**20, "prefill_tokens": 16, **options}
            made[key] = load(TransformerModel(id="base", source=f"file://{folder}", **options), folder)
        return Family(folder, made[key], {})

    return family


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_answers_are_pefts(families: Callable[..., Family], tmp_path: Path, name: str) -> None:
    architecture, config = CONFIGS[name]
    family = families(architecture)
    folder = make_adapter(family.folder, tmp_path, **config)
    family.adapt("a", folder)
    got = family.answers([("a", family.row("a", prompt)) for prompt in PROMPTS])
    plain = family.answers([("base", family.row("base", prompt)) for prompt in PROMPTS])
    expected = peft_answers(family.folder, folder, PROMPTS, NEW)
    assert [tokens(each) for each in got] == expected
    assert [tokens(each) for each in plain] != expected, "the adapter changes nothing, so the test shows nothing"


def test_neighbours_of_other_adapters_change_no_bit(families: Callable[..., Family], tmp_path: Path) -> None:
    family = families("llama")
    for seed, name in enumerate("ab"):
        family.adapt(name, make_adapter(family.folder, tmp_path / name, seed=seed, **LLAMA))
    names = ["base", "a", "b"]
    rows = {name: [(name, family.row(name, prompt, echo="")) for prompt in PROMPTS] for name in names}
    alone = {name: [scores(chunks) for chunks in family.answers(rows[name])] for name in names}
    mixed = family.answers([rows[name][i] for i in range(len(PROMPTS)) for name in names])
    together = {name: [scores(chunks) for chunks in mixed[names.index(name) :: len(names)]] for name in names}
    assert [[str(score) for score in row] for name in names for row in together[name]] == [
        [str(score) for score in row] for name in names for row in alone[name]
    ]
    assert len({str(alone[name]) for name in names}) == 3


def test_more_rows_run_than_one_step_takes(families: Callable[..., Family], tmp_path: Path) -> None:
    """A step's rows are of one group, and groups of three models are three batches in one cache."""
    family = families("llama", max_batch_size=2)
    for seed, name in enumerate("ab"):
        family.adapt(name, make_adapter(family.folder, tmp_path / name, seed=seed, **LLAMA))
    rows = [(name, family.row(name, prompt)) for name in ("base", "a", "b") for prompt in PROMPTS]
    assert [tokens(each) for each in family.answers(rows)] == [tokens(family.answers([row])[0]) for row in rows]


def test_prompts_that_were_read_without_an_adapter_are_not_found_with_it(
    families: Callable[..., Family], tmp_path: Path
) -> None:
    family = families("llama")
    folder = make_adapter(family.folder, tmp_path, **LLAMA)
    family.adapt("a", folder)
    family.adapt("again", folder)
    prompt = random_prompts(1, longest=40, seed=3)[0] * 4
    cached = [
        family.answers([(name, family.row(name, prompt, salt="tenant"))])[0][-1].cached_tokens
        for name in ("base", "a", "again", "base", "a")
    ]
    whole = (len(prompt) - 1) // 16 * 16
    assert whole > 0
    assert cached == [0, 0, 0, whole, whole], "another load is another adapter: its files may have changed"


def test_a_step_leaves_the_model_as_it_was_even_if_it_fails(
    families: Callable[..., Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = families("llama")
    family.adapt("a", make_adapter(family.folder, tmp_path, **LLAMA))
    sampler: Any = family.base.sampler
    model = sampler.forward._model
    before = {name: site.linear for name, site in linear_sites(model).items()}
    expected = family.answers([("a", family.row("a", PROMPTS[0]))])
    during: list[int] = []

    def fail(*_: Any) -> None:
        during.append(len(before.keys() - linear_sites(model).keys()))
        raise RuntimeError("injected fault")

    with monkeypatch.context() as patch:
        patch.setattr(sampler.forward, "logits", fail)
        state = sampler.start(family.row("a", PROMPTS[0]))
        with pytest.raises(RuntimeError, match="injected fault"):
            sampler.step([state])
        sampler.release(state)
    assert during == [3 * 3], "three layers of three blocks were to be exchanged"
    after = linear_sites(model)
    assert all(after[name].linear is linear for name, linear in before.items())
    assert all(children(site.parent)[site.child] is before[name] for name, site in after.items())
    again = family.answers([("a", family.row("a", PROMPTS[0]))])
    assert [scores(each) for each in again] == [scores(each) for each in expected]


def test_base_and_adapter_count_for_themselves(families: Callable[..., Family], tmp_path: Path) -> None:
    family = families("llama")
    models = [family.base, family.adapt("a", make_adapter(family.folder, tmp_path, **LLAMA))]
    asked = CompletionRequest.model_validate({"model": "a", "prompt": "a", "structured_outputs": {"regex": "ab+"}})
    rows = [model.tasks["completion"].prepare(asked)[0] for model in models]
    assert [row.counts for row in rows] == [model.counts for model in models]
    counted = [model.counts.snapshot() for model in models]
    assert [each["forms_compiled"] for each in counted] == [1, 0]
    assert [each["forms_found"] for each in counted] == [0, 1]


def test_an_adapter_adds_its_matrices_alone_in_the_dtype_of_its_base(
    families: Callable[..., Family], tmp_path: Path
) -> None:
    family = families("llama", dtype="bfloat16")
    folder = make_adapter(family.folder, tmp_path, target_modules=["q_proj"])
    adapted = family.adapt("a", folder)
    assert adapted.memory == 3 * 2 * 4 * (64 + 64), "three layers of rank 4, in two bytes a number"
    assert adapted.sampler is family.base.sampler
    assert tokens(family.answers([("a", family.row("a", PROMPTS[0]))])[0])


def test_an_entry_may_say_how_it_samples_and_that_it_does_not_chat(
    families: Callable[..., Family], tmp_path: Path
) -> None:
    family = families("llama")
    folder = make_adapter(family.folder, tmp_path, **LLAMA)
    assert family.base.adapt is not None
    entry = AdapterModel(id="a", base="base", adapter="hf://x/y@v1")
    plain = family.base.adapt(entry, folder)
    said = family.base.adapt(
        entry.model_copy(update={"conversation": "none", "sampling": SamplingDefaults(temperature=0)}), folder
    )
    assert "chat" in plain.tasks
    assert "chat" not in said.tasks
    assert plain.tasks["completion"].generation.defaults == family.base.tasks["completion"].generation.defaults
    assert said.tasks["completion"].generation.defaults.temperature == 0
    assert (plain.revision, plain.limits) == ("v1", family.base.limits)
    assert plain.adapt is None
