"""Load a fleet as a profile says, and tell whether it may be released.

`castalia loadtest --profile release` is this. Each stage of the profile is a load by Locust; its figures are set beside
the profile's bounds, and beside the last accepted run if there is one. The exit status is 0 if all are kept, 1 if one
is not, and 2 if the load could not be run. The API key is read from CASTALIA_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loadtests.release import load, profile
from loadtests.release.load import LoadFailed
from loadtests.release.profile import Profile, ProfileError
from loadtests.release.verdict import Figure, judge
from loadtests.summary import BUSY_GENERATOR, Summary
from loadtests.tables import Row, Table

RUNS = TypeAdapter(dict[str, Summary])


class CannotJudge(Exception):
    """The run says nothing of the fleet; the message says why."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        wanted = profile.read(options.profile)
        baseline_file = options.baseline or Path(f"castalia-loadtest-{Path(options.profile).stem}.json")
        baseline = read_runs(baseline_file)
        runs = run_all(wanted, options.url, options.out, console)
    except (ProfileError, LoadFailed, CannotJudge) as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False, style="red")
        raise SystemExit(2) from None
    figures = judge(wanted, runs, baseline)
    console.print(table(figures).rich)
    if options.out is not None:
        write_runs(options.out / "runs.json", runs)
        (options.out / "report.md").write_text(markdown(options.profile, wanted, runs, figures))
        console.print(f"written: {options.out / 'report.md'}, and Locust's own reports of each stage")
    failed = [figure for figure in figures if not figure.passed]
    if failed:
        console.print(f"[bold red]not to be released:[/] {len(failed)} of {len(figures)} figures are out of bounds")
        raise SystemExit(1)
    console.print(f"[bold green]may be released:[/] all {len(figures)} figures are within their bounds")
    if options.accept:
        write_runs(baseline_file, runs)
        console.print(f"accepted: the next run is compared with {baseline_file}")
    elif not baseline:
        console.print(
            f"no accepted run yet: with --accept this one is kept as {baseline_file}, for the next to be compared"
        )


def run_all(wanted: Profile, url: str, out: Path | None, console: Console) -> dict[str, Summary]:
    """Every stage in turn. Raises LoadFailed, CannotJudge."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    runs: dict[str, Summary] = {}
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=wanted.seconds)
        before_s = 0.0
        for stage in wanted.stages:
            progress.update(bar, description=stage.name)
            start_s = before_s

            def tick(passed: float, start_s: float = start_s, most: float = stage.load.seconds) -> None:
                progress.update(bar, completed=start_s + min(passed, most))

            keep = None if out is None else out / stage.name
            runs[stage.name] = load.run(stage.load, url=url, objectives=wanted.objectives, keep=keep, tick=tick)
            before_s += stage.load.seconds
            _check(stage.name, runs[stage.name])
    return runs


def _check(stage: str, summary: Summary) -> None:
    if not summary.totals.sent:
        raise CannotJudge(f"stage {stage}: nothing was sent in {summary.seconds:.0f} s")
    if summary.generator_is_busy:
        raise CannotJudge(
            f"stage {stage}: the load generator took {summary.generator_cpu_share:.0%} of a core, of at most "
            f"{BUSY_GENERATOR:.0%}, so that it may be what was measured: give the stage's load more `processes`, or "
            f"run it elsewhere"
        )


def table(figures: Sequence[Figure]) -> Table:
    head = ("stage", "modality", "figure", "got", "bound", "last accepted", "kept", "reason")
    return Table("", head, [_cells(each) for each in figures])


def loads(runs: Mapping[str, Summary]) -> Table:
    rows: list[Row] = []
    for stage, run in runs.items():
        units = sum(group.units for group in run.groups) / run.seconds if run.seconds else 0.0
        answered = f"{run.totals.answered} of {run.totals.sent + run.totals.unsent}"
        rows.append(
            (stage, f"{run.offered_per_second:.2f}", answered, f"{units:.1f}", f"{run.generator_cpu_share:.0%}")
        )
    return Table("", ("stage", "requests/s", "answered", "units/s", "load generator's CPU"), rows)


def markdown(name: str, wanted: Profile, runs: Mapping[str, Summary], figures: Sequence[Figure]) -> str:
    first = next(iter(runs.values()))
    lines = [f"# Load test: {name}", "", wanted.description.strip(), ""]
    lines += [f"`castalia loadtest --profile {name}`, {first.started:%Y-%m-%d %H:%M} UTC.", ""]
    return "\n".join([*lines, table(figures).markdown, "", loads(runs).markdown]) + "\n"


def _cells(each: Figure) -> Row:
    bound = "" if each.bound is None else f"{'≥' if each.is_least else '≤'} {each.bound:g}"
    before = "" if each.before is None else f"{each.before:.4g}"
    kept = "yes" if each.passed else "no"
    return (each.stage, each.modality, each.name, f"{each.got:.4g}", bound, before, kept, each.reason)


def read_runs(path: Path) -> dict[str, Summary]:
    """An earlier run's summaries by stage; none if there is no such file. Raises CannotJudge."""
    try:
        return RUNS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise CannotJudge(f"{path} is not an accepted run: {error}") from None


def write_runs(path: Path, runs: Mapping[str, Summary]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({name: run.model_dump(mode="json") for name, run in runs.items()}, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="castalia loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--profile", default="release", help=f"{', '.join(profile.names())}, or a YAML file like them [release]")
    load.add_url(parser)
    add("--baseline", type=Path, help="the last accepted run [castalia-loadtest-PROFILE.json in this folder]")
    add("--accept", action="store_true", help="keep this run as the last accepted one, if it passes")
    add("--out", type=Path, help="folder for report.md, runs.json, and Locust's HTML and CSV of each stage")
    return parser


if __name__ == "__main__":
    main()
