"""Owns one run of lm-evaluation-harness in its own environment, and what it said of each item. Never sees a fleet.

The harness runs offline, on the task beside this file, from the folder of that task, so that its data is found.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.peers.venvs import PeerVenv

TASK = "castalia_facts"
TASK_FOLDER = Path(__file__).parent / "task"
CONTEXT = 2048
AT_ONCE = 4  # requests of the harness, each with PROMPTS prompts: they share batches
PROMPTS = 4
TAIL = 15  # lines of a failed run that are shown


class HarnessFailed(Exception):
    """The harness ended badly; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Item:
    """One item: what each choice's log-likelihood was (natural log), and whether it was what the model would write."""

    number: int
    target: int
    likelihoods: tuple[float, ...]
    greedy: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What the harness said of the items, in order, and its own figures of them: acc, acc_norm."""

    items: tuple[Item, ...]
    figures: Mapping[str, float]


def own_backend(folder: Path) -> list[str]:
    """The arguments for the harness's own `hf` model of a checkpoint."""
    return [
        "--model",
        "hf",
        "--model_args",
        f"pretrained={folder},dtype=float32",
        "--device",
        "cpu",
        "--batch_size",
        "4",
    ]


def by_gateway(folder: Path, url: str, model: str) -> list[str]:
    """The arguments for its client of a completions endpoint, which sends token ids of the checkpoint's tokenizer."""
    arguments = (
        f"base_url={url}/v1/completions,model={model},tokenizer_backend=huggingface,tokenizer={folder},"
        f"tokenized_requests=True,max_length={CONTEXT},num_concurrent={AT_ONCE},max_retries=1"
    )
    return ["--model", "local-completions", "--model_args", arguments, "--batch_size", str(PROMPTS)]


def run_harness(venv: PeerVenv, arguments: Sequence[str], work: Path) -> Run:
    """Run it once, keeping what it writes in `work`. Raises PeerMissing and HarnessFailed."""
    command = [venv.binary("python"), "-m", "lm_eval", *arguments, "--tasks", TASK, "--include_path", str(TASK_FOLDER)]
    command += ["--output_path", str(work), "--log_samples"]
    done = subprocess.run(command, cwd=TASK_FOLDER, env=_offline(work), check=False, capture_output=True, text=True)
    if done.returncode != 0:
        lines = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL:])
        raise HarnessFailed(f"lm_eval ended with {done.returncode}. The last lines were\n{lines}")
    return read_run(work)


def read_run(work: Path) -> Run:
    """What a run wrote. Raises HarnessFailed where that is not one run's results and samples."""
    samples, results = list(work.rglob(f"samples_{TASK}_*.jsonl")), list(work.rglob("results_*.json"))
    if (len(samples), len(results)) != (1, 1):
        raise HarnessFailed(f"it wrote {len(samples)} files of samples and {len(results)} of results below {work}")
    lines = map(json.loads, samples[0].read_text().splitlines())
    items = sorted(map(_item, lines), key=lambda item: item.number)
    figures: dict[str, Any] = json.loads(results[0].read_text())["results"][TASK]
    return Run(tuple(items), {name: figures[f"{name},none"] for name in ("acc", "acc_norm")})


def _item(line: dict[str, Any]) -> Item:
    answers = [answer for (answer,) in line["resps"]]
    likelihoods = tuple(float(likelihood) for likelihood, _ in answers)
    return Item(line["doc_id"], int(line["target"]), likelihoods, tuple(str(greedy) == "True" for _, greedy in answers))


def _offline(work: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HF_HOME": str(work / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
