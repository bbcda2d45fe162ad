# SPDX-License-Identifier: GPL-2.0
"""Each gate of lab/check.py passes on a good series and fails on a planted fault."""

from __future__ import annotations

import contextlib
import fnmatch
import shutil
from collections.abc import Callable, Iterator

from lab import check
from lab.tests.test_series import OPS, STREAM, TEST, Bench, bench

# Stands for the kernel's own: what counts here is how the gate calls it and takes its answer.
CHECKPATCH = """
my $file = pop @ARGV;
my ($ignored) = grep { s/^--ignore=// } @ARGV;
exit 9 unless grep { $_ eq "--strict" } @ARGV;
open(my $in, "<", $file) or exit 9;
my @found = grep { /^\\+.*FIXME/ } <$in>;
exit 0 if !@found || $ignored =~ /PLANTED/;
print "$file:1: WARNING:PLANTED: a planted fault\\n";
exit 1;
"""
KERNEL_DOC = """
import sys
assert "-Werror" in sys.argv
names = [n for n in sys.argv[1:] if not n.startswith("-")]
bad = [n for n in names if "UNDOCUMENTED" in open(n).read()]
print("\\n".join(f"warning: {n}" for n in bad))
sys.exit(bool(bad))
"""


@contextlib.contextmanager
def checked() -> Iterator[Bench]:
    """A series whose new file has a licence, in a tree with the kernel's tools."""
    with bench() as b:
        b.git("checkout", "-q", "--detach", "pristine")
        b.put("scripts/checkpatch.pl", CHECKPATCH)
        b.put("scripts/kernel-doc", KERNEL_DOC)
        b.commit("pristine source with tools")
        b.git("tag", "-f", "pristine")
        b.git("rebase", "-q", "pristine", "series")
        b.put(STREAM, "// SPDX-License-Identifier: GPL-2.0\none\ntwo\n")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.put(TEST, "#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0\n")
        b.commit("fixup! selftests: test it")
        b.save(force=True)
        b.agree()
        b.put("lab/__init__.py", "", b.root)
        b.put("lab/good.py", "# SPDX-License-Identifier: GPL-2.0\n\"\"\"Good.\"\"\"\n", b.root)
        yield b


def findings(b: Bench, glob: str = "*") -> dict[str, list[str]]:
    """The findings of the gates that glob names."""
    return {gate.name: check.run_gate(gate) for gate in check.Checker(b.layout).gates()
            if fnmatch.fnmatchcase(gate.name, glob)}


def test_good_series_passes() -> None:
    with checked() as b:
        found = findings(b)
        assert len(found) == 12, list(found)
        assert not any(found.values()), found


def test_planted_faults_are_found() -> None:
    def in_tree(path: str, old: str, new: str) -> Callable[[Bench], None]:
        def plant(b: Bench) -> None:
            b.edit(path, old, new)
            b.commit("fixup! s390/vfio-ap: add the stream")
            b.save()
        return plant

    def in_lab(path: str, text: str) -> Callable[[Bench], None]:
        return lambda b: b.put(path, text, b.root)

    spdx = "# SPDX-License-Identifier: GPL-2.0\n"
    patch = "checkpatch.0002-s390-vfio-ap-add-the-stream"
    planted: list[tuple[str, str, Callable[[Bench], None]]] = [
        ("am", "0001-s390-vfio-ap-fix-a-line.patch does not apply",
         lambda b: b.edit("patches/0001-s390-vfio-ap-fix-a-line.patch", "-line 3\n", "-line x\n",
                          b.root)),
        ("am", OPS,
         lambda b: b.edit("patches/0001-s390-vfio-ap-fix-a-line.patch", "+line three", "+line 33",
                          b.root)),
        ("difference", STREAM, lambda b: b.edit(STREAM, "two", "TWO", b.root)),
        (patch, "PLANTED", in_tree(STREAM, "two", "two FIXME")),
        ("kernel-doc", STREAM, in_tree(STREAM, "two", "UNDOCUMENTED")),
        ("spdx", STREAM, in_tree(STREAM, "// SPDX", "/* SPDX")),
        ("spdx", "MIT", in_tree(STREAM, "GPL-2.0", "MIT")),
        ("spdx", "lab/bad.py", in_lab("lab/bad.py", "\"\"\"No licence.\"\"\"\n")),
        ("codespell", "==> the", in_tree(STREAM, "two", "t" "eh two")),
        ("codespell", "==> Receive", in_lab("lab/bad.py", spdx + "\"\"\"Rec" "ieve.\"\"\"\n")),
        ("mypy", "lab/bad.py", in_lab("lab/bad.py", spdx + "x: int = \"one\"\n")),
        ("flake8", "lab/bad.py", in_lab("lab/bad.py", spdx + "import os\n")),
        ("shellcheck", "bad.sh", in_lab("lab/bad.sh", f"#!/bin/sh\n{spdx}rm $1\n")),
        ("shellcheck", ".ci/run", in_lab(".ci/run", f"#!/usr/bin/env bash\n{spdx}rm $1\n")),
    ]
    with checked() as good:
        for number, (gate, words, plant) in enumerate(planted):
            b = Bench(good.top / f"{number}")
            shutil.copytree(good.root, b.root)
            shutil.copytree(good.linux, b.linux)
            plant(b)
            found = findings(b, gate)
            assert any(words in line for line in found[gate]), (gate, words, found)


def test_exceptions_need_a_reason() -> None:
    with checked() as b:
        b.edit(STREAM, "two", "two FIXME")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.save()
        was, check.EXCEPTIONS = check.EXCEPTIONS, b.root / "lab/check-exceptions"
        try:
            b.put("lab/check-exceptions", "PLANTED *-add-the-stream.patch for a test\n", b.root)
            assert not any(findings(b, "checkpatch*").values())
            b.put("lab/check-exceptions", "PLANTED *-fix-a-line.patch for another patch\n", b.root)
            assert any(findings(b, "checkpatch*").values())
            b.put("lab/check-exceptions", "PLANTED *\n", b.root)
            found = findings(b, "checkpatch*")
            assert any("REASON" in line for lines in found.values() for line in lines), found
        finally:
            check.EXCEPTIONS = was


def test_missing_tool_is_a_failure() -> None:
    with checked() as b:
        (b.linux / "scripts/kernel-doc").unlink()
        assert findings(b, "kernel-doc")["kernel-doc"]
        assert check.tool(["no-such-tool"], b.root) == ["no-such-tool is not installed"]
        assert shutil.which("codespell"), "codespell is not installed"
