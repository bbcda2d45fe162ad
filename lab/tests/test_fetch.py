# SPDX-License-Identifier: GPL-2.0
"""Pins: the chosen version if they are present, gone, or do not match."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import pathlib
import shutil
import threading
from collections.abc import Callable, Iterator

from lab.common.errors import LabError
from lab.common.run import run
from lab.image import debs, roots
from lab.image.debs import Offer, Package
from lab.image.roots import applets, changed_packages
from lab.tests.test_env import replaced, settings

LINUX = Package("linux-source-7.3", "suite", r"7\.3\.\d+")
SOURCE = Package("lab-source", "suite", r"10\.0\.\d+\+ds", source=True)
OFFERS = [Offer("7.3.4-1~bpo13+1", "aa", "pool/1"), Offer("7.3.10-1~bpo13+1", "bb", "pool/2"),
          Offer("7.4.1-1", "cc", "pool/3")]


class Mirror:
    """A Debian mirror on this machine: one unsigned flat repository per suite."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        handler = functools.partial(Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def line(self, suite: str, architecture: str, uri: str | None = None,
             kind: str = "deb") -> str:
        """In place of debs.source_line()."""
        assert uri != ""
        return f"{kind} [arch={architecture} trusted=yes] {self.uri}/{suite} ./"

    def add(self, suite: str, name: str, version: str, depends: str = "") -> pathlib.Path:
        """A package, and its entry in the index of the suite."""
        tree, pool = self.folder / "tree", self.folder / suite
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        pool.mkdir(exist_ok=True)
        control = (f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
                   f"Maintainer: lab <lab@invalid>\nDescription: a test\n")
        control += f"Depends: {depends}\n" if depends else ""
        (tree / "DEBIAN/control").write_text(control)
        (tree / "usr/share").mkdir(parents=True)
        (tree / "usr/share" / name).write_text(version)
        path = pool / f"{name}_{version}_amd64.deb"
        run(["dpkg-deb", "--root-owner-group", "--build", tree, path], error=LabError)
        with (pool / "Packages").open("a") as index:
            index.write(f"{control}Filename: ./{path.name}\nSize: {path.stat().st_size}\n"
                        f"SHA256: {debs.sha256_of(path)}\n\n")
        release(pool, suite, "Packages")
        return path

    def add_source(self, suite: str, name: str, version: str) -> pathlib.Path:
        """A source package, and its entry in the index of the suite; returns its .dsc."""
        pool = self.folder / suite
        pool.mkdir(exist_ok=True)
        stem = f"{name}_{version.partition(':')[2]}"
        archive, dsc = pool / f"{stem}.tar.xz", pool / f"{stem}.dsc"
        archive.write_bytes(version.encode())
        head = f"Format: 3.0 (native)\n{{}}: {name}\nBinary: {name}\nVersion: {version}\n"
        dsc.write_text(f"{head.format('Source')}{checksums([archive])}")
        with (pool / "Sources").open("a") as index:
            index.write(f"{head.format('Package')}Directory: .\n{checksums([dsc, archive])}\n")
        release(pool, suite, "Sources")
        return dsc

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()


def checksums(paths: list[pathlib.Path]) -> str:
    """The files of a source package, as a .dsc and an index list them."""
    text = ""
    for field, algorithm in (("Files", "md5"), ("Checksums-Sha256", "sha256")):
        text += f"{field}:\n" + "".join(
            f" {hashlib.new(algorithm, path.read_bytes()).hexdigest()} {path.stat().st_size} "
            f"{path.name}\n" for path in paths)
    return text


def release(pool: pathlib.Path, suite: str, index: str) -> None:
    """The Release file of a suite with one index."""
    (pool / "Release").write_text(
        f"Codename: {suite}\nSuite: {suite}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
        f" {debs.sha256_of(pool / index)} {(pool / index).stat().st_size} {index}\n")


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that prints nothing."""

    def log_message(self, format: str, *args: object) -> None:  # pylint: disable=W0622
        """No log."""


@contextlib.contextmanager
def mirror(folder: pathlib.Path) -> Iterator[tuple[Mirror, list[str]]]:
    """A mirror of our own with an empty build/ beside it; and the lines that the lab prints."""
    said: list[str] = []
    (folder / "mirror").mkdir()
    served = Mirror(folder / "mirror")
    own = settings(BUILD=folder / "build", CACHE=folder / "build/cache", LOGS=folder / "logs")
    with contextlib.ExitStack() as stack:
        stack.callback(served.close)
        for owner, name, value in (
                (debs, "source_line", served.line), (debs, "PINS", folder / "pins.json"),
                (debs, "say", said.append), (roots, "say", said.append),
                (debs, "config", own), (roots, "config", own)):
            stack.enter_context(replaced(owner, name, value))
        yield served, said


def warnings(said: list[str]) -> list[str]:
    """The lines of warning."""
    return [line for text in said for line in text.splitlines() if "warning" in line]


def check_replaced(said: list[str], pinned: str, taken: str) -> None:
    """One line names the package, the pinned and the taken version."""
    lines = warnings(said)
    assert len(lines) == 1, said
    assert all(word in lines[0] for word in ("linux-source-7.3", pinned, taken)), lines


def check_refused(call: Callable[[], object], *words: str) -> None:
    """A FetchError with these words."""
    try:
        call()
    except debs.FetchError as error:
        assert all(word in str(error) for word in words), error
        return
    raise AssertionError("taken")


def pin(path: pathlib.Path) -> None:
    """Pin a package's file."""
    name, version, _ = path.name.split("_")
    debs.write_pins({name: {"suite": "suite", "version": version,
                            "sha256": debs.sha256_of(path)}}, debs.PINS)


