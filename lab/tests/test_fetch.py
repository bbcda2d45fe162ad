# SPDX-License-Identifier: GPL-2.0
"""Pins: what is taken when they are there, gone, or do not match."""

from __future__ import annotations

import hashlib
import pathlib

from lab.common import config
from lab.image import debs
from lab.image.debs import Offer, Package
from lab.image.roots import applets, changed_packages

LINUX = Package("linux-source-7.3", "suite", r"7\.3\.\d+")
OFFERS = [Offer("7.3.4-1~bpo13+1", "aa", "pool/1"), Offer("7.3.10-1~bpo13+1", "bb", "pool/2"),
          Offer("7.4.1-1", "cc", "pool/3")]


def test_pinned_version() -> None:
    """The pinned version is taken as long as it is offered."""
    assert debs.choose(LINUX, OFFERS, {"version": "7.3.4-1~bpo13+1", "sha256": "aa"}) == OFFERS[0]


def test_pin_gone() -> None:
    """The newest that will do, with one line of warning; 10 is newer than 4, 7.4 will not do."""
    said: list[str] = []
    pin = {"version": "7.3.3-1", "sha256": "00"}
    assert debs.choose(LINUX, OFFERS, pin, said.append) == OFFERS[1]
    assert len(said) == 1 and "7.3.3-1" in said[0] and "7.3.10-1" in said[0], said
    assert debs.choose(LINUX, OFFERS, None, said.append) == OFFERS[1] and len(said) == 1


def test_changed_checksum() -> None:
    """The same version with other content is refused."""
    try:
        debs.choose(LINUX, OFFERS, {"version": "7.3.4-1~bpo13+1", "sha256": "ff"})
        raise AssertionError("taken")
    except debs.FetchError as error:
        assert "SHA-256" in str(error)


def test_nothing_fits() -> None:
    """No version of the wanted kernel."""
    try:
        debs.choose(LINUX, OFFERS[2:], None)
        raise AssertionError("taken")
    except debs.FetchError as error:
        assert "linux-source-7.3" in str(error)


def test_index() -> None:
    """Records of apt-cache show; one without a checksum is no offer."""
    text = ("Package: p\nVersion: 1-1\nFilename: pool/p.deb\nSHA256: 12ab\nDescription: x\n y\n\n"
            "Package: p\nVersion: 1-2\nFilename: pool/p2.deb\n")
    assert debs.parse_offers(text) == [Offer("1-1", "12ab", "pool/p.deb")]
    assert debs.upstream("1:7.3.4+ds-1~bpo13+1") == "7.3.4+ds"


def test_damaged_cache(tmp: pathlib.Path) -> None:
    """A file in the cache counts only with the pinned checksum."""
    kept, config.CACHE = config.CACHE, tmp
    try:
        pin = {"version": "1:2-1", "sha256": hashlib.sha256(b"good").hexdigest()}
        path = tmp / "linux-source-7.3_1%3a2-1.deb"
        assert debs.cached(LINUX, pin) is None
        path.write_bytes(b"bad")
        assert debs.cached(LINUX, pin) is None
        path.write_bytes(b"good")
        assert debs.cached(LINUX, pin) == path
    finally:
        config.CACHE = kept


def test_pins_are_complete() -> None:
    """lab/image/pins.json names every download with version and checksum."""
    pins = debs.read_pins()
    for package in (debs.KERNEL, debs.QMP):
        pin = pins[package.name]
        assert pin["suite"] == package.suite and len(pin["sha256"]) == 64 and pin["version"]
    assert "qemu-system-s390x" in pins["qemu"] and "busybox" in pins["root-s390x"]
    for name in ("qemu", "root-s390x"):
        assert all(len(value.split()[1]) == 64 for value in pins[name].values())


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
