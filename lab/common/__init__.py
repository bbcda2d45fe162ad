# SPDX-License-Identifier: GPL-2.0
"""Where things are, how commands of the build machine run, what the user sees of them, and errors.
Imports nothing else of the lab."""
