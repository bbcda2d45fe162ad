# SPDX-License-Identifier: GPL-2.0
"""Gates on the series: style, a build of each patch, the tools that maintainers run; and the
faults that show that each gate can fail."""
