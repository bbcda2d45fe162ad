# SPDX-License-Identifier: GPL-2.0
"""Everything that is fetched and built before a host can boot: the build machine's packages, Debian
packages and sources, root file systems, kernels, and the first process of a host."""
