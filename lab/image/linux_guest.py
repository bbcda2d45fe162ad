# SPDX-License-Identifier: GPL-2.0
"""The Linux guest: Debian's kernel for s390x, unmodified, and an initramfs with programs of ours
and the zcrypt modules of that kernel.

Hosts see both in FOLDER (lab.guest.linux has the arguments for QEMU).
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import pathlib
import re
import stat
from dataclasses import dataclass

from lab.common import config
from lab.common.run import CommandFailed, logged, run
from lab.image import debs
from lab.image.kernel import KernelError, remove

SOURCES = config.REPO / "lab/programs/linux_guest"
# Below config.share(); in a host below /lab.
FOLDER = "guest"
KERNEL, INITRAMFS, RELEASE = "vmlinuz", "initramfs", "release"
# Each is a first process; the kernel starts init if rdinit= names no other.
PROGRAMS = ("init", "crypto_load")
# The AP bus is part of the kernel.
MODULES = ("zcrypt", "zcrypt_cex4")


@dataclass(frozen=True)
class Entry:
    """A file of an initramfs: mode with the type, content; device: major and minor."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


# The kernel opens /dev/console for the first process.
SKELETON = (*(Entry(name, stat.S_IFDIR | 0o755) for name in ("dev", "proc", "sys", "modules")),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)))


def cpio(entries: list[Entry]) -> bytes:
    """An archive in the "newc" format, as Documentation/driver-api/early-userspace has it."""
    out = bytearray()
    for number, entry in enumerate([*entries, Entry("TRAILER!!!", 0)], 1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        # inode, mode, uid, gid, links, time, size, device of the file (2), of the node (2),
        # length of the name, checksum (not in this format)
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device,
                  len(name), 0)
        out += b"070701" + b"".join(b"%08x" % value for value in fields) + name
        out += bytes(-len(out) % 4)
        out += entry.data
        out += bytes(-len(out) % 4)
    return bytes(out)


class KernelPackage:
    """The content of Debian's package of a kernel."""

    def __init__(self, deb: pathlib.Path) -> None:
        self._name = deb.name
        self._archive = run(["dpkg-deb", "--fsys-tarfile", deb], error=debs.FetchError).stdout
        self._files = run(["tar", "-t"], stdin=self._archive,
                          error=debs.FetchError).out.splitlines()

    def _find(self, pattern: str) -> str:
        found = [name for name in self._files if re.fullmatch(pattern, name)]
        if len(found) != 1:
            raise debs.FetchError(f"{self._name}: has {len(found)} files {pattern}, not one")
        return found[0]

    def _read(self, name: str) -> bytes:
        return run(["tar", "-xO", name], stdin=self._archive, error=debs.FetchError).stdout

    def kernel(self) -> tuple[str, bytes]:
        """The release and the image."""
        name = self._find(r"\./boot/vmlinuz-.*")
        return name.removeprefix("./boot/vmlinuz-"), self._read(name)

    def module(self, name: str) -> bytes:
        """A module, which the package compresses."""
        return lzma.decompress(self._read(self._find(rf".*/{name}\.ko\.xz")))


def prepare(flavour: str) -> None:
    """Kernel and initramfs, for the hosts of a flavour."""
    deb = debs.fetch(debs.GUEST_KERNEL)
    folder = config.share(flavour) / FOLDER
    stamp = config.share(flavour) / f"{FOLDER}.stamp"
    sha = hashlib.sha256(pathlib.Path(__file__).read_bytes())
    for path in sorted(SOURCES.iterdir()):
        sha.update(path.read_bytes())
    wanted = f"{deb.name} {sha.hexdigest()}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    stamp.unlink(missing_ok=True)
    remove(folder)
    folder.mkdir(parents=True)
    try:
        logged("programs of the Linux guest",
               ["make", "-C", str(SOURCES), "install", f"DESTDIR={folder}"],
               config.LOGS / f"linux-guest-{flavour}.log")
    except CommandFailed as error:
        raise KernelError(str(error)) from None
    package = KernelPackage(deb)
    release, image = package.kernel()
    (folder / KERNEL).write_bytes(image)
    (folder / RELEASE).write_text(release, encoding="utf-8")
    files = [*(Entry(name, stat.S_IFREG | 0o755, (folder / name).read_bytes())
               for name in PROGRAMS),
             *(Entry(f"modules/{name}.ko", stat.S_IFREG | 0o644, package.module(name))
               for name in MODULES)]
    (folder / INITRAMFS).write_bytes(gzip.compress(cpio([*SKELETON, *files]), mtime=0))
    stamp.write_text(wanted, encoding="utf-8")


def release(flavour: str) -> str:
    """The output of `uname -r` in the guest."""
    return (config.share(flavour) / FOLDER / RELEASE).read_text(encoding="utf-8")
