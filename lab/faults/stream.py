# SPDX-License-Identifier: GPL-2.0
"""`make fuzz`: the driver's stream code against an enemy's bytes, on this machine.

    make fuzz SECONDS=600 SEED=7

builds drivers/s390/crypto/vfio_ap_stream.c of build/linux with libFuzzer, AddressSanitizer and
UndefinedBehaviorSanitizer, lets a mutator that knows the format attack it (lab/programs/fuzz/),
and prints which of its branches that reached. lab/programs/fuzz/stream_fuzz.c has the assertions.
An input that breaks a property is kept in out/fuzz; to see it fail again:

    build/fuzz/target/stream_fuzz out/fuzz/crash-...

Runs with equal seed, number of runs and sources do the same. PLANTED are planted faults of the
decoder: the fuzzer finds each, which shows that each assertion can fail.
"""

from __future__ import annotations

import json
import os
import pathlib
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lab.common import config, progress
from lab.common.errors import LabError
from lab.common.run import NOT_INSTALLED, TIMED_OUT, Done, run
from lab.faults import corpus
from lab.report import tap

FOLDER = config.REPO / "lab/programs/fuzz"
WORK = config.BUILD / "fuzz"
# Inputs that crashed are results; the other files can be made again.
CRASHES = config.OUT / "fuzz"
SOURCES = ("stream_fuzz.c", "mutate.c", "reference.c")
DRIVER = "drivers/s390/crypto/vfio_ap_stream.c"
CLANG = "clang-14"
# Every branch but a few that no caller can reach, such as the default of a switch over an enum.
GOAL = 95.0
FLOOR = 85.0
MAX_LEN = 8192
# Of one input. The longest takes a second on an idle machine.
TIMEOUT = 60

# Looking up names takes longer than the crash, and the message names the violated assertion.
QUIET = {"ASAN_OPTIONS": "symbolize=0", "UBSAN_OPTIONS": "symbolize=0"}
WARNINGS = ("-Wall", "-Wextra", "-Wno-format", "-Wno-c2x-extensions")
SANITIZERS = "-fsanitize=address,undefined"


class FuzzError(LabError):
    """Something does not build or run, or an input breaks a property; str() tells."""


@dataclass(frozen=True)
class Run:
    """Outcome of a run of the fuzzer."""

    crash: pathlib.Path | None
    why: str
    runs: int
    found: pathlib.Path


@dataclass(frozen=True)
class Coverage:
    """Branches of the driver's file that inputs have taken."""

    total: int
    taken: int
    missed: tuple[str, ...]

    @property
    def percent(self) -> float:
        """Of all branches."""
        return 100.0 * self.taken / self.total if self.total else 0.0


@dataclass(frozen=True)
class Fault:
    """A planted fault: a text in the driver, which must be there once, and its replacement."""

    name: str
    old: str
    new: str


def call(argv: Sequence[str | pathlib.Path], limit: float = 300.0,
         env: dict[str, str] | None = None) -> Done:
    """Run a tool, with its messages among its output; FuzzError if it is not there or hangs."""
    done = run(argv, timeout=limit, merge=True,
               env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})})
    if done.rc in (NOT_INSTALLED, TIMED_OUT):
        raise FuzzError(done.out.strip())
    return done


def tool(argv: Sequence[str | pathlib.Path]) -> str:
    """Run a tool that has to succeed; its output."""
    done = call(argv)
    if done.rc:
        raise FuzzError("\n".join([f"{argv[0]} failed:", *done.out.splitlines()[:30]]))
    return done.out


def includes(linux: pathlib.Path) -> list[str]:
    """The headers that stream_host_test.c is built with, and the driver's own."""
    tests = linux / "tools/testing/selftests"
    return [f"-I{path}" for path in (
        FOLDER, tests / config.SELFTEST / "host", (linux / DRIVER).parent, tests,
        linux / "tools/include")]


