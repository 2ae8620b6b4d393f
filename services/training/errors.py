"""Owns what can go wrong in the pipeline.

TrainingError
├── UnknownRecipe       no recipe has this name
├── PackageUnavailable  the registry has no such file, or did not answer
├── PackageChanged      what the registry gave is not what the recipe names
├── UnsafeArchive       a member would be written outside its folder
├── RunBusy             another process trains in the run's folder
├── RunMismatch         the run folder was begun with other settings
├── NotOurs             a folder that would be replaced or deleted holds something else
├── UnevenShards        a batch cannot be cut into as many equal parts as there are workers
├── CheckpointDamaged   a checkpoint cannot be read
├── NotTrained          there is nothing to publish or to evaluate yet
├── Diverged            a loss is no finite number
├── OverBudget          the weights are larger than the recipe allows
└── MissingExtra        a package of the `train` extra is not installed
"""

from __future__ import annotations

from collections.abc import Sequence


class TrainingError(Exception):
    """Base of every error of the pipeline. The message is for the person who trains."""


class UnknownRecipe(TrainingError):
    def __init__(self, name: str, *, known: Sequence[str]) -> None:
        super().__init__(f"there is no recipe named {name!r}; there are: {', '.join(known)}")


class PackageUnavailable(TrainingError):
    """The registry has no such file, or did not answer; another try may succeed."""


class PackageChanged(TrainingError):
    def __init__(self, file: str, *, expected: str, got: str) -> None:
        super().__init__(f"{file} is not the file that the recipe names: expected SHA-256 {expected}, got {got}")


class UnsafeArchive(TrainingError):
    def __init__(self, archive: str, member: str) -> None:
        super().__init__(f"{archive} holds {member!r}, which would be written outside its folder")


class RunBusy(TrainingError):
    def __init__(self, folder: str) -> None:
        super().__init__(f"another process trains in {folder}, or publishes it; name another folder with --run")


class RunMismatch(TrainingError):
    def __init__(self, folder: str, what: str, *, begun: object, asked: object) -> None:
        super().__init__(
            f"the run in {folder} was begun with {what} {begun}, and {asked} was asked for;"
            " start over with --fresh, or name another folder with --run"
        )


class NotOurs(TrainingError):
    def __init__(self, folder: str, *, lacks: str) -> None:
        super().__init__(f"{folder} has no {lacks} and is not empty: it is left as it is; name another folder")


class UnevenShards(TrainingError):
    def __init__(self, batch_size: int, shards: int) -> None:
        super().__init__(f"a batch of {batch_size} cannot be cut into {shards} equal parts: give another --workers")


class CheckpointDamaged(TrainingError):
    def __init__(self, folder: str, why: str) -> None:
        super().__init__(f"{folder} cannot be read: {why}; delete it to go on from the checkpoint before")


class NotTrained(TrainingError):
    """There is nothing to publish or to evaluate yet."""


class Diverged(TrainingError):
    def __init__(self, step: int, phase: str, loss: float) -> None:
        super().__init__(f"the loss of phase {phase!r} was {loss} at step {step}: a lower learning rate may help")


class OverBudget(TrainingError):
    def __init__(self, name: str, *, limit: int, got: int) -> None:
        super().__init__(f"the weights of {name} take {got} bytes; its recipe allows {limit}")


class MissingExtra(TrainingError):
    def __init__(self, package: str) -> None:
        super().__init__(f'{package} is not installed; it comes with: pip install "castalia[train]"')
