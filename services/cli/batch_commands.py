"""Owns the command that runs a file of requests: upload, begin, wait, fetch the results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli.context import CliError, KeyOption, UrlOption, connect, tools

if TYPE_CHECKING:
    from services.cli.client import Client

POLL_S = 1.0
ENDED = frozenset({"failed", "completed", "expired", "cancelled"})
BATCH_ID = "batch_"


def batch(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="FILE|BATCH", help="JSON lines to run, or a batch's id to go on waiting for it.")
    ],
    *,
    endpoint: Annotated[
        str | None, typer.Option(help="The operation, as /v1/chat/completions. [the first line's url]")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where results go. [FILE.results.jsonl]")
    ] = None,
    errors: Annotated[Path | None, typer.Option(help="Where the lines that failed go. [FILE.errors.jsonl]")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Or leave it running, and print its id.")] = True,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Run a file of requests beside everything else, at low priority, and fetch the results.

    A line is {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {...}}. Ctrl-C leaves the
    batch running. The exit status is 0 if every line succeeded.
    """
    client = connect(ctx, url, api_key)
    if source.startswith(BATCH_ID):
        batch_id, stem = source, source
    else:
        path = Path(source)
        batch_id, stem = _begin(client, path, endpoint or _url_of(path)), path.name.removesuffix(path.suffix)
    tools(ctx).out.print(batch_id, markup=False, highlight=False)
    if not wait:
        return
    try:
        ended = _wait(ctx, client, batch_id)
    except KeyboardInterrupt:
        raise CliError(f"not waited for to the end; it goes on: castalia batch {batch_id}") from None
    folder = Path() if source.startswith(BATCH_ID) else Path(source).parent
    results, failures = output or folder / f"{stem}.results.jsonl", errors or folder / f"{stem}.errors.jsonl"
    for file_id, place in ((ended.get("output_file_id"), results), (ended.get("error_file_id"), failures)):
        if file_id:
            client.download(file_id, place)
            tools(ctx).err.print(str(place), markup=False, highlight=False, soft_wrap=True)
    _judge(ended)


def _url_of(path: Path) -> str:
    """The first line's operation."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.readline())["url"]
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CliError(f"{path}: the first line is no JSON object with a url; see castalia batch --help") from error
    return str(found)


def _begin(client: Client, path: Path, endpoint: str) -> str:
    file = client.upload(path, "batch")
    request = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h"}
    return str(client.post("/v1/batches", request)["id"])


def _wait(ctx: typer.Context, client: Client, batch_id: str) -> dict[str, Any]:
    """The batch as it ended."""
    with _Bar(tools(ctx).err) as bar:
        while True:
            state = client.get(f"/v1/batches/{batch_id}")
            bar.show(state)
            if state["status"] in ENDED:
                return state
            tools(ctx).sleep(POLL_S)


def _judge(ended: Mapping[str, Any]) -> None:
    """Raise CliError unless every line succeeded."""
    counts = ended["request_counts"]
    if problems := (ended.get("errors") or {}).get("data"):
        told = [
            f"line {problem['line']}: {problem['message']}" if problem["line"] else problem["message"]
            for problem in problems
        ]
        raise CliError("the input file was refused\n" + "\n".join(told))
    if ended["status"] != "completed" or counts["completed"] != counts["total"]:
        raise CliError(f"the batch is {ended['status']}: {counts['completed']} of {counts['total']} lines succeeded")


class _Bar:
    """Lines that have a result. Through a pipe, each status is one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = ""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("validating", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, state: Mapping[str, Any]) -> None:
        status, counts = str(state["status"]), state["request_counts"]
        done = counts["completed"] + counts["failed"]
        self._progress.update(self._task, description=status, total=counts["total"] or None, completed=done)
        if self._progress.disable and status != self._status:
            self._console.print(status, markup=False, highlight=False)
        self._status = status
