"""Owns Hugging Face repositories as sources: pinned revision, safe files only, every checksum the hub states."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

from services.sources.checkpoint import INDEX, check_names, needed, parts_of
from services.sources.errors import FetchFailed, FileChanged, SourceError, SourceNotFound, UnsafeSource
from services.sources.manifest import sha256
from services.sources.progress import Progress
from services.sources.source import HubRepo

_COMMIT = re.compile(r"[0-9a-f]{40}")


def download_repo(source: HubRepo, into: Path, progress: Progress) -> Path:
    """Download the repository's checkpoint into the folder, going on where an earlier try stopped.

    HF_ENDPOINT and HF_TOKEN apply. Raises UnsafeSource for a branch or pickled weights, SourceNotFound, FetchFailed.
    """
    from huggingface_hub import HfApi  # noqa: PLC0415 - half a second that other schemes need not pay
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError  # noqa: PLC0415

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    where = f"{source.repo}@{source.revision}"
    try:
        _download(api, source, _commit(api, source), into, progress)
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise SourceNotFound(f"the hub has no {where} (or HF_TOKEN may not read it)") from error
    except SourceError:
        raise
    except Exception as error:  # the hub's client lets its HTTP library's own errors through
        raise FetchFailed(f"could not fetch {where}: {error}") from error
    shutil.rmtree(into / ".cache", ignore_errors=True)
    return into


def _commit(api: Any, source: HubRepo) -> str:
    """The commit that the revision stands for. A branch is refused: its weights change under the same name."""
    if _COMMIT.fullmatch(source.revision):
        return source.revision
    refs = api.list_repo_refs(source.repo)
    tags = {tag.name: tag.target_commit for tag in refs.tags}
    if source.revision in tags:
        return tags[source.revision]
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    if source.revision in heads:
        pinned = f"hf://{source.repo}@{heads[source.revision]}"
        raise UnsafeSource(f"{source.revision!r} is a branch and moves; name a commit or a tag, today's is {pinned}")
    raise SourceNotFound(f"{source.repo} has no commit or tag {source.revision!r}")


def _download(api: Any, source: HubRepo, commit: str, into: Path, progress: Progress) -> None:
    listed = cast(list[Any], api.model_info(source.repo, revision=commit, files_metadata=True).siblings or [])
    names = [cast(str, file.rfilename) for file in listed]
    where, parts = f"{source.repo}@{source.revision}", None
    if INDEX in names:  # says which of the files are needed at all
        index = Path(api.hf_hub_download(source.repo, INDEX, revision=commit, local_dir=into))
        parts = parts_of(index.read_bytes(), where)
    check_names(names, where, parts)
    chosen = set(needed(names, parts))
    files = [file for file in listed if file.rfilename in chosen]
    total = sum(file.size or 0 for file in files)
    done = 0
    for file in files:
        name = cast(str, file.rfilename)
        progress(f"downloading {name}", done, total)
        bar = _bar(partial(_report, progress, name, done, total))
        path = Path(api.hf_hub_download(source.repo, name, revision=commit, local_dir=into, tqdm_class=bar))
        if file.lfs is not None and (got := sha256(path)) != file.lfs.sha256:
            path.unlink()
            raise FileChanged(path, what="SHA-256", expected=file.lfs.sha256, got=got)
        done += file.size or 0
    progress("downloading", done, total)


def _report(progress: Progress, name: str, before: int, total: int, got: int) -> None:
    progress(f"downloading {name}", before + got, total)


def _bar(report: Callable[[int], None]) -> type[Any]:
    """The hub's progress bar, which reports its bytes instead of drawing itself."""
    from huggingface_hub.utils import tqdm  # noqa: PLC0415

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **(options | {"disable": True}))
            self.got = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self.got += int(n or 0)
            report(self.got)

    return Bar
