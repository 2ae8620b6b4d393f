"""`python -m loadtests.lm_eval`: whether lm-evaluation-harness finds the same by the gateway as by its own backend.

    .venv/bin/python -m loadtests.peers.setup lm-eval     # once: its environment, some minutes and 2 GB
    .venv/bin/python -m loadtests.lm_eval

For SmolLM2, the chat model that models.yaml embeds, and for a 14 M parameter GPT-2 of random weights: a fleet of its
own serves the folder, and the harness reads forty items of four choices twice, by its `local-completions` model, which
asks the gateway for log-probabilities of token ids, and by its `hf` model, which loads the same folder. Log-likelihoods
must agree to 1e-3, and what is made of them must be equal. Fails if not. Five minutes on two cores; no hub is asked.

More folders of checkpoints can be named. Writes loadtests/reports/lm_eval.md, or where --out says.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from loadtests.bench_models import gpt2_14m, smollm2
from loadtests.lm_eval.agreement import TOLERANCE, Agreement, agreement
from loadtests.lm_eval.harness import HarnessFailed, Run, by_gateway, own_backend, run_harness
from loadtests.peers.fleet import BenchFleet
from loadtests.peers.venvs import PeerMissing, PeerVenv, peer_venv
from loadtests.tables import Row, Table
from services.logs import configure
from shared.config.settings import Settings

REPORT = Path(__file__).parents[1] / "reports" / "lm_eval.md"
HEAD = ("model", "acc, acc_norm", "choices", "largest difference", "greedy unlike", "agrees")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.lm_eval", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="checkpoints besides the two")
    parser.add_argument("--out", type=Path, default=REPORT, help="where the report goes")
    arguments = parser.parse_args()
    configure("WARNING")
    home, venv, began = Settings().home, peer_venv("lm-eval"), time.monotonic()
    folders = {"smollm2-135m-instruct": smollm2(home), "gpt2-14m, random": gpt2_14m(home)}
    folders |= {folder.name: folder.resolve() for folder in arguments.folders}
    found: dict[str, tuple[Run, Agreement]] = {}
    try:
        for name, folder in folders.items():
            print(f"{name}: by the gateway, then by the harness's own backend ...", flush=True)
            with tempfile.TemporaryDirectory() as work:
                found[name] = compare(folder, venv, Path(work))
    except (PeerMissing, HarnessFailed) as failure:
        print(failure, file=sys.stderr)
        return 1
    table = report_table(found)
    Console().print(table.rich)
    arguments.out.write_text(report(table, time.monotonic() - began))
    return 0 if all(each.holds for _, each in found.values()) else 1


def compare(folder: Path, venv: PeerVenv, work: Path) -> tuple[Run, Agreement]:
    """The harness by a gateway that serves the folder, and by its own backend. Raises PeerMissing, HarnessFailed."""
    venv.binary("python")  # rather now than after a fleet has started
    fleet = BenchFleet("transformer", {"source": f"file://{folder}"}, work, name="lm-eval")
    try:
        fleet.start()
        mine = run_harness(venv, by_gateway(folder, fleet.url, fleet.model), work / "gateway")
    finally:
        fleet.stop()
    return mine, agreement(mine, run_harness(venv, own_backend(folder), work / "hf"))


def report_table(found: dict[str, tuple[Run, Agreement]]) -> Table:
    rows = [_row(name, run, each) for name, (run, each) in found.items()]
    return Table("Log-likelihoods by the gateway and by the hf backend", HEAD, rows)


def _row(name: str, run: Run, each: Agreement) -> Row:
    figures = ", ".join(f"{value:.3f}" for value in run.figures.values())
    return (
        name,
        figures,
        f"{each.choices} of {each.items} items",
        f"{each.largest:.1e}",
        str(each.unlike_greedy),
        "yes" if each.holds else "no",
    )


def report(table: Table, seconds: float) -> str:
    return (
        "# lm-evaluation-harness, by the gateway\n\n"
        "Written by `.venv/bin/python -m loadtests.lm_eval`, whose text says what is compared; the run took "
        f"{seconds:.0f} s.\nThe harness's `local-completions` asks the gateway, and its `hf` backend loads the same "
        f"folder: log-likelihoods agree where they\ndiffer by {TOLERANCE:g} at most, and accuracies and greedy flags "
        f"are equal.\n\n{table.section}"
    )


if __name__ == "__main__":
    sys.exit(main())
