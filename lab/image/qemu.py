# SPDX-License-Identifier: GPL-2.0
"""The emulator of the hosts: QEMU, built from Debian's source package and patches/qemu/machine.

build/qemu is a git tree: one commit tagged "pristine" (Debian's source with Debian's patches), then
our patches. The build is in build/qemu-machine. QEMU before 9 gets LARL beyond 2 GiB wrong, which
breaks per-CPU data in modules of the hosts' kernel.
"""

from __future__ import annotations

import os
import pathlib
import re
import shutil

from lab.common import config
from lab.common.errors import LabError
from lab.common.progress import say
from lab.common.run import CommandFailed, logged, run
from lab.image import debs
from lab.image.kernel import commit_pristine, remove
from lab.series.git import KernelTree
from lab.series.patches import Patch, digest, format_patches, git_am, rewrite
from lab.series.save import autosquash
from lab.series.state import remember, saved_state, unsaved, way_out

SET = "machine"
PATCHES = config.REPO / "patches/qemu" / SET
DEVICES = config.REPO / "lab/image/qemu_devices.mak"
PROGRAM = config.QEMU_OBJECTS / "qemu-system-s390x"

# The lab uses neither QEMU's debug information nor its trace points.
OPTIONS = (
    "--python=/usr/bin/python3", "--disable-download",
    "--target-list=s390x-softmmu", "--without-default-features", "--without-default-devices",
    "--enable-tcg", "--enable-slirp", "--enable-virtfs", "--enable-attr", "--enable-werror",
    "--disable-docs", "--disable-install-blobs", "--disable-tools", "--disable-fdt",
    "--disable-debug-info", "--disable-qom-cast-debug", "--enable-trace-backends=nop",
)


# Debian's source has no firmware; that of the QEMU in the hosts serves.
FIRMWARE = config.S390_ROOT / "usr/share/qemu"


class QemuError(LabError):
    """The emulator cannot be made; str() tells the user why."""


def machine_patches() -> list[Patch]:
    """The patches that the file "series" lists."""
    names = (PATCHES / "series").read_text(encoding="utf-8").split()
    extra = sorted({path.name for path in PATCHES.glob("*.patch")} - set(names))
    if extra:
        raise QemuError(f"{PATCHES / 'series'}: does not list {', '.join(extra)}")
    return [Patch(name, SET, (PATCHES / name).read_bytes()) for name in names]


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
    """Raise if build/qemu has commits or changes that patches/qemu/machine does not have."""
    tree = KernelTree(config.QEMU)
    _, commit = saved_state(tree)
    extra = unsaved(tree, commit)
    if extra:
        raise QemuError(f"{why}, and {config.QEMU} has work of its own:\n  "
                        + "\n  ".join(extra) + "\n" + way_out(config.QEMU, commit))


def apply_patches() -> None:
    """Make build/qemu pristine + patches/qemu/machine, unless it is so already.

    Work in build/qemu that the patches do not have stays as long as the patches do not change."""
    tree = KernelTree(config.QEMU)
    with tree.locked():
        patches = machine_patches()
        was, commit = saved_state(tree)
        if was == digest(tree, patches) and tree.commit(commit):
            extra = unsaved(tree, commit)
            if extra:
                say(f"note: {config.QEMU} has work that {PATCHES.relative_to(config.REPO)} does "
                    f"not have: {extra[0]}")
            return
        refuse_to_lose_work(f"{PATCHES.relative_to(config.REPO)} changed")
        tip = git_am(tree, patches)
        tree.move_to(tip)
        remember(tree, patches, tip)
        say(f"{len(patches)} patches applied in {config.QEMU}")


def save() -> None:
    """Write the commits of build/qemu to patches/qemu/machine, fixups folded into their commits."""
    tree = KernelTree(config.QEMU)
    with tree.locked():
        was, _ = saved_state(tree)
        if was != digest(tree, machine_patches()):
            raise QemuError(f"{PATCHES} changed since {config.QEMU} was made from it; `make linux` "
                            "applies the patches")
        left = [f"uncommitted: {line}" for line in tree.dirty()]
        if tree.busy():
            left.append(f"a {tree.busy()} that is not finished")
        if left:
            raise QemuError(f"{config.QEMU} has work that is not committed:\n  "
                            + "\n  ".join(left[:20]))
        tip = rewrite(tree, autosquash(tree, tree.head()))
        patches = format_patches(tree, tip, {c.subject: SET for c in tree.commits(tip)})
        again = git_am(tree, patches)
        if tree.tree_of(again) != tree.tree_of(tip):
            raise QemuError("git am of the patches gives another tree than the commits")
        tree.move_to(again)
        for path in PATCHES.glob("*.patch"):
            path.unlink()
        for patch in patches:
            (PATCHES / patch.name).write_bytes(patch.data)
        (PATCHES / "series").write_text("".join(f"{patch.name}\n" for patch in patches),
                                        encoding="utf-8")
        remember(tree, patches, again)
        say(f"saved {len(patches)} patches in {PATCHES.relative_to(config.REPO)}")


def configure(source_tree: pathlib.Path, target: pathlib.Path) -> None:
    """Configure a build directory unless it is configured with the same options."""
    # QEMU takes the list of devices by its name beside QEMU's own lists.
    beside = source_tree / "configs/devices/s390x-softmmu"
    devices = os.path.relpath(DEVICES.with_suffix(""), beside)
    options = [*OPTIONS, f"--with-devices-s390x={devices}"]
    stamp = target / "lab.stamp"
    wanted = "\n".join([str(source_tree), *options])
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    remove(target)
    target.mkdir(parents=True)
    logged("configuration of QEMU", [str(source_tree / "configure"), *options],
           config.LOGS / f"{target.name}-configure.log", environment(), cwd=target)
    stamp.write_text(wanted, encoding="utf-8")


def environment() -> dict[str, str]:
    """The variables that let configure and ninja find meson."""
    return {"PYTHONPATH": str(config.BUILD / "python"), "PYTHONDONTWRITEBYTECODE": "1"}


def build(source_tree: pathlib.Path = config.QEMU,
          target: pathlib.Path = config.QEMU_OBJECTS) -> None:
    """Bring a build directory up to date with its source; ninja skips all that is."""
    try:
        configure(source_tree, target)
        logged("QEMU", ["ninja", f"-j{os.cpu_count() or 1}", PROGRAM.name],
               config.LOGS / f"{target.name}.log", environment(), cwd=target,
               measure=step)
    except CommandFailed as error:
        raise QemuError(str(error)) from None


def step(_count: int, line: str) -> str:
    """A progress line from a line of ninja: "[12/1272] Compiling C object dir/name.c.o"."""
    match = re.match(r"\[(\d+)/(\d+)\] (?:Compiling C object )?(.*)", line)
    return f"step {match[1]} of {match[2]}, {match[3][:60]}" if match else line.strip()


def emulator() -> list[str]:
    """The command that runs the emulator."""
    return [str(PROGRAM), "-L", str(FIRMWARE)]


def version() -> str:
    """The emulator's version."""
    done = run([PROGRAM, "--version"])
    if done.rc:
        raise QemuError(f"the emulator does not start: {done.err.strip()[:300]}")
    return done.out.splitlines()[0].removeprefix("QEMU emulator version ")


def source() -> None:
    """build/qemu with our patches."""
    make_tree()
    apply_patches()


def prepare() -> None:
    """The source with our patches, and the emulator built from it."""
    source()
    build()
    say(f"emulator: QEMU {version()}")
