# SPDX-License-Identifier: GPL-2.0
"""lszcrypt and chzcrypt of Debian's package s390-tools, which hosts see in /lab/bin."""

from __future__ import annotations

import shutil
import tempfile

from lab.common import config
from lab.common.run import run
from lab.image import debs

PROGRAMS = ("lszcrypt", "chzcrypt")


def prepare(flavour: str) -> None:
    """Unpack the programs for the hosts of a flavour, unless they are those of the package."""
    deb = debs.fetch(debs.S390_TOOLS)
    folder = config.share(flavour) / "bin"
    stamp = config.share(flavour) / "s390-tools.stamp"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == deb.name:
        return
    with tempfile.TemporaryDirectory() as scratch:
        run(["dpkg-deb", "-x", deb, scratch], error=debs.FetchError)
        for name in PROGRAMS:
            shutil.copy2(f"{scratch}/usr/sbin/{name}", folder / name)
    stamp.write_text(deb.name, encoding="utf-8")
