# SPDX-License-Identifier: GPL-2.0
"""`make model`: every interleaving of models of locks, states and pins, with spin.

lab/faults/spin/session.pml   migratable, states, sessions and their files
lab/faults/spin/pins.pml      pages of notification bytes: pinned, unmapped, closed

Their opening comments have the claims. A scenario chooses the processes, so that each is
checked to the end in seconds. FAULTS are planted faults, each put in with a define; spin finds
each, which shows that the claims can fail. The driver itself has the faults that are marked
so.

To see how a claim fails, step by step: make model, then in build/model/NAME

    spin -t -p -g -DNAME... pins.pml
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lab.common import config
from lab.common.errors import LabError
from lab.common.run import run

FOLDER = config.REPO / "lab/faults/spin"
WORK = config.BUILD / "model"
DEPTH = 2_000_000
LIMIT = 600.0
# Where the functions are that a model names.
SOURCES = ("drivers/s390/crypto/vfio_ap_*.c", "drivers/vfio/vfio_iommu_type1.c",
           "drivers/vfio/vfio_main.c")


class ModelError(LabError):
    """A model cannot be checked; str() tells why."""


@dataclass(frozen=True)
class Check:
    """A model, its processes, and for a fault the claim that spin must find violated.

    driver: the driver does this, as it is.
    """

    name: str
    model: str
    defines: str
    finds: str = ""
    driver: bool = False


@dataclass(frozen=True)
class Found:
    """Outcome: "" or the first claim that fails, states, seconds."""

    error: str
    states: int
    seconds: float


SESSION_RESET = "RESET REQUESTS=2 ACCESSES=1"
SESSION_STUCK = "STUCK RESET REQUESTS=1 ACCESSES=1"

HOLDS = (
    Check("session_migratable", "session", "ADMIN RESET ACCESSES=0"),
    Check("session_reset", "session", "RESET REQUESTS=2 ACCESSES=2"),
    Check("session_host", "session", "BUS ADMIN REQUESTS=2 ACCESSES=1"),
    Check("session_stuck", "session", "STUCK ADMIN REQUESTS=2 ACCESSES=1"),
    Check("session_stuck_reset", "session", SESSION_STUCK),
    Check("pins_unmap", "pins", "UNMAP NEIGHBOUR"),
    Check("pins_unmap_shared", "pins", "SHARED UNMAP NEIGHBOUR"),
    Check("pins_close", "pins", "CLOSE REMOVE"),
    Check("pins_close_shared", "pins", "SHARED CLOSE REMOVE"),
    Check("pins_resume", "pins", "CLOSE RESUME UNMAP VCPUS=1"),
    Check("pins_stuck_unmap", "pins", "STUCK UNMAP"),
    Check("pins_stuck_close", "pins", "STUCK CLOSE REMOVE"),
    Check("pins_stuck_second", "pins", "STUCK CLOSE SECOND VCPUS=1"),
    # With a type 1 that refuses pins of a range which is being unmapped, as iommufd does, the
    # driver would not have to refuse them, too.
    Check("pins_unmap_refused", "pins", "UNMAP NEIGHBOUR TYPE1_REFUSES UNMAP_TAKES_NEW_PINS"),
)

ORDER, DEADLOCK, OTHERS = "held>>", "invalid end state", "other_is_done"
NO_PIN_LEFT, CLOSED, GUEST, GONE = "&&(pins==0)", "(pins==0)&&", "hooked", "!(gone)"
TOUCHED = "to_device"

FAULTS = (
    # dma_unmap waits without the lock until the old row has no queues; a vCPU makes a new row.
    Check("unmap_takes_new_pins", "pins", "UNMAP UNMAP_TAKES_NEW_PINS", NO_PIN_LEFT),
    Check("unmap_without_mark", "pins", "UNMAP UNMAP_WITHOUT_MARK", NO_PIN_LEFT),
    Check("unmap_without_wait", "pins", "UNMAP UNMAP_WITHOUT_WAIT", NO_PIN_LEFT),
    # A vCPU that waits for userspace to bring a page into memory holds iommu->lock.
    Check("unpin_under_lock", "pins", "STUCK UNPIN_UNDER_LOCK", OTHERS),
    # A vCPU may begin to pin before pqap_hook_rwsem is taken, under guests_lock.
    Check("close_unblocks_aqic", "pins", "STUCK CLOSE CLOSE_UNBLOCKS_AQIC VCPUS=1", OTHERS),
    # The same when another device is opened with the KVM of a guest that is stuck.
    Check("second_waits_for_hook", "pins",
          "STUCK SECOND SECOND_WAITS_FOR_HOOK VCPUS=1", OTHERS),
    Check("pin_under_lock", "pins", "STUCK PIN_UNDER_LOCK", OTHERS),
    Check("type1_old_order", "pins", "UNMAP NEIGHBOUR TYPE1_OLD_ORDER", DEADLOCK),
    Check("hold_without_wait", "pins", "CLOSE RESUME VCPUS=1 HOLD_WITHOUT_WAIT", GUEST),
    Check("close_without_wait", "pins", "CLOSE CLOSE_WITHOUT_WAIT", CLOSED),
    Check("aqic_block_is_checked_once", "pins", "CLOSE AQIC_BLOCK_IS_CHECKED_ONCE", "aqic_blocked"),
    Check("each_queue_unpins", "pins", "SHARED EACH_QUEUE_UNPINS", "pins>0"),
    # The work may be queued again while it runs; it finds nothing to do then.
    Check("remove_leaves_work", "pins", "CLOSE REMOVE_LEAVES_WORK", GONE),
    # write() drops the lock to allocate a row before the row is listed: close does not wait.
    Check("alloc_drops_lock", "pins", "CLOSE RESUME VCPUS=1 ALLOC_DROPS_LOCK", GONE,
          driver=True),
    # PQAP(AQIC) does the same: close takes guests_lock, and waits for the pin.
    Check("alloc_drops_lock_stuck", "pins", "STUCK CLOSE ALLOC_DROPS_LOCK VCPUS=1",
          OTHERS, driver=True),
    # write() that has failed waits for the worker, as close does, and looks at the list again.
    Check("writer_waits", "pins", "CLOSE RESUME VCPUS=1 WRITER_WAITS", GONE, driver=True),
    # The VMM would reset the device of a guest that goes on.
    Check("stop_copy_fails", "session", "BUS REQUESTS=2 ACCESSES=0 STOP_COPY_FAILS", "ret"),
    Check("hotplug_fails", "session", "BUS REQUESTS=2 ACCESSES=1 HOTPLUG_FAILS", "failed"),
    Check("migratable_without_locks", "session", "ADMIN RESET ACCESSES=0 MIGRATABLE_WITHOUT_LOCKS",
          "migratable||(mig_file"),
    Check("migratable_is_not_held", "session", "ADMIN RESET ACCESSES=0 MIGRATABLE_IS_NOT_HELD",
          "migratable||(mig_file"),
    Check("reset_without_mutex", "session", "ADMIN RESET ACCESSES=0 RESET_WITHOUT_MUTEX",
          "mig_file!="),
    Check("file_outlives_session", "session", f"{SESSION_RESET} FILE_OUTLIVES_SESSION", TOUCHED),
    Check("status_is_asked_early", "session", f"{SESSION_RESET} STATUS_IS_ASKED_EARLY", TOUCHED),
    Check("status_is_checked_once", "session", f"{SESSION_RESET} STATUS_IS_CHECKED_ONCE", TOUCHED),
    Check("reset_does_not_wait", "session", f"{SESSION_RESET} RESET_DOES_NOT_WAIT", "closed"),
    Check("disable_waits", "session", f"{SESSION_STUCK} DISABLE_WAITS", "to_do"),
    Check("copy_under_lock", "session", f"{SESSION_STUCK} COPY_UNDER_LOCK", "to_do"),
    Check("guests_lock_first", "session", "ADMIN ACCESSES=0 GUESTS_LOCK_FIRST", ORDER),
    Check("bus_takes_mutex", "session", "BUS ACCESSES=0 BUS_TAKES_MUTEX", ORDER),
)


def call(argv: Sequence[str], folder: pathlib.Path) -> str:
    """Run a tool that has to succeed; its output."""
    return run(argv, cwd=folder, timeout=LIMIT, merge=True, error=ModelError).out


def parse(output: str) -> Found:
    """Parse a verifier's output; ModelError if the search was incomplete."""
    errors = re.search(r"errors: (\d+)", output)
    states = re.search(r"^\s*(\d+) states, stored", output, re.M)
    seconds = re.search(r"elapsed time ([\d.]+) seconds", output)
    if not errors or not states or not seconds:
        raise ModelError("\n".join(["the verifier ended early:", *output.splitlines()[-20:]]))
    first = re.search(r"^pan:1: (.*)", output, re.M)
    if int(errors[1]) and first:
        return Found(first[1], int(states[1]), float(seconds[1]))
    if int(errors[1]) or "Search not completed" in output or "too small" in output:
        raise ModelError("\n".join(["not all states were looked at:", *output.splitlines()[:20]]))
    return Found("", int(states[1]), float(seconds[1]))


