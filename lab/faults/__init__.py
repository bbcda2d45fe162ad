# SPDX-License-Identifier: GPL-2.0
"""Planted faults in the driver, in the stream code and in the models. A test, the fuzzer or the
model checker must find each of them."""
