# SPDX-License-Identifier: GPL-2.0
"""Downloads: through apt, with a private configuration, pinned by version and SHA-256.

The machine's apt sources are read for the mirror and never changed. lab/image/pins.json names for
each download the version and checksum that were tested; `make pin` rewrites it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
from dataclasses import dataclass
from functools import cmp_to_key
from typing import Any

from lab.common import config
from lab.common.errors import LabError
from lab.common.progress import say
from lab.common.run import CommandFailed, logged, run
from lab.image import machine

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PINS = config.REPO / "lab/image/pins.json"


class FetchError(LabError):
    """A download failed or does not verify; str() is one line for the user."""


class Absent(FetchError):
    """The index lists a version that the mirror does not have (404)."""


@dataclass(frozen=True)
class Package:
    """A package to download as a file: from which suite, and which versions will do.

    instead: what the user can do if the suite does not offer the package.
    """

    name: str
    suite: str
    versions: str       # regular expression on the upstream version
    instead: str = ""


KERNEL = Package("linux-source-7.3", "trixie-backports", r"7\.3\.\d+",
                 "`make ... KERNEL=/path/to/linux` takes a source tree of yours")
QMP = Package("python3-qemu-qmp", "trixie-backports", r"[\d.]+")


@dataclass(frozen=True)
class Offer:
    """A version of a package in a signed index."""

    version: str
    sha256: str
    filename: str


def read_pins(path: pathlib.Path | None = None) -> dict[str, Any]:
    """lab/image/pins.json; {} without it."""
    path = path or PINS
    if not path.exists():
        return {}
    pins = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(pins, dict)
    return pins


def write_pins(pins: dict[str, Any], path: pathlib.Path = PINS) -> None:
    """Write lab/image/pins.json, sorted."""
    path.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def source_line(suite: str, architecture: str, uri: str | None = None) -> str:
    """A line for a sources.list, on the machine's mirror."""
    return (f"deb [arch={architecture} signed-by={KEYRING}] {uri or machine.mirror()} {suite} main")


def sha256_of(path: pathlib.Path) -> str:
    """The checksum of a file."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()


def compare_versions(one: str, two: str) -> int:
    """-1, 0, 1 as dpkg orders them."""
    for relation, answer in (("lt", -1), ("eq", 0)):
        if run(["dpkg", "--compare-versions", one, relation, two]).rc == 0:
            return answer
    return 1


def upstream(version: str) -> str:
    """"1:7.3.4-1~bpo13+1" -> "7.3.4"."""
    return re.sub(r"-[^-]*$", "", re.sub(r"^\d+:", "", version))


def parse_offers(records: str) -> list[Offer]:
    """The output of apt-cache show."""
    found = []
    for record in records.split("\n\n"):
        keys = dict(re.findall(r"^(Version|SHA256|Filename): (\S+)$", record, re.M))
        if len(keys) == 3:
            found.append(Offer(keys["Version"], keys["SHA256"], keys["Filename"]))
    return found


def candidates(package: Package, offers: list[Offer],
               pin: dict[str, str] | None = None) -> list[Offer]:
    """The offers to try, in this order: the pinned one, then from the newest that will do."""
    first = [offer for offer in offers if pin and offer.version == pin["version"]]
    for offer in first:
        if pin and offer.sha256 != pin["sha256"]:
            raise FetchError(f"{package.name} {offer.version}: the mirror has SHA-256 "
                             f"{offer.sha256}, pinned is {pin['sha256']}")
    fit = [o for o in offers if re.fullmatch(package.versions, upstream(o.version))]
    order = cmp_to_key(compare_versions)
    fit.sort(key=lambda offer: order(offer.version), reverse=True)
    found = first + [offer for offer in fit if offer not in first]
    if not found:
        wanted = f" {package.versions.replace(chr(92), '')} of it" if offers else ""
        raise FetchError(f"{package.name}: {package.suite} offers no version{wanted}"
                         f"{package.instead and '; '}{package.instead}")
    return found


def _apt(suite: str) -> dict[str, str]:
    """The environment that makes apt use a configuration of our own for a suite."""
    folder = config.BUILD / "apt" / suite
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(source_line(suite, "amd64") + "\n")
    (folder / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{folder}/sources.list";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        'Dir::Etc::Preferences "/dev/null";\n'
        'Dir::Etc::PreferencesParts "/dev/null";\n'
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::State::Status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache";\n'
        'APT::Architecture "amd64";\nAPT::Architectures { "amd64"; };\n'
        'APT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Retries "3";\n')
    return {"APT_CONFIG": str(folder / "apt.conf")}


def offers_of(package: Package) -> list[Offer]:
    """What the suite's signed index has of a package."""
    apt = _apt(package.suite)
    log = config.LOGS / f"apt-{package.suite}.log"
    try:
        logged(f"apt index of {package.suite}", ["apt-get", "update", "--error-on=any"], log, apt)
    except CommandFailed as error:
        raise FetchError(f"the index of {package.suite} cannot be fetched: {error}") from None
    done = run(["apt-cache", "show", package.name], env={**os.environ, **apt})
    return parse_offers(done.out)


