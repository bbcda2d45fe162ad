# SPDX-License-Identifier: GPL-2.0
"""Builds of the files of each set, one patch after the other, each set on its prerequisites.

A folder with the sources that the build reads moves through the commits; an O= directory for
each configuration follows it. So make compiles only the files of a patch and their includers.
Nothing is linked to a kernel: a symbol that no commit of the series exports or defines is
found in the symbol tables.

A warning counts if the pristine source does not give it.
"""

from __future__ import annotations

import fcntl
import fnmatch
import itertools
import os
import pathlib
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from lab.common import config
from lab.common.progress import say
from lab.common.run import run
from lab.image.kernel import DRIVER, MAKE, dishonoured, remove, wanted_options
from lab.series.git import PRISTINE, KernelTree, SeriesError
from lab.series.top_level import write_file

SELFTEST = f"tools/testing/selftests/{config.SELFTEST}/"

# The folders and files that a build reads, beside the files at the top, Kconfig files and the
# Makefiles on the way to these folders. Sources that are missing here fail a build.
READ = ("arch/s390/", "arch/x86/entry/syscalls/", "drivers/s390/crypto/", "drivers/vfio/",
        "include/", "kernel/", "lib/", "scripts/", "virt/", "tools/arch/s390/", "tools/build/",
        "tools/docs/", "tools/include/", "tools/lib/", "tools/scripts/",
        "tools/testing/selftests/Makefile", SELFTEST)
UNREAD = ("include/dt-bindings/", "include/drm/", "include/media/", "include/sound/")
READ_NAMES = re.compile(r"[^/]*|(?!tools/).*/Kconfig[^/]*|tools/testing/selftests/[^/]*\.(h|mk)")
PARENTS = {str(folder) for name in READ for folder in pathlib.PurePath(name).parents}
UAPI = ("include/uapi/", "arch/s390/include/uapi/")
# Where the symbols are exported that the driver can use.
EXPORTERS = ("arch/s390", "block", "drivers/base", "drivers/iommu", "drivers/s390", "drivers/vfio",
             "fs", "include", "kernel", "lib", "mm", "virt")
# The one test that is built for this machine, not for s390.
HOST_TEST = "stream_host_test"

# Folders whose objects the Makefile of another folder builds.
BUILT_FROM = {"arch/s390/kvm/gmap/": "arch/s390/kvm/s390/../gmap/"}

# Patches to these change no object, header or configuration.
NO_CODE = ("Documentation/*", "MAINTAINERS", "*.rst")

# Fragments after lab/image/kernel_config/common.config.
CONFIGURATIONS = {
    "module": ("check",),
    "builtin": ("check", "check-builtin"),
    "off": ("check", "check-off"),
}
# Options of ours; a step that has not got them yet is configured without.
OURS = "CONFIG_VFIO_AP_*"

# Debian's sparse 0.6.4 does not know the one, and takes the other for no constant, in every
# MODULE_*() line: an error, after which it tells no warning.
SPARSE = ("CHECK=sparse -D__typeof_unqual__=__typeof__ "
          "-D'__builtin_strlen(s)=(sizeof(s)-1)'")
# A fault that sparse has to find: else its silence about the driver is worth nothing.
SPARSE_FAULT = ("#define USER __attribute__((noderef, address_space(1)))\n"
                "static int planted(int USER *p) { return *p; }\n")
# Symbols that the compiler calls, that modpost adds, or that other macros export.
OTHER_SYMBOLS = ("__s390_indirect_jump*", "_GLOBAL_OFFSET_TABLE_", "__ubsan_*", "__asan_*",
                 "__gcov_*", "_mcount", "__fentry__", "__this_module", "__crc_*", "__key.*",
                 "_dev_*", "param_ops_*")