def compile_object(source: pathlib.Path, target: pathlib.Path, linux: pathlib.Path) -> None:
    """Compile a file for the fuzzer."""
    tool([CLANG, "-O1", "-g1", *WARNINGS, "-D_GNU_SOURCE=", SANITIZERS,
          "-fno-sanitize-recover=all", "-fsanitize=fuzzer-no-link", *includes(linux),
          "-c", source, "-o", target])


def build(driver: pathlib.Path | None = None, folder: pathlib.Path = WORK / "target",
          linux: pathlib.Path = config.LINUX, again: bool = True) -> pathlib.Path:
    """Build the target. driver: another copy of the file; again: the rest has changed, too."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = [folder / f"{pathlib.Path(name).stem}.o" for name in SOURCES]
    if again:
        for name, target in zip(SOURCES, objects, strict=True):
            compile_object(FOLDER / name, target, linux)
    objects.append(folder / "driver.o")
    compile_object(driver or linux / DRIVER, objects[-1], linux)
    tool([CLANG, SANITIZERS, "-fsanitize=fuzzer", *objects, "-o", folder / "stream_fuzz"])
    return folder / "stream_fuzz"


def reason(output: str) -> str:
    """The line with the failure, from a fuzzer's output."""
    for pattern in (r"property violated: .*", r".*: runtime error: .*",
                    r"ERROR: AddressSanitizer: \S+", r"ERROR: libFuzzer: .*"):
        found = re.search(pattern, output)
        if found:
            return found[0]
    return ""


def run_fuzzer(binary: pathlib.Path, seed: int, runs: int = -1, seconds: int = 0,
               crashes: pathlib.Path = CRASHES) -> Run:
    """Let the fuzzer run from the seeds for a number of runs, or of seconds."""
    found = binary.parent / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    crashes.mkdir(parents=True, exist_ok=True)
    limits = [f"-runs={runs}"] if runs >= 0 else []
    limits += [f"-max_total_time={seconds}"] if seconds else []
    if not limits:
        raise FuzzError("neither a number of runs nor of seconds")
    done = call([binary, f"-seed={seed}", *limits, f"-max_len={MAX_LEN}", f"-timeout={TIMEOUT}",
                 "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={crashes}/",
                 found, corpus.FOLDER], limit=seconds + 1200.0,
                env=QUIET)
    number = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.out)
    crash = re.search(r"Test unit written to (\S+)", done.out)
    why = reason(done.out)
    if done.rc and not why:
        why = f"exit status {done.rc}: " + "\n".join(done.out.splitlines()[-20:])
    return Run(pathlib.Path(crash[1]) if crash else None, why if done.rc else "",
               int(number[1]) if number else 0, found)


def coverage(found: pathlib.Path | None = None, linux: pathlib.Path = config.LINUX) -> Coverage:
    """Measure the branches that the seeds, and the inputs that a run has found, take."""
    folder = WORK / "coverage"
    folder.mkdir(parents=True, exist_ok=True)
    binary, raw, data = folder / "stream_fuzz", folder / "raw", folder / "data"
    driver = linux / DRIVER
    tool([CLANG, "-O1", "-g1", *WARNINGS, "-D_GNU_SOURCE=", "-fsanitize=fuzzer",
          "-fprofile-instr-generate", "-fcoverage-mapping", *includes(linux),
          *[FOLDER / name for name in SOURCES], driver, "-o", binary])
    raw.unlink(missing_ok=True)
    done = call([binary, "-runs=0", f"-max_len={MAX_LEN}", corpus.FOLDER,
                 *([found] if found else [])], env={"LLVM_PROFILE_FILE": str(raw)})
    if done.rc:
        raise FuzzError("\n".join(done.out.splitlines()[-20:]))
    tool(["llvm-profdata-14", "merge", raw, "-o", data])
    exported = json.loads(tool(["llvm-cov-14", "export", binary, f"-instr-profile={data}",
                                driver]))
    return parse_coverage(exported, driver)


