# SPDX-License-Identifier: GPL-2.0
"""Each gate of lab/gates passes on a good series and fails on a planted fault."""

from __future__ import annotations

import contextlib
import fnmatch
import io
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping

from lab.common import config
from lab.gates import builds, gates, schedule, structure
from lab.tests.series_bench import FIXES, OPS, STREAM, TEST, Bench, bench

# In place of the kernel's checkpatch: the test is about the gate's call and reading of the answer.
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
\tmkdir -p $(O)/$@
\techo 'int x;' | $(CROSS_COMPILE)gcc -c -x c - -o $(O)/$@vfio_ap.o
\tcp $(O)/$@vfio_ap.o $(O)/$@vfio_ap_drv.o
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
        # Findings of the pristine source do not count.
        b.edit(OPS, "line 50\n", "WARNING old\nSPARSE old\n")
        b.commit("pristine source with tools")
        b.git("tag", "-f", "pristine")
        b.git("rebase", "-q", "pristine", "series")
        b.put(STREAM, "// SPDX-License-Identifier: GPL-2.0\none\ntwo\n")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.put(TEST, "#!/bin/sh\n# SPDX-License-Identifier: GPL-2.0\n")
        b.commit("fixup! selftests: test it")
        b.save(force=True)
        b.check_agreement()
        b.put("lab/gates/exceptions", "# none\n", b.root)
        b.put("lab/gates/patterns", "# SPDX-License-Identifier: GPL-2.0\nonce more\n", b.root)
        b.put("README.md", "Read [the patterns](lab/gates/patterns).\n", b.root)
        b.put("lab/__init__.py", "", b.root)
        b.put("lab/good.py", "# SPDX-License-Identifier: GPL-2.0\n\"\"\"Good.\"\"\"\n", b.root)
        yield b


def findings(b: Bench, glob: str = "*") -> dict[str, list[str]]:
    """The findings of the gates that glob names."""
    return {gate.name: schedule.run_gate(gate) for gate in gates.Checker(b.layout).gates()
            if fnmatch.fnmatchcase(gate.name, glob)}


