# SPDX-License-Identifier: GPL-2.0
"""`make test` and `make test-long`: pytest with the lab's plugin, once or several times."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

import pytest

from lab.common import config, lock, progress
from lab.common.errors import LabError
from lab.tests import names, plugin, suites

ARGUMENTS = ("-p", "no:terminal", "-p", "no:cacheprovider", "--capture=sys", "-c",
             str(config.REPO / "setup.cfg"), "--rootdir", str(config.REPO))


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """One run at a time writes to out/; the logs of the run before are removed."""
    with lock.exclusive(config.OUT / ".test.lock", f"another test run writes to {config.OUT}"):
        shutil.rmtree(config.LOGS / "test", ignore_errors=True)
        yield


def once(settings: plugin.Settings) -> int:
    """One session of pytest; its exit status."""
    return int(pytest.main(
        [*ARGUMENTS, f"--junitxml={config.OUT}/test.xml", str(config.REPO / "lab/tests")],
        plugins=[plugin.Plugin(settings)]))


def main(settings: plugin.Settings, repeat: int = 1) -> int:
    """Run the tests that match; 0 if all passed. Prints stages, the slowest tests, the counts."""
    plugin.arm_stack_dump()
    status = 0
    with exclusive():
        if not settings.long and settings.pattern == "*":
            missing = suites.not_listed(settings.flavour, names.expected())
            if missing:
                raise LabError("\n".join(missing))
        for _ in range(repeat):
            with progress.stage("tests"):
                status = max(status, once(settings))
            if settings.interrupted:
                raise KeyboardInterrupt
        progress.print_stages()
        print("\n".join(["# The slowest tests:", *progress.slowest(settings.durations)]))
        last = str(settings.counts)
        (config.OUT / "test.result").write_text(last + "\n", encoding="utf-8")
        print(last, flush=True)
    return status
