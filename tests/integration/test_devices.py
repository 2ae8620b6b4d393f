"""Services that declare their part of a device: who shares one, and who is not placed.

The device is Ray's word alone: nothing here touches one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PART = {"gpu_memory": "10GiB", "accelerator": "L4"}


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_two_services_share_a_device_by_declared_memory_and_a_third_or_one_for_another_type_waits() -> None:
    fitting = {"first": PART, "second": PART}
    others = {"third": PART, "other": {"gpu_memory": "1GiB", "accelerator": "H100"}}
    command = [sys.executable, "-m", "tests.integration.place_services", json.dumps([fitting, others])]
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}  # Ray would leave a token in the home folder
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=380, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == {"first": ["0"], "second": ["0"]}
    assert found["states"] == {"third": "DEPLOYING", "other": "DEPLOYING"}
    assert found["left"] == pytest.approx(1 - 2 * 0.4572)
