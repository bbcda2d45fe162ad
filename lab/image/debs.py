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

    instead: advice for the user if the suite does not offer the package.
    source: a source package. Its file is the .dsc, which has the checksums of the others.
    binaries: regular expression on names of packages, one per version of the same software, that
    stand for this one.
    """

    name: str
    suite: str
    versions: str       # regular expression on the upstream version
    instead: str = ""
    source: bool = False
    architecture: str = "amd64"
    binaries: str = ""

    def file_name(self, version: str) -> str:
        """The name of the file in the cache."""
        if self.source:
            return f"{self.name}_{re.sub('^[0-9]+:', '', version)}.dsc"
        return f"{self.name}_{version.replace(':', '%3a')}.deb"


KERNEL = Package("linux-source-7.3", "trixie-backports", r"7\.3\.\d+",
                 "`make ... KERNEL=/path/to/linux` takes a source tree of yours")
QMP = Package("python3-qemu-qmp", "trixie-backports", r"[\d.]+")
# QEMU needs a newer meson than Debian 12 has.
MESON = Package("meson", "bookworm-backports", r"[\d.]+")
QEMU = Package("qemu", "trixie", r"10\.0\.\d+\+ds", source=True)
# The kernel of the Linux guests.
GUEST_KERNEL = Package("linux-image-s390x", "trixie", r"6\.12\.\d+", architecture="s390x",
                       binaries=r"linux-image-6\.12\.\d+\+deb13-s390x")
# User space of zcrypt.
S390_TOOLS = Package("s390-tools", "trixie", r"2\.\d+(\.\d+)*", architecture="s390x")
PINNED = (KERNEL, QMP, MESON, QEMU, GUEST_KERNEL, S390_TOOLS)


@dataclass(frozen=True)
class Offer:
    """A version of a package in a signed index. package: the name there."""

    version: str
    sha256: str
    filename: str
    package: str = ""


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


def source_line(suite: str, architecture: str, uri: str | None = None, kind: str = "deb") -> str:
    """A line for a sources.list, on the machine's mirror. kind: "deb" or "deb-src"."""
    return (f"{kind} [arch={architecture} signed-by={KEYRING}] "
            f"{uri or machine.mirror()} {suite} main")


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
    """The output of apt-cache show or showsrc."""
    found = []
    for record in records.split("\n\n"):
        keys = dict(re.findall(r"^(Package|Version|SHA256|Filename): (\S+)$", record, re.M))
        for name, sha256 in source_files(record).items():
            if name.endswith(".dsc"):
                keys |= {"SHA256": sha256, "Filename": name}
        if len(keys) == 4:
            found.append(Offer(keys["Version"], keys["SHA256"], keys["Filename"],
                               keys["Package"]))
    return found


def source_files(record: str) -> dict[str, str]:
    """The files of a source package and their SHA-256, from its .dsc or from an index."""
    block = re.search(r"^Checksums-Sha256: *\n((?: .*\n?)+)", record, re.M)
    return {name: sha256 for sha256, name in
            re.findall(r"^ ([0-9a-f]{64}) \d+ (\S+)$", block[1] if block else "", re.M)}


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


def _folder(package: Package) -> pathlib.Path:
    """apt's folder for a package's suite."""
    kind = "source" if package.source else package.architecture
    return config.BUILD / "apt" / f"{package.suite}-{kind}"


def _apt(package: Package) -> dict[str, str]:
    """The environment that makes apt use a configuration of our own for a package's suite."""
    folder = _folder(package)
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(
        source_line(package.suite, package.architecture,
                    kind="deb-src" if package.source else "deb") + "\n")
    (folder / "apt.conf").write_text(
        f'Dir::Etc::SourceList "{folder}/sources.list";\n'
        'Dir::Etc::SourceParts "/dev/null";\n'
        'Dir::Etc::Preferences "/dev/null";\n'
        'Dir::Etc::PreferencesParts "/dev/null";\n'
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::State::Status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache";\n'
        f'APT::Architecture "{package.architecture}";\n'
        f'APT::Architectures {{ "{package.architecture}"; }};\n'
        'APT::Sandbox::User "root";\nAcquire::Languages "none";\nAcquire::Retries "3";\n')
    return {"APT_CONFIG": str(folder / "apt.conf")}


