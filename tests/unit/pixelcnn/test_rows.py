"""A row at a time, from what is cached of the rows above, against the network over the whole grid."""

from __future__ import annotations

import pytest
import torch

from services.families.pixelcnn import rows
from services.families.pixelcnn.model import GatedPixelCnn
from services.families.pixelcnn.rows import Above, RowOrder, choose, draw_rows, nothing_above
from tests.unit.pixelcnn.tiny import IMAGES, SIDE, make_model

COUNT = 4
LABELS = torch.tensor([0, 1, 2, 1])
TEMPERATURES = torch.tensor([1.0, 0.5, 1.7, 1.0], dtype=torch.float64)


def uniforms(seed: int = 0) -> torch.Tensor:
    """(B, H, W)"""
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(COUNT, SIDE, SIDE, dtype=torch.float64, generator=draws)


def given_values() -> torch.Tensor:
    """(B, H, W): nothing, a row, every third cell, all."""
    values = torch.full((COUNT, SIDE, SIDE), -1)
    known = torch.randint(IMAGES.values, (COUNT, SIDE, SIDE), generator=torch.Generator().manual_seed(5))
    values[1, 2] = known[1, 2]
    values[2].view(-1)[::3] = known[2].view(-1)[::3]
    values[3] = known[3]
    return values


def naive(model: GatedPixelCnn, uniform: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
    """The definition: the whole network anew for every pixel."""
    values = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.int64)
    for y in range(SIDE):
        for x in range(SIDE):
            logits = model(values, LABELS)[:, :, y, x]
            drawn = choose(logits, TEMPERATURES, uniform[:, y, x])
            values[:, y, x] = torch.where(given[:, y, x] < 0, drawn, given[:, y, x])
    return values


def by_rows(
    model: GatedPixelCnn, uniform: torch.Tensor, given: torch.Tensor, starts: list[int]
) -> tuple[torch.Tensor, list[Above]]:
    """Every grid from its own step on, so that grids at unequal rows share steps."""
    values = torch.zeros(COUNT, SIDE, SIDE, dtype=torch.int64)
    above = [nothing_above(model) for _ in range(COUNT)]
    place = [0] * COUNT
    for step in range(SIDE + max(starts)):
        running = [i for i in range(COUNT) if starts[i] <= step and place[i] < SIDE]
        at = torch.tensor([place[i] for i in running])
        order = RowOrder(
            [above[i] for i in running],
            at,
            LABELS[running],
            TEMPERATURES[running],
            uniform[running, at],
            given[running, at],
        )
        for i, drawn in zip(running, draw_rows(model, order), strict=True):
            assert drawn.finite
            values[i, place[i]], above[i] = drawn.values, drawn.above
            place[i] += 1
    return values, above


@pytest.mark.parametrize("starts", [[0, 0, 0, 0], [0, 2, 1, 5]])
@pytest.mark.parametrize(("dilations", "counted"), [((1, 2), 0), ((3, 1, 7), 5)])
def test_rows_drawn_from_the_cache_are_those_of_the_whole_network_pixel_by_pixel(
    starts: list[int], dilations: tuple[int, ...], counted: int
) -> None:
    model = make_model(IMAGES.model_copy(update={"dilations": dilations, "counted": counted})).double()
    expected = naive(model, uniforms(), given_values())
    assert len(expected.unique()) == IMAGES.values, "the model draws too few values to test anything"
    values, _ = by_rows(model, uniforms(), given_values(), starts)
    assert torch.equal(values, expected)


def test_logits_from_the_cache_are_those_of_the_whole_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def choosing(logits: torch.Tensor, temperature: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
        seen.append(logits)
        return choose(logits, temperature, uniform)

    monkeypatch.setattr(rows, "choose", choosing)
    model = make_model().double()
    values, _ = by_rows(model, uniforms(), given_values(), [0] * COUNT)
    cached = torch.stack(seen, dim=2).view(COUNT, IMAGES.values, SIDE, SIDE)
    assert torch.allclose(cached, model(values, LABELS), atol=1e-10, rtol=0)


def test_given_values_stay_and_bear_on_what_follows() -> None:
    model = make_model().double()
    given = given_values()
    values, _ = by_rows(model, uniforms(), given, [0] * COUNT)
    free, _ = by_rows(model, uniforms(), torch.full_like(given, -1), [0] * COUNT)
    assert torch.equal(torch.where(given < 0, -1, values), given)
    assert torch.equal(values[0], free[0])
    assert torch.equal(values[1, :2], free[1, :2]), "what is given below bears on nothing above"
    assert not torch.equal(values[1, 3:], free[1, 3:])


def test_what_is_kept_of_the_rows_above_is_as_large_after_every_row() -> None:
    model = make_model()
    first = nothing_above(model)
    _, last = by_rows(model, uniforms(), given_values(), [0] * COUNT)
    for above in last:
        for name in ("seen", "counts", "features"):
            assert getattr(above, name).shape == getattr(first, name).shape
        assert above.counts.sum() == SIDE * SIDE


def test_drawing_changes_nothing_that_it_was_given() -> None:
    model = make_model()
    above = nothing_above(model)
    order = RowOrder(
        [above] * COUNT, torch.zeros(COUNT, dtype=torch.int64), LABELS, TEMPERATURES, uniforms()[:, 0],
        given_values()[:, 0],
    )  # fmt: skip
    first, again = draw_rows(model, order), draw_rows(model, order)
    assert all(torch.equal(a.values, b.values) for a, b in zip(first, again, strict=True))
    assert not any(tensor.any() for tensor in (above.seen, above.counts, above.features))


def test_values_are_chosen_as_often_as_their_probability_says() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5]]).expand(20_000, -1)
    uniform = torch.rand(20_000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (0.5, 1.0, 2.0):
        chosen = choose(logits, torch.full((20_000,), temperature, dtype=torch.float64), uniform)
        shares = chosen.bincount(minlength=4) / 20_000
        assert torch.allclose(shares, (logits[0] / temperature).softmax(0), atol=0.015)


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_the_smallest_temperatures_choose_the_likeliest(temperature: float) -> None:
    logits = torch.tensor([[3.0, 3.1, -5.0], [9e4, -9e4, 0.0]])
    for u in (2**-53, 0.5, 1 - 2**-53):
        both = torch.tensor([u, u], dtype=torch.float64)
        assert choose(logits, torch.full((2,), temperature, dtype=torch.float64), both).tolist() == [1, 0]


@pytest.mark.parametrize(("u", "value"), [(0.0, 1), (1 - 2**-53, 3)])
def test_a_value_without_probability_is_never_chosen(u: float, value: int) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0]])
    uniform = torch.tensor([u], dtype=torch.float64)
    assert choose(logits, torch.ones(1, dtype=torch.float64), uniform).tolist() == [value]


def test_a_row_that_is_not_finite_is_told_from_its_mates() -> None:
    model = make_model()
    model.gated[0].class_terms.weight[2] = torch.nan
    order = RowOrder(
        [nothing_above(model)] * COUNT, torch.zeros(COUNT, dtype=torch.int64), LABELS, TEMPERATURES,
        uniforms()[:, 0], given_values()[:, 0],
    )  # fmt: skip
    assert [drawn.finite for drawn in draw_rows(model, order)] == [True, True, False, True]
