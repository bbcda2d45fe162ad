# SPDX-License-Identifier: GPL-2.0
"""The commands behind the Makefile: /usr/bin/python3 -m lab COMMAND.

Settings come from the environment, where make puts what stands on its command line:
KERNEL=/path, T=glob, M=glob, REPEAT=n, MINUTES=n, FLAVOUR=fast|debug|cover|kcsan,
SECONDS=n, SEED=n.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import os
import sys
from collections.abc import Iterator

from lab.common import config, progress
from lab.common.errors import LabError
from lab.gates import tools
from lab.host.host import Lab
from lab.image import debs, kernel, machine, roots


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """One command at a time changes build/."""
    config.BUILD.mkdir(parents=True, exist_ok=True)
    with (config.BUILD / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            progress.say(f"waiting for another command that works in {config.BUILD}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetched(source: str | None, hosts: bool) -> bool:
    """Whether nothing has to be downloaded."""
    pins = debs.read_pins()
    return ((not hosts or (config.BUILD / "python").exists()
             and all(roots.ready(root) for root in (roots.EMULATOR, roots.HOSTS)))
            and (source is not None or (config.BUILD / "linux.from").exists()
                 or debs.cached(debs.KERNEL, pins.get(debs.KERNEL.name)) is not None))


def prepare(flavours: list[str], hosts: bool = True) -> None:
    """Everything up to built kernels of these flavours; [] for the source tree only."""
    source = os.environ.get("KERNEL") or None
    with progress.stage("checks and packages"):
        machine.check_machine()
    with exclusive():
        with progress.stage("checks and packages"):
            machine.prepare(network=not fetched(source, hosts))
        if hosts:
            with progress.stage("downloads and root file systems"):
                debs.python_modules()
                roots.prepare()
        with progress.stage("kernel source and patches"):
            kernel.prepare([], source)
        for flavour in flavours:
            with progress.stage(f"{flavour} kernel"):
                kernel.prepare([flavour], source)


def number(name: str, default: int) -> int:
    """A positive number in the environment, or the default."""
    text = os.environ.get(name)
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise machine.EnvError(f"{name}={text}: not a positive number")
    return int(text)


def wanted_flavour(default: str) -> str:
    """FLAVOUR= or the default."""
    flavour = os.environ.get("FLAVOUR") or default
    if flavour not in config.FRAGMENTS:
        raise machine.EnvError(f"FLAVOUR={flavour}: there are {', '.join(config.FRAGMENTS)}")
    return flavour


def command_test() -> int:
    """All automated tests."""
    repeat = number("REPEAT", 1)
    flavour = wanted_flavour("debug")
    prepare([flavour])
    runner = importlib.import_module("lab.tests.runner")
    return int(runner.main(os.environ.get("T") or "*", repeat, flavour))


def command_test_mutants() -> int:
    """Planted faults in the driver, each found by its tests."""
    flavour = wanted_flavour("debug")
    prepare([flavour])
    mutants = importlib.import_module("lab.faults.driver")
    return int(mutants.main(os.environ.get("M") or "*", flavour))


def seconds_and_seed() -> tuple[int, int | None]:
    """SECONDS= and SEED=; without a seed, a new one each time."""
    return number("SECONDS", 60), number("SEED", 1) if os.environ.get("SEED") else None


def command_fuzz() -> int:
    """The stream code against an enemy's bytes."""
    seconds, seed = seconds_and_seed()
    prepare([], hosts=False)
    fuzz = importlib.import_module("lab.faults.stream")
    return int(fuzz.main(seconds, seed))


def command_test_fuzz() -> int:
    """Planted faults in the stream code, each found by the fuzzer."""
    prepare([], hosts=False)
    fuzz = importlib.import_module("lab.faults.stream")
    return int(fuzz.main_planted())


def command_model() -> int:
    """The models of locks and states, and the faults that they find."""
    prepare([], hosts=False)
    model = importlib.import_module("lab.faults.models")
    return int(model.main())


def command_test_long() -> int:
    """The tests that take too long for every change: the long ones and, without T=, all planted
    faults."""
    minutes, seed = number("MINUTES", 0), number("SEED", 1)
    flavour = wanted_flavour("debug")
    prepare([flavour])
    runner = importlib.import_module("lab.tests.runner")
    status = int(runner.main_long(os.environ.get("T") or "*", flavour, minutes, seed))
    if os.environ.get("T"):
        return status
    return max(status, command_test_fuzz(), command_test_mutants())


