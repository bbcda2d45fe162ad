# SPDX-License-Identifier: GPL-2.0
"""Kernel source and configuration."""

from __future__ import annotations

import pathlib
import tempfile

import pytest

from lab.common import config
from lab.image import kernel


def test_fragments() -> None:
    """Lines of a fragment, and those that the result does not have."""
    wanted = kernel.wanted_options("# no\nCONFIG_A=y\nCONFIG_B=m\nCONFIG_C=n\nCONFIG_A=m\n")
    assert wanted == {"CONFIG_A": "m", "CONFIG_B": "m", "CONFIG_C": "n"}
    assert kernel.dishonoured(wanted, "CONFIG_A=m\nCONFIG_B=m\n# CONFIG_C is not set\n") == []
    assert kernel.dishonoured(wanted, "CONFIG_A=m\nCONFIG_C=y\n") == [
        "CONFIG_B=m (is n)", "CONFIG_C=n (is y)"]


def test_built_configuration() -> None:
    """The debug kernel that runs here has every option of the fragments."""
    if not config.bzimage("debug").exists():
        pytest.skip("needs the debug kernel")
    text = "".join(path.read_text() for path in kernel.fragments("debug"))
    result = (config.objects("debug") / ".config").read_text()
    assert kernel.dishonoured(kernel.wanted_options(text), result) == []


def test_kernel_path(tmp: pathlib.Path) -> None:
    """KERNEL= must be a Linux source, not in our own way, and changes are seen."""
    for path, words in ((tmp / "none", "not a Linux source"), (config.LINUX, "must not be")):
        try:
            kernel.source(str(path))
            raise AssertionError(f"{path} was taken")
        except kernel.KernelError as error:
            assert words in str(error), error
    base = pathlib.Path(tempfile.mkdtemp())
    try:
        (base / "arch/s390").mkdir(parents=True)
        (base / "Kbuild").touch()
        first = kernel.source(str(base))
        assert kernel.source(str(base)) == first
        (base / "Kbuild").write_text("#\n")
        assert kernel.source(str(base)) != first
    finally:
        kernel.remove(base)
