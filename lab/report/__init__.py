# SPDX-License-Identifier: GPL-2.0
"""What came out of a run: results in TAP, timelines of a migration, pictures."""
