# SPDX-License-Identifier: GPL-2.0
"""The gate that runs KVM's selftests: which results are findings."""

from __future__ import annotations

from lab.gates.kvm_selftests import LIST, SKIPPED, Gap, compare, failing_lines, read_list

ASSERTION = ("==== Test Assertion Failure ====\n  s390/memop.c:9: rv == 0\n  pid=1 tid=1 errno=4\n")
REASON = Gap(r"s390/memop\.c:\d+: rv == 0", "a gap")


def test_failing_lines() -> None:
    """Each kind of failure has a line; a status without any is one, too."""
    assert failing_lines(0, "TAP version 13\nok 1 a\nok 2 b\n") == []
    assert failing_lines(0, "ok 1 a\nok 2 b # SKIP c\n") == ["ok 2 b # SKIP c"]
    assert failing_lines(0, "ok 1 a\nok 2 # SKIP c\n") == ["ok 2 # SKIP c"]
    assert failing_lines(1, "ok 1 a\nnot ok 2 b\n# Totals: x\n") == ["not ok 2 b"]
    assert failing_lines(0, "not ok 1 b\n") == ["not ok 1 b"]
    assert failing_lines(254, ASSERTION) == ["s390/memop.c:9: rv == 0"]
    assert failing_lines(SKIPPED, "TAP version 13\n1..0 # SKIP no key\n") == ["1..0 # SKIP no key"]
    assert failing_lines(139, "") == ["exit status 139"]


def test_compare() -> None:
    """A failure that is not listed, and a listed one that does not occur."""
    line = "s390/memop.c:9: rv == 0"
    assert compare("memop", [line], [REASON]) == []
    assert compare("memop", [], []) == []
    found = compare("memop", [line, "not ok 1 b"], [REASON])
    assert len(found) == 1 and "memop: not in" in found[0] and "not ok 1 b" in found[0], found
    found = compare("memop", [], [REASON])
    assert len(found) == 1 and "does not fail any more" in found[0], found


def test_list() -> None:
    """Every entry of the list has a reason. A program that does not run has no other entry."""
    listed = read_list(LIST)
    gaps = [gap for gaps in listed.gaps.values() for gap in gaps]
    assert gaps and all(gap.line and gap.gap for gap in gaps)
    assert all(listed.not_run.values())
    assert not {*listed.not_run} & {*listed.gaps, *listed.arguments}
