# SPDX-License-Identifier: GPL-2.0
"""Where things are, and the figures that more than one module needs."""

from __future__ import annotations

import os
import pathlib

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("LAB_BUILD") or REPO / "build").resolve()
OUT = pathlib.Path(os.environ.get("LAB_OUT") or REPO / "out").resolve()

CACHE = BUILD / "cache"
LINUX = BUILD / "linux"
QEMU = BUILD / "qemu"
QEMU_OBJECTS = BUILD / "qemu-machine"
CLIENT_OBJECTS = BUILD / "qemu-client"
CLIENT_ROOT = BUILD / "root-client"
S390_ROOT = BUILD / "root-s390x"
IMAGE = BUILD / "root-s390x.erofs"
LOGS = OUT / "logs"

# Kernels and the fragments of their configurations in lab/image/kernel_config. The first two are
# built for every command that needs them, "full" for `make test-long`, "cover" for `make coverage`.
# "full" instruments the whole kernel, "debug" only the code under test (lab.kernel).
FRAGMENTS = {
    "fast": ("common", "fast"),
    "debug": ("common", "debug"),
    "full": ("common", "debug"),
    "cover": ("common", "fast", "cover"),
    "kcsan": ("common", "fast", "kcsan"),
}
FLAVOURS = ("fast", "debug")
ARCH = "s390"
CROSS_COMPILE = "s390x-linux-gnu-"
SELFTEST = "drivers/s390x/vfio_ap"


def objects(flavour: str) -> pathlib.Path:
    """The O= directory of a kernel build."""
    return BUILD / "kernel" / flavour


def bzimage(flavour: str) -> pathlib.Path:
    """The kernel that the emulator loads."""
    return objects(flavour) / "arch/s390/boot/bzImage"


def share(flavour: str) -> pathlib.Path:
    """The folder that hosts with that kernel mount at /lab: modules, selftests, bin."""
    return BUILD / f"share-{flavour}"
