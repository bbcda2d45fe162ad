# SPDX-License-Identifier: GPL-2.0
"""The lab's tests: the plugins for pytest that offer hosts, kselftests and KUnit suites to it,
and the tests themselves."""
