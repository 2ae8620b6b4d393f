"""From a run to a folder that serving loads: what is in it, what is refused, and measuring it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from services.sources import verify, write_manifest
from services.sources.errors import IntegrityError
from services.training import checkpoint
from services.training.errors import (
    CheckpointDamaged,
    NotOurs,
    NotTrained,
    OverBudget,
    RunBusy,
    RunMismatch,
    TrainingError,
)
from services.training.publish import licence_row, publish_run, reevaluate
from services.training.recipe import Package
from services.training.report import compare, read_report, write_report
from services.training.run import alone, begin, discard
from tests.unit.training.conftest import Train
from tests.unit.training.tiny import TinyRecipe, Worsening, read_points

RECIPE = TinyRecipe()


def ignore(text: str) -> None: ...


@pytest.fixture
def run(tmp_path: Path, train: Train) -> Path:
    folder = tmp_path / "run"
    begin(folder, RECIPE, seed=0, shards=1)
    train(folder)
    return folder


@pytest.fixture
def published(tmp_path: Path, data: Path, run: Path) -> Path:
    publish_run(RECIPE, data, run, tmp_path / "out" / "tiny-circle", ignore)
    return tmp_path / "out" / "tiny-circle"


def test_a_published_folder_is_whole_and_holds_the_averaged_weights(run: Path, published: Path) -> None:
    manifest = verify(published)
    assert manifest.source == "builtin://tiny-circle"
    names = {"config.json", "model.safetensors", "report.json", "MODEL_CARD.md", "sheets/circle.png"}
    assert set(manifest.files) == names
    last = checkpoint.checkpoints(run / "checkpoints")[-1]
    averaged, live = (load_file(last / f"denoiser{kind}.safetensors")["0.weight"] for kind in (".average", ""))
    weights = load_file(published / "model.safetensors")["0.weight"]
    assert torch.equal(weights, averaged)
    assert not torch.equal(weights, live)


def test_a_report_says_how_the_model_was_made_and_what_it_measured(published: Path) -> None:
    report = read_report(published)
    assert (report.name, report.steps, report.batch_size, report.seed) == ("tiny-circle", 24, 8, 0)
    assert report.wall_seconds > 0
    assert report.versions["torch"] == torch.__version__
    assert report.weights_bytes == (published / "model.safetensors").stat().st_size
    (figure,) = report.figures
    assert (figure.name, figure.baseline) == ("squared error", 0.09)


def test_a_card_shows_figures_samples_attribution_and_how_to_make_it_again(published: Path) -> None:
    card = (published / "MODEL_CARD.md").read_text()
    value = read_report(published).figures[0].value
    assert card.startswith("---\nlicense: Apache-2.0\n")
    for text in (
        RECIPE.summary,
        f"| squared error | {value:.4g} | 0.09 the noisy points | lower |",
        "- Of no use to anyone.",
        "![circle](sheets/circle.png)",
        "Drawn by its test",
        "castalia train tiny-circle --publish",
    ):
        assert text in card


def test_a_run_without_a_checkpoint_cannot_be_published(tmp_path: Path, data: Path) -> None:
    with pytest.raises(NotTrained, match="has no checkpoint yet"):
        publish_run(RECIPE, data, tmp_path / "none", tmp_path / "out", ignore)


def test_weights_over_the_budget_leave_what_was_published_before(data: Path, run: Path, published: Path) -> None:
    before = (published / "report.json").read_bytes()
    with pytest.raises(OverBudget, match=r"take \d+ bytes; its recipe allows 100"):
        publish_run(replace(RECIPE, max_bytes=100), data, run, published, ignore)
    assert (published / "report.json").read_bytes() == before
    assert [path.name for path in published.parent.iterdir()] == ["tiny-circle"]


@dataclass(frozen=True)
class Sampled(TinyRecipe):
    """Also exports a sample that is larger than the weights."""

    def export(self, modules: Mapping[str, nn.Module], data: Path, folder: Path) -> None:
        super().export(modules, data, folder)
        save_file({"images": torch.zeros(5000)}, folder / "held_out.safetensors")


def test_a_sample_beside_the_weights_is_no_part_of_their_size_and_budget(tmp_path: Path, data: Path, run: Path) -> None:
    report = publish_run(Sampled(), data, run, tmp_path / "out", ignore)
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert report.weights_bytes == size < Sampled().max_bytes
    assert f"The weights take {size} bytes" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    assert licence_row(RECIPE, report).size == str(size)


@pytest.mark.parametrize("files", [["letter.txt"], ["manifest.json", "letter.txt"], ["report.json"]])
def test_only_a_folder_that_was_published_is_replaced(
    tmp_path: Path, data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, files: list[str]
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    monkeypatch.chdir(theirs)
    for name in files:
        (theirs / name).touch()
    for target in (theirs, Path()):
        with pytest.raises(NotOurs, match=f"{theirs} has no"):
            publish_run(RECIPE, data, run, target, ignore)
    assert sorted(path.name for path in theirs.iterdir()) == sorted(files)


def test_an_empty_folder_is_published_into(tmp_path: Path, data: Path, run: Path) -> None:
    (tmp_path / "out").mkdir()
    publish_run(RECIPE, data, run, tmp_path / "out", ignore)
    verify(tmp_path / "out")


def test_a_run_that_stopped_early_publishes_its_best_averages(tmp_path: Path, data: Path, train: Train) -> None:
    schedule = replace(RECIPE.schedule, steps=60, patience=2)
    begin(tmp_path / "run", RECIPE, seed=0, shards=1)
    train(tmp_path / "run", Worsening(read_points(data), 0), schedule=schedule)
    found = checkpoint.checkpoints(tmp_path / "run" / "checkpoints")
    assert [path.name for path in found] == ["step-00000012", "step-00000018", "step-00000024"]
    report = publish_run(RECIPE, data, tmp_path / "run", tmp_path / "out", ignore)
    best, last = (load_file(path / "denoiser.average.safetensors")["0.weight"] for path in (found[0], found[-1]))
    weights = load_file(tmp_path / "out" / "model.safetensors")["0.weight"]
    assert torch.equal(weights, best)
    assert not torch.equal(weights, last)
    assert report.steps == 12


@pytest.mark.parametrize("file", ["denoiser.average.safetensors", "state.json"])
def test_damaged_averages_are_not_published(tmp_path: Path, data: Path, run: Path, file: str) -> None:
    last = checkpoint.checkpoints(run / "checkpoints")[-1]
    (last / file).write_bytes(b"")
    with pytest.raises(CheckpointDamaged, match="step-00000024 cannot be read"):
        publish_run(RECIPE, data, run, tmp_path / "out", ignore)


def test_a_run_that_another_process_trains_is_not_published(tmp_path: Path, data: Path, run: Path) -> None:
    with alone(run), pytest.raises(RunBusy):
        publish_run(RECIPE, data, run, tmp_path / "out", ignore)


def test_publishing_again_replaces_the_whole_folder(data: Path, run: Path, published: Path) -> None:
    (published / "left-over.txt").write_text("of another time")
    publish_run(RECIPE, data, run, published, ignore)
    verify(published)
    assert not (published / "left-over.txt").exists()


def test_published_figures_are_measured_again(data: Path, published: Path) -> None:
    (row,) = reevaluate(RECIPE, published, data, update=False)
    assert row.within
    assert row.measured == row.reported


def test_a_figure_out_of_its_tolerance_is_told_and_an_update_takes_it_over(data: Path, published: Path) -> None:
    report = read_report(published)
    wrong = replace(report.figures[0], value=report.figures[0].value + 1)
    write_report(published, report.model_copy(update={"figures": (wrong,)}))
    with pytest.raises(IntegrityError, match=r"report\.json"):  # of the manifest: a report is not edited by hand
        reevaluate(RECIPE, published, data, update=False)
    write_manifest(published)
    (row,) = reevaluate(RECIPE, published, data, update=True)
    assert not row.within
    verify(published)
    (row,) = reevaluate(RECIPE, published, data, update=False)
    assert row.within


def test_a_figure_that_one_side_lacks_is_not_within(data: Path, published: Path) -> None:
    report = read_report(published)
    renamed = replace(report.figures[0], name="another")
    rows = compare(report.model_copy(update={"figures": (renamed,)}), RECIPE.evaluate(published, data))
    assert [(row.name, row.within) for row in rows] == [("another", False), ("squared error", False)]


def test_changed_weights_are_not_measured(data: Path, published: Path) -> None:
    content = bytearray((published / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (published / "model.safetensors").write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        reevaluate(RECIPE, published, data, update=False)


def test_a_licence_row_names_data_and_weights(published: Path) -> None:
    row = licence_row(RECIPE, read_report(published))
    assert (row.name, row.family, row.data_licence, row.weights) == ("tiny-circle", "toy", "CC0-1.0", "Apache-2.0")


def test_a_run_is_neither_begun_nor_discarded_in_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    for refused in (lambda: begin(tmp_path, RECIPE, seed=0, shards=1), lambda: discard(tmp_path)):
        with pytest.raises(NotOurs, match=r"has no run\.json"):
            refused()
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_run_whose_beginning_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").touch()
    with pytest.raises(TrainingError, match=r"run\.json cannot be read"):
        begin(tmp_path, RECIPE, seed=0, shards=1)


def test_a_run_goes_on_only_with_what_it_was_begun_with(tmp_path: Path) -> None:
    begin(tmp_path, RECIPE, seed=0, shards=2)
    assert begin(tmp_path, RECIPE, seed=0, shards=1).shards == 2  # one worker does the shards of two
    package = Package("npm", "dice", "1.0.0", "dice-1.0.0.tgz", "0" * 64, "MIT")
    for recipe, seed, shards, what in (
        (RECIPE, 1, 2, "seed 0, and 1"),
        (RECIPE, 0, 3, "shards 2, and 3"),
        (replace(RECIPE, packages=[package]), 0, 2, "data"),
        (replace(RECIPE, schedule=replace(RECIPE.schedule, batch_size=16)), 0, 2, "batch_size 8, and 16"),
    ):
        with pytest.raises(RunMismatch, match=what):
            begin(tmp_path, recipe, seed, shards)
