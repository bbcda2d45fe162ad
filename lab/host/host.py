# SPDX-License-Identifier: GPL-2.0
"""One emulated host: boot it, run commands in it, watch its console."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from lab.common import config, speed
from lab.common.errors import LabError
from lab.host.console import is_report, leak_records
from lab.host.errors import HostDied, HostReport, HostSilent
from lab.host.file_events import FileEvents
from lab.host.process import Command, Process, Result
from lab.host.profile import Profile, mask
from lab.image import qemu

SILENCE = {"fast": 120.0, "debug": 300.0, "full": 300.0, "cover": 120.0, "kcsan": 300.0}
BOOT_LIMIT = {"fast": 300.0, "debug": 900.0, "full": 900.0, "cover": 300.0, "kcsan": 900.0}
# Bytes of a packet between the hosts. Sending one takes about a millisecond under the debug kernel,
# whatever its length.
LINK_MTU = 32768
# After a report, its text is let through to the log before the wait is broken off.
REPORT_GRACE = 3.0


def _emulator_setup() -> None:
    """In the child: die with the parent thread."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Host:
    """One emulated host. Made by Lab.boot(), not directly.

    name      "a", "b", ... the profile's name unless boot() got another
    address   its address on the link between the hosts ("10.99.0.1" for the first booted)
    shared    folder on the build machine that the host sees, writable, as /lab/results
    log_path  its console log
    reports   (time.monotonic(), console line) of each kernel report seen
    silence_limit  seconds of silence on the console that mean a dead host
    In the host: /lab/modules, /lab/selftests, /lab/bin (QEMU, guest programs, etc.), read-only.
    """

    def __init__(self, profile: Profile, name: str, flavour: str, slot: int,
                 folder: pathlib.Path, sockets: pathlib.Path, interactive: bool = False,
                 emulator: Sequence[str] = ()) -> None:
        self.name = name
        self.profile = profile
        self.flavour = flavour
        self.slot = slot
        self.address = f"10.99.0.{slot + 1}"
        self.shared = folder / "results"
        self.log_path = folder / "console.log"
        self.reports: list[tuple[float, str]] = []
        self.boot_seconds = 0.0
        self.silence_limit = SILENCE[flavour]
        self._folder = folder
        self._sockets = sockets
        self._interactive = interactive
        self._emulator = list(emulator) or qemu.emulator()
        self._cond = threading.Condition()
        self._last_output = time.monotonic()
        self._ready = False
        self._error: str | None = None
        self._exit: str | None = None       # why the emulator is gone
        self._expected_end = False          # kill() or shutdown() was asked for
        self._commands: dict[int, Command] = {}
        self._forwards: dict[int, tuple[str, int]] = {}
        self._control: socket.socket | None = None
        self._console_done = threading.Event()
        self._process = self._launch()
        if not interactive:
            events = FileEvents(self._process.pid, self.shared, self.shared / ".lab/cmd")
            threading.Thread(target=self._watch_files, args=(events,), daemon=True).start()
            threading.Thread(target=self._read_console, daemon=True).start()

    # Starting

    def _launch(self) -> subprocess.Popen[bytes]:
        shutil.rmtree(self._folder, ignore_errors=True)
        (self.shared / ".lab/cmd").mkdir(parents=True)
        profile = self.profile
        settings = {
            "LAB_HOST": self.name,
            "LAB_ADDRESS": self.address,
            "LAB_DRIVERS": str(int(profile.drivers)),
            "LAB_APMASK": mask(profile.vfio_adapters),
            "LAB_AQMASK": mask(profile.vfio_domains),
            "LAB_INTERACTIVE": str(int(self._interactive)),
            "LAB_TERMINAL": "rows {0.lines} cols {0.columns}".format(shutil.get_terminal_size()),
        }
        (self.shared / ".lab/config").write_text(
            "".join(f"{key}='{value}'\n" for key, value in settings.items()))
        argv = self.command_line()
        (self._folder / "qemu.cmd").write_text(" \\\n  ".join(argv) + "\n")
        with (self._folder / "qemu.log").open("wb") as log:
            return subprocess.Popen(
                argv,
                stdin=None if self._interactive else subprocess.DEVNULL,
                stdout=None if self._interactive else subprocess.PIPE,
                stderr=None if self._interactive else log,
                start_new_session=not self._interactive, preexec_fn=_emulator_setup)

    def command_line(self) -> list[str]:
        """The emulator's arguments."""
        profile = self.profile
        mac = f"52:54:00:99:{{:02x}}:{self.slot + 1:02x}"
        link = [f"{self._sockets}/link-{slot}" for slot in (self.slot, 1 - self.slot)]
        console = (f"stdio,id=console,logfile={self.log_path},signal=off" if self._interactive
                   else "stdio,id=console,signal=off")
        cmdline = ("root=/dev/vda rootfstype=erofs ro init=/sbin/lab-init panic=-1 net.ifnames=0 "
                   f"{'quiet ' if self._interactive else ''}{profile.cmdline}").strip()
        adapters = profile.adapters()
        return [
            *self._emulator,
            "-M", "s390-ccw-virtio", "-cpu", profile.cpu,
            *(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"] if profile.icount
              else ["-accel", "tcg,thread=multi"]),
            "-smp", str(profile.cpus), "-m", str(profile.memory),
            "-nodefaults", "-display", "none", "-no-reboot",
            "-kernel", str(config.bzimage(self.flavour)), "-append", cmdline,
            "-chardev", console, "-device", "sclpconsole,chardev=console",
            "-qmp", f"unix:{self._sockets}/qmp-{self.slot},server=on,wait=off",
            "-blockdev", f"driver=file,node-name=root,read-only=on,filename={config.IMAGE}",
            "-device", "virtio-blk-ccw,drive=root",
            "-device", "virtio-rng-ccw,rng=rng", "-object", "rng-random,id=rng,"
            "filename=/dev/urandom",
            "-fsdev", f"local,id=lab,path={config.share(self.flavour)},security_model=none,"
            "readonly=on",
            "-device", "virtio-9p-ccw,fsdev=lab,mount_tag=lab",
            "-fsdev", f"local,id=results,path={self.shared},security_model=none",
            "-device", "virtio-9p-ccw,fsdev=results,mount_tag=results",
            "-device", "virtio-serial-ccw",
            "-chardev", f"socket,id=control,path={self._sockets}/control-{self.slot},"
            "server=on,wait=off",
            "-device", "virtserialport,chardev=control,name=lab.control",
            "-netdev", f"dgram,id=link,local.type=unix,local.path={link[0]},"
            f"remote.type=unix,remote.path={link[1]}",
            "-device", f"virtio-net-ccw,netdev=link,mac={mac.format(0)},host_mtu={LINK_MTU}",
            "-netdev", "user,id=mgmt,restrict=on,ipv6=off",
            "-device", f"virtio-net-ccw,netdev=mgmt,mac={mac.format(1)}",
            *(word for device in adapters for word in ("-device", json.dumps(device))),
            *(("-chardev", "ap-control,id=ap",
               "-device", "virtserialport,chardev=ap,name=ap.control") if adapters else ()),
        ]

    def wait_ready(self) -> None:
        """Return once the host takes commands; raises HostDied, HostSilent, HostReport."""
        started = time.monotonic()
        path = self._sockets / f"control-{self.slot}"
        while self._control is None:
            control = socket.socket(socket.AF_UNIX)
            try:
                control.connect(str(path))
                self._control = control
            except OSError:
                control.close()
                self.wait_for(lambda: False, 0.05)  # raises if the emulator is gone
                if time.monotonic() - started > 30:
                    raise HostDied(self.name, "the emulator does not start", self.log_path)
        threading.Thread(target=self._read_control, daemon=True).start()
        limit = BOOT_LIMIT[self.flavour]
        if not self.wait_for(lambda: self._ready or self._error is not None, limit):
            self._stop()
            raise HostDied(self.name, f"not booted after {limit:.0f} s", self.log_path)
        if self._error is not None:
            self._stop()
            raise HostDied(self.name, f"start-up failed: {self._error}", self.log_path)
        self.boot_seconds = time.monotonic() - started

    # Threads

    def _read_console(self) -> None:
        assert self._process.stdout is not None
        with self.log_path.open("wb", buffering=0) as log:
            pending = b""
            while data := os.read(self._process.stdout.fileno(), 65536):
                log.write(data)
                *lines, pending = (pending + data).split(b"\n")
                with self._cond:
                    self._last_output = time.monotonic()
                    for line in lines:
                        text = line.decode(errors="replace").strip("\r")
                        if is_report(text):
                            self.reports.append((time.monotonic(), text.strip()))
                    self._cond.notify_all()
        status = self._process.wait()
        with self._cond:
            if self._exit is None:
                if self.reports and "Kernel panic" in self.reports[-1][1]:
                    self._exit = f"its kernel panicked: {self.reports[0][1]}"
                elif status < 0:
                    self._exit = f"the emulator was killed by signal {-status}"
                else:
                    self._exit = f"the emulator ended with status {status}"
            self._cond.notify_all()
        self._console_done.set()

    def _watch_files(self, events: FileEvents) -> None:
        """Let wait_for() look again when a file in the shared folder has changed."""
        while events.wait():
            with self._cond:
                self._cond.notify_all()
        events.close()

    def _read_control(self) -> None:
        assert self._control is not None
        pending = b""
        while True:
            try:
                data = self._control.recv(65536)
            except OSError:
                return
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            with self._cond:
                for line in lines:
                    self._event(line.decode(errors="replace").split())
                self._cond.notify_all()

    def _event(self, words: list[str]) -> None:
        match words:
            case ["ready"]:
                self._ready = True
            case ["error", *text]:
                self._error = " ".join(text)
            case ["pid", ident, pid]:
                self._commands[int(ident)].pid = int(pid)
            case ["done", ident, rc]:
                self._commands[int(ident)].rc = int(rc)
            case _:
                self._error = f"unknown event on the control port: {' '.join(words)}"

    # State

    def _raise_if_unusable(self, since: float) -> None:
        """With the condition held."""
        if self._exit is not None:
            raise HostDied(self.name, self._exit, self.log_path)
        now = time.monotonic()
        for stamp, line in self.reports:
            if stamp >= since and now - stamp > REPORT_GRACE:
                raise HostReport(self.name, line, self.log_path)
        silence = now - self._last_output
        if silence > speed.scaled(self.silence_limit):
            self._exit = f"its console has been silent for {silence:.0f} s; it was stopped"
            self._process.kill()
            raise HostSilent(self.name, self._exit, self.log_path)

    def wait_for(self, predicate: Callable[[], bool], timeout: float, since: float = 0.0) -> bool:
        """Wait until predicate() or the timeout: whether it holds. timeout: seconds on an idle
        machine, as for all waits that end here (lab.common.speed). Raises HostDied, HostSilent,
        and HostReport for a report later than since (time.monotonic()), until it holds."""
        deadline = time.monotonic() + speed.scaled(timeout)
        with self._cond:
            while True:
                fresh = any(stamp >= since for stamp, _ in self.reports)
                if predicate() and not fresh:
                    return True
                self._raise_if_unusable(since)
                left = deadline - time.monotonic()
                if left <= 0 and not fresh:
                    return False
                self._cond.wait(min(max(left, 0.1), 1.0))

    def check(self) -> None:
        """Raise HostDied, HostSilent or HostReport if there is reason to."""
        with self._cond:
            if not (self._exit is not None and self._expected_end):
                self._raise_if_unusable(0.0)
            if self.reports:
                raise HostReport(self.name, self.reports[0][1], self.log_path)

    @property
    def alive(self) -> bool:
        """Whether the emulator runs."""
        return self._exit is None

    @property
    def emulator_pid(self) -> int:
        """The emulator's process on the build machine."""
        return self._process.pid

    # Commands

    def command_path(self, ident: int, suffix: str) -> pathlib.Path:
        """A file of a command in the shared folder: its script or its output."""
        return self.shared / ".lab/cmd" / f"{ident}.{suffix}"

    def send(self, line: str) -> None:
        """Send a line to the agent in the host."""
        if self._control is None:
            raise LabError(f"host {self.name} takes no commands")
        try:
            self._control.sendall(line.encode() + b"\n")
        except OSError:
            self.wait_for(lambda: False, 10)
            raise

    def start(self, command: str) -> Process:
        """Start a command (a shell script text) in a process group of its own."""
        with self._cond:
            ident = len(self._commands) + 1
            state = Command(command)
            self._commands[ident] = state
        self.command_path(ident, "sh").write_text(command + "\n")
        self.send(f"run {ident}")
        return Process(self, ident, state)

    def run(self, command: str, timeout: float = 120.0, check: bool = True) -> Result:
        """start() and wait(). The command is a busybox-sh script text, run by root in /."""
        return self.start(command).wait(timeout, check)

    def path(self, name: str) -> pathlib.Path:
        """self.shared / name; in the host: /lab/results/<name>."""
        return self.shared / name

    # Network

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Execute a command of the emulator's monitor; '_' stands for '-' in argument names."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        with socket.socket(socket.AF_UNIX) as qmp:
            qmp.settimeout(30)
            qmp.connect(f"{self._sockets}/qmp-{self.slot}")
            stream = qmp.makefile("rw")

            def call(command: str, arguments: dict[str, Any]) -> Any:
                stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
                stream.flush()
                for answer in map(json.loads, stream):
                    if "error" in answer:
                        raise LabError(f"host {self.name}: emulator: {answer['error']['desc']}")
                    if "return" in answer:
                        return answer["return"]
                raise HostDied(self.name, "the emulator closed its monitor", self.log_path)

            stream.readline()
            call("qmp_capabilities", {})
            return call(command, named)

    def _monitor(self, line: str) -> str:
        """One command of the emulator's human monitor."""
        return str(self.qmp("human-monitor-command", command_line=line))

    def forward(self, port: int) -> tuple[str, int]:
        """Forward a TCP port of the host: (address, port) to connect to from the build
        machine. Something must listen on 0.0.0.0 in the host. Repeated calls give the same."""
        self.check()
        for _ in range(20):
            if port in self._forwards:
                break
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                local = probe.getsockname()[1]
            # The port was free a moment ago; try another if somebody was faster.
            if not self._monitor(f"hostfwd_add mgmt tcp:127.0.0.1:{local}-10.0.2.15:{port}"):
                self._forwards[port] = ("127.0.0.1", local)
        if port not in self._forwards:
            raise LabError(f"host {self.name}: port {port} cannot be forwarded")
        return self._forwards[port]

    # Ending

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        if not self._interactive:
            self._console_done.wait(30)
        if self._control is not None:
            self._control.close()

    def kill(self) -> None:
        """Cut the power: the emulator is gone when this returns. Not an error afterwards."""
        with self._cond:
            self._expected_end = True
            if self._exit is None:
                self._exit = "its power was cut"
            self._cond.notify_all()
        self._stop()

    def wait_exit(self) -> int:
        """Wait for the emulator to end by itself (interactive hosts)."""
        return self._process.wait()

    def leaks(self) -> str:
        """kmemleak's report; "" without kmemleak. Takes some seconds."""
        leak = "/sys/kernel/debug/kmemleak"
        # Objects younger than 5 s are never reported, hence the second scan after a pause.
        text = self.run(f"[ -e {leak} ] || exit 0\n"
                        f"echo scan >{leak}; sleep 6; echo scan >{leak}; cat {leak}",
                        timeout=600).out
        return "\n".join(leak_records(text))

    def shutdown(self) -> None:
        """Scan for leaks (debug kernel), power off; raises if the host had a report."""
        if not self.alive:
            self.check()
            return
        try:
            self.check()
            leaks = self.leaks()
            if leaks:
                self.path("kmemleak.txt").write_text(leaks + "\n")
                raise HostReport(self.name, f"kmemleak: {leaks.splitlines()[0]}", self.log_path)
            with self._cond:
                self._expected_end = True
            self.send("poweroff")
            if not self._console_done.wait(60):
                raise HostSilent(self.name, "does not power off", self.log_path)
            self.check()
        finally:
            self.kill()
