"""Figures of records: a perfect model's do well by them, shuffled, copied and broken ones badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from torch import Tensor

from services.nn.records import Entries
from services.training import record_figures as figures
from services.training.recipe import Figure
from services.training.record_data import RecordSplit
from tests.record_tables import OUTCOME, make_split


@pytest.fixture(scope="module", autouse=True)
def few_rounds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_ROUNDS", 10)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RecordSplit:
    return make_split(tmp_path_factory.mktemp("records"), count=1000)


@pytest.fixture(scope="module")
def split(whole: RecordSplit) -> RecordSplit:
    return replace(whole, train=whole.train.subset(slice(400)))


@pytest.fixture(scope="module")
def real(whole: RecordSplit) -> Entries:
    """Records that are neither trained on nor held out: as a perfect model draws them."""
    return whole.train.subset(slice(400, 800))


def measured(split: RecordSplit, drawn: Entries) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures.record_figures(lambda count: drawn, split, OUTCOME)}


def test_records_of_a_perfect_model_are_as_good_as_real_ones(split: RecordSplit, real: Entries) -> None:
    found = measured(split, real)
    assert found["tstr_auroc"].value == pytest.approx(found["tstr_auroc"].baseline, abs=0.05)
    assert found["tstr_auroc"].value > 0.85
    assert found["c2st_accuracy"].value == pytest.approx(0.5, abs=0.06)
    assert found["marginal_distance"].value == pytest.approx(found["marginal_distance"].baseline, abs=0.03)
    nearest = found["nearest_training_record"]
    assert nearest.value == pytest.approx(nearest.baseline, rel=0.2)
    assert found["copies"].value == pytest.approx(found["copies"].baseline, abs=0.03)


def test_columns_that_have_nothing_to_do_with_each_other_are_found_out(split: RecordSplit, real: Entries) -> None:
    found = measured(split, figures.shuffled(real))
    assert found["tstr_auroc"].value < 0.7
    assert found["c2st_accuracy"].value > 0.65
    assert found["c2st_accuracy"].baseline == pytest.approx(found["c2st_accuracy"].value, abs=0.08)
    assert found["marginal_distance"].value == pytest.approx(found["marginal_distance"].baseline, abs=0.03)


def test_copies_of_training_records_are_found_out(split: RecordSplit) -> None:
    found = measured(split, split.train)
    assert found["copies"].value == 1
    assert (found["copies"].baseline or 0) < 0.05, "the small table has few values"
    assert found["nearest_training_record"].value == 0 < found["nearest_training_record"].baseline  # type: ignore[operator]


def test_a_model_that_draws_one_outcome_alone_is_of_no_use(split: RecordSplit, real: Entries) -> None:
    column = [each.name for each in split.table.categories].index(OUTCOME)
    well = real.codes.clone()
    well[:, column] = 0
    assert measured(split, Entries(real.numbers, well))["tstr_auroc"].value == 0.5


def test_judges_say_the_same_on_each_run(split: RecordSplit, real: Entries) -> None:
    first, again = (figures.told_apart(split.table, split.train, real) for _ in range(2))
    assert first == again


def test_marginal_distances_are_those_that_can_be_counted(split: RecordSplit) -> None:
    table = split.table
    person = {"age": 30, "height": 1.7, "visits": 0, "smokes": 0, "town": "north", "ill": 0}
    one, other = table.entries([person] * 4), table.entries([person | {"smokes": 1}, person | {"age": 40}] * 2)
    age = table.numbers[0]
    expected = (5 / (age.maximum - age.minimum) + 0.5) / 6
    assert figures.marginal_distance(table, one, other) == pytest.approx(expected)
    assert figures.marginal_distance(table, one, one.subset(slice(3))) == 0


def test_scores_that_see_how_columns_go_together_find_anomalies(split: RecordSplit) -> None:
    figure = figures.anomaly_figure(oracle(), split)
    assert figure.value > 0.7
    assert 0.5 < (figure.baseline or 0) < 1
    assert figures.anomaly_figure(by_age_alone, split).value == pytest.approx(0.5, abs=0.01)


def oracle() -> Callable[[Entries], Tensor]:
    """What `make_records` says: the tall live in the north, and the others do not."""

    def score(entries: Entries) -> Tensor:
        is_tall, is_north = entries.numbers[:, 1] > 1.72, entries.codes[:, 1] == 0
        return (is_tall == is_north).double()

    return score


def by_age_alone(entries: Entries) -> Tensor:
    return entries.numbers[:, 0]


def test_the_sample_alone_tells_good_records_from_even_ones(split: RecordSplit, real: Entries) -> None:
    found = {
        figure.name: figure
        for figure in figures.sample_record_figures(
            lambda count: real.subset(slice(count)), oracle(), split.table, split.held_out
        )
    }
    distance = found["sample_marginal_distance"]
    assert distance.value < (distance.baseline or 0) / 2
    assert found["sample_anomaly_auroc"].value > 0.7