def parse_coverage(exported: dict[str, Any], driver: pathlib.Path) -> Coverage:
    """Parse llvm-cov's export: of each condition, how often it was true, and false."""
    branches: list[list[int]] = []
    for item in exported["data"]:
        for file in item["files"]:
            if pathlib.Path(file["filename"]).name == driver.name:
                branches += file["branches"]
    lines = driver.read_text(encoding="utf-8").splitlines()
    total = taken = 0
    missed = []
    for line, column, _, _, true, false, *_ in branches:
        for count, what in ((true, "true"), (false, "false")):
            total += 1
            taken += count > 0
            if not count:
                text = lines[line - 1][column - 1:].strip()
                missed.append(f"line {line}: never {what}: {text}")
    if not total:
        raise FuzzError("llvm-cov knows no branch of the driver's file")
    return Coverage(total, taken, tuple(missed))


# Each with the defect, in the form of a name: first bounds of loops, indexes and lengths, then
# rules of the stream, then the comparison and the encoder.
PLANTED = (
    Fault("unit_overflows", "min_t(size_t, len, wanted - dec->fill)",
          "min_t(size_t, len, wanted)"),
    Fault("adapter_not_bounded", "if (apid >= VFIO_AP_STREAM_MAX_ADAPTERS ||\n"
          "\t    !vfio_ap_stream_test_bit(image->config.apm, apid) ||",
          "if (!vfio_ap_stream_test_bit(image->config.apm, apid) ||"),
    Fault("adapter_of_nobody", "\t    !vfio_ap_stream_test_bit(image->config.apm, apid) ||\n", ""),
    Fault("irq_adapter_not_bounded", "if (apid >= VFIO_AP_STREAM_MAX_ADAPTERS ||\n"
          "\t    !vfio_ap_stream_test_bit(dec->image.config.apm, apid) ||",
          "if (!vfio_ap_stream_test_bit(dec->image.config.apm, apid) ||"),
    Fault("rows_need_not_match", "len != vfio_ap_stream_weight(dec->image.config.apm) *",
          "len > vfio_ap_stream_weight(dec->image.config.apm) *"),
    Fault("stream_not_bounded", "used > VFIO_AP_STREAM_MAX_BYTES - dec->total", "0"),
    Fault("skipped_not_bounded", "len > VFIO_AP_STREAM_MAX_SKIPPED - dec->skipped", "0"),
    Fault("config_twice", "if (dec->last || len != sizeof(struct vfio_ap_stream_config))",
          "if (len != sizeof(struct vfio_ap_stream_config))"),
    Fault("optional_config",
          "\tif (!(flags & VFIO_AP_STREAM_MANDATORY))\n\t\treturn -EINVAL;\n", ""),
    Fault("reserved_header", "\tif (header.reserved)\n\t\treturn -EINVAL;\n", ""),
    Fault("piece_forgets_the_one_before", "memcpy(dec->unit + dec->fill, data, used)",
          "memcpy(dec->unit, data, used)"),
    Fault("piece_is_a_unit", "if (dec->fill < wanted)", "if (dec->fill < 1)"),
    Fault("stops_without_event", "while (done < len && *event == VFIO_AP_STREAM_NEED_DATA)",
          "while (done < len && !done)"),
    Fault("event_is_left_over", "\t*event = VFIO_AP_STREAM_NEED_DATA;\n\tif (dec->error)",
          "\tif (dec->error)"),
    Fault("error_keeps_the_event", "\t*event = VFIO_AP_STREAM_NEED_DATA;\n\tif (dec->error)\n"
          "\t\treturn dec->error;\n", "\tif (dec->error)\n\t\treturn dec->error;\n"
          "\t*event = VFIO_AP_STREAM_NEED_DATA;\n"),
    Fault("piece_changes_the_image", "\tdec->fill += used;\n",
          "\tif (dec->state == VFIO_AP_LOAD_CONFIG && dec->fill && dec->fill + used == 96)\n"
          "\t\tdec->unit[95] ^= 1;\n\tdec->fill += used;\n"),
    Fault("nothing_is_too_little", "\t\treturn dec->error;\n\n\twhile (",
          "\t\treturn dec->error;\n\tif (!len)\n\t\treturn -EINVAL;\n\n\twhile ("),
    Fault("more_than_one_event", "while (done < len && *event == VFIO_AP_STREAM_NEED_DATA)",
          "while (done < len)"),
    Fault("consumes_too_much", "\treturn done;\n}", "\treturn done + 1;\n}"),
    Fault("consumed_is_not_told", "\treturn done;\n}", "\treturn len;\n}"),
    Fault("error_does_not_stick", "\t\t\tdec->error = used;\n", ""),
    Fault("end_has_a_payload", "if (!after_hwinfo || len)", "if (!after_hwinfo)"),
    Fault("end_without_hwinfo", "if (!after_hwinfo || len)", "if (len)"),
    Fault("masks_lose_a_byte", "dec->unit, sizeof(dec->image.config))",
          "dec->unit, sizeof(dec->image.config) - 1)"),
    Fault("rows_lose_depth", "image->adapter[image->nr++] = row;",
          "row.info &= cpu_to_be64(~1ULL);\n\timage->adapter[image->nr++] = row;"),
    Fault("rows_not_sorted", "apid <= be16_to_cpu(image->adapter[image->nr - 1].apid)",
          "apid == be16_to_cpu(image->adapter[image->nr - 1].apid)"),
    Fault("foreign_bits_pass",
          " ||\n\t    be64_to_cpu(row.info) & ~VFIO_AP_STREAM_HWINFO_MASK", ""),
    Fault("irq_twice", "VFIO_AP_STREAM_IRQ_KEY) <= 0", "VFIO_AP_STREAM_IRQ_KEY) < 0"),
    Fault("irq_queue_twice", "(~dec->image.config.aqm[i] | dec->taken[i])",
          "~dec->image.config.aqm[i]"),
    Fault("irq_foreign_queue", "(~dec->image.config.aqm[i] | dec->taken[i])", "dec->taken[i]"),
    Fault("irq_of_nobody", "\tif (!any)\n\t\treturn -EINVAL;\n", ""),
    Fault("irq_subclass_too_high", "irq.isc > VFIO_AP_STREAM_MAX_ISC || ", ""),
    Fault("irq_rows_lose_domains", "memcpy(&irq, dec->unit, sizeof(irq))",
          "memcpy(&irq, dec->unit, sizeof(irq) - 1), irq.domains[31] = 0"),
    Fault("control_domains_differ", "equal &= vfio_ap_stream_compare_mask(\"control",
          "vfio_ap_stream_compare_mask(\"control"),
    Fault("equal_is_told",
          "\t\tif (here == vfio_ap_stream_test_bit(source, id))\n\t\t\tcontinue;\n", ""),
    Fault("equal_masks_differ", "VFIO_AP_STREAM_MASK_BYTES))\n\t\treturn true;\n",
          "VFIO_AP_STREAM_MASK_BYTES))\n\t\treturn false;\n"),
    Fault("nobody_fits", "field->may_be_larger && here > want", "false"),
    Fault("hardware_fits", "\treport(ctx, text);\n\n\treturn false;\n}\n",
          "\treport(ctx, text);\n\n\treturn true;\n}\n"),
    Fault("difference_is_not_told", "\t\treport(ctx, text);\n\t}\n", "\t}\n"),
    Fault("one_way_fits", "field->may_be_larger && here > want", "field->may_be_larger"),
    Fault("hardware_is_not_told", "\treport(ctx, text);\n\n\treturn false;\n}\n",
          "\treturn false;\n}\n"),
    Fault("text_too_long", '"here" : "on the source"',
          '"on this side, where it should not be, and nowhere on the other" : "on the source"'),
    Fault("encoder_writes_too_far", "p = vfio_ap_stream_put(p, image->adapter, rows);",
          "p = vfio_ap_stream_put(p, image->adapter, rows);\n\t*p = 0;"),
    Fault("encoder_miscounts", "return vfio_ap_stream_put(p, &rec, sizeof(rec));",
          "return vfio_ap_stream_put(p, &rec, sizeof(rec)) + 8;"),
)


