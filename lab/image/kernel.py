# SPDX-License-Identifier: GPL-2.0
"""Kernel source, builds, modules and selftests.

build/linux is a git tree: one commit tagged "pristine", then patches/ (lab.series). Each flavour
is built in build/kernel/<flavour>; build/share-<flavour> has the files for the hosts.
A step is skipped while its inputs have not changed.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import shutil

from lab.common import config
from lab.common.errors import LabError
from lab.common.progress import say
from lab.common.run import CommandFailed, logged, run
from lab.image import debs
from lab.series.apply import apply_patches
from lab.series.git import CONFIG, KernelTree, clean_env
from lab.series.state import saved_state, unsaved

# Where the driver is.
DRIVER = "drivers/s390/crypto/"

# The folders whose code the debug kernel instruments; the full kernel instruments everything.
UNDER_TEST = ("drivers/s390/crypto", "drivers/s390/crypto/tests", "drivers/vfio",
              "drivers/vfio/mdev", "drivers/iommu/iommufd", "arch/s390/kvm", "virt/kvm",
              # asm/string.h renames functions that this file defines, unless it is instrumented.
              "lib/string")

# Debian's packaging adds "/*" to .gitignore, which hides every new file.
GITIGNORE_TAIL = "# Debian packaging"

MAKE = ["make", f"ARCH={config.ARCH}", f"CROSS_COMPILE={config.CROSS_COMPILE}", "LOCALVERSION=",
        "KBUILD_BUILD_USER=lab", "KBUILD_BUILD_HOST=lab"]


class KernelError(LabError):
    """The kernel cannot be made; str() tells the user why."""


def _git(*args: str, cwd: pathlib.Path | None = None) -> str:
    options = [word for key, value in CONFIG.items() for word in ("-c", f"{key}={value}")]
    done = run(["git", *options, *args], cwd=cwd or config.LINUX, env=clean_env())
    if done.rc:
        raise KernelError(f"git {args[0]} in {cwd or config.LINUX}: {done.err.strip()[:500]}")
    return done.out


def listing(tree: pathlib.Path) -> str:
    """A checksum over the names, sizes and times of all files of a tree, without its .git."""
    sha = hashlib.sha256()
    for folder, names, files in os.walk(tree):
        names[:] = sorted(n for n in names if n != ".git")
        for name in sorted(files):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            sha.update(f"{path}\0{info.st_size}\0{info.st_mtime_ns}\n".encode(errors="replace"))
    return sha.hexdigest()


# Source

def source(kernel: str | None) -> str:
    """The source of the pristine commit, in a line that changes with it."""
    if kernel is None:
        pin = debs.read_pins().get(debs.KERNEL.name)
        return f"{debs.KERNEL.name} {pin['version']}" if pin else debs.KERNEL.name
    path = pathlib.Path(kernel).resolve()
    if not (path / "Kbuild").is_file() or not (path / "arch/s390").is_dir():
        raise KernelError(f"KERNEL={kernel}: not a Linux source tree")
    if config.BUILD.is_relative_to(path) or path.is_relative_to(config.BUILD):
        raise KernelError(f"KERNEL={kernel}: must not be, hold or lie in {config.BUILD}")
    return f"{path} {listing(path)}"


def tree(kernel: str | None) -> None:
    """build/linux with the pristine commit of the wanted source, patches not considered."""
    stamp = config.BUILD / "linux.from"
    wanted = source(kernel)
    have = stamp.read_text() if stamp.exists() and (config.LINUX / ".git").exists() else ""
    if have == wanted:
        return
    if have:
        refuse_to_lose_work(f"made from {have.split()[0]}, wanted is {wanted.split()[0]}")
    scratch = config.LINUX.with_name("linux.new")
    remove(scratch)
    scratch.mkdir(parents=True)
    if kernel is None:
        deb = debs.fetch(debs.KERNEL)
        name = deb.stem.replace("_", " ").replace("%3a", ":")
        unpack(deb, scratch)
    else:
        name = wanted.split(" ")[0]
        say(f"copying {kernel}")
        logged("copy of the kernel source",
               ["rsync", "-a", "--exclude=/.git", f"{pathlib.Path(kernel).resolve()}/",
                f"{scratch}/"], config.LOGS / "kernel-copy.log")
        if (scratch / ".config").exists() or (scratch / "include/config").exists():
            logged("make mrproper in the copy", [*MAKE, "mrproper"],
                   config.LOGS / "kernel-mrproper.log", cwd=scratch)
    commit_pristine(scratch, name)
    stamp.unlink(missing_ok=True)
    remove(config.LINUX)
    scratch.rename(config.LINUX)
    stamp.write_text(wanted)


def refuse_to_lose_work(why: str) -> None:
    """Commits of a developer that are not in patches/ are not thrown away."""
    git_tree = KernelTree(config.LINUX)
    lost = unsaved(git_tree, saved_state(git_tree)[1])
    if lost:
        raise KernelError(f"{config.LINUX} ({why}) holds work that is not saved: {lost[0]}; "
                          "`make save` saves it, removing the directory drops it")


def unpack(deb: pathlib.Path, target: pathlib.Path) -> None:
    """The source out of Debian's package."""
    say(f"unpacking {deb.name}")
    member = f"./usr/src/{debs.KERNEL.name}.tar.xz"
    script = ('set -euo pipefail; dpkg-deb --fsys-tarfile "$1" | tar -xO "$2" | xz -dc -T0 | '
              'tar -x --strip-components=1 -C "$3"')
    logged("unpacking of the kernel", ["bash", "-c", script, "sh", str(deb), member, str(target)],
           config.LOGS / "kernel-unpack.log")