def test_pinned_version() -> None:
    """The pinned version comes first; then from the newest: 10 is newer than 4, 7.4 will not do."""
    found = debs.candidates(LINUX, OFFERS, {"version": "7.3.4-1~bpo13+1", "sha256": "aa"})
    assert found == OFFERS[:2], found
    assert debs.candidates(LINUX, OFFERS) == [OFFERS[1], OFFERS[0]]
    assert debs.candidates(LINUX, OFFERS, {"version": "7.3.3-1", "sha256": "00"})[0] == OFFERS[1]


def test_pin_present(tmp: pathlib.Path) -> None:
    """The pinned version is taken though there is a newer one, without a warning."""
    with mirror(tmp) as (served, said):
        pin(served.add("suite", LINUX.name, "7.3.4-1"))
        served.add("suite", LINUX.name, "7.3.5-1")
        assert debs.fetch(LINUX).name == "linux-source-7.3_7.3.4-1.deb"
        assert not warnings(said), said


def test_pin_gone_from_index(tmp: pathlib.Path) -> None:
    """The index does not list the pinned version: the newest one that will do, one warning."""
    with mirror(tmp) as (served, said):
        pin(served.add("other", LINUX.name, "7.3.4-1"))
        for version in ("7.3.5-1", "7.3.10-1", "7.4.1-1"):
            served.add("suite", LINUX.name, version)
        path = debs.fetch(LINUX)
        assert path.name == "linux-source-7.3_7.3.10-1.deb" and path.exists(), path
        check_replaced(said, "7.3.4-1", "7.3.10-1")


def test_pin_answers_404(tmp: pathlib.Path) -> None:
    """The index lists versions that the mirror does not have: the next one, one warning."""
    with mirror(tmp) as (served, said):
        path = served.add("suite", LINUX.name, "7.3.4-1")
        pin(path)
        path.unlink()
        served.add("suite", LINUX.name, "7.3.5-1")
        served.add("suite", LINUX.name, "7.3.6-1").unlink()
        assert debs.fetch(LINUX).name == "linux-source-7.3_7.3.5-1.deb"
        check_replaced(said, "7.3.4-1", "7.3.5-1")
        assert debs.newest(LINUX).version == "7.3.5-1"


def test_name_changes_with_version(tmp: pathlib.Path) -> None:
    """Each version of a kernel has a package name of its own; the cache and the pin do not."""
    package = dataclasses.replace(LINUX, name="image", binaries=r"image-7\.3\.\d+")
    with mirror(tmp) as (served, said):
        newest = served.add("suite", "image-7.3.6", "7.3.6-1")
        served.add("suite", "image-7.3.5", "7.3.5-1")
        served.add("suite", "image-7.3.5-dbg", "7.3.5-1")
        debs.write_pins({"image": {"suite": "suite", "version": "7.3.6-1",
                                   "sha256": debs.sha256_of(newest)}}, debs.PINS)
        newest.unlink()
        assert debs.fetch(package).name == "image_7.3.5-1.deb"
        lines = warnings(said)
        assert len(lines) == 1 and "7.3.6-1" in lines[0] and "7.3.5-1" in lines[0], said


def pin_source(dsc: pathlib.Path, version: str) -> None:
    """Pin a source package."""
    debs.write_pins({SOURCE.name: {"suite": SOURCE.suite, "version": version,
                                   "sha256": debs.sha256_of(dsc)}}, debs.PINS)


def test_source_pin_present(tmp: pathlib.Path) -> None:
    """All files of a source package come into the cache, and serve without the mirror."""
    with mirror(tmp) as (served, said):
        pin_source(served.add_source("suite", SOURCE.name, "1:10.0.2+ds-1"), "1:10.0.2+ds-1")
        served.add_source("suite", SOURCE.name, "1:10.0.3+ds-1")
        dsc = debs.fetch(SOURCE)
        assert dsc.name == "lab-source_10.0.2+ds-1.dsc" and not warnings(said), said
        assert dsc.with_suffix(".tar.xz").read_text() == "1:10.0.2+ds-1"
        shutil.rmtree(tmp / "mirror/suite")
        assert debs.fetch(SOURCE) == dsc
        dsc.with_suffix(".tar.xz").write_text("damaged")
        check_refused(lambda: debs.fetch(SOURCE), "index of suite")


