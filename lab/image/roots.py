# SPDX-License-Identifier: GPL-2.0
"""The root file systems that mmdebstrap unpacks: that of the hosts, the one that the QEMU in the
hosts is compiled with (lab.image.client), and Debian's QEMU for lab.commands.bench_emulator.

Nothing is installed or run: packages are unpacked only, so the machine needs no emulation and
stays as it is.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import re
import shutil
import urllib.parse
from dataclasses import dataclass
from typing import Any

from lab.common import config
from lab.common.progress import say
from lab.common.run import CommandFailed, logged
from lab.image import debs, machine


@dataclass(frozen=True)
class Root:
    """A root file system: packages, suites and folder.

    spare: a suite that replaces the versions that the mirror lists and does not have.
    without: packages that others depend on and the root does not need. apt takes them for
        installed.
    """

    name: str
    architecture: str
    suites: tuple[str, ...]
    include: tuple[str, ...]
    folder: pathlib.Path
    spare: str = ""
    without: tuple[str, ...] = ()


HOSTS = Root(
    "root-s390x", "s390x", ("trixie",),
    ("bash", "busybox", "coreutils", "iproute2", "kmod", "mdevctl", "mount", "procps", "socat",
     "util-linux",
     "libvirt-clients", "libvirt-daemon", "libvirt-daemon-driver-qemu",
     # Of QEMU: the libraries that lab.image.client links, and firmware.
     "libglib2.0-0t64", "qemu-system-data", "zlib1g"),
    config.S390_ROOT, spare="forky",
    # libvirt's daemon runs as root, and QEMU is our own.
    without=("adduser", "logrotate", "polkitd", "qemu-system", "systemd-container"))

CLIENT = Root(
    "root-client", "s390x", ("trixie",), ("libc6-dev", "libglib2.0-dev", "zlib1g-dev"),
    config.CLIENT_ROOT, spare="forky")

# Debian's binary of QEMU for this machine, with its libraries.
DEBIAN_QEMU = Root(
    "root-qemu", "amd64", ("trixie",), ("qemu-system-s390x", "qemu-system-data"),
    config.BUILD / "root-qemu", spare="forky")

# Part of the stamp: increase it if this file fills the folder in another way.
RECIPE = 3

# A mirror that lacks a version may lack its replacement, too: runs of mmdebstrap at most.
ATTEMPTS = 6


def stamp_of(root: Root) -> str:
    """Checksum of the inputs of a ready folder."""
    text = repr((RECIPE, root.architecture, root.suites, root.include, root.spare))
    text += installed(root)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(root: Root) -> pathlib.Path:
    return root.folder.with_name(root.folder.name + ".json")


def ready(root: Root) -> bool:
    """Whether the folder is there and was made from the same recipe."""
    try:
        return bool(json.loads(_stamp(root).read_text())["recipe"] == stamp_of(root)
                    and root.folder.is_dir())
    except (OSError, ValueError, KeyError):
        return False


def packages_of(root: Root) -> dict[str, str]:
    """The packages that a ready folder was made of: name -> "version sha256"."""
    found = json.loads(_stamp(root).read_text())["packages"]
    assert isinstance(found, dict)
    return found


def describe_archives(paths: list[pathlib.Path]) -> dict[str, str]:
    """name -> "version sha256" of each .deb."""
    found = {}
    for path in sorted(paths):
        name, version, _ = path.name.split("_", 2)
        found[name] = f"{version.replace('%3a', ':')} {debs.sha256_of(path)}"
    return found


def changed_packages(pinned: dict[str, str], found: dict[str, str]) -> list[str]:
    """Differences from the pins, one word or two each."""
    out = []
    for name in sorted(pinned.keys() | found.keys()):
        was, now = pinned.get(name), found.get(name)
        if was == now:
            continue
        if was is None or now is None:
            out.append(f"{name} is {'new' if was is None else 'gone'}")
        elif was.split()[0] == now.split()[0]:
            raise debs.FetchError(f"{name} {now.split()[0]}: SHA-256 is {now.split()[1]}, "
                                  f"pinned is {was.split()[1]}")
        else:
            out.append(f"{name} {was.split()[0]} -> {now.split()[0]}")
    return out


def absent_archives(log: str) -> set[tuple[str, str]]:
    """Name and version (without epoch) of each archive that a mirror answered 404 for, and of those
    that are too old for what replaces another one."""
    found = set()
    for path in re.findall(r"^E: Failed to fetch \S+/(\S+)_[^_\s]+\.deb +404 ", log, re.M):
        name, version = path.split("_", 1)
        found.add((name, re.sub(r"^\d+:", "", urllib.parse.unquote(version))))
    for name, version in re.findall(r" Depends: (\S+) \(>=? \S+\) but (\S+) is to be installed$",
                                    log, re.M):
        found.add((name, re.sub(r"^\d+:", "", version)))
    return found


def installed(root: Root) -> str:
    """The list of installed packages that apt starts with: those of root.without."""
    return "".join(f"Package: {name}\nStatus: install ok installed\nVersion: 99:0\n"
                   f"Architecture: {root.architecture}\nMaintainer: none\nDescription: none\n\n"
                   for name in root.without)


def preferences(root: Root, absent: set[tuple[str, str]]) -> str:
    """apt preferences: never the absent versions; the spare suite only in their place."""
    text = f"Package: *\nPin: release n={root.spare}\nPin-Priority: 100\n" if root.spare else ""
    for name, version in sorted(absent):
        text += f"\nPackage: {name}\nPin: version *{version}\nPin-Priority: -1\n"
    return text


def sources(root: Root, absent: set[tuple[str, str]]) -> list[str]:
    """Lines for a sources.list; with the spare suite if versions are absent."""
    uri = machine.mirror()
    lines = [debs.source_line(suite, root.architecture, uri) for suite in root.suites]
    if root.spare and absent:
        # A testing suite's index may be past its date; its signature is checked all the same.
        lines.append(debs.source_line(root.spare, root.architecture, uri).replace(
            "[", "[check-valid-until=no ", 1))
    return lines


def mmdebstrap(root: Root, scratch: pathlib.Path, archives: pathlib.Path,
               absent: set[tuple[str, str]]) -> list[pathlib.Path]:
    """Unpack a root file system to a folder, without the absent versions; the archives used."""
    folder = config.BUILD / "apt"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "machine.conf"
    settings.write_text("\n".join(machine.apt_settings()) + "\n")
    avoid = folder / f"{root.name}.pref"
    avoid.write_text(preferences(root, absent))
    status = folder / f"{root.name}.status"
    status.write_text(installed(root))
    used = folder / f"{root.name}.used"
    used.unlink(missing_ok=True)
    inside = '"$1"/var/cache/apt/archives/'
    argv = [
        "mmdebstrap", "--mode=root", "--variant=extract", "--format=directory",
        f"--architectures={root.architecture}", f"--include={','.join(root.include)}",
        f"--aptopt={settings}", '--aptopt=Acquire::Retries "3"',
        '--aptopt=Acquire::Languages "none"',
        # apt gives the archives that it chose to this command; the cache may hold others.
        f'--aptopt=DPkg::Pre-Install-Pkgs:: "cat >{used}"',
        # Packages stay in the cache: a run that was cut off goes on where it was.
        "--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt",
        f'--setup-hook=mkdir -p {inside} "$1"/etc/apt/preferences.d',
        f'--setup-hook=cp {avoid} "$1"/etc/apt/preferences.d/lab.pref',
        f'--setup-hook=cp {status} "$1"/var/lib/dpkg/status',
        f'--setup-hook=cp -l {archives}/*.deb {inside} 2>/dev/null || :',
        f'--extract-hook=cp -n {inside}*.deb {archives}/',
        root.suites[0], str(scratch), *sources(root, absent),
    ]
    logged(f"mmdebstrap of {root.name}", argv, config.LOGS / f"mmdebstrap-{root.name}.log",
           {"SOURCE_DATE_EPOCH": "1", "TMPDIR": "/tmp"})
    return [pathlib.Path(line) for line in used.read_text().splitlines()]


def unpack(root: Root) -> bool:
    """Make the folder unless it is ready: whether it was made."""
    if ready(root):
        return False
    say(f"{root.name}: unpacking Debian packages ({' + '.join(root.suites)}, {root.architecture})")
    archives = config.CACHE / root.name
    archives.mkdir(parents=True, exist_ok=True)
    scratch = root.folder.with_name(root.folder.name + ".new")
    absent: set[tuple[str, str]] = set()
    for attempt in range(ATTEMPTS):
        remove(scratch)
        try:
            used = mmdebstrap(root, scratch, archives, absent)
            break
        except CommandFailed as error:
            _keep_archives(scratch, archives)
            remove(scratch)
            log = config.LOGS / f"mmdebstrap-{root.name}.log"
            more = absent_archives(log.read_text(errors="replace")) - absent
            if not more or attempt == ATTEMPTS - 1:
                names = " ".join(sorted(name for name, _ in absent | more))
                reason = f" (the mirror answers 404 for: {names})" if names else ""
                raise debs.FetchError(f"{root.name} cannot be made{reason}: {error}") from None
            absent |= more
    packages = describe_archives(used)
    for path in archives.glob("*.deb"):
        if path.name not in {archive.name for archive in used}:
            path.unlink()
    warn_changes(root, packages, absent)
    remove(scratch / "var/cache/apt")
    remove(scratch / "var/lib/apt")
    merge_usr(scratch)
    if root is HOSTS:
        complete(scratch)
    _stamp(root).unlink(missing_ok=True)
    remove(root.folder)
    scratch.rename(root.folder)
    _stamp(root).write_text(json.dumps({"recipe": stamp_of(root), "packages": packages}, indent=1))
    return True


def warn_changes(root: Root, packages: dict[str, str], absent: set[tuple[str, str]]) -> None:
    """One line if packages are not the pinned ones. It names all that replace absent ones."""
    pinned = debs.read_pins().get(root.name)
    if not pinned:
        return
    changes = changed_packages(pinned, packages)
    names = {name for name, _ in absent}
    first = [change for change in changes if change.split()[0] in names]
    other = [change for change in changes if change not in first]
    if changes:
        shown = first + other[:max(3 - len(first), 0)]
        say(f"warning: {root.name}: {len(changes)} packages are not the pinned ones: "
            f"{', '.join(shown)}{' ...' if len(shown) < len(changes) else ''} "
            "(`make pin` records them)")


def _keep_archives(scratch: pathlib.Path, archives: pathlib.Path) -> None:
    for path in (scratch / "var/cache/apt/archives").glob("*.deb"):
        if not (archives / path.name).exists():
            shutil.copy2(path, archives)


def remove(path: pathlib.Path) -> None:
    """Remove a file, link or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def merge_usr(root: pathlib.Path) -> None:
    """The links from / to /usr, which programs and linker scripts expect."""
    for name in ("bin", "sbin", "lib"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")


def complete(root: pathlib.Path) -> None:
    """Make the files that maintainer scripts would have made, and mount points."""
    busybox = root / "usr/bin/busybox"
    for name in applets(busybox.read_bytes()):
        if not any((root / folder / name).is_symlink() or (root / folder / name).exists()
                   for folder in ("usr/bin", "usr/sbin")):
            (root / "usr/bin" / name).symlink_to("busybox")
    remove(root / "lib/modules")
    (root / "lib/modules").symlink_to("/lab/modules")
    remove(root / "var/run")
    (root / "var/run").symlink_to("/run")
    # Where libvirt looks for it.
    (root / "usr/bin/qemu-system-s390x").symlink_to("/lab/bin/qemu-system-s390x")
    for name in ("dev", "proc", "sys", "run", "mnt", "tmp", "lab", "root"):
        (root / name).mkdir(exist_ok=True)
    # libvirt's daemon wants a user of its QEMU, though the tests configure root.
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n"
                                     "libvirt-qemu:x:64055:104::/var/lib/libvirt:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nkvm:x:104:\nlibvirt-qemu:x:64055:\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n10.99.0.1 host1\n10.99.0.2 host2\n")
    (root / "root/.profile").write_text("PS1='\\h:\\w\\$ '\nexport PS1\n")


