# SPDX-License-Identifier: GPL-2.0
"""QEMU from Debian's source package with patches/qemu on it, and the emulator of the hosts.

build/qemu is a git tree: one commit tagged "pristine" (Debian's source with Debian's patches), then
our patches. The emulator is built in build/qemu-machine; lab.image.client builds the QEMU that runs
in the hosts. QEMU before 9 gets LARL beyond 2 GiB wrong, which breaks per-CPU data in modules of
the hosts' kernel.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.common import config
from lab.common.errors import LabError
from lab.common.progress import say
from lab.common.run import CommandFailed, logged, run
from lab.image import debs
from lab.image.kernel import commit_pristine, remove
from lab.series.apply import apply_patches
from lab.series.git import KernelTree
from lab.series.layout import Layout
from lab.series.state import saved_state, unsaved, way_out

PROGRAM = "qemu-system-s390x"


@dataclass(frozen=True)
class Recipe:
    """How QEMU is built. devices: a list in a file *.mak. variables: environment of configure and
    ninja. inputs: a text that changes if everything has to be built anew for another reason."""

    options: tuple[str, ...]
    devices: pathlib.Path
    variables: Mapping[str, str] = field(default_factory=dict)
    inputs: str = ""


# The lab does not use QEMU's debug information.
OPTIONS = (
    "--python=/usr/bin/python3", "--disable-download",
    "--target-list=s390x-softmmu", "--without-default-features", "--without-default-devices",
    "--enable-werror", "--disable-docs", "--disable-install-blobs", "--disable-tools",
    "--disable-fdt", "--disable-debug-info", "--disable-qom-cast-debug",
)
# Nor the trace points of the emulator.
EMULATOR = Recipe(
    (*OPTIONS, "--enable-tcg", "--enable-slirp", "--enable-virtfs", "--enable-attr",
     "--enable-trace-backends=nop"),
    config.REPO / "lab/image/qemu_devices.mak")

# Debian's source has no firmware; that of the package in the hosts serves.
FIRMWARE = config.S390_ROOT / "usr/share/qemu"


class QemuError(LabError):
    """QEMU cannot be made; str() tells the user why."""


def pinned_source() -> str:
    """The source that the pristine commit is made of, in a line that changes with it."""
    pin = debs.read_pins().get(debs.QEMU.name)
    return f"{debs.QEMU.name} {pin['version']}" if pin else debs.QEMU.name


def ready() -> bool:
    """Whether nothing has to be downloaded for build/qemu."""
    pin = debs.read_pins().get(debs.QEMU.name)
    return have_tree() or debs.cached(debs.QEMU, pin) is not None


def have_tree() -> bool:
    """Whether build/qemu is made of the pinned source."""
    stamp = config.BUILD / "qemu.from"
    return ((config.QEMU / ".git").exists() and stamp.exists()
            and stamp.read_text(encoding="utf-8") == pinned_source())


def make_tree() -> None:
    """Unpack and commit the pinned source unless build/qemu has it. Does not apply patches."""
    if have_tree():
        return
    if (config.QEMU / ".git").exists():
        refuse_to_lose_work("QEMU's source changes")
    dsc = debs.fetch(debs.QEMU)
    say(f"unpacking {dsc.name}")
    scratch = config.QEMU.with_name("qemu.new")
    remove(scratch)
    # Checks the checksums of all files, and applies Debian's patches.
    logged("unpacking of QEMU", ["dpkg-source", "--no-copy", "-x", str(dsc), str(scratch)],
           config.LOGS / "qemu-unpack.log")
    for name in (".pc", "debian"):
        shutil.rmtree(scratch / name, ignore_errors=True)
    commit_pristine(scratch, dsc.stem.replace("_", " "))
    stamp = config.BUILD / "qemu.from"
    stamp.unlink(missing_ok=True)
    remove(config.QEMU)
    scratch.rename(config.QEMU)
    stamp.write_text(pinned_source(), encoding="utf-8")


def refuse_to_lose_work(why: str) -> None:
    """Raise if build/qemu has commits or changes that patches/qemu does not have."""
    tree = KernelTree(config.QEMU)
    _, commit = saved_state(tree)
    extra = unsaved(tree, commit)
    if extra:
        raise QemuError(f"{why}, and {config.QEMU} has work of its own:\n  "
                        + "\n  ".join(extra) + "\n" + way_out(config.QEMU, commit))


def configure(recipe: Recipe, source_tree: pathlib.Path, target: pathlib.Path) -> None:
    """Configure a build directory unless it is configured with the same options."""
    # QEMU takes the list of devices by its name beside QEMU's own lists.
    beside = source_tree / "configs/devices/s390x-softmmu"
    devices = os.path.relpath(recipe.devices.with_suffix(""), beside)
    options = [*recipe.options, f"--with-devices-s390x={devices}"]
    stamp = target / "lab.stamp"
    wanted = "\n".join(filter(None, [str(source_tree), *options, recipe.inputs]))
    # The order of options does not matter.
    if stamp.exists() and sorted(stamp.read_text(encoding="utf-8").splitlines()) == sorted(
            wanted.splitlines()):
        return
    remove(target)
    target.mkdir(parents=True)
    logged(f"configuration of {target.name}", [str(source_tree / "configure"), *options],
           config.LOGS / f"{target.name}-configure.log", environment(recipe), cwd=target)
    stamp.write_text(wanted, encoding="utf-8")


def environment(recipe: Recipe) -> dict[str, str]:
    """The variables that let configure and ninja find meson, and those of the recipe."""
    return {"PYTHONPATH": str(config.BUILD / "python"), "PYTHONDONTWRITEBYTECODE": "1",
            **recipe.variables}


def build(recipe: Recipe, source_tree: pathlib.Path, target: pathlib.Path) -> None:
    """Bring a build directory up to date with its source; ninja skips all that is."""
    try:
        configure(recipe, source_tree, target)
        logged(target.name, ["ninja", f"-j{os.cpu_count() or 1}", PROGRAM],
               config.LOGS / f"{target.name}.log", environment(recipe), cwd=target, measure=step)
    except CommandFailed as error:
        raise QemuError(str(error)) from None


def step(_count: int, line: str) -> str:
    """A progress line from a line of ninja: "[12/1272] Compiling C object dir/name.c.o"."""
    match = re.match(r"\[(\d+)/(\d+)\] (?:Compiling C object )?(.*)", line)
    return f"step {match[1]} of {match[2]}, {match[3][:60]}" if match else line.strip()


def emulator() -> list[str]:
    """The command that runs the emulator."""
    return [str(config.QEMU_OBJECTS / PROGRAM), "-L", str(FIRMWARE)]


def version() -> str:
    """The emulator's version."""
    done = run([config.QEMU_OBJECTS / PROGRAM, "--version"])
    if done.rc:
        raise QemuError(f"the emulator does not start: {done.err.strip()[:300]}")
    return done.out.splitlines()[0].removeprefix("QEMU emulator version ")


def source() -> None:
    """build/qemu with our patches."""
    make_tree()
    apply_patches(Layout.default("qemu"))


def prepare() -> None:
    """The source with our patches, and the emulator built from it."""
    source()
    build(EMULATOR, config.QEMU, config.QEMU_OBJECTS)
    say(f"emulator: QEMU {version()}")
