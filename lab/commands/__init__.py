# SPDX-License-Identifier: GPL-2.0
"""Commands that are more than a call of another package: demo, bench, coverage."""
