# SPDX-License-Identifier: GPL-2.0
"""A KVM guest in an emulated host: QEMU and its monitor, mediated devices, AP adapters,
migrations, kernel messages, and the counters of the guest's program."""
