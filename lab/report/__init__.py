# SPDX-License-Identifier: GPL-2.0
"""Reports of a run: results in TAP, timelines of a migration, pictures."""
