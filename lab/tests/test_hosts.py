# SPDX-License-Identifier: GPL-2.0
"""A host that dies, goes silent or has something to report ends a wait with a readable error."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from lab.common.errors import LabError
from lab.host.console import leak_records
from lab.host.errors import (CommandError, CommandTimeout, HostDied, HostError, HostReport,
                             HostSilent)
from lab.host.host import Host
from lab.host.lab import Lab
from lab.host.profile import Profile

PLANT = "modprobe lkdtm && echo {} >/sys/kernel/debug/provoke-crash/DIRECT"


def need_debug(lab: Lab) -> None:
    """The module that plants faults is built for the debug kernel only."""
    if lab.flavour != "debug":
        pytest.skip("needs the debug kernel")


def expect(kind: type[HostError], host: Host, command: str, limit: float = 120.0) -> HostError:
    """The command's wait must end with this error, well before the command's own limit."""
    started = time.monotonic()
    try:
        host.run(command, timeout=10 * limit)
    except kind as error:
        assert time.monotonic() - started < limit, "too late"
        assert f"host {host.name}: " in str(error) and str(host.log_path) in str(error), error
        assert host.log_path.stat().st_size > 1000, "no console log was kept"
        return error
    raise AssertionError(f"no {kind.__name__}")


def test_commands(bare: Host) -> None:
    """Status, output, limits, signals, files, the forwarded port."""
    assert bare.run("echo out; echo err >&2").out == "out\nerr\n"
    assert bare.run("exit 3", check=False).rc == 3
    try:
        bare.run("echo text; exit 4")
        raise AssertionError("no CommandError")
    except CommandError as error:
        assert (error.rc, error.out) == (4, "text\n")
    slow, fast = bare.start("echo begun; sleep 1000; echo end"), bare.start("echo fast")
    assert fast.wait().out == "fast\n", "commands run at the same time"
    assert slow.wait_output("^beg") == "begun"
    try:
        slow.wait(1)
        raise AssertionError("no CommandTimeout")
    except CommandTimeout as error:
        assert error.out.startswith("begun\n") and "end" not in error.out
    assert slow.wait(60, check=False).rc == 128 + signal.SIGKILL
    assert "sleep 1000" not in bare.run("ps ax").out, "killed without what it had started"
    bare.run("echo here >/lab/results/file")
    assert bare.path("file").read_text() == "here\n"
    server = bare.start("echo served | socat -d -d -u - TCP-LISTEN:4000,reuseaddr")
    server.wait_output("listening on")
    address = bare.forward(4000)
    assert bare.forward(4000) == address
    with socket.create_connection(address, timeout=60) as stream:
        assert stream.makefile().readline() == "served\n"
    server.wait()


def test_killed(lab: Lab) -> None:
    """Somebody kills the emulator while a command runs."""
    host = lab.boot("bare")
    running = host.start("echo begun; sleep 1000")
    running.wait_output("begun")
    os.kill(host.emulator_pid, signal.SIGKILL)
    error = expect(HostDied, host, "true", 30)
    assert "killed by signal 9" in error.reason, error
    try:
        running.wait(1000)
        raise AssertionError("no HostDied")
    except HostDied:
        assert running.output() == "begun\n"
    try:
        host.check()
        raise AssertionError("a dead host passes its check")
    except HostDied:
        host.kill()


def test_panic(lab: Lab) -> None:
    """The kernel panics."""
    need_debug(lab)
    host = lab.boot("bare")
    error = expect(HostDied, host, PLANT.format("PANIC"))
    assert "panic" in error.reason.lower() and "dumptest" in error.reason, error
    host.reports.clear()
    host.kill()


def test_reports(lab: Lab) -> None:
    """A leak, a WARN, and a console that falls silent, in one host."""
    need_debug(lab)
    host = lab.boot("bare")
    host.run("modprobe kmemleak-test")
    assert "unreferenced object" in host.leaks()
    error = expect(HostReport, host, PLANT.format("WARNING") + "; sleep 1000")
    assert "WARNING: " in error.reason, error
    try:
        host.check()
        raise AssertionError("a host with a report passes its check")
    except HostReport:
        host.reports.clear()
    host.silence_limit = 45.0
    os.kill(host.emulator_pid, signal.SIGSTOP)
    error = expect(HostSilent, host, "true")
    assert "silent" in error.reason
    host.kill()


def test_start_up_failure(lab: Lab) -> None:
    """A host that cannot load its drivers says so."""
    try:
        lab.boot("a", vfio_adapters="1ff")
        raise AssertionError("booted with an impossible adapter number")
    except HostDied as error:
        assert "start-up failed: apmask -0x1ff" in error.reason, error


def test_leak_records() -> None:
    """Records of kmemleak; allocations before the first process do not count."""
    early = 'unreferenced object 0x00439660 (size 8):\n  comm "swapper/0", pid 0, jiffies 1\n'
    ours = 'unreferenced object 0x1234 (size 64):\n  comm "sh", pid 70, jiffies 9\n    f+0x1/0x2\n'
    assert leak_records(early) == [] and leak_records("") == []
    assert leak_records(early + ours + early) == [ours.strip()]


def test_profiles() -> None:
    """Unknown names and wrong types are refused before anything starts."""
    base = Profile.load("a")
    first = base.adapters()[0]
    assert (first["apid"], first["mode"], first["domains"]) == (5, "cca", "04:06:47"), first
    for keys in ({"card": "05:14c"}, {"memory": "2048"}, {"name": "x"}):
        try:
            base.changed(keys, "here")
            raise AssertionError(f"{keys} was taken")
        except LabError as error:
            assert "here: " in str(error)
    try:
        Profile.load("nowhere")
        raise AssertionError("an unknown profile was loaded")
    except LabError as error:
        assert "bare" in str(error), "does not say which there are"