def offers_of(package: Package) -> list[Offer]:
    """Versions of a package in the suite's signed index."""
    apt = _apt(package)
    log = config.LOGS / f"apt-{_folder(package).name}.log"
    try:
        logged(f"apt index of {package.suite}", ["apt-get", "update", "--error-on=any"], log, apt)
    except CommandFailed as error:
        raise FetchError(f"the index of {package.suite} cannot be fetched: {error}") from None
    env = {**os.environ, **apt}
    names = [package.name]
    if package.binaries:
        listed = run(["apt-cache", "pkgnames"], env=env).out.split()
        names = [name for name in listed if re.fullmatch(package.binaries, name)]
    show = ["showsrc", "--only-source"] if package.source else ["show"]
    return parse_offers(run(["apt-cache", *show, *names], env=env).out) if names else []


def cached(package: Package, pin: dict[str, str] | None) -> pathlib.Path | None:
    """The pinned file if it is in the cache and verifies."""
    if not pin:
        return None
    path = config.CACHE / package.file_name(pin["version"])
    return path if verifies(path, pin["sha256"]) else None


def verifies(path: pathlib.Path, sha256: str) -> bool:
    """Whether a file is there with this checksum; of a .dsc, whether its other files are, too."""
    if not path.exists() or sha256_of(path) != sha256:
        return False
    others = source_files(path.read_text(encoding="utf-8")) if path.suffix == ".dsc" else {}
    return all(verifies(path.with_name(name), sha) for name, sha in others.items())


def fetch(package: Package) -> pathlib.Path:
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
    path = config.CACHE / package.file_name(offer.version)
    if verifies(path, offer.sha256):
        return path
    say(f"downloading {package.name} {offer.version}")
    folder = _folder(package) / "cache/archives"
    get = ["source", "--download-only", "--only-source"] if package.source else ["download"]
    try:
        logged(f"download of {package.name}",
               ["apt-get", *get, f"{offer.package}={offer.version}"],
               config.LOGS / f"download-{package.name}.log", _apt(package), cwd=folder)
    except CommandFailed as error:
        if re.search(r"^ *E: Failed to fetch .* 404 ", str(error), re.M):
            raise Absent(f"{package.name} {offer.version}: {package.suite} lists it, "
                         "the mirror answers 404") from None
        raise FetchError(f"{package.name} {offer.version} cannot be downloaded: {error}") from None
    pattern = path.name if package.source else f"{offer.package}_*.deb"
    got = max(folder.glob(pattern), key=lambda p: p.stat().st_mtime)
    if not verifies(got, offer.sha256):
        got.unlink()
        raise FetchError(f"{package.name} {offer.version}: the download has a wrong SHA-256")
    if package.source:
        for name in source_files(got.read_text(encoding="utf-8")):
            (folder / name).replace(config.CACHE / name)
    got.replace(path)
    return path


def newest(package: Package) -> Offer:
    """The newest version that the mirror has, without regard to pins; its file is in the cache."""
    return first_present(package, candidates(package, offers_of(package)))[0]


def have_python_modules() -> bool:
    """Whether the pinned modules are in build/python."""
    stamp = config.BUILD / "python/.from"
    pins = read_pins()
    wanted = " ".join(package.file_name(pins[package.name]["version"])
                      for package in (QMP, MESON) if package.name in pins)
    return stamp.exists() and stamp.read_text() == wanted


def python_modules() -> None:
    """Unpack python3-qemu-qmp and meson to build/python, where lab.guest.qmp and lab.image.qemu
    look for them."""
    paths = [fetch(package) for package in (QMP, MESON)]
    target = config.BUILD / "python"
    stamp = target / ".from"
    names = " ".join(path.name for path in paths)
    if stamp.exists() and stamp.read_text() == names:
        return
    scratch = config.BUILD / "python.new"
    for folder in (scratch, target):
        shutil.rmtree(folder, ignore_errors=True)
    for path in paths:
        run(["dpkg-deb", "-x", path, scratch], error=FetchError)
    (scratch / "usr/lib/python3/dist-packages").rename(target)
    shutil.rmtree(scratch)
    stamp.write_text(names)
