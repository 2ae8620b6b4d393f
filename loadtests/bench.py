"""`make bench`: the engine beside its limit, and the fleet beside its peers, interleaved in one run.

Text: measurements inside this process come first (`in_process`), then servers over HTTP (`over_http`), with two models:
a 14 M parameter GPT-2 with random weights, and SmolLM2-135M-Instruct. Images (`images`): servers over HTTP, with a
4 M parameter UNet of random weights. Recurrent (`recurrent`): one character model of random weights in this process,
its requests in a batch and one after another. What is compared with each other runs in turn, round after round, and
medians are reported. Bounded: with every peer some 70 minutes of text on two cores, 20 with `--quick`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from loadtests import report
from loadtests.bench_models import gpt2_14m, smollm2, unet_4m, unet_16m
from loadtests.images import ImageFigures, ImagePlan, measure_images
from loadtests.in_process import Plan, Rates, Subject, measure_round
from loadtests.over_http import BESIDE, CLIENTS, LoadPlan, measure_servers
from loadtests.peers.fleet import Fleet
from loadtests.peers.image_servers import IMAGE_PEERS
from loadtests.recurrent import MODEL, RecurrentFigures, measure_recurrent, write_checkpoint
from loadtests.workload import Mix
from services.logs import configure
from shared.config.settings import Settings

REPORTS = Path(__file__).parent / "reports"
GPT2, SMOLLM2 = "GPT-2 14M", "SmolLM2-135M"
IN_PROCESS_STEPS = 5  # measurements in a round
RECURRENT_STEPS = 4


@dataclass(frozen=True, slots=True)
class Budget:
    """How often and how long each model is measured."""

    folder: Path
    engine: Plan
    engine_rounds: int
    load: LoadPlan
    load_rounds: int

    def steps(self, only: str | None) -> int:
        """How many measurements there are; `only` one half of them, "engine" or "http"."""
        engine, http = self.engine_rounds * IN_PROCESS_STEPS, self.load.steps(self.load_rounds)
        return {"engine": engine, "http": http}.get(only or "", engine + http)


def budgets(home: Path, quick: bool) -> dict[str, Budget]:
    small, large = Mix(prompt=(8, 128), output=(16, 256)), Mix(prompt=(8, 64), output=(16, 96))
    brief_small = Plan(small, prompt=64, steps=128, mixed_warm_s=2, mixed_window_s=6, alone=2)
    brief_large = Plan(large, prompt=32, steps=48, mixed_warm_s=5, mixed_window_s=12, alone=1)
    if quick:
        return {
            GPT2: Budget(
                gpt2_14m(home), brief_small, 1, LoadPlan(small, warm_s=3, window_s=10, widths=(1, CLIENTS)), 1
            ),
            SMOLLM2: Budget(
                smollm2(home), brief_large, 1, LoadPlan(large, warm_s=3, window_s=16, widths=(1, CLIENTS)), 1
            ),
        }
    full_small = Plan(small, prompt=64, steps=192, mixed_warm_s=3, mixed_window_s=10, alone=3)
    full_large = Plan(large, prompt=32, steps=64, mixed_warm_s=6, mixed_window_s=20, alone=2)
    return {
        GPT2: Budget(gpt2_14m(home), full_small, 3, LoadPlan(small, warm_s=3, window_s=10), 2),
        SMOLLM2: Budget(smollm2(home), full_large, 3, LoadPlan(large, warm_s=4, window_s=12), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of everything, in some 20 minutes")
    parser.add_argument(
        "--only", choices=("text", "engine", "http", "images", "recurrent"), help="measure one part alone"
    )
    parser.add_argument(
        "--beside", nargs="+", choices=list(BESIDE), help="of text, only these peers; reported apart (all of them)"
    )
    parser.add_argument(
        "--rounds", type=int, choices=range(1, 33), metavar="N", help="of text over HTTP (2, or 1 with --quick)"
    )
    parser.add_argument("--out", type=Path, default=REPORTS, help="folder for NAME.md and NAME.json")
    arguments = parser.parse_args()
    configure("ERROR")
    console = Console(width=None if sys.stdout.isatty() else 140)
    wanted = {"engine": "text", "http": "text"}.get(arguments.only, arguments.only)
    for name, measure in {"text": _measure_text, "images": _measure_images, "recurrent": _measure_recurrent}.items():
        if wanted in (None, name):
            _run(console, name, arguments, measure)


def _run(
    console: Console,
    name: str,
    arguments: argparse.Namespace,
    measure: Callable[[argparse.Namespace, report.Results, Progress], None],
) -> None:
    command = " ".join(["python -m loadtests.bench", *sys.argv[1:]])
    results = report.Results(command=command, load_before=os.getloadavg()[0])
    began = time.perf_counter()
    with _progress(console) as progress:
        measure(arguments, results, progress)
    results.seconds = time.perf_counter() - began
    _show(console, results)
    beside = arguments.beside if name == "text" else None
    console.print(f"written: {report.write(results, arguments.out, name, beside or ())}")


def _measure_text(arguments: argparse.Namespace, results: report.Results, progress: Progress) -> None:
    bar = progress.add_task("preparing the models", total=None)
    plan = {model: _asked(arguments, each) for model, each in budgets(Settings().home, arguments.quick).items()}
    progress.update(bar, total=sum(budget.steps(arguments.only) for budget in plan.values()))
    if arguments.only != "http":
        _measure_engine(plan, results, progress, bar)
    if arguments.only != "engine":
        _measure_http(plan, results, progress, bar)


def _asked(arguments: argparse.Namespace, budget: Budget) -> Budget:
    """The budget with what the options say otherwise."""
    peers = (Fleet, *(BESIDE[name] for name in arguments.beside or BESIDE))
    return replace(budget, load=replace(budget.load, peers=peers), load_rounds=arguments.rounds or budget.load_rounds)


def _measure_images(arguments: argparse.Namespace, results: report.Results, progress: Progress) -> None:
    bar = progress.add_task("preparing the model", total=None)
    home = Settings().home
    folders = {"UNet 4.4M, 32x32": unet_4m(home), "UNet 16M, 8x8": unet_16m(home)}
    plan = ImagePlan(1, 3, 12, 30) if arguments.quick else ImagePlan(3, 5, 12, 40)
    progress.update(bar, total=len(folders) * (len(IMAGE_PEERS) * (1 + 2 * plan.rounds) + plan.rounds))
    for model, folder in folders.items():
        figures = results.images[model] = ImageFigures()
        with _work_folder() as work:
            for done in measure_images(folder, plan, Path(work), figures):
                progress.update(bar, advance=1, description=f"{model}: {done}")


def _measure_recurrent(arguments: argparse.Namespace, results: report.Results, progress: Progress) -> None:
    rounds, requests = (1, 32) if arguments.quick else (5, 128)
    bar = progress.add_task("loading the model", total=rounds * RECURRENT_STEPS)
    figures = results.recurrent[MODEL] = RecurrentFigures()
    with _work_folder() as folder:
        write_checkpoint(Path(folder))
        for done in measure_recurrent(Path(folder), rounds, requests, figures):
            progress.update(bar, advance=1, description=f"{MODEL}: {done}")


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    """Short: Ray puts Unix sockets below it."""
    return tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp", ignore_cleanup_errors=True)


def _measure_engine(plan: dict[str, Budget], results: report.Results, progress: Progress, bar: TaskID) -> None:
    subjects = {model: Subject(model, budget.folder, budget.engine) for model, budget in plan.items()}
    results.in_process = {model: Rates() for model in plan}
    for number in range(max(budget.engine_rounds for budget in plan.values())):
        for model, subject in subjects.items():
            if number < plan[model].engine_rounds:
                for done in measure_round(subject, results.in_process[model], number):
                    progress.update(bar, advance=1, description=f"{model}: {done}")


def _measure_http(plan: dict[str, Budget], results: report.Results, progress: Progress, bar: TaskID) -> None:
    for model, budget in plan.items():
        served = results.over_http[model] = {}
        with _work_folder() as work:
            for done in measure_servers(budget.folder, budget.load, budget.load_rounds, Path(work), served):
                progress.update(bar, advance=1, description=f"{model}: {done}")


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console
    )


def _show(console: Console, results: report.Results) -> None:
    for table in report.tables(results):
        console.print(table.rich)
    for target in report.targets(results):
        mark = "[green]met[/]" if target.met else "[yellow]not met[/]"
        console.print(f"{target.name}: {target.got:.2f} of {target.wanted:g}, {mark}")


if __name__ == "__main__":
    main()