def command_demo() -> int:
    """The demonstration."""
    prepare(["fast"])
    demo = importlib.import_module("lab.commands.demo")
    return int(demo.main([]))


def command_bench() -> int:
    """What migration costs."""
    prepare(["fast"])
    bench = importlib.import_module("lab.commands.bench")
    return int(bench.main())


def command_coverage() -> int:
    """Which lines of the driver's new files the tests in one host reach."""
    prepare(["cover"])
    coverage = importlib.import_module("lab.commands.coverage")
    return int(coverage.main(os.environ.get("T") or "a.*"))


def command_shell(host: str) -> int:
    """A prompt in a host."""
    flavour = wanted_flavour("fast")
    prepare([flavour])
    lab = Lab(flavour, "shell")
    try:
        return lab.interactive(host)
    finally:
        lab.close(orderly=False)


def command_prepare(flavours: list[str]) -> int:
    """Set-up without a run."""
    prepare(flavours)
    progress.print_stages()
    return 0


def command_source() -> int:
    """build/linux only."""
    prepare([], hosts=False)
    return 0


def command_docs() -> int:
    """The documentation as HTML."""
    prepare([], hosts=False)
    machine.install_packages(tools.DOCS_PACKAGES)
    page = tools.docs(config.LINUX, config.OUT / "docs")
    progress.say(f"{page}: the chapter on vfio-ap")
    return 0


def command_clean() -> int:
    """Remove build/ and out/, but neither downloads nor unsaved work in build/linux."""
    with exclusive():
        if (config.LINUX / ".git").exists():
            kernel.refuse_to_lose_work("make clean removes it")
        for path in [*config.BUILD.glob("*"), *config.OUT.glob("*")]:
            if path not in (config.CACHE, config.BUILD / ".lock"):
                kernel.remove(path)
    return 0


def command_pin() -> int:
    """Record what the suites offer now as the versions to use."""
    with exclusive():
        machine.prepare(network=True)
        found: dict[str, object] = {}
        for package in (debs.KERNEL, debs.QMP):
            offer = debs.newest(package)
            debs.download(package, offer)
            found[package.name] = {"suite": package.suite, "version": offer.version,
                                   "sha256": offer.sha256}
            progress.say(f"pinned: {package.name} {offer.version}")
        found.update(roots.pins())
        debs.write_pins(found)
    return 0


def main() -> int:
    """Parse the command line and run; a known problem is one message."""
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("test", help="all automated tests")
    commands.add_parser("test-mutants", help="planted faults in the driver, and their tests")
    commands.add_parser("test-fuzz", help="planted faults in the stream code, and the fuzzer")
    commands.add_parser("fuzz", help="the stream code against an enemy's bytes")
    commands.add_parser("model", help="the locks and states, checked exhaustively")
    commands.add_parser("test-long", help="the tests that take long")
    commands.add_parser("demo", help="a live migration between two hosts")
    commands.add_parser("bench", help="what migration costs, beside floors and a baseline")
    commands.add_parser("coverage", help="which lines of the driver the tests reach")
    shell = commands.add_parser("shell", help="a prompt in an emulated host")
    shell.add_argument("--host", default="a", help="profile (default: a)")
    ready = commands.add_parser("prepare", help="set-up only")
    ready.add_argument("flavours", nargs="*", choices=[*config.FRAGMENTS, []],
                       help="kernels to build")
    commands.add_parser("source", help="build/linux only: pristine source and patches")
    commands.add_parser("docs", help="the documentation as HTML in out/docs")
    commands.add_parser("clean", help="remove what was built, and results")
    commands.add_parser("pin", help="record the newest versions in lab/image/pins.json")
    options = parser.parse_args()
    try:
        match options.command:
            case "test":
                return command_test()
            case "test-mutants":
                return command_test_mutants()
            case "test-fuzz":
                return command_test_fuzz()
            case "fuzz":
                return command_fuzz()
            case "model":
                return command_model()
            case "test-long":
                return command_test_long()
            case "demo":
                return command_demo()
            case "bench":
                return command_bench()
            case "coverage":
                return command_coverage()
            case "shell":
                return command_shell(options.host)
            case "prepare":
                return command_prepare(options.flavours)
            case "source":
                return command_source()
            case "docs":
                return command_docs()
            case "clean":
                return command_clean()
            case _:
                return command_pin()
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