def commit_pristine(where: pathlib.Path, name: str) -> None:
    """Make a git tree of it, in one pack, and tag its only commit."""
    say("committing the pristine source")
    ignore = where / ".gitignore"
    if ignore.exists():
        text = ignore.read_text(encoding="utf-8", errors="replace")
        if GITIGNORE_TAIL in text:
            ignore.write_text(text[:text.index(GITIGNORE_TAIL)].rstrip() + "\n", encoding="utf-8")
    _git("init", "-q", "-b", "series", cwd=where)
    _git("config", "gc.auto", "0", cwd=where)
    _git("config", "user.name", "Author not set", cwd=where)
    _git("config", "user.email", "author-not-set@invalid", cwd=where)
    # Every file "big": they go straight into one pack, not into 90000 files.
    _git("-c", "core.bigFileThreshold=1", "-c", "core.compression=1", "add", "-A", "-f", ".",
         cwd=where)
    _git("commit", "-q", "-m", f"{name}\n\nPristine.", cwd=where)
    _git("tag", "pristine", cwd=where)


def release() -> str:
    """The version of the source in build/linux."""
    text = (config.LINUX / "Makefile").read_text(encoding="utf-8")
    part = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(\S*)$", text, re.M))
    return (f"{part.get('VERSION')}.{part.get('PATCHLEVEL')}.{part.get('SUBLEVEL')}"
            f"{part.get('EXTRAVERSION', '')}")


# Configuration

def fragments(flavour: str) -> list[pathlib.Path]:
    """The files that a flavour is configured from."""
    return [config.REPO / "lab/image/kernel_config" / f"{name}.config"
            for name in config.FRAGMENTS[flavour]]


def wanted_options(text: str) -> dict[str, str]:
    """CONFIG_X=value lines of fragments; a later one counts."""
    return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.M))


def dishonoured(wanted: dict[str, str], result: str) -> list[str]:
    """Options that the resulting .config does not have as wanted."""
    have = wanted_options(result)
    return [f"{key}={value} (is {have.get(key, 'n')})" for key, value in sorted(wanted.items())
            if have.get(key, "n") != value]