NOTE = re.compile(r"^(?P<file>[^\s:]+):\d+(?::\d+)?: (?P<text>(?:fatal )?(?:error|warning): .*)$")
# modpost cannot know the kernel's symbols here; Tree.undefined() looks at them.
MODPOST = re.compile(r"undefined!$|Module\.symvers|unresolved symbol warnings|KBUILD_MODPOST_WARN")
BAD = re.compile(r"(?:\b(?:warning|error)\b|undefined reference|\*\*\* .*(?:Error|Stop))", re.I)


def findings_of(output: str, top: str) -> list[str]:
    """The warnings and errors in make's output; paths below top become relative."""
    found = []
    for line in output.replace(f"{top}/", "").splitlines():
        if BAD.search(line) and not MODPOST.search(line):
            found.append(line.strip())
    return found


def essence(finding: str) -> str:
    """A finding without its line number, which changes with the code above it."""
    match = NOTE.match(finding)
    return f"{match['file']}: {match['text']}" if match else finding


def new_findings(now: Iterable[str], before: Iterable[str]) -> list[str]:
    """The findings that were not there before, each once."""
    known = {essence(finding) for finding in before}
    found: dict[str, str] = {}
    for finding in now:
        if essence(finding) not in known:
            found.setdefault(essence(finding), finding)
    return list(found.values())


def reads(path: str) -> bool:
    """Whether a build reads this file of the source."""
    if path.startswith(READ) and not path.startswith(UNREAD):
        return True
    folder, _, name = path.rpartition("/")
    return bool(READ_NAMES.fullmatch(path)) or (
        name in ("Makefile", "Kbuild") and folder in PARENTS)


