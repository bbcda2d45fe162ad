# SPDX-License-Identifier: GPL-2.0
"""The patch series: build/linux as a git tree, patches/, the new files at the top level, mails."""
