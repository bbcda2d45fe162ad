# SPDX-License-Identifier: GPL-2.0
"""On an unsuitable machine, one line names the reason before anything starts."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pathlib
import platform
import shutil
import types
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

from lab.common import config
from lab.image import machine

Usage = namedtuple("Usage", "total used free")


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    """owner.name is value for a while."""
    assert owner is not config, "threads read it; replace the config of one module, see settings()"
    kept = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, kept)


def settings(**values: object) -> types.ModuleType:
    """A copy of lab.common.config with other values, for one module.

    Suites and hosts start in threads beside the tests, and read the module itself.
    """
    spec = importlib.util.find_spec(config.__name__)
    assert spec and spec.loader
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    for name, value in values.items():
        assert hasattr(copy, name), name
        setattr(copy, name, value)
    return copy


def message(check: Callable[[], None]) -> str:
    """The complaint of the check, in one line."""
    try:
        check()
    except machine.EnvError as error:
        assert "\n" not in str(error)
        return str(error)
    raise AssertionError("nothing wrong was found")


def test_this_machine() -> None:
    """The machine of the tests passes the checks, packages included."""
    machine.check_machine()
    assert machine.missing_packages() == []
    assert machine.mirror().endswith("/")


def test_wrong_machine() -> None:
    """Another system, another architecture, another user."""
    with replaced(machine, "_os_release", lambda: {"ID": "debian", "VERSION_ID": "13",
                                                   "PRETTY_NAME": "Debian 13"}):
        assert "Debian 13" in message(machine.check_machine)
    with replaced(platform, "machine", lambda: "riscv64"):
        assert "riscv64" in message(machine.check_machine)
    with replaced(os, "geteuid", lambda: 1000):
        assert "root" in message(machine.check_machine)


def test_disk(tmp: pathlib.Path) -> None:
    """The message has the needed and the free space; built kernels reduce the need."""
    with replaced(shutil, "disk_usage", lambda path: Usage(0, 0, 5 * 2**30)):
        own = settings(BUILD=tmp)
        with replaced(machine, "config", own):
            text = message(machine.check_disk)
            assert f"{machine.DISK_FRESH} GB" in text and "5.0 GB" in text, text
            for flavour in config.FLAVOURS:
                path = own.bzimage(flavour)
                path.parent.mkdir(parents=True)
                path.touch()
            machine.check_disk()


def test_no_network() -> None:
    """A mirror that does not answer."""
    with replaced(machine, "mirror", lambda: "http://localhost:9/debian/"):
        assert "http://localhost:9/debian/" in message(machine.check_network)