def applets(binary: bytes) -> list[str]:
    """The commands that a busybox has, from the list in it (it cannot be run here)."""
    start = binary.find(b"\0[\0[[\0")
    names = []
    for word in binary[start + 1:start + 16384].split(b"\0"):
        if not word:
            break
        names.append(word.decode("ascii", "replace"))
    if not {"sh", "mount", "awk", "setsid", "init"} <= set(names):
        raise debs.FetchError("busybox for s390x: its list of commands is not where it was")
    return names


def image() -> None:
    """The hosts' root as a read-only image with our first process in it."""
    init = config.REPO / "lab/image/init"
    stamp = config.IMAGE.with_name(config.IMAGE.name + ".from")
    source = hashlib.sha256(_stamp(HOSTS).read_bytes() + init.read_bytes()).hexdigest()
    if config.IMAGE.exists() and stamp.exists() and stamp.read_text() == source:
        return
    say("root-s390x: making the image")
    target = config.S390_ROOT / "usr/sbin/lab-init"
    shutil.copyfile(init, target)
    target.chmod(0o755)
    scratch = config.IMAGE.with_name(config.IMAGE.name + ".new")
    scratch.unlink(missing_ok=True)
    logged("mkfs.erofs", ["mkfs.erofs", "--quiet", "-zlz4", "-T0", "--all-root", "-x-1",
                          *(f"--exclude-path=usr/share/{name}" for name in
                            ("doc", "locale", "man", "info")),
                          str(scratch), str(config.S390_ROOT)], config.LOGS / "erofs.log")
    stamp.unlink(missing_ok=True)
    scratch.replace(config.IMAGE)
    stamp.write_text(source)


def prepare() -> None:
    """Both root file systems, and the image of the hosts' one."""
    for root in (HOSTS, CLIENT):
        unpack(root)
    image()


def pins() -> dict[str, Any]:
    """Pins of the roots for `make pin`: makes them anew from the current suites."""
    found = {}
    for root in (HOSTS, CLIENT, DEBIAN_QEMU):
        _stamp(root).unlink(missing_ok=True)
        unpack(root)
        found[root.name] = packages_of(root)
    return found