def test_source_pin_gone(tmp: pathlib.Path) -> None:
    """The index does not list the pinned source: the newest that will do, one warning."""
    with mirror(tmp) as (served, said):
        pin_source(served.add_source("other", SOURCE.name, "1:10.0.2+ds-1"), "1:10.0.2+ds-1")
        for version in ("1:10.0.9+ds-1", "1:10.0.13+ds-1", "1:10.1.0+ds-1"):
            served.add_source("suite", SOURCE.name, version)
        assert debs.fetch(SOURCE).name == "lab-source_10.0.13+ds-1.dsc"
        lines = warnings(said)
        assert len(lines) == 1 and "10.0.2" in lines[0] and "10.0.13" in lines[0], said


def test_source_damaged(tmp: pathlib.Path) -> None:
    """A tar archive that does not verify is refused."""
    with mirror(tmp) as (served, _):
        dsc = served.add_source("suite", SOURCE.name, "1:10.0.2+ds-1")
        pin_source(dsc, "1:10.0.2+ds-1")
        dsc.with_suffix(".tar.xz").write_text("x" * len("1:10.0.2+ds-1"))
        check_refused(lambda: debs.fetch(SOURCE), SOURCE.name, "10.0.2")


def test_damaged_download(tmp: pathlib.Path) -> None:
    """A file that does not verify is refused, and no other version is taken for it."""
    with mirror(tmp) as (served, said):
        path = served.add("suite", LINUX.name, "7.3.4-1")
        pin(path)
        served.add("suite", LINUX.name, "7.3.3-1")
        path.write_bytes(b"x" * path.stat().st_size)
        check_refused(lambda: debs.fetch(LINUX), LINUX.name, "7.3.4-1")
        assert not warnings(said), said


def test_kernel_not_offered(tmp: pathlib.Path) -> None:
    """The index does not list the kernel source: the message names KERNEL= as the way out."""
    kernel = dataclasses.replace(debs.KERNEL, suite="suite")
    with mirror(tmp) as (served, _):
        served.add("suite", "other", "1-1")
        check_refused(lambda: debs.fetch(kernel), kernel.name, "offers no version",
                      "make ... KERNEL=/path/to/linux")


def test_kernel_answers_404(tmp: pathlib.Path) -> None:
    """The mirror has no version of the kernel source that it lists: the same way out."""
    kernel = dataclasses.replace(debs.KERNEL, suite="suite")
    with mirror(tmp) as (served, _):
        served.add("suite", kernel.name, "7.3.4-1").unlink()
        check_refused(lambda: debs.fetch(kernel), "7.3.4-1", "404",
                      "make ... KERNEL=/path/to/linux")


def tiny(folder: pathlib.Path) -> roots.Root:
    """A root file system of two packages."""
    return roots.Root("tiny", "amd64", ("suite",), ("lab-tool",), folder / "tiny", spare="next")


def test_root_answers_404(tmp: pathlib.Path) -> None:
    """A package that the mirror lists but lacks comes from the spare suite, and no other one."""
    with mirror(tmp) as (served, said):
        tool = served.add("suite", "lab-tool", "1-1", depends="lab-library")
        library = served.add("suite", "lab-library", "1.1-1")
        debs.write_pins({"tiny": roots.describe_archives([tool, library])}, debs.PINS)
        library.unlink()
        served.add("next", "lab-tool", "2-1", depends="lab-library")
        served.add("next", "lab-library", "1.2-1")
        root = tiny(tmp)
        assert roots.unpack(root)
        found = {name: text.split()[0] for name, text in roots.packages_of(root).items()}
        assert found == {"lab-tool": "1-1", "lab-library": "1.2-1"}, found
        assert (root.folder / "usr/share/lab-library").read_text() == "1.2-1"
        lines = warnings(said)
        assert len(lines) == 1 and "lab-library 1.1-1 -> 1.2-1" in lines[0], said


def test_root_replacement_needs_newer_packages(tmp: pathlib.Path) -> None:
    """They come from the spare suite, too, though the first suite has older ones."""
    with mirror(tmp) as (served, _):
        served.add("suite", "lab-tool", "1-1", depends="lab-library")
        served.add("suite", "lab-library", "1.1-1").unlink()
        served.add("suite", "lab-base", "1-1")
        served.add("next", "lab-library", "1.2-1", depends="lab-base (>= 2)")
        served.add("next", "lab-base", "2-1")
        root = tiny(tmp)
        assert roots.unpack(root)
        found = {name: text.split()[0] for name, text in roots.packages_of(root).items()}
        assert found == {"lab-tool": "1-1", "lab-library": "1.2-1", "lab-base": "2-1"}, found


