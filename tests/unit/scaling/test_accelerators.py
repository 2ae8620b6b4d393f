"""A part of a device by its memory: what it is in Ray's units, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.config.accelerators import DEVICE_MEMORY, MIB, device_share
from shared.config.base import Resources


@pytest.mark.parametrize("accelerator", DEVICE_MEMORY)
def test_a_whole_device_is_one_and_parts_that_fill_it_never_add_up_to_more(accelerator: str) -> None:
    total = DEVICE_MEMORY[accelerator]
    assert device_share(total, accelerator) == 1
    assert device_share(total // 4, accelerator) == 0.25
    assert device_share(1, accelerator) == 0.0001, "what Ray cannot count is rounded up, never to nothing"


def test_a_part_is_rounded_up_so_that_no_device_is_shared_by_more_than_it_holds() -> None:
    total = DEVICE_MEMORY["L4"]
    third = total // 3 + 1
    assert device_share(third, "L4") * 3 > 1, "three of these do not fit"


@pytest.mark.parametrize(
    ("resources", "says"),
    [
        ({"gpu_memory": "1GiB"}, "gpu_memory needs accelerator"),
        ({"gpu_memory": "1GiB", "accelerator": "Abacus"}, "'Abacus' is not known: use num_gpus, or one of A100, "),
        ({"gpu_memory": "1GiB", "accelerator": "L4", "num_gpus": 0.5}, r"num_gpus \(0.5\) both say"),
        ({"gpu_memory": "23GiB", "accelerator": "L4"}, r"\(23552 MiB\) is over what accelerator L4 has \(22400 MiB\)"),
        ({"accelerator": "L4"}, "accelerator L4 needs gpu_memory or num_gpus"),
        ({"accelerator": "L 4", "num_gpus": 1}, "pattern"),
        ({"gpu_memory": 0, "accelerator": "L4"}, "greater than 0"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_the_reason(resources: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Resources.model_validate(resources)


def test_a_device_of_a_type_that_has_no_known_memory_can_be_asked_for_whole() -> None:
    assert Resources.model_validate({"accelerator": "TPU-V6E", "num_gpus": 1}).device_share == 1
    assert Resources.model_validate({"gpu_memory": 8960 * MIB, "accelerator": "L4"}).device_share == 0.4
