# SPDX-License-Identifier: GPL-2.0
"""The QEMU that runs the guests in the hosts: build/qemu again, cross-built with KVM only.

The build in build/qemu-client is linked with Debian packages of the hosts' suite, which are
unpacked in build/root-client. The hosts find the program in /lab/bin.
"""

from __future__ import annotations

import hashlib
import shutil

from lab.common import config
from lab.common.progress import say
from lab.image import qemu, roots


def recipe() -> qemu.Recipe:
    """KVM only, for s390x. The tests watch QEMU's trace points."""
    root = config.CLIENT_ROOT
    folders = (root / "usr/lib/s390x-linux-gnu/pkgconfig", root / "usr/share/pkgconfig")
    return qemu.Recipe(
        (*qemu.OPTIONS, "--disable-tcg", "--enable-kvm", "--enable-trace-backends=log",
         f"--cross-prefix={config.CROSS_COMPILE}",
         f"--extra-cflags=--sysroot={root}",
         # The cross compiler's own libc is older than the one that the packages need.
         f"--extra-ldflags=--sysroot={root} -L{root}/usr/lib/s390x-linux-gnu"),
        config.REPO / "lab/image/client_devices.mak",
        {"PKG_CONFIG": "pkg-config", "PKG_CONFIG_SYSROOT_DIR": str(root),
         "PKG_CONFIG_LIBDIR": ":".join(map(str, folders))},
        hashlib.sha256(repr(roots.packages_of(roots.CLIENT)).encode()).hexdigest())


def prepare() -> None:
    """The program, built from build/qemu."""
    qemu.build(recipe(), config.QEMU, config.CLIENT_OBJECTS)
    say(f"QEMU in the hosts: {(config.QEMU / 'VERSION').read_text(encoding='utf-8').strip()}")


def install(flavour: str) -> None:
    """Put the program where the hosts with that kernel find it."""
    program = config.CLIENT_OBJECTS / qemu.PROGRAM
    target = config.share(flavour) / "bin" / qemu.PROGRAM
    # The program looks for firmware relative to the folder that it is in.
    firmware = config.share(flavour) / "share/qemu"
    if not firmware.is_symlink():
        firmware.parent.mkdir(exist_ok=True)
        firmware.symlink_to("/usr/share/qemu")
    if target.exists() and target.stat().st_mtime_ns == program.stat().st_mtime_ns:
        return
    # A host may be running the old one.
    scratch = target.with_name(target.name + ".new")
    shutil.copy2(program, scratch)
    scratch.replace(target)