def plant(fault: Fault, text: str) -> str:
    """The driver's file with the fault in it."""
    if text.count(fault.old) != 1:
        raise FuzzError(f"{fault.name}: what it replaces is there {text.count(fault.old)} times")
    return text.replace(fault.old, fault.new)


def assertions() -> set[str]:
    """The assertions of the fuzz target, as it prints them when they are violated."""
    text = (FOLDER / "stream_fuzz.c").read_text(encoding="utf-8")
    found = set()
    for start in re.finditer(r"^\t.*\bMUST\(", text, re.M):
        depth, at = 1, start.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        if not start[0].endswith("\\"):
            found.add(" ".join(text[start.end():at - 1].split()))
    return found


def find(fault: Fault, folder: pathlib.Path, runs: int = 20000, seed: int = 1,
         linux: pathlib.Path = config.LINUX) -> set[str]:
    """The assertions that the driver with the fault violates; FuzzError if there are none.

    The seeds alone find most, and a run over them prints every violation. folder: has been
    built in before, so that only the driver's file is compiled.
    """
    copy, crashes = folder / "vfio_ap_stream.c", folder / "crashes"
    copy.write_text(plant(fault, (linux / DRIVER).read_text(encoding="utf-8")), encoding="utf-8")
    binary = build(copy, folder, linux, again=False)
    crashes.mkdir(exist_ok=True)
    done = call([binary, "-runs=0", f"-max_len={MAX_LEN}", f"-timeout={TIMEOUT}",
                 f"-artifact_prefix={crashes}/", corpus.FOLDER],
                env={**QUIET, "FUZZ_KEEP_GOING": "1"})
    violated = set(re.findall(r"^property violated: \w+:\d+: (.*)", done.out, re.M))
    if done.rc and not violated:
        violated.add(reason(done.out))
    if not violated:
        late = run_fuzzer(binary, seed, runs, crashes=crashes)
        if not late.why:
            raise FuzzError(f"{fault.name}: not found in {late.runs} runs")
        violated.add(re.sub(r"^property violated: \w+:\d+: ", "", late.why))
    return violated


