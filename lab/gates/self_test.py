# SPDX-License-Identifier: GPL-2.0
"""make check-proof: each gate that builds, or calls a tool of the kernel, fails on a planted fault.

A fault is a commit on top of the series, which no branch has; build/linux stays as it is. The
gates on our scripts, and how the others take a tool's answer, are proved by lab/tests/test_check.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lab.gates import builds, gates, set_tests, tools
from lab.gates.schedule import Gate, run_gate
from lab.image import machine
from lab.image.kernel import DRIVER
from lab.series.git import Blob, SeriesError
from lab.series.layout import Layout
from lab.series.patches import Patch, write_patches

STREAM = f"{DRIVER}vfio_ap_stream.c"
KUNIT = f"{DRIVER}tests/vfio_ap_stream_kunit.c"
CHAPTER = "Documentation/arch/s390/vfio-ap.rst"
ABI = "Documentation/ABI/testing/debugfs-vfio-ap"
UAPI = "include/uapi/linux/vfio_ap.h"
TEST = f"{builds.SELFTEST}lib/ap.c"
INFO_TEST = f"{builds.SELFTEST}info_test.c"

UNUSED = "static int planted(void)\n{\n\treturn 0;\n}\n"
UNDEFINED = ("int planted(void);\nint vfio_ap_plant(void);\n"
             "int vfio_ap_plant(void)\n{\n\treturn planted();\n}\n")
BUILTIN = "#ifndef MODULE\n#warning planted\n#endif\n"
OFF = "#if !IS_ENABLED(CONFIG_VFIO_AP)\n#warning planted\n#endif\n"
USER = ("int vfio_ap_plant(void __user *p);\n"
        "int vfio_ap_plant(void __user *p)\n{\n\treturn *(int *)p;\n}\n")
CLANG = "#ifdef __clang__\n#warning planted\n#endif\n"
KFREE = ("void vfio_ap_plant(void *p);\n"
         "void vfio_ap_plant(void *p)\n{\n\tif (p)\n\t\tkfree(p);\n}\n")
CLASS = "struct vfio_ap_planted {\n\tint class;\n};\n"
TYPE = "struct vfio_ap_planted {\n\tu32 planted;\n};\n"


@dataclass(frozen=True)
class Fault:
    """A fault: the gate that has to find it, a word of the finding, how to plant and to look."""

    gate: str
    word: str
    what: str
    look: Callable[[gates.Checker], list[str]]


def planted(checker: gates.Checker, path: str, text: str) -> str:
    """A commit with text at the end of a file of the series (in a header: of its guard)."""
    blob = checker.tree.blob(checker.head, path)
    if blob is None:
        raise SeriesError(f"{path}: not in the series")
    head, end, tail = blob.data.rpartition(b"#endif") if path.endswith(".h") else (
        blob.data, b"", b"")
    data = head + b"\n" + text.encode() + end + tail
    return checker.tree.commit_files(checker.head, {path: Blob(data, blob.mode)}, "planted")


def faults() -> Iterator[Fault]:
    """All faults."""
    def build(name: str, path: str, text: str, word: str, what: str) -> Fault:
        def look(checker: gates.Checker) -> list[str]:
            bad = planted(checker, path, text)
            # It is healed by the next patch: only a build of each step can find it.
            healed = checker.tree.write_commit(checker.tree.tree_of(checker.head), bad, "healed")
            return builds.walk(checker.tree, checker.builds, name, checker.head,
                               [(bad, "planted"), (healed, "healed")])
        return Fault(f"build.{name}", word, what, look)

    def on_commit(gate: str, path: str, text: str, word: str, what: str,
                  run: Callable[[gates.Checker, str], list[str]]) -> Fault:
        return Fault(gate, word, what, lambda checker: run(checker, planted(checker, path, text)))

    yield Fault("checkpatch", "TRAILING_WHITESPACE", "a blank at the end of a line", checkpatch)
    yield Fault("maintainers", tools.SECTION, "a file that our entry does not have", maintainers)
    yield on_commit("abi", ABI, "What:\t\t/sys/kernel/planted\nDescribtion:\tNone.\n",
                    "planted", "an entry with a misspelt tag",
                    lambda c, ident: tools.abi(c.tree, ident))
    yield on_commit("sphinx", CHAPTER, "Planted\n-----\n\nText.\n", "underline",
                    "a heading that is not underlined",
                    lambda c, ident: tools.sphinx(c.tree, ident))
    yield on_commit("uapi", UAPI, CLASS, "c++", "a name that C++ reserves",
                    lambda c, ident: tools.uapi(c.builds, ident))
    yield on_commit("uapi", UAPI, TYPE, "u32", "a type that user space has not got",
                    lambda c, ident: tools.uapi(c.builds, ident))
    yield build("module", STREAM, UNUSED, "planted: ", "a warning at one step only")
    yield build("module", STREAM, UNDEFINED, "planted is neither", "a symbol that nobody defines")
    yield build("module", TEST, UNUSED, "planted: ", "a warning in the tests")
    yield build("builtin", STREAM, BUILTIN, "planted: ", "a warning if it is built in")
    yield build("off", KUNIT, OFF, "planted: ", "a warning if the driver is off")
    yield on_commit("sparse", STREAM, USER, "address space", "a user pointer dereferenced",
                    lambda c, ident: builds.sparse(c.tree, c.builds, "module", ident))
    yield Fault("am.migration", "does not apply", "a patch in a set that is no prerequisite",
                applied_in_another_set)
    yield Fault("tests.fixes", "info", "a test that fails on the kernel of a set", failing_test)
    yield on_commit("clang", STREAM, CLANG, "planted", "a warning if clang compiles it",
                    lambda c, ident: tools.clang(c.tree, c.builds, ident))
    yield on_commit("coccinelle", STREAM, KFREE, "NULL check", "a test that kfree() makes itself",
                    lambda c, ident: tools.coccinelle(c.tree, c.builds, ident))


def checkpatch(checker: gates.Checker) -> list[str]:
    """The first patch that adds a line, with a blank at the end of that line."""
    with tempfile.TemporaryDirectory() as folder:
        layout = dataclasses.replace(checker.layout, root=pathlib.Path(folder))
        patch = checker.patches[0]
        head, mark, rest = patch.data.partition(b"\n+\t")
        line, newline, rest = rest.partition(b"\n")
        bad = dataclasses.replace(patch, data=head + mark + line + b" " + newline + rest)
        write_patches(layout, [bad])
        shutil.copytree(checker.layout.root / "lab/gates", layout.root / "lab/gates")
        other = gates.Checker(layout)
        return other.checkpatch(bad)()


def maintainers(checker: gates.Checker) -> list[str]:
    """A patch with a file of ours where MAINTAINERS does not look for one."""
    where = b"drivers/s390/crypto/vfio_ap"
    patch = next(patch for patch in checker.patches if where in patch.data)
    data = patch.data.replace(where, b"drivers/s390/crypto/planted_vfio_ap")
    return tools.maintainers(checker.tree, [Patch("planted.patch", "migration", data)])


def applied_in_another_set(checker: gates.Checker) -> list[str]:
    """The patch that adds the stream, in a set that migration does not need."""
    wrong = [dataclasses.replace(patch, set="selftests-base")
             if STREAM in patch.paths and patch.set == "migration" else patch
             for patch in checker.patches]
    other = gates.Checker(checker.layout)
    other.patches = wrong
    one, = [one for one in other.sets if one.name == "migration"]
    return run_gate(Gate("am.migration", lambda: other.applies(one)))


def failing_test(checker: gates.Checker) -> list[str]:
    """An assertion of the first test program that is turned round."""
    blob = checker.tree.blob(checker.head, INFO_TEST)
    if blob is None:
        raise SeriesError(f"{INFO_TEST}: not in the series")
    bad = checker.tree.commit_files(checker.head, {INFO_TEST: Blob(
        blob.data.replace(b"\tASSERT_EQ(0,", b"\tASSERT_NE(0,", 1), blob.mode)}, "planted\n")
    return set_tests.run_set(checker.layout, checker.chains, checker.patches, "fixes",
                             ["a.info_test.*"], bad)


def main(argv: Sequence[str]) -> int:
    """Plant the faults one after the other; 0 when each was found."""
    parser = argparse.ArgumentParser(prog="python3 -m lab.gates.self_test", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("glob", nargs="?", default="*", help="only gates whose name fits")
    parser.add_argument("--known", action="store_true", help="check that a gate's name fits, only")
    args = parser.parse_args(argv)
    missed = 0
    try:
        fit = gates.chosen([fault.gate for fault in faults()], args.glob or "*", "check-proof")
        if args.known:
            return 0
        chosen = [fault for fault in faults() if fault.gate in fit]
        machine.install_packages(tools.CHECK_PACKAGES)
        checker = gates.Checker(Layout.default())
        for number, fault in enumerate(chosen, 1):
            started = time.monotonic()
            found = fault.look(checker)
            good = any(fault.word in line for line in found)
            missed += not good
            print(f"{'ok' if good else 'not ok'} {number} proof.{fault.gate}: {fault.what} "
                  f"({time.monotonic() - started:.0f} s)", flush=True)
            for line in found[:1] if good else found or ["nothing was found"]:
                print(f"# {line}")
    except gates.NoGate as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    except (SeriesError, machine.EnvError) as err:
        print(f"error: {err}", file=sys.stderr)
        return 1
    print(f"{len(chosen) - missed} passed, {missed} failed, 0 skipped")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
