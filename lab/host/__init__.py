# SPDX-License-Identifier: GPL-2.0
"""Emulated s390 hosts: profiles of their hardware, boot, commands, console and reports."""
