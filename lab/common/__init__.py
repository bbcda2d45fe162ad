# SPDX-License-Identifier: GPL-2.0
"""Paths, commands of the build machine, lines of progress, and errors.
Imports nothing else of the lab."""
