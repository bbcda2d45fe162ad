# SPDX-License-Identifier: GPL-2.0
"""Each gate of lab/check.py passes on a good series and fails on a planted fault."""

from __future__ import annotations

import contextlib
import fnmatch
import shutil
from collections.abc import Callable, Iterator

from lab.gates import builds, gates
from lab.tests.series_bench import OPS, STREAM, TEST, Bench, bench

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
# Stands for kbuild: "compiles" a file by looking for words in it.
MAKEFILE = r"""VERSION = 7
PATCHLEVEL = 3
SUBLEVEL = 4
.PHONY: allnoconfig modules_prepare drivers/s390/crypto/
allnoconfig:
\tcp $(KCONFIG_ALLCONFIG) $(O)/.config
modules_prepare:
\tmkdir -p $(O)/include/generated
\ttouch $(O)/include/generated/asm-offsets.h
drivers/s390/crypto/:
\t@grep -Hn WARNING $@*.c | sed 's/^\([^:]*:[0-9]*\):WARNING/\1: warning:/'
\t@! grep -Hn BROKEN $@*.c
%.o:
\t@[ "$(C)" = 2 ] || exit 9
\t@grep -Hn SPARSE $*.c | sed 's/^\([^:]*:[0-9]*\):SPARSE/\1: warning:/'
""".replace("\\t", "\t")


@contextlib.contextmanager
def checked() -> Iterator[Bench]:
    """A series whose new file has a licence, in a tree with the kernel's tools."""
    with bench() as b:
        b.git("checkout", "-q", "--detach", "pristine")
        b.put("scripts/checkpatch.pl", CHECKPATCH)
        b.put("scripts/kernel-doc", KERNEL_DOC)
        b.put("Makefile", MAKEFILE)
        # What the pristine source has counts nowhere.
        b.edit(OPS, "line 50\n", "WARNING old\nSPARSE old\n")
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
    return {gate.name: gates.run_gate(gate) for gate in gates.Checker(b.layout).gates()
            if fnmatch.fnmatchcase(gate.name, glob)}


def test_good_series_passes() -> None:
    with checked() as b:
        found = findings(b)
        assert len(found) == 14, list(found)
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
        ("build.module", "0002-s390-vfio-ap-add-the-stream: " + STREAM + ":3: warning: new",
         in_tree(STREAM, "two", "WARNING new\ntwo")),
        ("build.module", "Error 1", in_tree(STREAM, "two", "BROKEN")),
        ("build.module", OPS, in_tree(OPS, "line 40", "WARNING new")),
        ("sparse", STREAM + ":3: warning: new", in_tree(STREAM, "two", "SPARSE new\ntwo")),
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
        was, gates.EXCEPTIONS = gates.EXCEPTIONS, b.root / "lab/gates/exceptions"
        try:
            b.put("lab/gates/exceptions", "PLANTED *-add-the-stream.patch for a test\n", b.root)
            assert not any(findings(b, "checkpatch*").values())
            b.put("lab/gates/exceptions", "PLANTED *-fix-a-line.patch for another patch\n", b.root)
            assert any(findings(b, "checkpatch*").values())
            b.put("lab/gates/exceptions", "PLANTED *\n", b.root)
            found = findings(b, "checkpatch*")
            assert any("REASON" in line for lines in found.values() for line in lines), found
        finally:
            gates.EXCEPTIONS = was


def test_each_step_is_built() -> None:
    """A warning that a later patch removes is found."""
    with checked() as b:
        b.edit(STREAM, "two", "WARNING new")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.save()
        b.edit(STREAM, "WARNING new", "two")
        b.commit("s390/vfio-ap: heal it\n\nFor a test.")
        b.save("tests")
        found = findings(b, "build.module")["build.module"]
        assert [line[:4] for line in found] == ["0002", "0003"], found


def test_pristine_source_must_build() -> None:
    with checked() as b:
        b.git("checkout", "-q", "--detach", "pristine")
        b.put("Makefile", MAKEFILE.replace("@! grep", "@exit 3; grep"))
        b.commit("pristine source that does not build")
        b.git("tag", "-f", "pristine")
        b.git("rebase", "-q", "pristine", "series")
        assert findings(b, "build.module")["build.module"]
        assert findings(b, "sparse")["sparse"]


def test_findings_are_compared_without_line_numbers() -> None:
    was = ["a.c:3:1: warning: x", "a.c:9: warning: y"]
    now = ["a.c:7:1: warning: x", "a.c:9:4: error: y", "b.c:3:1: warning: x", "b.c:4:1: warning: x"]
    assert builds.new_findings(now, was) == [now[1], now[2]]
    text = ("make: *** [x] Error 2\n/w/a.c:1:2: warning: z\n"
            "WARNING: modpost: \"x\" [y.ko] undefined!")
    assert builds.findings_of(text, "/w") == ["make: *** [x] Error 2", "a.c:1:2: warning: z"]


def test_missing_tool_is_a_failure() -> None:
    with checked() as b:
        (b.linux / "scripts/kernel-doc").unlink()
        assert findings(b, "kernel-doc")["kernel-doc"]
        assert gates.tool(["no-such-tool"], b.root) == ["no-such-tool is not installed"]
        assert shutil.which("codespell"), "codespell is not installed"
