# SPDX-License-Identifier: GPL-2.0
"""Builds of what the series touches, one patch after the other.

A work tree of its own, without the sources that the build does not read, moves through the
commits; an O= directory for each configuration follows it. So only what a patch changes, and
what includes it, is compiled again. Nothing is linked to a kernel: a symbol that no commit of
the series exports or defines is found in the symbol tables.

A warning counts if the pristine source does not give it.
"""

from __future__ import annotations

import fcntl
import fnmatch
import os
import pathlib
import re
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import IO

from lab.common import config
from lab.common.progress import say
from lab.common.run import run
from lab.image.kernel import DRIVER, MAKE, dishonoured, remove, wanted_options
from lab.series.git import PRISTINE, KernelTree, SeriesError, escape

SELFTEST = f"tools/testing/selftests/{config.SELFTEST}/"

# What a build reads. Of the rest only Kconfig files, Makefiles and the like are checked out.
READ = ("arch/s390", "drivers/s390", "drivers/vfio", "include", "kernel", "lib", "scripts", "virt",
        "tools/arch", "tools/build", "tools/include", "tools/lib", "tools/scripts")
UNREAD = ("*.c", "*.h", "*.S", "*.dts", "*.dtsi", "*.rs", "*.json", "*.rst", "*.yaml")

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
# What the compiler calls, what modpost adds, and what is exported by macros of other names.
OTHER_SYMBOLS = ("__s390_indirect_jump*", "_GLOBAL_OFFSET_TABLE_", "__ubsan_*", "__asan_*",
                 "__gcov_*", "_mcount", "__fentry__", "__this_module", "__crc_*", "__key.*",
                 "_dev_*", "param_ops_*")
NOTE = re.compile(r"^(?P<file>[^\s:]+):\d+(?::\d+)?: (?P<text>(?:fatal )?(?:error|warning): .*)$")
# modpost cannot know the kernel's symbols here; Tree.undefined() looks at them.
MODPOST = re.compile(r"undefined!$|Module\.symvers|unresolved symbol warnings|KBUILD_MODPOST_WARN")
BAD = re.compile(r"(?:\b(?:warning|error)\b|undefined reference|\*\*\* .*(?:Error|Stop))", re.I)


def findings_of(output: str, top: str) -> list[str]:
    """The warnings and errors in what make printed; paths below top become relative."""
    found = []
    for line in output.replace(f"{top}/", "").splitlines():
        if BAD.search(line) and not MODPOST.search(line):
            found.append(line.strip())
    return found


def essence(finding: str) -> str:
    """A finding without its line number: what stays the same when code above it changes."""
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


