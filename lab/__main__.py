# SPDX-License-Identifier: GPL-2.0
"""python3 -m lab COMMAND."""

from __future__ import annotations

import sys

from lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
