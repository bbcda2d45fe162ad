# SPDX-License-Identifier: GPL-2.0
"""An administrator's tools and the attribute `migratable` of a mediated device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lab.host.host import Host

UUID = "a9051e57-0000-4000-8000-0000000000ad"
DEVICE = f"/sys/bus/mdev/devices/{UUID}"
# In the order in which mdevctl writes them.
ATTRIBUTES = [{"assign_adapter": "5"}, {"assign_adapter": "0x06"}, {"assign_domain": "4"},
              {"assign_control_domain": "4"}]


@contextmanager
def mdevctl_definition(host: Host, *attributes: dict[str, str]) -> Iterator[None]:
    """mdevctl keeps a definition of a device, from JSON; the device is stopped afterwards."""
    definition = {"mdev_type": "vfio_ap-passthrough", "start": "manual",
                  "attrs": [*ATTRIBUTES, *attributes]}
    path = host.path("mdev.json")
    path.write_text(json.dumps(definition))
    host.run(f"mdevctl define --uuid {UUID} --parent matrix --jsonfile /lab/results/{path.name}")
    try:
        yield
    finally:
        if host.alive:
            host.run(f"[ ! -e {DEVICE} ] || mdevctl stop --uuid {UUID}\n"
                     f"mdevctl undefine --uuid {UUID}")


def start_device(host: Host) -> str:
    """Make the device; return its matrix, and whether it is migratable."""
    host.run(f"mdevctl start --uuid {UUID}")
    return host.run(f"cd {DEVICE} && cat matrix migratable").out


def defined_attributes(host: Host) -> list[dict[str, str]]:
    """The attributes of the definition that mdevctl has."""
    found: Any = json.loads(host.run("mdevctl list --defined --dumpjson").out)
    attributes = found[0]["matrix"][0][UUID]["attrs"]
    assert isinstance(attributes, list)
    return attributes


def test_mdevctl_sets_migratable(a: Host) -> None:
    """A definition's attrs are enough for a device that survives reboots to be migratable."""
    queues = "05.0004\n06.0004\n"
    with mdevctl_definition(a):
        assert start_device(a) == f"{queues}0\n", "not asked for"
    with mdevctl_definition(a, {"migratable": "1"}):
        assert start_device(a) == f"{queues}1\n"
        a.run(f"mdevctl stop --uuid {UUID}")
        # Nothing is left of a device but its definition.
        a.run(f"[ ! -e {DEVICE} ]")
        assert start_device(a) == f"{queues}1\n"
    with mdevctl_definition(a):
        a.run(f"mdevctl modify --uuid {UUID} --addattr=migratable --value=1")
        assert defined_attributes(a) == [*ATTRIBUTES, {"migratable": "1"}]
        assert start_device(a) == f"{queues}1\n"


def test_mdevctl_is_refused(a: Host) -> None:
    """mdevctl reports a value that the kernel refuses, and leaves no half-made device."""
    with mdevctl_definition(a, {"migratable": "yes"}):
        result = a.run(f"mdevctl start --uuid {UUID}", check=False)
        assert result.rc, result
        assert "Failed to write yes to attribute migratable" in result.out, result
        assert "Invalid argument" in result.out, result
        a.run(f"[ ! -e {DEVICE} ]")
