"""The chart knows the devices that the fleet knows."""

from __future__ import annotations

import yaml

from shared.config.accelerators import DEVICE_MEMORY, MIB
from tests.deploy.chart import CHART

BEGIN, END = '{{- define "castalia.deviceMemory" -}}', "{{- end -}}"


def test_the_template_has_the_memory_of_each_type_of_device_that_the_configuration_has() -> None:
    table = (CHART / "templates" / "_serve.tpl").read_text().partition(BEGIN)[2].partition(END)[0]
    assert {name: mib * MIB for name, mib in yaml.safe_load(table).items()} == DEVICE_MEMORY
