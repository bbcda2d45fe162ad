# SPDX-License-Identifier: GPL-2.0
"""The commands behind the Makefile: /usr/bin/python3 -m lab COMMAND.

Settings come from the environment; make exports the variables of its command line:
KERNEL=/path, T=glob, M=glob, REPEAT=n, MINUTES=n, FLAVOUR=fast|debug|full|cover|kcsan,
SECONDS=n, SEED=n.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import importlib
import os
import sys
from collections.abc import Callable, Iterator

from lab.common import config, progress
from lab.common.errors import LabError
from lab.gates import gates, tools
from lab.host.lab import Lab
from lab.image import client, debs, kernel, linux_guest, machine, qemu, roots, s390_tools
from lab.tests import names


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
    files = [debs.cached(package, pins.get(package.name))
             for package in (debs.GUEST_KERNEL, debs.S390_TOOLS)]
    return (qemu.ready() and (not hosts or debs.have_python_modules() and None not in files
                              and roots.ready(roots.HOSTS) and roots.ready(roots.CLIENT))
            and (source is not None or (config.BUILD / "linux.from").exists()
                 or debs.cached(debs.KERNEL, pins.get(debs.KERNEL.name)) is not None))


def prepare(flavours: list[str], hosts: bool = True) -> None:
    """Everything up to built kernels of these flavours. Without hosts and flavours, only the
    sources of the kernel and of QEMU."""
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
        with progress.stage("emulator" if hosts else "emulator's source and patches"):
            if hosts:
                qemu.prepare()
            else:
                qemu.source()
        if hosts:
            with progress.stage("QEMU in the hosts"):
                client.prepare()
        with progress.stage("kernel source and patches"):
            kernel.prepare([], source)
        for flavour in flavours:
            with progress.stage(f"{flavour} kernel"):
                kernel.prepare([flavour], source)
                client.install(flavour)
                linux_guest.prepare(flavour)
                s390_tools.prepare(flavour)


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


def command_test(options: argparse.Namespace) -> int:
    """Run all automated tests."""
    repeat = number("REPEAT", 1)
    flavour = wanted_flavour("debug")
    pattern = os.environ.get("T") or "*"
    names.select(pattern, names.all_names())
    prepare([flavour])
    return run_tests(repeat, pattern=pattern, flavour=flavour, seed=number("SEED", 1))


def run_tests(repeat: int = 1, **settings: object) -> int:
    """The tests, by pytest, which may have been installed just now."""
    plugin = importlib.import_module("lab.tests.plugin")
    session = importlib.import_module("lab.tests.session")
    return int(session.main(plugin.Settings(**settings), repeat))


def command_list(options: argparse.Namespace) -> int:
    """Print the names of all tests and gates. Builds nothing."""
    print("\n".join(names.all_names()))
    print("\n".join(f"{name}    make check" for name in gates.names()))
    for name in names.functions(names.LONG):
        print(f"{name}    make test-long")
    return 0


def command_test_mutants(options: argparse.Namespace) -> int:
    """Put faults into the driver, one at a time: its tests must find each."""
    flavour = wanted_flavour("debug")
    prepare([flavour])
    mutants = importlib.import_module("lab.faults.driver")
    return int(mutants.main(os.environ.get("M") or "*", flavour))


def seconds_and_seed() -> tuple[int, int | None]:
    """SECONDS= and SEED=; without a seed, a new one each time."""
    return number("SECONDS", 60), number("SEED", 1) if os.environ.get("SEED") else None


def command_fuzz(options: argparse.Namespace) -> int:
    """Fuzz the stream code."""
    seconds, seed = seconds_and_seed()
    prepare([], hosts=False)
    fuzz = importlib.import_module("lab.faults.stream")
    return int(fuzz.main(seconds, seed))


def command_test_fuzz(options: argparse.Namespace) -> int:
    """Put faults into the stream code, one at a time: the fuzzer must find each."""
    prepare([], hosts=False)
    fuzz = importlib.import_module("lab.faults.stream")
    return int(fuzz.main_planted())


def command_model(options: argparse.Namespace) -> int:
    """Check the models of locks and states, and the faults that they must find."""
    prepare([], hosts=False)
    model = importlib.import_module("lab.faults.models")
    return int(model.main())


def command_test_long(options: argparse.Namespace) -> int:
    """Run the tests that take too long for every change. Without T=, also put faults into the
    stream code and into the driver."""
    minutes, seed = number("MINUTES", 0), number("SEED", 1)
    flavour = wanted_flavour("full")
    pattern = os.environ.get("T") or "*"
    names.select(pattern, names.functions(names.LONG))
    prepare([flavour])
    status = run_tests(pattern=pattern, flavour=flavour, long=True, minutes=minutes, seed=seed)
    if os.environ.get("T"):
        return status
    return max(status, command_test_fuzz(options), command_test_mutants(options))


def command_demo(options: argparse.Namespace) -> int:
    """Show a live migration between two hosts."""
    prepare(["fast"])
    demo = importlib.import_module("lab.commands.demo")
    return int(demo.main([]))


def command_bench(options: argparse.Namespace) -> int:
    """Measure the cost of migration."""
    prepare(["fast"])
    bench = importlib.import_module("lab.commands.bench")
    return int(bench.main())


def command_bench_emulator(options: argparse.Namespace) -> int:
    """Measure the emulator beside Debian's."""
    prepare(["debug"])
    bench = importlib.import_module("lab.commands.bench_emulator")
    return int(bench.main())


