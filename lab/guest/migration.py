# SPDX-License-Identifier: GPL-2.0
"""Migrations over the network between the hosts.

    source = Vm(a, Mdev.create(a, GuestAp("05,06", "04")))
    target = Vm(b, Mdev.create(b, GuestAp("05,06", "04")), incoming=True)
    outcome = migrate(source, target)
    assert outcome.completed, outcome
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from lab.common.errors import LabError
from lab.guest.qmp import STEP, QemuError
from lab.guest.vm import Vm

# States in which a migration stays.
FINAL = ("completed", "failed", "cancelled")
# The guest is stopped and its memory sent, the device is next: with pause-before-switchover.
# The device is in STOP_COPY then, or in PRE_COPY if the guest did not run before.
MIDWAY = "pre-switchover"
# States of the device of a guest that ran and has left, in QEMU's events.
LEFT = ["pre-copy", "pre-copy-p2p", "stop-copy", "stop"]
# Capabilities that a Migration switches on, and off if they are not asked for.
CAPABILITIES = ("return-path", "switchover-ack", "pause-before-switchover", "multifd")
# The destination says whether it takes the device before the source stops the guest.
EARLY = ("return-path", "switchover-ack")


@dataclass
class Outcome:
    """How a migration ended on both sides.

    source, target: final state of the migration; "" if that side has none.
    source_error, target_error: QEMU's description of the failure.
    info: query-migrate of the source.
    started, ended: time.monotonic().
    states: those that QEMU at the source put the device into.
    stopped: QEMU at the source stopped the guest, for good or until it learnt better.
    """

    source: str
    target: str
    source_error: str = ""
    target_error: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0
    ended: float = 0.0
    states: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def completed(self) -> bool:
        """Whether both sides say so."""
        return self.source == self.target == "completed"

    @property
    def device_bytes(self) -> int:
        """Bytes of VFIO device state that the source sent."""
        return int(self.info.get("vfio", {}).get("transferred", 0))


class Migration:
    """A migration under way, over the network between the hosts."""

    def __init__(self, source: Vm, target: Vm, *capabilities: str) -> None:
        """Start it, with these of CAPABILITIES on both sides and without the others."""
        self.source = source
        self.target = target
        self._first = {vm: len(vm.events()) for vm in (source, target)}
        unknown = set(capabilities) - set(CAPABILITIES)
        if unknown:
            raise LabError(f"not one of CAPABILITIES: {' '.join(sorted(unknown))}")
        for vm in (source, target):
            vm.set_capabilities(**{name: name in capabilities for name in CAPABILITIES})
        uri = target.listen()
        self.started = time.monotonic()
        source.call("migrate", uri=uri)

    def wait(self, vm: Vm, *states: str, timeout: float = STEP) -> str:
        """Wait until one side enters one of the states."""
        return vm.wait_migration(*states, since=self._first[vm], timeout=timeout)

    def wait_device(self, vm: Vm, state: str) -> None:
        """Wait until QEMU on one side has put the device into a state ("pre-copy", ...)."""
        vm.wait(lambda: state in self.device_states(vm) or None, f"device state {state}")

    def device_states(self, vm: Vm) -> list[str]:
        """The states that QEMU on one side has put the device into so far; without its events
        before some of them ("...-prepare")."""
        states = [str(e.data["device-state"])
                  for e in vm.events("VFIO_MIGRATION", self._first[vm])]
        return [state for state in states if not state.endswith("-prepare")]

    def continue_paused(self) -> None:
        """Let a migration that waits midway go on."""
        try:
            self.source.call("migrate-continue", state=MIDWAY)
        except QemuError:
            pass    # it has noticed something and does not wait any more

    def _settled(self) -> bool | None:
        states = self.device_states(self.source)
        return not states or states[-1] in ("running", "stop") or None

    def outcome(self, timeout: float = STEP) -> Outcome:
        """Wait for the end on both sides, and of the session of the source's device."""
        ends = [self.wait(vm, *FINAL, timeout=timeout) for vm in (self.source, self.target)]
        ended = time.monotonic()
        self.source.wait(self._settled, "end of the device's session")
        infos = [vm.migration() for vm in (self.source, self.target)]
        return Outcome(ends[0], ends[1], str(infos[0].get("error-desc", "")),
                       str(infos[1].get("error-desc", "")), infos[0], self.started, ended,
                       self.device_states(self.source),
                       bool(self.source.events("STOP", self._first[self.source])))


def migrate(source: Vm, target: Vm, *capabilities: str, timeout: float = STEP) -> Outcome:
    """Start a migration and wait for its end."""
    return Migration(source, target, *capabilities).outcome(timeout)
