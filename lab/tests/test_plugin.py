# SPDX-License-Identifier: GPL-2.0
"""The plugin for pytest, in sessions of its own on small files of tests."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time

from lab.common import config, speed
from lab.common.run import Done, run
from lab.tests import plugin

# A shell starts commands in the background with SIGINT ignored.
SESSION = """
import signal, sys, pytest
from lab.tests import names, plugin, session
signal.signal(signal.SIGINT, signal.default_int_handler)
names.expected = lambda: []
plugin.arm_stack_dump()
settings = plugin.Settings(flavour={flavour!r}, long={long})
status = pytest.main([*session.ARGUMENTS, *sys.argv[1:]], plugins=[plugin.Plugin(settings)])
print(settings.counts)
sys.exit(status)
"""


def command(folder: pathlib.Path, flavour: str = "debug", long: bool = False) -> list[str]:
    """A session on the files of a folder."""
    return [sys.executable, "-c", SESSION.format(flavour=flavour, long=long), str(folder)]


def session(folder: pathlib.Path, text: str, flavour: str = "debug", long: bool = False) -> Done:
    """Run the session on a file with that text."""
    (folder / "test_sample.py").write_text(text)
    return run(command(folder, flavour, long), cwd=config.REPO, timeout=speed.scaled(120),
               merge=True)


def test_outcomes(tmp: pathlib.Path) -> None:
    """Exceptions fail a test, as do fixtures that do not exist; long tests are left out."""
    done = session(tmp, "def helper(): assert False\n"
                        "def test_good(tmp): assert tmp.is_dir() and not list(tmp.iterdir())\n"
                        "def test_bad():\n    print('con' 'text')\n    assert False, 'because'\n"
                        "def test_odd(nothing): pass\n"
                        "def long_way(minutes): assert minutes == 3\n")
    assert done.rc == 1, done.out
    assert "ok lab.sample.good\n" in done.out, done.out
    assert "not ok lab.sample.bad (call)" in done.out and "because" in done.out, done.out
    assert "context" in done.out, done.out
    assert "not ok lab.sample.odd (setup)" in done.out, done.out
    assert "way" not in done.out, done.out
    assert done.out.splitlines()[-1] == "1 passed, 2 failed, 0 skipped", done.out


def test_long(tmp: pathlib.Path) -> None:
    """`make test-long` runs the long tests only."""
    done = session(tmp, "def test_short(): assert False\n"
                        "def long_way(minutes, seed): assert (minutes, seed) == (0, 1)\n",
                   long=True)
    assert done.rc == 0 and done.out.splitlines()[-1] == "1 passed, 0 failed, 0 skipped", done.out


def test_names_are_printed_first(tmp: pathlib.Path) -> None:
    """A test that ends the process is known by its name."""
    done = session(tmp, "import os\ndef test_dies(): os._exit(3)\n")
    assert done.rc == 3 and "lab.sample.dies" in done.out, done.out


def test_first_failure_is_shown(tmp: pathlib.Path) -> None:
    """A clean-up that fails, too, does not hide the assertion that came first."""
    done = session(tmp, "from lab.common.errors import LabError\n"
                        "def test_both():\n"
                        "    try:\n        assert 1 == 2, 'the first'\n"
                        "    finally:\n        raise LabError('the second')\n")
    assert "the first" in done.out and "the second" in done.out, done.out


def test_limit(tmp: pathlib.Path) -> None:
    """A test that hangs is ended by its limit, and its stack is shown."""
    done = session(tmp, "import threading, pytest\n"
                        "@pytest.mark.limit(1)\n"
                        "def test_hangs():\n    threading.Event().wait()\n"
                        "def test_next(): pass\n")
    assert done.rc == 1 and "Timeout" in done.out and "threading.Event().wait()" in done.out, done
    assert done.out.splitlines()[-1] == "1 passed, 1 failed, 0 skipped", done.out


def test_skips(tmp: pathlib.Path) -> None:
    """A skip is a failure unless the list of the flavour has it with its reason."""
    assert plugin.parse_skips("# comment\n\na.s.*: no card\n") == [("a.s.*", "no card")]
    text = "import pytest\ndef test_one(): pytest.skip('no time')\n"
    done = session(tmp, text)
    assert done.rc == 1 and "no time" in done.out, done.out
    assert done.out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped", done.out
    allowed = plugin.expected_skips("fast")
    assert ("lab.hosts.*", "needs the debug kernel") in allowed
    assert not any(name.startswith("a.") for name, _ in plugin.expected_skips("debug"))


def started(tmp: pathlib.Path) -> subprocess.Popen[bytes]:
    """A session whose test waits for ever, at that point."""
    reads, writes = os.pipe()
    (tmp / "test_sample.py").write_text(
        "import os, threading\n"
        f"def test_waits():\n    os.write({writes}, b'x')\n    threading.Event().wait()\n")
    process = subprocess.Popen(command(tmp), cwd=config.REPO, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, pass_fds=[writes])
    os.close(writes)
    # Nothing is read if the process ends before.
    with open(reads, "rb") as pipe:
        assert pipe.read(1) == b"x", process.communicate()[0]
    return process


def test_ctrl_c(tmp: pathlib.Path) -> None:
    """SIGINT ends the session soon."""
    process = started(tmp)
    begin = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=speed.scaled(10))
    assert process.returncode == 2, output
    assert time.monotonic() - begin < speed.scaled(10)


def test_stacks_on_sigterm(tmp: pathlib.Path) -> None:
    """SIGTERM prints where every thread is."""
    process = started(tmp)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=speed.scaled(60))
    assert b"test_waits" in output and process.returncode == -signal.SIGTERM, output