def find_all() -> Iterator[tuple[str, tap.Outcome]]:
    """Each planted fault is found, and each assertion fails for one of them."""
    folder = WORK / "planted"
    build(folder=folder)
    violated: set[str] = set()
    for fault in PLANTED:
        log = []
        try:
            violated |= find(fault, folder)
        except FuzzError as error:
            log = str(error).splitlines()
        yield f"fuzz.planted.{fault.name}", tap.Outcome(
            fault.name, "not ok" if log else "ok", log=log)
    silent = sorted(assertions() - violated)
    yield "fuzz.every_assertion_can_fail", tap.Outcome(
        "every_assertion_can_fail", "not ok" if silent else "ok", log=silent)


def main_planted() -> int:
    """`make test-fuzz`; the exit status."""
    return tap.write(find_all())


def main(seconds: int, seed: int | None) -> int:
    """`make fuzz`; the exit status."""
    seed = random.randrange(1, 2**31) if seed is None else seed
    print(f"seed {seed}, {seconds} s", flush=True)
    with progress.stage("build"):
        binary = build()
    with progress.stage("runs"):
        done = run_fuzzer(binary, seed, seconds=seconds)
    print(f"{done.runs} runs")
    if done.why:
        print(f"{done.why}\nthe input: {done.crash or 'not kept'}\nseed {seed}")
        return 1
    with progress.stage("coverage"):
        reached = coverage(done.found)
    print(f"branches of {DRIVER}: {reached.taken} of {reached.total}, {reached.percent:.1f} % "
          f"(goal {GOAL:.0f} %, floor {FLOOR:.0f} %)")
    for line in reached.missed:
        print(f"  {line}")
    return int(reached.percent < FLOOR)
