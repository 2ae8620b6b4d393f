"""Owns the benchmark's results as text: medians in tables, every round's figures in JSON, and what they are of."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.images import CLIENTS as IMAGE_CLIENTS
from loadtests.images import FORWARD_ROWS, LOW, SATURATED, ImageFigures, LoadFigures
from loadtests.in_process import Rates
from loadtests.over_http import CLIENTS
from loadtests.over_http import Results as HttpResults
from loadtests.peers.fleet import Fleet
from loadtests.peers.image_servers import ONE_BY_ONE, REQUEST_LEVEL, STEP_LEVEL
from loadtests.peers.static import Static
from loadtests.recurrent import ROWS as RECURRENT_ROWS
from loadtests.recurrent import RecurrentFigures
from loadtests.tables import Row, Table, mid

PACKAGES = ("torch", "transformers", "diffusers", "ray")
FLEET, STATIC = Fleet.name, Static.name


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is meant to reach, and what it did."""

    name: str
    wanted: float
    got: float

    @property
    def met(self) -> bool:
        return self.got >= self.wanted


@dataclass(slots=True)
class Results:
    """Everything that was measured, by model."""

    in_process: dict[str, Rates] = field(default_factory=dict)
    over_http: dict[str, HttpResults] = field(default_factory=dict)
    images: dict[str, ImageFigures] = field(default_factory=dict)
    recurrent: dict[str, RecurrentFigures] = field(default_factory=dict)
    command: str = "python -m loadtests.bench"
    load_before: float = 0.0  # the machine's load average of the last minute, when the run began
    seconds: float = 0.0


def tables(results: Results) -> list[Table]:
    engine = ("model", "figure", "engine", "limit", "engine / limit")
    http = (
        "model",
        "clients",
        "server",
        "tokens/s",
        "against static",
        "first text p50, p95 (s)",
        "client CPU",
        "idle CPU",
    )
    cpu = ("model", "part of the fleet", "CPU us a token")
    image = (
        "model",
        "load",
        "server",
        "image-steps/s",
        "10-step jobs, p50 (s)",
        "10-step jobs, p95 (s)",
        "seconds a step",
    )
    forwards = ("model", *(f"{rows} row{'s' * (rows > 1)}" for rows in FORWARD_ROWS))
    every = [
        Table("The engine beside its limit (tokens/s, one thread, 16 rows)", engine, _engine_rows(results)),
        Table("Over HTTP, one thread a server", http, _http_rows(results)),
        Table(f"What the fleet spends around the engine, {CLIENTS} clients", cpu, _cpu_rows(results)),
        Table("Images: jobs of 10, 20 and 50 DDIM steps, one thread a server", image, _image_rows(results)),
        Table("What a batch can bring: bare forwards, image-steps/s", forwards, _forward_rows(results)),
        Table(
            f"Recurrent nets: sampled completions, one thread, up to {RECURRENT_ROWS} rows in a batch",
            ("model", "how", "tokens/s", "together / this"),
            _recurrent_rows(results),
        ),
    ]
    return [table for table in every if table.rows]


def targets(results: Results) -> list[Target]:
    """The figures that the project promises, for whatever was measured."""
    found: list[Target] = []
    for model, rates in results.in_process.items():
        found.append(Target(f"{model}: steady decode / limit", 0.85, ratio(rates.steady, rates.limit)))
        found.append(Target(f"{model}: mixed load / limit", 0.7, ratio(rates.mixed, rates.mixed_limit)))
    for model, widths in results.over_http.items():
        found += _http_targets(model, widths)
    for model, figures in results.images.items():
        found += _image_targets(model, figures.servers)
    for model, figures in results.recurrent.items():
        found.append(Target(f"{model}: together / one after another", 3, ratio(figures.together, figures.one_by_one)))
        found.append(Target(f"{model}: together / plain loop", 3, ratio(figures.together, figures.plain_loop)))
    return found


def _http_targets(model: str, widths: HttpResults) -> list[Target]:
    """Ahead of every peer at every width, and three times static batches where many ask."""
    found: list[Target] = []
    for width, served in widths.items():
        fleet = served[FLEET].tokens_per_second
        for name, peer in served.items():
            if name != FLEET:
                wanted = 3 if (name, width) == (STATIC, CLIENTS) else 1
                share = ratio(fleet, peer.tokens_per_second)
                found.append(Target(f"{model}, {width} clients: {FLEET} / {name}", wanted, share))
    return found


