# SPDX-License-Identifier: GPL-2.0
"""The description of the sets, and the lines that a set adds and deletes again."""

from __future__ import annotations

from lab.gates import limits
from lab.series.chains import Chains
from lab.series.git import KernelTree
from lab.series.patches import load
from lab.series.sets import SETS, with_needs
from lab.tests.series_bench import OPS, STREAM, Bench, bench


def test_sets_need_earlier_sets_only() -> None:
    for sets in SETS.values():
        names = [one.name for one in sets]
        assert len(names) == len(set(names))
        for number, one in enumerate(sets):
            assert set(one.needs) <= set(names[:number]), one
            assert one.to, one


def test_needs_are_complete_and_in_order() -> None:
    linux = SETS["linux"]
    assert with_needs(linux, "type1") == ["type1"]
    assert with_needs(linux, "selftests-migration") == [
        "type1", "fixes", "selftests-base", "migration", "selftests-migration"]
    assert with_needs(linux, "migratable") == [
        "type1", "fixes", "selftests-base", "migration", "selftests-migration", "migratable"]


def deleted(b: Bench, name: str) -> list[tuple[int, str, int, str]]:
    """The lines that a set deletes again, after a save."""
    b.save(name)
    chains = Chains(b.layout, load(b.layout))
    found = limits.deleted(KernelTree(b.linux), chains.base(name), chains.tip(name))
    return [(line.number, line.file, line.by, line.line) for line in found]


def test_deleted_lines_are_those_of_the_set() -> None:
    with bench() as b:
        # Lines of pristine source and of another set (fixes: "line three") do not count.
        b.edit(OPS, "line 1\nline 2\nline three\n", "new 1\nnew 2\n")
        b.edit(OPS, "line 30\n", "line 30\nnew 30\nnew 31\n{\n")
        b.commit("s390/vfio-ap: two\n\nFor a test.")
        assert not deleted(b, "migration")
        # Lines above move, and a brace alone does not count.
        b.edit(OPS, "line 0\n", "line 0\nabove\nabove\n")
        b.edit(OPS, "new 30\nnew 31\n{\n", "new 31\n")
        b.edit(OPS, "line 40\n", "")
        b.commit("s390/vfio-ap: three\n\nFor a test.")
        assert deleted(b, "migration") == [(3, OPS, 2, "new 30")]
        b.edit(OPS, "above\nabove\nnew 1\n", "above\n")
        b.git("rm", "-q", STREAM)
        b.commit("s390/vfio-ap: four\n\nFor a test.")
        assert deleted(b, "migration") == [
            (3, OPS, 2, "new 30"), (4, OPS, 3, "above"), (4, OPS, 2, "new 1"),
            *((4, STREAM, 1, word) for word in ("one", "two", "three"))]


def test_set_is_applied_on_its_prerequisites_alone() -> None:
    with bench() as b:
        chains = Chains(b.layout, load(b.layout))
        tree = KernelTree(b.linux)
        assert chains.base("fixes") == tree.pristine()
        assert chains.base("migration") == chains.tip("fixes") == tree.commit("set/fixes")
        assert [c.subject for c in chains.commits("migration")] == ["s390/vfio-ap: add the stream"]
        assert chains.whole() == tree.head()
        # A set without patches has the tip of its prerequisites.
        assert chains.tip("selftests-base") == chains.tip("fixes")
        assert chains.tip("ap") == tree.pristine()
