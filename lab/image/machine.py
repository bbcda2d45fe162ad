# SPDX-License-Identifier: GPL-2.0
"""The build machine: its requirements, checked before any work, and its packages."""

from __future__ import annotations

import os
import pathlib
import platform
import shutil
import tempfile
from collections.abc import Sequence

from lab.common import config
from lab.common.errors import LabError
from lab.common.progress import say
from lab.common.run import run

# Debian packages with the programs that the commands of the lab call.
PACKAGES = (
    "bc",
    "bison",
    "build-essential",
    "clang-14",
    "codespell",
    "cpio",
    "debian-archive-keyring",
    "erofs-utils",
    "flake8",
    "flex",
    "gcc-s390x-linux-gnu",
    "git",
    "kmod",
    "libattr1-dev",
    "libc6-dev-s390x-cross",
    "libclang-rt-14-dev",
    "libelf-dev",
    "libglib2.0-dev",
    "libslirp-dev",
    "libssl-dev",
    "llvm-14",
    "mmdebstrap",
    "mypy",
    "ninja-build",
    "pkg-config",
    "python3",
    "python3-distlib",
    "python3-git",
    "python3-ply",
    "python3-pytest",
    "python3-pytest-timeout",
    "python3-venv",
    "rsync",
    "shellcheck",
    "sparse",
    "spin",
    "xz-utils",
    "zlib1g-dev",
)

# GiB: an empty build/ grows to 6 (both kernels, QEMU), with 2 in between; and when kernels are
# there.
DISK_FRESH = 8
DISK_AGAIN = 2

MIRROR_TIMEOUT = 20


class EnvError(LabError):
    """The machine cannot do it; str() is one line for the user."""


def _os_release() -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        text = pathlib.Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return found
    for line in text.splitlines():
        key, _, value = line.partition("=")
        found[key] = value.strip('"')
    return found


def check_machine() -> None:
    """Debian 12 on amd64, root."""
    release = _os_release()
    name = release.get("PRETTY_NAME", "an unknown system")
    if release.get("ID") != "debian" or release.get("VERSION_ID") != "12":
        raise EnvError(f"this machine runs {name}; the lab is made for Debian 12 (bookworm)")
    if platform.machine() != "x86_64":
        raise EnvError(f"this machine is {platform.machine()}; the lab is made for x86_64 (amd64)")
    if os.geteuid() != 0:
        raise EnvError("not root: packages and root file systems need it; run make as root")


def check_disk() -> None:
    """Enough room in build/."""
    fresh = any(not config.bzimage(flavour).exists() for flavour in config.FLAVOURS)
    need = DISK_FRESH if fresh else DISK_AGAIN
    config.BUILD.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(config.BUILD).free / 2**30
    if free < need:
        raise EnvError(f"{config.BUILD}: {need} GB of free disk space are needed, "
                       f"{free:.1f} GB are there")


def mirror() -> str:
    """The Debian mirror in the machine's own apt sources: "scheme://host/path/"."""
    done = run(["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)",
                "Created-By: Packages"])
    for line in done.out.splitlines():
        release, component, uri = line.split(" ", 2)
        if release in ("bookworm", "stable", "oldstable") and component == "main":
            return uri.rstrip("/") + "/"
    raise EnvError("this machine's apt sources name no mirror of Debian 12 (bookworm main)")


def apt_settings() -> list[str]:
    """The machine's settings for downloads (proxies and the like), in apt.conf syntax."""
    done = run(["apt-config", "dump", "Acquire::http", "Acquire::https",
                "Acquire::ftp", "Acquire::Retries"])
    return [line for line in done.out.splitlines() if not line.endswith(' "";')]


def check_network() -> None:
    """The mirror answers, by apt's own means (so that its proxy settings count)."""
    uri = mirror()
    with tempfile.TemporaryDirectory() as folder:
        done = run(["/usr/lib/apt/apt-helper", "-o", f"Acquire::http::Timeout={MIRROR_TIMEOUT}",
                    "-o", f"Acquire::https::Timeout={MIRROR_TIMEOUT}", "-o", "Acquire::Retries=1",
                    "-o", "APT::Sandbox::User=root",
                    "download-file", f"{uri}dists/bookworm/InRelease", f"{folder}/InRelease"])
    if done.rc:
        errors = [line for line in done.err.splitlines() if line.startswith(("E:", "W:"))]
        raise EnvError(f"the Debian mirror {uri} cannot be reached: "
                       f"{' '.join(errors)[:300] or 'no answer'}")


def missing_packages(wanted: Sequence[str] = PACKAGES) -> list[str]:
    """Those of the packages that are not installed."""
    done = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted])
    installed = {line.split()[0] for line in done.out.splitlines()
                 if line.endswith(" installed")}
    return [name for name in wanted if name not in installed]


def install_packages(wanted: Sequence[str] = PACKAGES) -> None:
    """Install missing packages, asking nothing; waits for another apt that runs."""
    names = missing_packages(wanted)
    if not names:
        return
    say(f"installing {len(names)} packages: {' '.join(names)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "-q"]
    log = config.OUT / "logs/apt.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        for args in (["update"], ["install", "-y", "--no-install-recommends", *names]):
            done = run(["apt-get", *options, *args], env=env, merge=True)
            stream.write(done.stdout)
            stream.flush()
            # A broken foreign source must not stop us: the install tells whether it matters.
            if done.rc and args[0] == "install":
                errors = [line for line in log.read_text(errors="replace").splitlines()
                          if line.startswith("E:")]
                raise EnvError(f"apt-get cannot install {' '.join(names)}: "
                               f"{' '.join(errors)[:300]} (log: {log})")


def prepare(network: bool) -> None:
    """All checks, then the packages. network: something has to be downloaded anyway."""
    check_machine()
    check_disk()
    if network or missing_packages():
        check_network()
    install_packages()