def _image_targets(model: str, images: Mapping[str, Mapping[str, LoadFigures]]) -> list[Target]:
    """Written so that more is better: what short jobs wait in batches of requests, over what they wait in ours."""
    ours, batches, alone = images[STEP_LEVEL], images[REQUEST_LEVEL], images[ONE_BY_ONE]
    full, rivals = ours[SATURATED], batches[SATURATED]
    low = [peer[LOW].seconds_per_step for peer in (ours, batches, alone)]
    best = [min(pair) for pair in zip(*low[1:], strict=True)]
    rate = ratio(full.steps_per_second, rivals.steps_per_second)
    return [
        Target(f"{model}, saturated: image-steps/s, step-level / request-level", 1.3, rate),
        Target(
            f"{model}, saturated: p95 of 10-step jobs, request-level / step-level",
            2,
            ratio(rivals.short_p95, full.short_p95),
        ),
        Target(f"{model}, low load: seconds a step, the better peer / step-level", 0.95, ratio(best, low[0])),
    ]


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the rounds' ratios: both sides of each were measured within a minute of each other."""
    return median(a / b for a, b in zip(over, under, strict=True))


def write(results: Results, folder: Path, name: str, beside: Sequence[str] = ()) -> Path:
    """Write NAME.md and NAME.json, or NAME_beside_PEERS if not all were measured; return the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = machine() | {"load average before the run": f"{results.load_before:.1f}"}
    stem = "_".join([name, "beside", *beside]) if beside else name
    (folder / f"{stem}.json").write_text(json.dumps({"machine": facts, **asdict(results)}, indent=1) + "\n")
    lines = ["# Benchmark", "", f"`{results.command}`, {name}: "]
    lines[-1] += f"{results.seconds / 60:.0f} minutes, medians of interleaved rounds."
    lines += ["", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    met = [(each.name, f"{each.wanted:g}", f"{each.got:.2f}", "yes" if each.met else "no") for each in targets(results)]
    every = [*tables(results), Table("Targets", ("figure", "wanted", "got", "met"), met)]
    path = folder / f"{stem}.md"
    path.write_text("\n".join([*lines, *(table.section for table in every)]))
    return path


def machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _engine_rows(results: Results) -> list[Row]:
    rows: list[Row] = []
    for model, r in results.in_process.items():
        rows.append((model, "steady decode", mid(r.steady), mid(r.limit), f"{ratio(r.steady, r.limit):.2f}"))
        mixed = f"{ratio(r.mixed, r.mixed_limit):.2f}"
        rows.append((model, "mixed load, prompts counted", mid(r.mixed), mid(r.mixed_limit), mixed))
        rows.append((model, "mixed load, answers alone", mid(r.mixed_decoded), "", ""))
        rows.append((model, "one by one, `generate`", mid(r.alone), "", ""))
    return rows


def _http_rows(results: Results) -> list[Row]:
    rows: list[Row] = []
    for model, widths in results.over_http.items():
        for width, served in widths.items():
            static = served[STATIC].tokens_per_second if STATIC in served else None
            for name, s in served.items():
                waits = f"{median(s.first_text_p50):.2f}, {median(s.first_text_p95):.2f}"
                against = "" if static is None else f"{ratio(s.tokens_per_second, static):.2f}"
                shares = f"{median(s.client_cpu_share):.0%}", f"{s.idle_cpu_share:.0%}"
                rows.append((model, str(width), name, mid(s.tokens_per_second), against, waits, *shares))
    return rows


def _cpu_rows(results: Results) -> list[Row]:
    """The gateway is its own process; the hop is what the replica spends besides the engine's thread."""
    names = {
        "HAProxy": "HAProxy",
        "gateway": "gateway",
        "replica": "hop (replica, off the engine's thread)",
        "rest of Ray": "rest of Ray (controller, raylet, ...)",
        "engine": "engine's thread",
    }
    return [
        (model, label, mid(widths[CLIENTS][FLEET].cpu_us[role]))
        for model, widths in results.over_http.items()
        for role, label in names.items()
        if role in widths[CLIENTS][FLEET].cpu_us
    ]


def _image_rows(results: Results) -> list[Row]:
    rows: list[Row] = []
    for model, figures in results.images.items():
        for load, clients in IMAGE_CLIENTS.items():
            for server, loads in figures.servers.items():
                f = loads[load]
                waits = (mid(f.short_p50, 2), mid(f.short_p95, 2), mid(f.seconds_per_step, 3))
                who = f"{load}, {clients} client{'s' * (clients > 1)}"
                rows.append((model, who, server, mid(f.steps_per_second), *waits))
    return rows


def _forward_rows(results: Results) -> list[Row]:
    return [(model, *map(mid, figures.forwards.values())) for model, figures in results.images.items()]


def _recurrent_rows(results: Results) -> list[Row]:
    names = {
        "together": "through the engine, together",
        "one_by_one": "through the engine, one after another",
        "plain_loop": "plain PyTorch loop, one after another",
        "plain_batch": "plain PyTorch loop, a full batch in step",
    }
    return [
        (model, label, mid(rates), f"{ratio(figures.together, rates):.2f}")
        for model, figures in results.recurrent.items()
        for name, label in names.items()
        for rates in [getattr(figures, name)]
    ]
