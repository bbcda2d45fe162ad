# SPDX-License-Identifier: GPL-2.0
"""The base of all errors that a user of the lab can cause or can do something about."""

from __future__ import annotations


class LabError(Exception):
    """str() is a message for the user. Each package derives its own errors from this one."""