def test_good_series_passes() -> None:
    with checked() as b:
        found = findings(b)
        assert len(found) == 28, list(found)
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

    def in_sets(b: Bench) -> None:
        """Let migration need a set that is none of its prerequisites."""
        b.edit(OPS, "line 20\n", "line twenty\n")
        b.commit("selftests: prepare\n\nFor a test.")
        b.save("selftests-base")
        b.edit(OPS, "line twenty\n", "line 2x\n")
        b.commit("s390/vfio-ap: follow\n\nFor a test.")
        b.save("migration")

    def new_patch(subject: str, text: str) -> Callable[[Bench], None]:
        def plant(b: Bench) -> None:
            b.put(STREAM, text)
            b.commit(f"{subject}\n\nFor a test.")
            b.save("migration")
        return plant

    patch = "checkpatch.migration/0001-s390-vfio-ap-add-the-stream"
    planted: list[tuple[str, str, Callable[[Bench], None]]] = [
        ("am", "0001-s390-vfio-ap-fix-a-line.patch does not apply",
         lambda b: b.edit(f"{FIXES}/0001-s390-vfio-ap-fix-a-line.patch", "-line 3\n", "-line x\n",
                          b.root)),
        ("am", OPS,
         lambda b: b.edit(f"{FIXES}/0001-s390-vfio-ap-fix-a-line.patch", "+line three", "+line 33",
                          b.root)),
        ("am.fixes", "fixes/0001-s390-vfio-ap-fix-a-line.patch does not apply",
         lambda b: b.edit(f"{FIXES}/0001-s390-vfio-ap-fix-a-line.patch", "-line 3\n", "-line x\n",
                          b.root)),
        ("am.migration", "migration/0002-s390-vfio-ap-follow.patch does not apply", in_sets),
        ("mails", "fixes: the cover letter has 125 lines, 120 at most",
         lambda b: b.put(f"{FIXES}/cover", "A fix\n\n" + "line\n" * 110, b.root)),
        ("size.fixes", "patches/linux/fixes/tests: names no test",
         lambda b: b.put(f"{FIXES}/tests", "\n", b.root)),
        ("size.migration", "SUBJECT migration/0002-xxx",
         new_patch("x" * 76, spdx + "one\ntwo\nthree\n")),
        ("size.migration", "PATCH_LINES migration/0002-many.patch: 2",
         new_patch("many", spdx + "one\ntwo\n" + "line\n" * 2500)),
        ("size.migration", "GROWTH migration:drivers/s390/crypto/vfio_ap_*.[ch]: 3301 lines",
         new_patch("more", "line\n" * 3301)),
        ("size.migration", "GROWTH migration:drivers/s390/crypto/vfio_ap_o*: an exception that",
         in_lab("lab/gates/exceptions",
                "GROWTH migration:drivers/s390/crypto/vfio_ap_o* for a test\n")),
        ("rework.migration",
         f"DELETES migration/0002-again.patch:{STREAM}: 1 lines that 0001 added, the first: two",
         new_patch("again", spdx.replace("#", "//") + "one\nzwei\n")),
        ("difference", STREAM, lambda b: b.edit(STREAM, "two", "TWO", b.root)),
        (patch, "PLANTED", in_tree(STREAM, "two", "two FIXME")),
        ("kernel-doc", STREAM, in_tree(STREAM, "two", "UNDOCUMENTED")),
        ("build.module.migration",
         "migration/0001-s390-vfio-ap-add-the-stream: " + STREAM + ":3: warning: new",
         in_tree(STREAM, "two", "WARNING new\ntwo")),
        ("build.module.migration", "Error 1", in_tree(STREAM, "two", "BROKEN")),
        ("build.module.migration", OPS, in_tree(OPS, "line 40", "WARNING new")),
        ("sparse", STREAM + ":3: warning: new", in_tree(STREAM, "two", "SPARSE new\ntwo")),
        ("spdx", STREAM, in_tree(STREAM, "// SPDX", "/* SPDX")),
        ("spdx", "MIT", in_tree(STREAM, "GPL-2.0", "MIT")),
        ("spdx", "lab/bad.py", in_lab("lab/bad.py", "\"\"\"No licence.\"\"\"\n")),
        ("codespell", "==> the", in_tree(STREAM, "two", "t" "eh two")),
        ("codespell", "==> Receive", in_lab("lab/bad.py", spdx + "\"\"\"Rec" "ieve.\"\"\"\n")),
        ("mypy", "lab/bad.py", in_lab("lab/bad.py", spdx + "x: int = \"one\"\n")),
        ("flake8", "lab/bad.py", in_lab("lab/bad.py", spdx + "import os\n")),
        ("structure", "lab/long.py: 501 lines", in_lab("lab/long.py", spdx + "\n" * 500)),
        ("words", "lab: 90.9 headless clauses per 1,000 words",
         in_lab("lab/bad.py", spdx + "\"\"\"It does what it does.\"\"\"\n")),
        ("words", 'README.md:1: "Once more"', lambda b: b.put("README.md", "Once\nmore\n", b.root)),
        ("documents", "README.md: 151 lines, at most 150",
         lambda b: b.put("README.md", "\n" * 151, b.root)),
        ("documents", "README.md: gone.md does not exist",
         lambda b: b.put("README.md", "[gone](gone.md)\n", b.root)),
        ("documents", "patches/qemu/client/0001-x.patch: subject of 76 characters, at most 75",
         lambda b: b.put("patches/qemu/client/0001-x.patch",
                         f"Subject: [PATCH] {'x' * 76}\n\nText\n---\n", b.root)),
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
        b.put("lab/gates/exceptions", "PLANTED migration/*-add-the-stream.patch why\n", b.root)
        assert not any(findings(b, "checkpatch*").values())
        b.put("lab/gates/exceptions", "PLANTED fixes/* for another patch\n", b.root)
        assert any(findings(b, "checkpatch*").values())
        b.put("lab/gates/exceptions", "PLANTED *\n", b.root)
        found = findings(b, "checkpatch*")
        assert any("REASON" in line for lines in found.values() for line in lines), found


def test_each_step_is_built() -> None:
    """A warning that a later patch removes is found."""
    with checked() as b:
        b.edit(STREAM, "two", "WARNING new")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.save()
        b.edit(STREAM, "WARNING new", "two")
        b.commit("s390/vfio-ap: heal it\n\nFor a test.")
        b.save("migration")
        found = findings(b, "build.module.migration")["build.module.migration"]
        assert [line[:14] for line in found] == ["migration/0001"], found


def test_pristine_source_must_build() -> None:
    with checked() as b:
        b.git("checkout", "-q", "--detach", "pristine")
        b.put("Makefile", MAKEFILE.replace("@! grep", "@exit 3; grep"))
        b.commit("pristine source that does not build")
        b.git("tag", "-f", "pristine")
        b.git("rebase", "-q", "pristine", "series")
        assert findings(b, "build.module.fixes")["build.module.fixes"]
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
        assert gates.tool(["no-such-tool"], b.root) == ["no-such-tool: not installed"]
        assert shutil.which("codespell"), "codespell is not installed"


@contextlib.contextmanager
def tools(where: pathlib.Path, scripts: Mapping[str, str]) -> Iterator[None]:
    """Programs that are found before those of the machine."""
    where.mkdir(exist_ok=True)
    for name, text in scripts.items():
        (where / name).write_text(f"#!/bin/sh\n{text}\n")
        (where / name).chmod(0o755)
    was = os.environ["PATH"]
    os.environ["PATH"] = f"{where}:{was}"
    try:
        yield
    finally:
        os.environ["PATH"] = was


def test_sparse_that_finds_nothing_fails(tmp: pathlib.Path) -> None:
    with checked() as b:
        for number, script in enumerate(("exit 0", "echo not found; exit 127")):
            with tools(tmp / f"{number}", {"sparse": script}):
                found = findings(b, "sparse")["sparse"]
                assert any("misses a planted fault" in line for line in found), found


def test_sparse_that_fails_on_pristine_source_fails() -> None:
    """An error there is no finding to compare with: sparse reports no warning after it."""
    with checked() as b:
        b.git("checkout", "-q", "--detach", "pristine")
        b.put("Makefile", MAKEFILE.replace('|| exit 9', '|| exit 9; exit 3'))
        b.commit("pristine source on which sparse fails")
        b.git("tag", "-f", "pristine")
        b.git("rebase", "-q", "pristine", "series")
        assert findings(b, "sparse")["sparse"]


def test_codespell_without_output_fails(tmp: pathlib.Path) -> None:
    with tools(tmp, {"codespell": "exit 65"}):
        assert gates.spell("text")


def test_checkpatch_that_complains_fails(tmp: pathlib.Path) -> None:
    """checkpatch exits 0 though a script that it calls has failed."""
    with checked() as b:
        b.put("scripts/checkpatch.pl", "print STDERR \"Traceback\\n\"; exit 0;\n")
        found = findings(b, "checkpatch*")
        assert found and all(lines == ["Traceback"] for lines in found.values()), found


def test_nothing_to_check_fails(tmp: pathlib.Path) -> None:
    with checked() as b:
        shutil.rmtree(b.root / "lab")
        for gate in ("mypy", "flake8"):
            assert findings(b, gate)[gate] == ["lab: has no Python module"]
        checker = gates.Checker(b.layout)
        checker.new = {}
        assert checker.kernel_doc() and checker.shellcheck()
        assert builds.walk(checker.tree, checker.builds, "module", "pristine", [])


def test_driver_that_is_not_built_is_found() -> None:
    with checked() as b:
        b.git("checkout", "-q", "--detach", "pristine")
        b.put("Makefile", MAKEFILE.replace("vfio_ap.o", "other.o"))
        b.commit("pristine source that builds no driver")
        b.git("tag", "-f", "pristine")
        b.git("rebase", "-q", "pristine", "series")
        found = findings(b, "build.module.fixes")["build.module.fixes"]
        assert any("vfio_ap.o" in line for line in found), found


def test_exceptions_can_be_read() -> None:
    assert gates.exceptions(config.REPO)


def test_sparse_runs_as_part_of_the_build() -> None:
    with checked() as b:
        b.edit(STREAM, "two", "SPARSE new\ntwo")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.save()
        checker = gates.Checker(b.layout)
        both = [gate for gate in checker.gates() if gate.builds]
        checker.share(both)
        *build, by_sparse = [schedule.run_gate(gate) for gate in both]
        assert build == [[], [], []], build
        assert any(line.startswith(f"{STREAM}:3: warning: new") for line in by_sparse), by_sparse
        # As the gate alone.
        alone = builds.sparse(checker.tree, checker.builds, "module", checker.head)
        assert alone == by_sparse, alone


def test_work_tree_follows_a_new_series() -> None:
    """The folder of a former run has neither more nor less than the build of a new one reads."""
    with checked() as b:
        checker = gates.Checker(b.layout)
        checker.builds.checkout(checker.head)
        b.put("drivers/new/a.c", "one\n")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.edit(STREAM, "two", "2")
        b.commit("fixup! s390/vfio-ap: add the stream")
        b.save()
        checker = gates.Checker(b.layout)
        top = checker.builds.path
        checker.builds.checkout(checker.head)
        assert (top / "drivers/new/a.c").read_text() == "one\n"
        assert (top / STREAM).read_text() == (b.linux / STREAM).read_text()
        assert not (top / "tools/old").exists()
        times = (top / STREAM).stat().st_mtime_ns
        checker.builds.checkout(checker.head)
        assert (top / STREAM).stat().st_mtime_ns == times
        checker.builds.checkout(checker.tree.pristine())
        assert not (top / STREAM).exists() and (top / OPS).exists()


def test_glob_that_fits_no_gate() -> None:
    for args in (["check.nothing"], ["--all", "check.nothing"], ["--known", "check.clang"]):
        err = io.StringIO()
        with contextlib.redirect_stderr(err), checked() as b:
            shutil.rmtree(b.linux)
            assert gates.main(args, b.layout) == 2
        assert "fits no gate" in err.getvalue() and "make list" in err.getvalue()
        assert "check." not in err.getvalue(), err.getvalue()


def test_names_need_no_kernel_tree() -> None:
    with checked() as b:
        shutil.rmtree(b.linux)
        assert gates.main(["--known", "check.sparse"], b.layout) == 0
    names = gates.names()
    assert {"am.fixes", "build.module.migration", "coccinelle"} <= set(names)
    assert len(names) == len(set(names))


def test_import_cycles_are_found(tmp: pathlib.Path) -> None:
    def put(path: str, text: str) -> None:
        (tmp / "lab" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp / "lab" / path).write_text(text)

    assert structure.check(tmp) == ["lab: has no Python module"]
    put("a/one.py", "from lab.b import two\n")
    put("b/two.py", "import lab.c.three\n")
    put("c/three.py", "import os\nfrom lab import d\n")
    put("d/four.py", "")
    # A test imports the package that it tests; an import for types only is none.
    put("d/test_four.py", "from lab.a import one\n")
    put("c/types.py", "import typing\nif typing.TYPE_CHECKING:\n    from lab.a import one\n")
    assert structure.packages(tmp) == {"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}
    assert structure.check(tmp) == []
    # An import in a function counts.
    put("d/five.py", "def f() -> None:\n    from lab.a.one import x\n")
    found = structure.check(tmp)
    assert len(found) == 1 and found[0].startswith("import cycle: "), found