def command_coverage(options: argparse.Namespace) -> int:
    """List the lines of the driver's new files that the tests in one host reach."""
    prepare(["cover"])
    coverage = importlib.import_module("lab.commands.coverage")
    return int(coverage.main(os.environ.get("T") or "a.*"))


def command_shell(options: argparse.Namespace) -> int:
    """Open a prompt in a host."""
    flavour = wanted_flavour("fast")
    prepare([flavour])
    lab = Lab(flavour, "shell")
    try:
        return lab.interactive(options.host)
    finally:
        lab.close(orderly=False)


def command_prepare(options: argparse.Namespace) -> int:
    """Build the kernels and programs of the commands, and stop."""
    prepare(options.flavours)
    progress.print_stages()
    return 0


def command_source(options: argparse.Namespace) -> int:
    """Make build/linux and build/qemu only."""
    prepare([], hosts=False)
    return 0


def command_docs(options: argparse.Namespace) -> int:
    """Build the documentation as HTML."""
    prepare([], hosts=False)
    machine.install_packages(tools.DOCS_PACKAGES)
    page = tools.docs(config.LINUX, config.OUT / "docs")
    progress.say(f"{page}: the chapter on vfio-ap")
    return 0


def command_clean(options: argparse.Namespace) -> int:
    """Remove build/ and out/, but no download and no unsaved work in build/linux or build/qemu."""
    with exclusive():
        if (config.LINUX / ".git").exists():
            kernel.refuse_to_lose_work("make clean removes it")
        if (config.QEMU / ".git").exists():
            qemu.refuse_to_lose_work("make clean removes it")
        for path in [*config.BUILD.glob("*"), *config.OUT.glob("*")]:
            if path not in (config.CACHE, config.BUILD / ".lock"):
                kernel.remove(path)
    return 0


def command_pin(options: argparse.Namespace) -> int:
    """Pin the versions that the suites offer now."""
    with exclusive():
        machine.prepare(network=True)
        found: dict[str, object] = {}
        for package in debs.PINNED:
            offer = debs.newest(package)
            found[package.name] = {"suite": package.suite, "version": offer.version,
                                   "sha256": offer.sha256}
            progress.say(f"pinned: {package.name} {offer.version}")
        found.update(roots.pins())
        debs.write_pins(found)
    return 0


def parse_options() -> argparse.Namespace:
    """Parse the command line; .func is the function of the command."""
    parser = argparse.ArgumentParser(prog="python3 -m lab", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, func: Callable[[argparse.Namespace], int],
            text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text)
        command.set_defaults(func=func)
        return command

    add("test", command_test, "run all automated tests")
    add("list", command_list, "print the names of all tests")
    add("test-mutants", command_test_mutants, "put faults into the driver; tests must find each")
    add("test-fuzz", command_test_fuzz, "put faults into the stream code; fuzzer must find each")
    add("fuzz", command_fuzz, "fuzz the stream code")
    add("model", command_model, "check the models of locks and states exhaustively")
    add("test-long", command_test_long, "run the slow tests")
    add("demo", command_demo, "show a live migration between two hosts")
    add("bench", command_bench, "measure the cost of migration, beside floors and a baseline")
    add("bench-emulator", command_bench_emulator, "measure the emulator beside Debian's QEMU")
    add("coverage", command_coverage, "list the lines of the driver that the tests reach")
    shell = add("shell", command_shell, "open a prompt in an emulated host")
    shell.add_argument("--host", default="a", help="profile of the host (default: a)")
    ready = add("prepare", command_prepare, "download and build only")
    ready.add_argument("flavours", nargs="*", choices=[*config.FRAGMENTS, []],
                       help="kernels to build")
    add("source", command_source, "make build/linux and build/qemu only: sources and patches")
    add("docs", command_docs, "build the documentation as HTML in out/docs")
    add("clean", command_clean, "remove build/ and out/, except downloads")
    add("pin", command_pin, "record the newest versions in lab/image/pins.json")
    return parser.parse_args()


def main() -> int:
    """Run the command of the command line; a known problem is one message."""
    options = parse_options()
    try:
        return int(options.func(options))
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
