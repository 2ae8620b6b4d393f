"""Owns what drawn molecules are compared with: MOSES's own statistics of its test part, from its package to a file.

The package holds them as a pickle. It is read by an unpickler that makes arrays and counters and nothing else, and
only while data is prepared.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from services.training.distances import FeatureStatistics

PROPERTIES = ("logP", "SA", "QED", "weight")
_STATISTICS, _MEMBER = "test_stats.npz", "stats.npy"
_ARRAYS, _COUNTS = "reference.safetensors", "reference.json"


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """Of all N test molecules: `fingerprints` uint8 (N, B) of 0 and 1, `values` float64 (N,) of each property.

    `fragments` and `scaffolds` say how often each occurs, `chemnet` what ChemNet's features are on average.
    """

    fingerprints: NDArray[np.uint8]
    fragments: Counter[str]
    scaffolds: Counter[str]
    values: Mapping[str, NDArray[np.float64]]
    chemnet: FeatureStatistics


def _encoded(text: str, encoding: str) -> bytes:
    """How bytes are written in the pickle's old format."""
    return text.encode(encoding)


class _Arrays(pickle.Unpickler):
    """Raises UnpicklingError for whatever is no array or counter."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("collections", "Counter"): Counter,
        ("_codecs", "encode"): _encoded,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is neither an array nor a counter")
        return self._ALLOWED[module_name, global_name]


def read_statistics(package: Path) -> dict[str, Any]:
    """The package's own statistics, as MOSES wrote them."""
    with (
        zipfile.ZipFile(package / "moses" / "dataset" / "data" / _STATISTICS) as archive,
        archive.open(_MEMBER) as file,
    ):
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return cast(dict[str, Any], _Arrays(file).load().item())


def write_reference(package: Path, folder: Path) -> None:
    found = read_statistics(package)
    arrays = {name: torch.tensor(found[name]["values"], dtype=torch.float64) for name in PROPERTIES}
    arrays["fingerprints"] = torch.from_numpy(np.packbits(found["SNN"]["fps"], axis=1))
    arrays["mean"] = torch.tensor(found["FCD"]["mu"], dtype=torch.float64)
    arrays["covariance"] = torch.tensor(found["FCD"]["sigma"], dtype=torch.float64)
    save_file(arrays, folder / _ARRAYS)
    counts = {"fragments": found["Frag"]["frag"], "scaffolds": found["Scaf"]["scaf"]}
    (folder / _COUNTS).write_text(json.dumps(counts))


def read_reference(folder: Path) -> Reference:
    arrays, counts = load_file(folder / _ARRAYS), json.loads((folder / _COUNTS).read_text())
    return Reference(
        np.unpackbits(arrays["fingerprints"].numpy(), axis=1),
        Counter(counts["fragments"]),
        Counter(counts["scaffolds"]),
        {name: arrays[name].numpy() for name in PROPERTIES},
        FeatureStatistics(arrays["mean"], arrays["covariance"]),
    )
