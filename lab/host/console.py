# SPDX-License-Identifier: GPL-2.0
"""The console of a host and the list of kmemleak: which lines are a finding."""

from __future__ import annotations

import re

# A kernel message that fails the run. Only lines with a kernel time stamp are looked at.
REPORT = re.compile(
    r"\[ *\d+\.\d{6}\].*?("
    r"WARNING: |\bBUG: |kernel BUG at|\bOops\b|Kernel panic|Unable to handle kernel"
    r"|INFO: possible |INFO: suspicious |INFO: task .* blocked for more than"
    r"|INFO: rcu_\w+ (self-)?detected|rcu: INFO: |UBSAN: |KASAN: |kmemleak: .*disabled"
    r"|soft lockup|hard LOCKUP|bad: scheduling"
    r"|(operation|privileged.operation|execute|protection|addressing|specification|data"
    r"|fixed.point divide|translation.specification) exception: [0-9a-f]{4} ilc"
    r"|illegal operation: [0-9a-f]{4} ilc|refcount_t: |list_(add|del) corruption"
    r")")

# Accesses that race: those of other code in the kernel are its own.
FOREIGN_RACE = re.compile(r"BUG: KCSAN: (?!.*vfio_ap)")


def is_report(line: str) -> bool:
    """Whether a console line is a kernel message that fails the run."""
    return REPORT.search(line) is not None and FOREIGN_RACE.search(line) is None


def leak_records(text: str) -> list[str]:
    """The records in kmemleak's list, without those of the time before the first process: they
    are the kernel's own (a known one: the root file system's context), not of code under test."""
    records = re.split(r"^(?=unreferenced object)", text, flags=re.M)
    return [record.strip() for record in records if record.startswith("unreferenced object")
            and not re.search(r'^ *comm "swapper(/0)?", pid 0,', record, re.M)]