class Tree:
    """The folder with the sources, its O= directories and the commands that run in them."""

    def __init__(self, tree: KernelTree, where: pathlib.Path,
                 make: Sequence[str] = tuple(MAKE)) -> None:
        self.lock = threading.RLock()
        self._tree = tree
        self._where = where
        self._make = make
        self._at = ""
        self._headers: set[str] = set()
        self._held: IO[str] | None = None
        self._exports: set[str] = set()
        self._configured: dict[str, bytes] = {}
        self._before: dict[tuple[str, bool], list[str]] = {}
        self.sparse_later = False       # the findings of sparse, too, will be compared

    @property
    def path(self) -> pathlib.Path:
        """The folder with the sources."""
        return self._where / "linux"

    def objects(self, name: str) -> pathlib.Path:
        """The O= directory of a configuration."""
        return self._where / name

    def _open(self, commit: str) -> str:
        """The commit whose files are there; without one, the folder is made anew from commit."""
        if self._at:
            return self._at
        self._lock_folder()
        stamp = self._where / "commit"
        last, _, read = (stamp.read_text() if stamp.exists() else "").partition(" ")
        if last and read == repr((READ, UNREAD)) and self._tree.commit(last):
            return last
        remove(self._where)
        self.path.mkdir(parents=True)
        everything = {*self.everything()}
        names = [path for path in self._tree.paths("ls-tree", "-r", "-z", "--name-only", commit)
                 if reads(path) or path in everything]
        with tempfile.TemporaryDirectory() as folder:
            env = {"GIT_INDEX_FILE": f"{folder}/index"}
            self._tree.run("read-tree", commit, env=env)
            self._tree.run("checkout-index", "-z", "--stdin", f"--prefix={self.path}/", env=env,
                           stdin=b"".join(os.fsencode(name) + b"\0" for name in names))
        return commit

    def _lock_folder(self) -> None:
        """Wait until no other process works here; the lock goes with this one."""
        self._where.parent.mkdir(parents=True, exist_ok=True)
        self._held = self._where.with_name(f".{self._where.name}.lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"waiting for another command that works in {self._where}")
            fcntl.flock(self._held, fcntl.LOCK_EX)

    def checkout(self, commit: str) -> None:
        """Move to a commit; files that do not differ keep their times."""
        last = self._open(commit)
        stamp = self._where / "commit"
        stamp.unlink(missing_ok=True)
        self._at = ""
        touched = set(self.everything())
        differ = set(self._tree.paths("diff-tree", "-r", "-z", "--no-renames", "--name-only", last,
                                      commit))
        # A patch that is new touches files that were not read before.
        differ |= {path for path in touched if not (self.path / path).exists()}
        for path, blob in self._tree.files(
                commit, [path for path in differ if reads(path) or path in touched]).items():
            file = self.path / path
            differs = write_file(file, blob) if blob else file.exists()
            if not blob:
                file.unlink(missing_ok=True)
            if differs and path.startswith(UAPI):
                self._headers.clear()
        stamp.write_text(f"{commit} {(READ, UNREAD)!r}")
        self._at = commit

    def run(self, name: str, args: Sequence[str], where: str = "") -> tuple[int, str]:
        """Run make in an O= directory; return its status and output."""
        target = self.objects(name)
        done = run([*self._make, f"O={target}", "-s", "-k", f"-j{os.cpu_count() or 1}", *args],
                   cwd=self.path / where, merge=True,
                   env={**os.environ, "LC_ALL": "C.UTF-8", "KBUILD_MODPOST_WARN": "1"})
        return done.rc, done.out

    def configure(self, name: str, extra: Sequence[str] = ()) -> list[str]:
        """Make the .config from the fragments; the lines of them without effect."""
        target = self.objects(name)
        target.mkdir(parents=True, exist_ok=True)
        folder = config.REPO / "lab/image/kernel_config"
        parts = ("common", *CONFIGURATIONS.get(name, CONFIGURATIONS["module"]))
        wanted = wanted_options("".join(
            (folder / f"{part}.config").read_text(encoding="utf-8") for part in parts))
        fragment = target / "lab.config"
        text = "".join(f"{key}={value}\n" for key, value in wanted.items())
        current = text.encode() + b"".join(
            (self.path / path).read_bytes()
            for path in self.everything() if "Kconfig" in path)
        if self._configured.get(name) == current:
            return []
        self._configured.pop(name, None)
        fragment.write_text(text)
        status, output = self.run(name, [*extra, f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig"])
        if status:
            return findings_of(output, str(self.path)) or [f"allnoconfig: status {status}"]
        wrong = [line for line in
                 dishonoured(wanted, (target / ".config").read_text(encoding="utf-8"))
                 if not fnmatch.fnmatchcase(line.split("=")[0], OURS)]
        if not wrong:
            self._configured[name] = current
        return [f"{name}: error: option without effect: {line}" for line in wrong]

    def everything(self) -> list[str]:
        """Every path that the series touches."""
        return self._tree.touched(PRISTINE, "HEAD")

    def before(self, name: str, by_sparse: bool = False,
               announce: Callable[[str], None] = say) -> list[str]:
        """The findings of the compiler or of sparse in pristine source, looked at once."""
        if (name, by_sparse) not in self._before:
            announce(f"build.{name}: pristine source")
            self.checkout(self._tree.pristine())
            self._before[name, False] = must_build(self.build(name, self.everything()))
            if by_sparse or self.sparse_later:
                self._before[name, True] = must_build(self.sparse(name, self.everything()))
        return self._before[name, by_sparse]

    def targets(self, everything: Iterable[str]) -> list[str]:
        """Targets of make: the driver's directory, and other objects that the series touches."""
        found = [DRIVER]
        for path in sorted(set(everything)):
            if (path.endswith(".c") and path.startswith(("arch/", "drivers/", "virt/", "kernel/"))
                    and not path.startswith(DRIVER) and (self.path / path).exists()):
                folder, name = path[:path.rindex("/") + 1], path[path.rindex("/") + 1:-2]
                found.append(f"{BUILT_FROM.get(folder, folder)}{name}.o")
        return found

    def build(self, name: str, everything: Iterable[str], tests: bool = True,
              extra: Sequence[str] = (), kernel: bool = True) -> list[str]:
        """Build the sources that are there; the findings, those of pristine source included.

        kernel: the objects of the kernel; tests: the selftests."""
        found = self.configure(name, extra)
        if found:
            return found
        commands = [["W=1", *extra, *self.targets(everything)]] if kernel else []
        if not (self.objects(name) / "include/generated/asm-offsets.h").exists():
            commands.insert(0, [*extra, "modules_prepare"])
        for args in commands:
            status, here = self._findings(name, args)
            found += here
            if status:
                return found
        found += self.undefined(name)
        if tests and (self.path / SELFTEST / "Makefile").exists():
            found += self.selftests(name, extra)
        return found

    def _findings(self, name: str, args: Sequence[str], where: str = "") -> tuple[int, list[str]]:
        """make: its status, and its findings, at least one if the status is not 0."""
        status, output = self.run(name, args, where)
        found = findings_of(output, str(self.path))
        if status and not found:
            found = output.strip().splitlines()[-5:] or [f"make: status {status}"]
        return status, found

    def selftests(self, name: str, extra: Sequence[str] = ()) -> list[str]:
        """Headers, then programs, as the kernel's own Makefiles build them."""
        found: list[str] = []
        if name not in self._headers:
            status, found = self._findings(name, [*extra, "headers"])
            if not status:
                self._headers.add(name)
        args = [*extra, f"KDIR={self.objects(name)}", f"TARGETS={config.SELFTEST}",
                "FORCE_TARGETS=1", "SKIP_TARGETS=", "W=1"]
        status, here = self._findings(name, args, "tools/testing/selftests")
        found += here
        if status:
            return found
        for source in sorted((self.path / SELFTEST).glob("*_test.c")):
            program = self.objects(name) / f"kselftest/{config.SELFTEST}/{source.stem}"
            if source.stem != HOST_TEST and not program.exists():
                found.append(f"{SELFTEST}{source.name}: error: not built")
        return found

    def undefined(self, name: str) -> list[str]:
        """Symbols of the driver and of its tests that nothing defines."""
        top = self.objects(name) / DRIVER
        found = []
        option = re.search(r"^CONFIG_VFIO_AP=([my])$",
                           (self.objects(name) / ".config").read_text(encoding="utf-8"), re.M)
        # Built in, the parts are not linked to vfio_ap.o.
        driver = "vfio_ap_drv.o" if option and option[1] == "y" else "vfio_ap.o"
        if option and not (top / driver).exists():
            found.append(f"{DRIVER}{driver}: error: not built")
        # Not the objects of another commit, which has more tests.
        tests = [top / "tests" / f"{source.stem}.o"
                 for source in sorted((self.path / DRIVER / "tests").glob("*_kunit.c"))]
        for path in [top / "vfio_ap.o", *tests]:
            if path.exists() and (self.path / DRIVER).exists():
                found += self.undefined_in(path)
        return found

    def undefined_in(self, path: pathlib.Path) -> list[str]:
        """Symbols that an object wants and no EXPORT_SYMBOL of the commit names."""
        exports = self.exported()
        done = run([f"{config.CROSS_COMPILE}nm", "--undefined-only", "--format=posix", path],
                   error=SeriesError)
        found = []
        for line in done.out.splitlines():
            symbol = line.split()[0]
            if symbol not in exports and not any(
                    fnmatch.fnmatchcase(symbol, glob) for glob in OTHER_SYMBOLS):
                found.append(f"{path.name}: {symbol} is neither defined nor exported")
        return found

    def exported(self) -> set[str]:
        """The names in EXPORT_SYMBOL and its like that the driver can use at this commit."""
        if not self._exports:
            self._exports = self._exported_in(PRISTINE, EXPORTERS)
        here = self._at or "HEAD"
        touched = [path for path in self._tree.touched(PRISTINE, here)
                   if path.endswith((".c", ".h", ".S"))] if here != self._tree.pristine() else []
        return self._exports | (self._exported_in(here, touched) if touched else set())

    def _exported_in(self, commit: str, paths: Sequence[str]) -> set[str]:
        """The names that these files of a commit export."""
        found: set[str] = set()
        done = self._tree.run("grep", "-h", "-o", "-E",
                              r"(EXPORT_[A-Z0-9_]*|TRACEPOINT_SYMBOL[A-Z_]*)\((_*\w+)", commit,
                              "--", *paths, check=False)
        for line in done.stdout.decode(errors="replace").splitlines():
            name = line.rpartition("(")[2]
            found |= {name, f"__tracepoint_{name}", f"__traceiter_{name}",
                      f"__SCK__tp_func_{name}", f"__SCT__tp_func_{name}", f"__probestub_{name}"}
        return found

    def sparse(self, name: str, everything: Iterable[str], extra: Sequence[str] = ()) -> list[str]:
        """sparse's findings in all objects of the O= directory's configuration."""
        found = self.configure(name) or sparse_works()
        if found:
            return found
        names = [path for path in self.targets(everything) if path != DRIVER]
        folder = self.path / DRIVER
        names += [f"{DRIVER}{path.relative_to(folder)}"[:-2] + ".o"
                  for path in sorted([*folder.glob("vfio_ap*.c"), *folder.glob("tests/*.c")])]
        # W=1 as in build(): with other flags, all objects would be compiled again.
        return self._findings(name, ["C=2", "W=1", SPARSE, *extra, *names])[1]


def sparse_works() -> list[str]:
    """A finding unless sparse finds a planted fault."""
    done = run(["sparse", "-"], stdin=SPARSE_FAULT, merge=True)
    return [] if "noderef" in done.out else [f"sparse: error: misses a planted fault: {done.out}"]


def touches_code(paths: Iterable[str]) -> bool:
    """Whether a patch can change compiled code."""
    return any(not any(fnmatch.fnmatchcase(path, glob) for glob in NO_CODE) for path in paths)


def must_build(found: list[str]) -> list[str]:
    """The warnings of a build; an error raises, as nothing can be compared with it."""
    errors = [line for line in found
              if not re.search(r"\bwarning: |neither defined nor exported", line)]
    if errors:
        raise SeriesError("\n".join(errors))
    return found


def walk(tree: KernelTree, builds: Tree, name: str, base: str,
         commits: Sequence[tuple[str, str]], announce: Callable[[str], None] = say) -> list[str]:
    """Build each commit (id, name) after base that touches code; the findings that pristine
    source lacks."""
    if not commits:
        return ["there is no commit to build"]
    parents = [base, *(commit for commit, _ in commits)]
    changes = [tree.paths("diff", "-z", "--no-renames", "--name-only", *pair)
               for pair in itertools.pairwise(parents)]
    steps = [number for number, paths in enumerate(changes) if touches_code(paths)]
    found: list[str] = []
    with builds.lock:
        before = builds.before(name, announce=announce) if steps else []
        for number in steps:
            commit, title = commits[number]
            announce(f"build.{name}: {number + 1} of {len(commits)}: {title}")
            builds.checkout(commit)
            # Each step builds the files that it changes, the last one those of all steps.
            last = number == steps[-1]
            paths = [path for here in (changes if last else [changes[number]]) for path in here]
            kernel = any(not path.startswith("tools/") for path in paths)
            tests = any(path.startswith((SELFTEST, "include/uapi/")) for path in paths)
            now = builds.build(name, builds.everything(), tests, (), kernel)
            found += [f"{title}: {line}" for line in new_findings(now, before)]
    return found


def sparse(tree: KernelTree, builds: Tree, name: str, commit: str) -> list[str]:
    """sparse's findings in a commit that the pristine source does not have."""
    with builds.lock:
        before = builds.before(name, by_sparse=True)
        builds.checkout(commit)
        # Compile first: sparse shall see headers that are generated, and nothing else.
        must_build(builds.build(name, builds.everything(), tests=False))
        return new_findings(builds.sparse(name, builds.everything()), before)
