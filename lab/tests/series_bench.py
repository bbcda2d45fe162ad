# SPDX-License-Identifier: GPL-2.0
"""A repository and a small kernel tree with three patches, for tests of lab/series."""

from __future__ import annotations

import contextlib
import functools
import io
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from lab.series.apply import apply_patches
from lab.series.difference import difference
from lab.series.git import SeriesError, clean_env
from lab.series.layout import Layout
from lab.series.save import save
from lab.series.take import take

MAINTAINERS = """List of maintainers

Maintainers List
----------------

ALPHA
M:\tA <a@example.com>
S:\tSupported
F:\tdrivers/a/

S390 VFIO-AP DRIVER
M:\tB <b@example.com>
S:\tSupported
F:\tdrivers/s390/crypto/vfio_ap*

ZULU
S:\tOrphan
F:\tdrivers/z/
"""
KCONFIG = """# SPDX-License-Identifier: GPL-2.0
config S390
\tdef_bool y

config VFIO_AP
\tdef_tristate n
\tdepends on KVM
\thelp
\t  Grants access.

endmenu
"""
KUNIT = """config VFIO_AP_KUNIT_TEST
\ttristate "tests"
\thelp
\t  Tests.

\t  If unsure, say N.
"""
OPS = "drivers/s390/crypto/vfio_ap_ops.c"
STREAM = "drivers/s390/crypto/vfio_ap_stream.c"
TEST = "tools/testing/selftests/x/test.sh"
FIXES, MIGRATION = "patches/linux/fixes", "patches/linux/migration"
TESTS = "patches/linux/selftests-migration"


class Bench:
    """A repository and a kernel tree in a temporary directory."""

    def __init__(self, top: pathlib.Path, kind: str = "linux") -> None:
        self.top = top
        self.layout = Layout(top / "repo", top / "build" / kind, top / "out", kind)
        self.root, self.linux = self.layout.root, self.layout.tree

    def fill(self) -> None:
        """Make the repository, empty, and the tree's pristine commit."""
        for where in (self.root, self.linux):
            where.mkdir(parents=True)
            self.git("init", "-q", "-b", "main", ".", where=where)
        self.put(".gitignore", "*.o\n# Debian packaging\n/*\n!/debian/\n")
        self.put("Makefile", "VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n")
        self.put("MAINTAINERS", MAINTAINERS)
        self.put("arch/s390/Kconfig", KCONFIG)
        for old in ("Documentation/index.rst", "include/linux/a.h", "tools/old"):
            self.put(old, "old\n")
        self.put(OPS, "".join(f"line {n}\n" for n in range(60)))
        self.commit("pristine source")
        self.git("tag", "pristine")
        for name in (FIXES, MIGRATION, TESTS):
            self.put(f"{name}/cover", f"The set {name}\n\nThe lab: @LAB@.\n", self.root)
            self.put(f"{name}/tests", "a.*\n", self.root)

    def git(self, *args: str, where: pathlib.Path | None = None) -> str:
        """Run git in the kernel tree, or where."""
        return subprocess.run(["git", *args], cwd=where or self.linux, check=True, env=clean_env(),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout

    def put(self, path: str, text: str, where: pathlib.Path | None = None) -> None:
        """Write a file of the kernel tree, or below where."""
        file = (where or self.linux) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def edit(self, path: str, old: str, new: str, where: pathlib.Path | None = None) -> None:
        """Replace text in a file of the kernel tree, or below where."""
        text = ((where or self.linux) / path).read_text()
        assert old in text, (path, old)
        self.put(path, text.replace(old, new), where)

    def commit(self, message: str) -> None:
        """Commit everything in the kernel tree."""
        self.git("add", "-Af", ".")
        self.git("commit", "-q", "--allow-empty", "-m", message)

    def commit_edit(self, path: str, old: str, message: str) -> None:
        """Remove text from a file and commit that."""
        self.edit(path, old, "")
        self.commit(message)

    def three_patches(self) -> None:
        """A series: a fix, a new file with entries, a test; saved."""
        self.edit(OPS, "line 3\n", "line three\n")
        self.commit("s390/vfio-ap: fix a line\n\nIt was wrong.")
        self.save("fixes")
        self.put(STREAM, "one\ntwo\nthree\n")
        self.edit("MAINTAINERS", "vfio_ap*\n", "vfio_ap*\nF:\tinclude/uapi/linux/vfio_ap.h\n")
        self.edit("arch/s390/Kconfig", "access.\n", f"access.\n\n{KUNIT}")
        self.commit("s390/vfio-ap: add the stream\n\nIt carries data.")
        self.save("migration")
        self.put(TEST, "#!/bin/sh\n")
        (self.linux / TEST).chmod(0o755)
        self.commit("selftests: test it\n\nFor proof.")
        self.save("selftests-migration")
        self.check_agreement()

    def save(self, into: str = "", force: bool = False) -> str:
        """make save; return its output."""
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            save(self.layout, into, force)
        return out.getvalue()

    def take(self, **args: str) -> None:
        """make take."""
        with contextlib.redirect_stderr(io.StringIO()):
            take(self.layout, **args)

    def apply(self) -> str:
        """The first step of make test; return its output."""
        out = io.StringIO()
        with contextlib.redirect_stderr(out):
            apply_patches(self.layout)
        return out.getvalue()

    def subjects(self, base: str = "pristine", tip: str = "HEAD") -> list[str]:
        """The subjects of the commits."""
        return self.git("log", "--reverse", "--format=%s", f"{base}..{tip}").splitlines()

    def difference(self) -> list[str]:
        """The difference test."""
        return difference(self.layout)

    def check_agreement(self) -> None:
        """Fail unless top level, patches/ and tree agree."""
        found = self.difference()
        assert not found, found

    def fresh_tree(self) -> None:
        """A tree as it is when the source was just unpacked."""
        self.git("checkout", "-q", "-B", "main", "pristine")
        for ref in self.git("for-each-ref", "--format=%(refname)").splitlines():
            if ref not in ("refs/heads/main", "refs/tags/pristine"):
                self.git("update-ref", "-d", ref)
        (self.linux / ".git" / "lab-series.json").unlink()


@functools.cache
def template() -> tempfile.TemporaryDirectory[str]:
    """A repository and tree with three patches, saved; made once."""
    top = tempfile.TemporaryDirectory()
    made = Bench(pathlib.Path(top.name))
    made.fill()
    made.three_patches()
    return top


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """A copy of that repository and tree."""
    with tempfile.TemporaryDirectory() as top:
        shutil.copytree(template().name, top, symlinks=True, dirs_exist_ok=True)
        yield Bench(pathlib.Path(top))


def refused(call: Callable[[], object], *words: str) -> None:
    """Fail unless call raises SeriesError with all these words in it."""
    try:
        call()
    except SeriesError as err:
        missing = [word for word in words if word not in str(err)]
        assert not missing, (missing, str(err))
        return
    raise AssertionError("was not refused")