def cached(package: Package, pin: dict[str, str] | None) -> pathlib.Path | None:
    """The pinned file if it is in the cache and verifies."""
    if not pin:
        return None
    path = config.CACHE / f"{package.name}_{pin['version'].replace(':', '%3a')}.deb"
    if path.exists() and sha256_of(path) == pin["sha256"]:
        return path
    return None


def deb(package: Package) -> pathlib.Path:
    """The package's file, from the cache or the mirror, verified.

    If the mirror does not have the pinned version any more, the newest one that it has."""
    pin = read_pins().get(package.name)
    path = cached(package, pin)
    if path:
        return path
    offer, path = first_present(package, candidates(package, offers_of(package), pin))
    if pin and offer.version != pin["version"]:
        say(f"warning: {package.name} {pin['version']} (pinned) is gone from {package.suite}; "
            f"taking {offer.version} (`make pin` records it)")
    return path


def first_present(package: Package, offers: list[Offer]) -> tuple[Offer, pathlib.Path]:
    """The first offer that the mirror has, and its file."""
    absent = None
    for offer in offers:
        try:
            return offer, download(package, offer)
        except Absent as error:
            absent = absent or error
    raise FetchError(f"{absent}{package.instead and '; '}{package.instead}")


def download(package: Package, offer: Offer) -> pathlib.Path:
    """Bring an offer into the cache; a broken-off download is continued."""
    config.CACHE.mkdir(parents=True, exist_ok=True)
    path = config.CACHE / f"{package.name}_{offer.version.replace(':', '%3a')}.deb"
    if path.exists() and sha256_of(path) == offer.sha256:
        return path
    say(f"downloading {package.name} {offer.version}")
    folder = config.BUILD / "apt" / package.suite / "cache/archives"
    try:
        logged(f"download of {package.name}",
               ["apt-get", "download", f"{package.name}={offer.version}"],
               config.LOGS / f"download-{package.name}.log", _apt(package.suite), cwd=folder)
    except CommandFailed as error:
        if re.search(r"^ *E: Failed to fetch .* 404 ", str(error), re.M):
            raise Absent(f"{package.name} {offer.version}: {package.suite} lists it, "
                         "the mirror answers 404") from None
        raise FetchError(f"{package.name} {offer.version} cannot be downloaded: {error}") from None
    got = max(folder.glob(f"{package.name}_*.deb"), key=lambda p: p.stat().st_mtime)
    if sha256_of(got) != offer.sha256:
        got.unlink()
        raise FetchError(f"{package.name} {offer.version}: the download has a wrong SHA-256")
    got.replace(path)
    return path


def newest(package: Package) -> Offer:
    """The newest version that the mirror has, whatever is pinned; its file is in the cache."""
    return first_present(package, candidates(package, offers_of(package)))[0]


def python_modules() -> None:
    """Unpack python3-qemu-qmp to build/python, where lab.qemu_client looks for it."""
    path = deb(QMP)
    target = config.BUILD / "python"
    stamp = target / ".from"
    if stamp.exists() and stamp.read_text() == path.name:
        return
    scratch = config.BUILD / "python.new"
    for folder in (scratch, target):
        shutil.rmtree(folder, ignore_errors=True)
    run(["dpkg-deb", "-x", path, scratch], error=FetchError)
    (scratch / "usr/lib/python3/dist-packages").rename(target)
    shutil.rmtree(scratch)
    stamp.write_text(path.name)
