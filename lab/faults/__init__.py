# SPDX-License-Identifier: GPL-2.0
"""Faults planted on purpose - in the driver, in the stream code, in the models - and the proof that
a test, the fuzzer or the model checker finds each of them."""