def unknown_options(names: list[str]) -> set[str]:
    """Those of the options that no Kconfig file of build/linux defines."""
    defined: set[str] = set()
    for folder in ("drivers", "arch/s390", "kernel", "lib", "mm", "fs", "net", "init", "block",
                   "crypto", "security", "samples", "virt", "io_uring", "certs"):
        for path in (config.LINUX / folder).rglob("Kconfig*"):
            defined.update(re.findall(r"^\s*(?:menu)?config\s+(\w+)",
                                      path.read_text(encoding="utf-8", errors="replace"), re.M))
    return {name for name in names if name.removeprefix("CONFIG_") not in defined}


def configure(flavour: str) -> None:
    """Make the .config from the fragments, and see that each line of them took effect."""
    target = config.objects(flavour)
    target.mkdir(parents=True, exist_ok=True)
    text = "".join(path.read_text(encoding="utf-8") for path in fragments(flavour))
    wanted = wanted_options(text)
    fragment = target / "lab.config"
    fragment.write_text("".join(f"{key}={value}\n" for key, value in wanted.items()))
    logged(f"configuration of the {flavour} kernel",
           [*MAKE, f"O={target}", f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"],
           config.LOGS / f"kernel-{flavour}-config.log", cwd=config.LINUX)
    wrong = dishonoured(wanted, (target / ".config").read_text(encoding="utf-8"))
    if not wrong:
        return
    # Options that come with patches are not there when the patches are left out.
    unknown = unknown_options([line.split("=")[0] for line in wrong])
    ours = {name for name in unknown if name.startswith("CONFIG_VFIO_AP_")}
    wrong = [line for line in wrong if line.split("=")[0] not in ours]
    if wrong:
        raise KernelError(f"{flavour} kernel: options without effect (lab/image/kernel_config):\n  "
                          + "\n  ".join(wrong))
    say(f"{flavour} kernel: not in this source: {' '.join(sorted(ours))}")


# Builds

def new_files() -> list[str]:
    """The C files of the driver that the series adds, as paths in the source."""
    found = _git("diff", "--name-only", "--diff-filter=A", "pristine", "HEAD", "--",
                 f"{DRIVER}*.c").splitlines()
    return [path for path in found if not path.startswith(f"{DRIVER}tests/")]


def counted(flavour: str) -> list[str]:
    """Arguments of make that have the lines of these files counted."""
    if flavour != "cover":
        return []
    return [f"GCOV_PROFILE_{pathlib.Path(path).stem}.o=y" for path in new_files()]


def instrumented(flavour: str) -> list[str]:
    """Arguments of make that limit KASAN and UBSAN to the code under test.

    The kernel's Makefiles expand these variables once per object: $(obj) is its folder,
    $(target-stem) its name."""
    if flavour != "debug":
        return []
    choice = f"$(if $(filter {' '.join(UNDER_TEST)},$(obj) $(obj)/$(target-stem)),y,n)"
    return [f"KASAN_SANITIZE={choice}", f"UBSAN_SANITIZE={choice}"]


def state() -> str:
    """Checksum of a build's inputs: the source as it is in build/linux, and the compiler."""
    sha = hashlib.sha256()
    sha.update(_git("rev-parse", "HEAD^{tree}").encode())
    changes = _git("status", "--porcelain", "-uall")
    sha.update(changes.encode())
    for line in changes.splitlines():
        path = config.LINUX / line[3:]
        if path.is_file():
            sha.update(path.read_bytes())
    sha.update(run([f"{config.CROSS_COMPILE}gcc", "--version"]).stdout)
    return sha.hexdigest()


def build(flavour: str) -> None:
    """Kernel, modules and selftests of a flavour, installed for the hosts."""
    target = config.objects(flavour)
    stamp = target / "lab.stamp"
    current = hashlib.sha256(
        "\0".join((state(), *(p.read_text() for p in fragments(flavour)),
                   *instrumented(flavour))).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == current and config.bzimage(flavour).exists():
        install_programs(flavour)
        return
    stamp.unlink(missing_ok=True)
    configure(flavour)
    say(f"building the {flavour} kernel")
    jobs = f"-j{os.cpu_count() or 1}"
    try:
        logged(f"{flavour} kernel",
               [*MAKE, *counted(flavour), *instrumented(flavour),
                f"O={target}", jobs, "bzImage", "modules"],
               config.LOGS / f"kernel-{flavour}.log", cwd=config.LINUX,
               measure=lambda count, line: f"{count} steps, {line.strip()[:60]}")
    except CommandFailed as error:
        raise KernelError(str(error)) from None
    install_modules(flavour)
    install_selftests(flavour, jobs)
    install_programs(flavour)
    stamp.write_text(current)


def install_modules(flavour: str) -> None:
    """build/share-<flavour>/modules/<release>, as /lib/modules in a host."""
    share = config.share(flavour)
    # The folder stays: an emulator may have it open.
    for name in ("bin", "selftests", "results"):
        (share / name).mkdir(parents=True, exist_ok=True)
    remove(share / "lib")
    logged("modules", [*MAKE, f"O={config.objects(flavour)}", f"INSTALL_MOD_PATH={share}",
                       "modules_install"], config.LOGS / f"modules-{flavour}.log",
           cwd=config.LINUX)
    link = share / "modules"
    if not link.is_symlink():
        link.symlink_to("lib/modules")


def install_selftests(flavour: str, jobs: str = "-j1") -> None:
    """The kernel's way: make headers, then make install in tools/testing/selftests."""
    if not (config.LINUX / "tools/testing/selftests" / config.SELFTEST).is_dir():
        say(f"no selftests {config.SELFTEST} in this source")
        return
    target = config.objects(flavour)
    try:
        logged("kernel headers", [*MAKE, f"O={target}", jobs, "headers"],
               config.LOGS / f"headers-{flavour}.log", cwd=config.LINUX)
        logged("selftests", [*MAKE, f"O={target}", f"KDIR={target}", jobs,
                             "-C", "tools/testing/selftests", f"TARGETS={config.SELFTEST}",
                             "FORCE_TARGETS=1", "SKIP_TARGETS=",
                             f"INSTALL_PATH={config.share(flavour)}/selftests", "install"],
               config.LOGS / f"selftests-{flavour}.log", cwd=config.LINUX)
    except CommandFailed as error:
        raise KernelError(str(error)) from None


def install_programs(flavour: str) -> None:
    """Install the lab's own programs in /lab/bin."""
    folder = f"DESTDIR={config.share(flavour)}/bin"
    headers = f"HEADERS={config.objects(flavour)}/usr/include"
    wanted = {"lab/programs/idle": [folder]}
    if (config.LINUX / "tools/testing/selftests" / config.SELFTEST).is_dir():
        source = [folder, f"LINUX={config.LINUX}", headers]
        wanted |= {f"lab/programs/{name}": source for name in ("adapters", "fuzz", "random_guest")}
        # There are installed headers.
        wanted |= {f"lab/programs/{name}": [folder, headers] for name in ("inject", "vcpus")}
    try:
        for name, arguments in wanted.items():
            logged(name, ["make", "-C", name, "install", *arguments],
                   config.LOGS / f"{name.replace('/', '-')}-{flavour}.log", cwd=config.REPO)
    except CommandFailed as error:
        raise KernelError(str(error)) from None


def remove(path: pathlib.Path) -> None:
    """Remove a file, link or folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def prepare(flavours: list[str], kernel: str | None) -> None:
    """The source with the patches on it, and these flavours built and installed."""
    tree(kernel)
    apply_patches()
    for flavour in flavours:
        build(flavour)


def kunit_modules(flavour: str) -> list[pathlib.Path]:
    """The KUnit modules that were built, kunit.ko itself aside."""
    return sorted(path for path in (config.share(flavour) / "lib/modules").rglob("*.ko")
                  if path.stem.endswith(("_kunit", "_test")))
