"""lm-evaluation-harness beside the gateway: what is read of its runs, and what counts as agreement."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from loadtests.lm_eval import harness
from loadtests.lm_eval.__main__ import report, report_table
from loadtests.lm_eval.agreement import agreement
from loadtests.lm_eval.harness import TASK, TASK_FOLDER, HarnessFailed, Item, Run, by_gateway, own_backend, read_run
from loadtests.peers.venvs import PeerVenv, peer_venv

ITEMS = (Item(0, 1, (-3.5, -1.25), (False, True)), Item(1, 0, (-0.5, -8.0), (False, False)))
RUN = Run(ITEMS, {"acc": 1.0, "acc_norm": 0.5})


def write_run(work: Path, run: Run) -> None:
    """As the harness does: its answers are lists of texts, one a choice, in no order of the items."""
    folder = work / "model__name"
    folder.mkdir(parents=True)
    lines = [
        {
            "doc_id": item.number,
            "target": str(item.target),
            "resps": [[[str(x), str(greedy)]] for x, greedy in zip(item.likelihoods, item.greedy, strict=True)],
        }
        for item in reversed(run.items)
    ]
    (folder / f"samples_{TASK}_2026.jsonl").write_text("\n".join(map(json.dumps, lines)))
    figures = {TASK: {f"{name},none": value for name, value in run.figures.items()} | {"alias": TASK}}
    (folder / "results_2026.json").write_text(json.dumps({"results": figures}))


def test_a_run_is_read_as_the_harness_wrote_it(tmp_path: Path) -> None:
    with pytest.raises(HarnessFailed, match="0 files of samples"):
        read_run(tmp_path)
    write_run(tmp_path, RUN)
    assert read_run(tmp_path) == RUN


def test_runs_agree_within_the_tolerance_and_with_equal_flags_and_figures() -> None:
    near = replace(RUN, items=(replace(ITEMS[0], likelihoods=(-3.5009, -1.25)), ITEMS[1]))
    assert agreement(RUN, near).holds
    assert agreement(RUN, near).choices == 4
    far = replace(RUN, items=(replace(ITEMS[0], likelihoods=(-3.502, -1.25)), ITEMS[1]))
    assert agreement(RUN, far).largest == pytest.approx(0.002)
    assert not agreement(RUN, far).holds
    flagged = replace(RUN, items=(replace(ITEMS[0], greedy=(True, True)), ITEMS[1]))
    assert agreement(RUN, flagged).unlike_greedy == 1
    assert not agreement(RUN, flagged).holds
    assert agreement(RUN, replace(RUN, figures={"acc": 1.0, "acc_norm": 1.0})).unlike_figures == ("acc_norm",)
    with pytest.raises(ValueError, match="not of the same items"):
        agreement(RUN, replace(RUN, items=ITEMS[:1]))


def test_the_gateway_is_asked_for_token_ids_of_the_same_folder() -> None:
    (_, kind, _, arguments, *_) = by_gateway(Path("/models/a"), "http://127.0.0.1:8000", "bench")
    given = dict(each.split("=") for each in arguments.split(","))
    assert kind == "local-completions"
    assert (given["base_url"], given["model"]) == ("http://127.0.0.1:8000/v1/completions", "bench")
    assert (given["tokenizer"], given["tokenized_requests"]) == ("/models/a", "True")
    assert "pretrained=/models/a,dtype=float32" in own_backend(Path("/models/a"))


def test_a_failed_run_shows_its_last_lines_and_asks_no_hub(tmp_path: Path) -> None:
    class Fake(PeerVenv):
        def binary(self, name: str) -> str:
            return str(tmp_path / "python")

    python = tmp_path / "python"
    python.write_text("#!/bin/sh\npwd; echo hub offline: $HF_HUB_OFFLINE $HF_DATASETS_OFFLINE >&2; exit 3\n")
    python.chmod(0o755)
    with pytest.raises(HarnessFailed, match=r"ended with 3(.|\n)*lm_eval/task\n(.|\n)*hub offline: 1 1"):
        harness.run_harness(Fake("lm-eval", "lm_eval", tmp_path), [], tmp_path)


def test_the_task_is_forty_items_of_four_unlike_ends() -> None:
    task = yaml.safe_load((TASK_FOLDER / f"{TASK}.yaml").read_text())
    lines = (TASK_FOLDER / task["dataset_kwargs"]["data_files"]["test"]).read_text().splitlines()
    items = [json.loads(line) for line in lines]
    assert (task["task"], len(items)) == (TASK, 40)
    assert all(len(set(item["choices"])) == 4 and 0 <= item["answer"] < 4 for item in items)
    assert {item["answer"] for item in items} == {0, 1, 2, 3}, "no place is always right"


def test_the_report_says_what_agreed() -> None:
    text = report(report_table({"tiny": (RUN, agreement(RUN, RUN))}), 61.0)
    assert "| tiny | 1.000, 0.500 | 4 of 2 items | 0.0e+00 | 0 | yes |" in text
    assert "python -m loadtests.lm_eval" in text


def test_its_environment_is_one_of_those_that_setup_makes(tmp_path: Path) -> None:
    assert peer_venv("lm-eval", tmp_path).pins.exists()
