# SPDX-License-Identifier: GPL-2.0
"""lab/faults/golden.py has made the golden streams that the driver's tests share."""

from __future__ import annotations

from lab.common import config
from lab.faults import golden


def test_header_is_up_to_date() -> None:
    """The header and its source agree."""
    assert golden.c_header() == (config.REPO / golden.HEADER).read_text(encoding="ascii")