def test_root_without(tmp: pathlib.Path) -> None:
    """A dependency that the root does not need stays out, as if it were installed."""
    with mirror(tmp) as (served, _):
        served.add("suite", "lab-tool", "1-1", depends="lab-library (>= 1:1)")
        served.add("suite", "lab-library", "1:10-1")
        root = dataclasses.replace(tiny(tmp), without=("lab-library",))
        assert roots.unpack(root)
        assert list(roots.packages_of(root)) == ["lab-tool"], roots.packages_of(root)


def test_root_updated(tmp: pathlib.Path) -> None:
    """A newer version in the suite: one warning; leftovers of the older one do not count."""
    with mirror(tmp) as (served, said):
        served.add("suite", "lab-tool", "1-1")
        root = tiny(tmp)
        assert roots.unpack(root) and not warnings(said)
        debs.write_pins({"tiny": roots.packages_of(root)}, debs.PINS)
        served.add("suite", "lab-tool", "10-1")
        (tmp / "tiny.json").unlink()
        assert roots.unpack(root)
        assert roots.packages_of(root)["lab-tool"].startswith("10-1 "), roots.packages_of(root)
        lines = warnings(said)
        assert len(lines) == 1 and "lab-tool 1-1 -> 10-1" in lines[0], said


def test_root_absent(tmp: pathlib.Path) -> None:
    """No suite has a package: the message names it."""
    with mirror(tmp) as (served, _):
        for suite in ("suite", "next"):
            served.add(suite, "lab-tool", "1-1").unlink()
        check_refused(lambda: roots.unpack(tiny(tmp)), "lab-tool", "404")


def test_changed_checksum() -> None:
    """The same version with other content is refused."""
    check_refused(lambda: debs.candidates(LINUX, OFFERS, {"version": "7.3.4-1~bpo13+1",
                                                          "sha256": "ff"}), "SHA-256")


def test_nothing_fits() -> None:
    """No version of the wanted kernel."""
    check_refused(lambda: debs.candidates(LINUX, OFFERS[2:]), "linux-source-7.3", "7.3.")


def test_index() -> None:
    """Records of apt-cache show; one without a checksum is no offer."""
    text = ("Package: p\nVersion: 1-1\nFilename: pool/p.deb\nSHA256: 12ab\nDescription: x\n y\n\n"
            "Package: p\nVersion: 1-2\nFilename: pool/p2.deb\n")
    assert debs.parse_offers(text) == [Offer("1-1", "12ab", "pool/p.deb", "p")]
    assert debs.upstream("1:7.3.4+ds-1~bpo13+1") == "7.3.4+ds"


def test_damaged_cache(tmp: pathlib.Path) -> None:
    """A file in the cache counts only with the pinned checksum."""
    with replaced(debs, "config", settings(CACHE=tmp)):
        pinned = {"version": "1:2-1", "sha256": hashlib.sha256(b"good").hexdigest()}
        path = tmp / "linux-source-7.3_1%3a2-1.deb"
        assert debs.cached(LINUX, pinned) is None
        path.write_bytes(b"bad")
        assert debs.cached(LINUX, pinned) is None
        path.write_bytes(b"good")
        assert debs.cached(LINUX, pinned) == path


def test_pins_are_complete() -> None:
    """lab/image/pins.json names every download with version and checksum."""
    pins = debs.read_pins()
    for package in debs.PINNED:
        found = pins[package.name]
        assert found["suite"] == package.suite and len(found["sha256"]) == 64 and found["version"]
    assert "busybox" in pins["root-s390x"]
    assert all(len(value.split()[1]) == 64 for value in pins["root-s390x"].values())


def test_changed_packages() -> None:
    """Versions that differ from the pins are named; the same one with other content is refused."""
    pinned = {"a": "1 aa", "b": "1 bb", "c": "1 cc"}
    assert changed_packages(pinned, dict(pinned)) == []
    assert changed_packages(pinned, {"a": "1 aa", "b": "2 xx", "d": "1 dd"}) == [
        "b 1 -> 2", "c is gone", "d is new"]
    try:
        changed_packages(pinned, {**pinned, "b": "1 xx"})
        raise AssertionError("taken")
    except debs.FetchError as error:
        assert "SHA-256" in str(error)


def test_busybox_commands() -> None:
    """The list in the binary; a binary without one is refused."""
    names = ["[", "[[", "awk", "init", "mount", "setsid", "sh"]
    assert applets(b"xx\0" + "\0".join(names).encode() + b"\0\0yy") == names
    try:
        applets(b"xx")
        raise AssertionError("taken")
    except debs.FetchError:
        pass
