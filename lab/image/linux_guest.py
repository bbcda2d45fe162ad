# SPDX-License-Identifier: GPL-2.0
"""The Linux guest: Debian's kernel for s390x, unmodified, and an initramfs with a program of ours.

Hosts see both in FOLDER (lab.guest.linux has the arguments for QEMU).
"""

from __future__ import annotations

import gzip
import hashlib
import pathlib
import stat
from dataclasses import dataclass

from lab.common import config
from lab.common.run import CommandFailed, logged, run
from lab.image import debs
from lab.image.kernel import KernelError, remove

PROGRAM = config.REPO / "lab/programs/linux_guest"
# Below config.share(); in a host below /lab.
FOLDER = "guest"
KERNEL, INITRAMFS, RELEASE = "vmlinuz", "initramfs", "release"


@dataclass(frozen=True)
class Entry:
    """A file of an initramfs: mode with the type, content; device: major and minor."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


# The kernel opens /dev/console for the first process.
SKELETON = (Entry("dev", stat.S_IFDIR | 0o755), Entry("proc", stat.S_IFDIR | 0o755),
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


def kernel_of(deb: pathlib.Path) -> tuple[str, bytes]:
    """The release and the image of the kernel in Debian's package."""
    archive = run(["dpkg-deb", "--fsys-tarfile", deb], error=debs.FetchError).stdout
    names = run(["tar", "-t"], stdin=archive, error=debs.FetchError).out.splitlines()
    images = [name for name in names if name.startswith("./boot/vmlinuz-")]
    if len(images) != 1:
        raise debs.FetchError(f"{deb.name}: has {len(images)} kernels, not one")
    image = run(["tar", "-xO", images[0]], stdin=archive, error=debs.FetchError).stdout
    return images[0].removeprefix("./boot/vmlinuz-"), image


def prepare(flavour: str) -> None:
    """Kernel and initramfs, for the hosts of a flavour."""
    deb = debs.fetch(debs.GUEST_KERNEL)
    folder = config.share(flavour) / FOLDER
    stamp = config.share(flavour) / f"{FOLDER}.stamp"
    sha = hashlib.sha256(pathlib.Path(__file__).read_bytes())
    for path in (PROGRAM / "init.c", PROGRAM / "Makefile"):
        sha.update(path.read_bytes())
    wanted = f"{deb.name} {sha.hexdigest()}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    stamp.unlink(missing_ok=True)
    remove(folder)
    folder.mkdir(parents=True)
    try:
        logged("program of the Linux guest", ["make", "-C", str(PROGRAM), "install",
                                              f"DESTDIR={folder}"],
               config.LOGS / f"linux-guest-{flavour}.log")
    except CommandFailed as error:
        raise KernelError(str(error)) from None
    release, image = kernel_of(deb)
    (folder / KERNEL).write_bytes(image)
    (folder / RELEASE).write_text(release, encoding="utf-8")
    init = Entry("init", stat.S_IFREG | 0o755, (folder / "init").read_bytes())
    (folder / INITRAMFS).write_bytes(gzip.compress(cpio([*SKELETON, init]), mtime=0))
    stamp.write_text(wanted, encoding="utf-8")


def release(flavour: str) -> str:
    """The output of `uname -r` in the guest."""
    return (config.share(flavour) / FOLDER / RELEASE).read_text(encoding="utf-8")
