"""What a person sees of a run: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from services.cli.train_display import train_display
from services.training.reporting import LINE_EVERY_S, Lines, Tick

TICK = Tick(step=250, steps=1000, loss=0.5, metric=0.25, rate=64.4, seconds_left=75)


def test_lines_come_every_so_often_and_at_the_end() -> None:
    now, lines = 0.0, list[str]()
    reporter = Lines(lines.append, clock=lambda: now)
    for step in range(1, 5):
        reporter.tick(Tick(step, 5, 0.5, None, 10, 1))
    now = LINE_EVERY_S
    reporter.tick(Tick(5, 6, 0.5, None, 10, 1))
    reporter.tick(Tick(6, 6, 0.5, None, 10, 0))
    assert [line.split(":")[0] for line in lines] == ["step 1/5", "step 5/6", "step 6/6"]


def test_a_line_has_loss_metric_speed_and_time_left() -> None:
    lines: list[str] = []
    Lines(lines.append).tick(TICK)
    assert lines == ["step 250/1000: loss 0.5  metric 0.25  64 examples/s  0:01:15 left"]


def test_a_validation_names_its_figures_and_the_best_one() -> None:
    lines: list[str] = []
    Lines(lines.append).validated(10, {"metric": 0.125, "accuracy": 0.5}, best=True)
    assert lines == ["step 10: validated: metric 0.125  accuracy 0.5  (best so far)"]


def test_a_terminal_gets_a_bar_with_the_same_figures_above_which_notes_stand() -> None:
    screen = io.StringIO()
    with train_display(Console(file=screen, force_terminal=True, width=120)) as reporter:
        reporter.tick(TICK)
        reporter.note("samples in [a folder]")
    assert "250/1000" in screen.getvalue()
    assert "64 examples/s  0:01:15 left" in screen.getvalue()
    assert "samples in [a folder]" in screen.getvalue()


def test_a_pipe_gets_lines() -> None:
    screen = io.StringIO()
    with train_display(Console(file=screen, width=60)) as reporter:
        reporter.tick(TICK)
    assert screen.getvalue() == f"step 250/1000: {TICK}\n"