class Tree:
    """The work tree, its O= directories and what is run in them."""

    def __init__(self, tree: KernelTree, where: pathlib.Path,
                 make: Sequence[str] = tuple(MAKE)) -> None:
        self.lock = threading.RLock()
        self._tree = tree
        self._where = where
        self._make = make
        self._work: KernelTree | None = None
        self._held: IO[str] | None = None
        self._exports: set[str] = set()
        self._configured: dict[str, bytes] = {}

    @property
    def path(self) -> pathlib.Path:
        """The work tree."""
        return self._where / "linux"

    def objects(self, name: str) -> pathlib.Path:
        """The O= directory of a configuration."""
        return self._where / name

    def _open(self) -> KernelTree:
        """The work tree as it was left, or a new one."""
        if self._work:
            return self._work
        self._alone()
        common = self._tree.git_dir().resolve()
        if (self.path / ".git").is_file():
            link = (self.path / ".git").read_text(encoding="utf-8").partition(":")[2].strip()
            if pathlib.Path(link).parent.parent.resolve() != common or not pathlib.Path(
                    link).exists():
                remove(self._where)
        else:
            remove(self._where)
        sparse = {"core.sparseCheckout": "true", "core.sparseCheckoutCone": "false"}
        if not self.path.exists():
            self._where.mkdir(parents=True)
            self._tree.run("worktree", "prune")
            self._tree.run("worktree", "add", "-q", "--no-checkout", "--detach", str(self.path),
                           PRISTINE)
            work = KernelTree(self.path, sparse)
            touched = self._tree.touched(PRISTINE, "HEAD")
            patterns = work.git_dir() / "info" / "sparse-checkout"
            patterns.parent.mkdir(parents=True, exist_ok=True)
            patterns.write_text("/*\n" + "".join(f"!{glob}\n" for glob in UNREAD)
                                + "".join(f"/{name}/**\n" for name in READ)
                                + "/tools/testing/selftests/*.h\n/tools/testing/selftests/*.mk\n"
                                + f"/{SELFTEST}**\n/usr/include/**\n"
                                + "".join(f"/{escape(name)}\n" for name in touched))
            work.run("read-tree", "-m", "-u", "HEAD")
        self._work = KernelTree(self.path, sparse)
        (self._work.git_dir() / "index.lock").unlink(missing_ok=True)
        return self._work

    def _alone(self) -> None:
        """Wait until no other process works here; the lock goes with this one."""
        self._where.parent.mkdir(parents=True, exist_ok=True)
        self._held = self._where.with_name(f".{self._where.name}.lock").open("w")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"waiting for another command that works in {self._where}")
            fcntl.flock(self._held, fcntl.LOCK_EX)

    def checkout(self, commit: str) -> None:
        """Move the work tree; files that do not differ keep their times."""
        work = self._open()
        work.run("checkout", "-q", "--force", "--detach", commit)

    def run(self, name: str, args: Sequence[str], where: str = "") -> tuple[int, str]:
        """make in an O= directory: its status and what it printed."""
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
            for path in self._tree.touched(PRISTINE, "HEAD") if "Kconfig" in path)
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

    def targets(self, everything: Iterable[str]) -> list[str]:
        """What to build: the driver's directory, and other objects that the series touches."""
        found = [DRIVER]
        for path in sorted(set(everything)):
            if (path.endswith(".c") and path.startswith(("arch/", "drivers/", "virt/", "kernel/"))
                    and not path.startswith(DRIVER) and (self.path / path).exists()):
                found.append(f"{path[:-2]}.o")
        return found

    def build(self, name: str, everything: Iterable[str], tests: bool = True,
              extra: Sequence[str] = ()) -> list[str]:
        """Build what is checked out; the findings, those of pristine source included."""
        found = self.configure(name, extra)
        if found:
            return found
        commands = [["W=1", *extra, *self.targets(everything)]]
        if not (self.objects(name) / "include/generated/asm-offsets.h").exists():
            commands.insert(0, [*extra, "modules_prepare"])
        for args in commands:
            status, output = self.run(name, args)
            here = findings_of(output, str(self.path))
            if status and not here:
                here = output.strip().splitlines()[-5:] or [f"make: status {status}"]
            found += here
            if status:
                return found
        found += self.undefined(name)
        if tests and (self.path / SELFTEST / "Makefile").exists():
            found += self.selftests(name, extra)
        return found

    def selftests(self, name: str, extra: Sequence[str] = ()) -> list[str]:
        """Headers, then programs and the simulator, as the kernel's own Makefiles build them."""
        found: list[str] = []
        for args, where in ((["headers"], ""),
                            ([f"KDIR={self.objects(name)}", f"TARGETS={config.SELFTEST}",
                              "FORCE_TARGETS=1", "SKIP_TARGETS=", "W=1"],
                             "tools/testing/selftests")):
            status, output = self.run(name, [*extra, *args], where)
            here = findings_of(output, str(self.path))
            if status and not here:
                here = output.strip().splitlines()[-5:] or [f"make: status {status}"]
            found += here
        simulator = self.path / SELFTEST / "ap_sim"
        for module in sorted(simulator.glob("*.ko")):
            found += self.undefined_in(module)
        return found

    def undefined(self, name: str) -> list[str]:
        """Symbols of the driver and of its tests that nothing defines."""
        top = self.objects(name) / DRIVER
        found = []
        for path in [top / "vfio_ap.o", *sorted((top / "tests").glob("*_kunit.o"))]:
            if path.exists() and (self.path / DRIVER).exists():
                found += self.undefined_in(path)
        return found

    def undefined_in(self, path: pathlib.Path) -> list[str]:
        """Symbols that an object wants and no EXPORT_SYMBOL of the tree names."""
        if not self._exports:
            self._exports = self.exported()
        done = run([f"{config.CROSS_COMPILE}nm", "--undefined-only", "--format=posix", path],
                   error=SeriesError)
        found = []
        for line in done.out.splitlines():
            symbol = line.split()[0]
            if symbol not in self._exports and not any(
                    fnmatch.fnmatchcase(symbol, glob) for glob in OTHER_SYMBOLS):
                found.append(f"{path.name}: {symbol} is neither defined nor exported")
        return found

    def exported(self) -> set[str]:
        """The names in EXPORT_SYMBOL and its like, in all of the kernel and at any step."""
        found: set[str] = set()
        for commit in (PRISTINE, "HEAD"):
            done = self._tree.run("grep", "-h", "-o", "-E",
                                  r"(EXPORT_[A-Z0-9_]*|TRACEPOINT_SYMBOL[A-Z_]*)\((_*\w+)", commit,
                                  "--", "*.c", "*.h", "*.S", check=False)
            for line in done.stdout.decode(errors="replace").splitlines():
                name = line.rpartition("(")[2]
                found |= {name, f"__tracepoint_{name}", f"__traceiter_{name}",
                          f"__SCK__tp_func_{name}", f"__SCT__tp_func_{name}",
                          f"__probestub_{name}"}
        return found

    def sparse(self, name: str, everything: Iterable[str], extra: Sequence[str] = ()) -> list[str]:
        """What sparse says of all objects in the O= directory's configuration."""
        found = self.configure(name)
        if found:
            return found
        names = [path for path in self.targets(everything) if path != DRIVER]
        folder = self.path / DRIVER
        names += [f"{DRIVER}{path.relative_to(folder)}"[:-2] + ".o"
                  for path in sorted([*folder.glob("vfio_ap*.c"), *folder.glob("tests/*.c")])]
        status, output = self.run(name, ["C=2", SPARSE, *extra, *names])
        found = findings_of(output, str(self.path))
        if status and not found:
            found = output.strip().splitlines()[-5:]
        if "not available or not up to date" in output:
            found.append("sparse was refused by the kernel's Makefile")
        if (self.path / SELFTEST / "ap_sim").exists():
            status, output = self.run(name, ["C=2", SPARSE, f"M={self.path / SELFTEST}/ap_sim",
                                             "modules"])
            found += findings_of(output, str(self.path))
        return found