def verify(check: Check) -> Found:
    """Check a model to the end, or to the first claim that fails."""
    folder = WORK / check.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    # In the folder, so that the trail of a failure can be replayed there.
    model = f"{check.model}.pml"
    shutil.copyfile(FOLDER / model, folder / model)
    call(["spin", "-a", *[f"-D{define}" for define in check.defines.split()], model], folder)
    # A fault is found at once, so it takes longer to optimize. Spin's code has warnings.
    call(["cc", "-w", "-O0" if check.finds else "-O1", "-DSAFETY", "-DCOLLAPSE", "-DVECTORSZ=2048",
          "-DNOCLAIM", "-o", "pan", "pan.c"], folder)
    # A stuck process and its waiters do not end; watch() claims that the others do.
    stuck = "STUCK" in check.defines.split()
    return parse(call(["./pan", f"-m{DEPTH}", *(["-E"] if stuck else [])], folder))


def run_all(checks: Sequence[Check]) -> Iterator[tuple[Check, Found]]:
    """Check several at a time; yield the outcomes in their order."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from zip(checks, pool.map(verify, checks), strict=True)


def check_outcome(check: Check, found: Found) -> str:
    """The reason why the outcome is wrong, or ""."""
    if not check.finds:
        return f"{check.name}: {found.error}" if found.error else ""
    if not found.error:
        return f"{check.name}: not found in {found.states} states"
    wanted = check.finds.replace(" ", "")
    if wanted not in found.error.replace(" ", ""):
        return f"{check.name}: {found.error}, instead of {check.finds}"
    return ""


def functions(model: str) -> set[str]:
    """The functions of the kernel that a model names."""
    text = (FOLDER / f"{model}.pml").read_text(encoding="utf-8")
    return {name for name in re.findall(r"\b(?:vfio_\w+|handle_pqap|migratable_show)\b(?!\.)", text)
            if name not in ("vfio_dma", "vfio_ap")}


def main() -> int:
    """`make model`; the exit status."""
    failed = 0
    for check, found in run_all((*HOLDS, *FAULTS)):
        wrong = check_outcome(check, found)
        failed += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} model.{check.name}: {found.states} states, "
              f"{found.seconds:.1f} s{': ' + found.error if found.error else ''}", flush=True)
        if wrong:
            print(f"#   {wrong}")
        if check.driver:
            print("#   the driver does this")
    print(f"{len(HOLDS) + len(FAULTS) - failed} passed, {failed} failed, 0 skipped")
    return int(failed > 0)
