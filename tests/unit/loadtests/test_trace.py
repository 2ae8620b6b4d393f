"""Recorded arrivals: what a file may say, and that each line is sent once."""

from __future__ import annotations

from pathlib import Path
from subprocess import run
from sys import executable

import pytest

from loadtests.traffic import trace as module
from loadtests.traffic.trace import Arrival, BadTrace, drawn, read_trace, shares_of, write_trace

EXAMPLE = Path(module.__file__).parent / "example.csv"


def read(folder: Path, text: str) -> list[Arrival]:
    path = folder / "trace.csv"
    path.write_text(text)
    return read_trace(path)


def test_a_line_says_when_what_whom_and_how_long_and_may_leave_all_but_when(tmp_path: Path) -> None:
    text = "modality,seconds,output_tokens,model,prompt_tokens\nchat,0.5,7,m,3\n,1,,,\n"
    assert read(tmp_path, text) == [Arrival(0.5, "chat", "m", 3, 7), Arrival(1.0)]
    assert read(tmp_path, "seconds\n0\n0\n") == [Arrival(0.0), Arrival(0.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns are seconds and any of"),
        ("seconds,speed\n1,2\n", "line 1: .* got seconds, speed"),
        ("modality\nchat\n", "line 1"),
        ("seconds\n1\nsoon\n", "line 3: seconds must be a number of at least 0; got 'soon'"),
        ("seconds\n-1\n", "line 2: seconds .* got '-1'"),
        ("seconds\nnan\n", "line 2: seconds .* got 'nan'"),
        ("seconds\n1\n2\n1.5\n", "line 4: seconds must not fall; got 1.5 after 2"),
        ("seconds,prompt_tokens\n1,0\n", "line 2: prompt_tokens must be a whole number of at least 1; got '0'"),
        ("seconds,output_tokens\n1,5\n2,1.5\n", "line 3: output_tokens .* got '1.5'"),
        ("seconds,model\n1\n", "line 2: as many fields"),
        ("seconds,model\n1,m,3\n", "line 2: as many fields"),
        ('seconds,model\n1,"m"x\n', "line 2"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_by_its_number(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadTrace, match=message):
        read(tmp_path, text)


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_each_line_is_in_one_share_in_order(processes: int) -> None:
    trace = [Arrival(float(i)) for i in range(10)]
    shares = shares_of(trace, processes)
    assert len(shares) == processes
    assert sorted(each.at for share in shares for each in share) == [each.at for each in trace]
    assert all(share == sorted(share, key=lambda each: each.at) for share in shares)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    written = list(drawn("bursts", "chat", rate=3, seconds=20, seed=5))
    write_trace(tmp_path / "trace.csv", written)
    again = read_trace(tmp_path / "trace.csv")
    assert [(each.prompt_tokens, each.output_tokens) for each in again] == [
        (each.prompt_tokens, each.output_tokens) for each in written
    ]
    assert [each.at for each in again] == pytest.approx([each.at for each in written], abs=1e-3)


def test_the_example_is_what_the_command_in_the_help_writes(tmp_path: Path) -> None:
    assert module.__doc__ is not None
    (command,) = [line.split() for line in module.__doc__.splitlines() if "example.csv" in line]
    command = [executable, *command[1:3], str(tmp_path / "again.csv"), *command[4:]]
    run(command, check=True, cwd=Path(__file__).parents[3], timeout=60)
    assert (tmp_path / "again.csv").read_bytes() == EXAMPLE.read_bytes()