def touches_code(paths: Iterable[str]) -> bool:
    """Whether a patch can change what is compiled."""
    return any(not any(fnmatch.fnmatchcase(path, glob) for glob in NO_CODE) for path in paths)


def must_build(found: list[str]) -> list[str]:
    """The warnings of a build; an error raises, as nothing can be compared with it."""
    errors = [line for line in found
              if not re.search(r"\bwarning: |neither defined nor exported", line)]
    if errors:
        raise SeriesError("\n".join(errors))
    return found


def walk(tree: KernelTree, builds: Tree, name: str, commits: Sequence[tuple[str, str]],
         announce: Callable[[str], None] = say) -> list[str]:
    """Build each commit (id, name) that touches code; what pristine source does not give."""
    everything = tree.touched(PRISTINE, commits[-1][0]) if commits else []
    with builds.lock:
        announce(f"build.{name}: pristine source")
        builds.checkout(tree.pristine())
        before = must_build(builds.build(name, everything))
        found: list[str] = []
        parent = tree.pristine()
        for number, (commit, title) in enumerate(commits, 1):
            paths = tree.paths("diff", "-z", "--no-renames", "--name-only", parent, commit)
            parent = commit
            if not touches_code(paths):
                continue
            announce(f"build.{name}: {number} of {len(commits)}: {title}")
            builds.checkout(commit)
            tests = any(path.startswith((SELFTEST, "include/uapi/")) for path in paths)
            new = new_findings(builds.build(name, everything, tests), before)
            found += [f"{title}: {line}" for line in new]
        return found


def sparse(tree: KernelTree, builds: Tree, name: str, commit: str) -> list[str]:
    """What sparse says of a commit and not of pristine source."""
    everything = tree.touched(PRISTINE, commit)
    with builds.lock:
        results = []
        for ident in (tree.pristine(), commit):
            builds.checkout(ident)
            # Compile first: sparse shall see headers that are generated, and nothing else.
            must_build(builds.build(name, everything, tests=False))
            results.append(builds.sparse(name, everything))
        return new_findings(results[1], results[0])
