# SPDX-License-Identifier: GPL-2.0
"""The test runner: what counts as passed, failed, skipped."""

from __future__ import annotations

import contextlib
import io
import pathlib
import threading
from unittest import mock

from lab.report import tap
from lab.report.tap import Outcome
from lab.tests import runner
from lab.tests.runner import Report

TAP = "TAP version 13\n1..2\n# RUN global.one ...\nok 1 global.one\n"


def printed(report: Report, *outcomes: tuple[str, Outcome]) -> list[str]:
    """The lines that results and summary make."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for name, outcome in outcomes:
            report.add(name, outcome)
        report.summary()
    return out.getvalue().splitlines()


def test_flat_list() -> None:
    """Numbers, names without blanks, reasons, the last line."""
    report = Report(skips=[("a.s.skip*", "no *")])
    lines = printed(report, ("a.s.one", Outcome("one", "ok")),
                    ("a.s.two words", Outcome("two", "not ok", log=["why"])),
                    ("a.s.skip1", Outcome("skip1", "skip", "no card")))
    assert lines == ["ok 1 a.s.one", "not ok 2 a.s.two_words", "#   why",
                     "ok 3 a.s.skip1 # SKIP no card", "1 passed, 1 failed, 1 skipped"]


def test_unlisted_skip_fails() -> None:
    """A skip has to be expected, with its reason."""
    report = Report(skips=runner.parse_skips("# comment\n\na.s.*: no card\n"))
    lines = printed(report, ("a.s.x", Outcome("x", "skip", "no time")),
                    ("b.s.x", Outcome("x", "skip", "no card")))
    assert lines[0] == "not ok 1 a.s.x" and lines[2] == "not ok 2 b.s.x"
    assert lines[-1] == "0 passed, 2 failed, 0 skipped" and report.summary() == 1


def test_nothing_run_fails() -> None:
    """A pattern that matches no test is a mistake, not a success."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert Report().summary() == 1


def test_kselftest_output() -> None:
    """Tests, skips and failures as kselftest_harness.h prints them."""
    found = tap.parse("TAP version 13\n1..3\n# Starting 3 tests from 1 test cases.\n"
                      "#  RUN           global.one ...\n#            OK  global.one\n"
                      "ok 1 global.one\n# x.c:1:two:Expected 1 (1) == 2 (2)\n"
                      "not ok 2 global.two\nok 3 global.three # SKIP no card\n"
                      "# FAILED: 2 / 3 tests passed.\n")
    assert [(o.name, o.status, o.reason) for o in found] == [
        ("global.one", "ok", ""), ("global.two", "not ok", ""),
        ("global.three", "skip", "no card")], found
    assert any("Expected 1" in line for line in found[1].log)


def test_kunit_output() -> None:
    """A suite as KUnit writes it to debugfs."""
    found = tap.parse("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: suite\n"
                      "    # module: suite_kunit\n    1..2\n    ok 1 first\n"
                      "    # second: EXPECTATION FAILED at x.c:1\n    not ok 2 second\n"
                      "# suite: pass:1 fail:1 skip:0 total:2\nnot ok 1 suite\n")
    assert [(o.name, o.status) for o in found] == [
        ("suite.first", "ok"), ("suite.second", "not ok")], found


def test_kunit_suites() -> None:
    """Several suites in one text, whatever their messages hold."""
    text = "loaded\nsuite: one\nKTAP version 1\n  Expected a == b, suite: no\nsuite: two\nlast\n"
    assert runner.split_suites(text) == [
        ("one", "KTAP version 1\n  Expected a == b, suite: no\n"), ("two", "last\n")]
    assert runner.split_suites("nothing\n") == []


def test_suite_that_did_not_run() -> None:
    """KUnit's file for a suite none of whose cases ran says "ok"; it is a failure."""
    found = tap.parse("KTAP version 1\n1..1\n    KTAP version 1\n    # Subtest: suite\n"
                      "    1..3\nok 1 suite\n")
    assert found[-1].name == "plan" and not any(o.status == "ok" for o in found), found


def test_plan_not_fulfilled() -> None:
    """A planned test that does not report is a failure; so is no output at all."""
    for text, good in ((TAP, 1), ("", 0), ("TAP version 13\n1..1\n", 0)):
        found = tap.parse(text)
        assert found[-1].name == "plan" and found[-1].status == "not ok", (text, found)
        assert sum(o.status == "ok" for o in found) == good, (text, found)


def test_whole_program_skipped() -> None:
    """1..0 # SKIP."""
    found = tap.parse("TAP version 13\n1..0 # SKIP no vfio_ap\n")
    assert found == [Outcome("all", "skip", "no vfio_ap")]


def test_patterns() -> None:
    """T= decides by the whole name; suites that cannot match are not run."""
    report = Report("a.migration_*.reset*")
    assert report.wants("a.migration_state.reset_twice")
    assert not report.wants("a.migration_state.open")
    assert report.may_want("a.migration_state")
    assert not report.may_want("a.ap_sim") and not report.may_want("pair.migrate")
    assert Report("*reset*").may_want("pair.migrate")
    assert Report("lab.env.disk").may_want("lab.env")
    assert not Report("lab.env").may_want("lab.env")


def test_kselftest_list(tmp: pathlib.Path) -> None:
    """Programs and limits of an installed collection."""
    assert tap.kselftest_programs("drivers/s390x/vfio_ap:one\n\ndrivers/s390x/vfio_ap:two.sh\n"
                                  ) == [("drivers/s390x/vfio_ap", "one"),
                                        ("drivers/s390x/vfio_ap", "two.sh")]
    assert tap.kselftest_timeout(tmp, 45) == 45
    (tmp / "settings").write_text("timeout=120\n")
    assert tap.kselftest_timeout(tmp, 45) == 120


def test_failing_functions(tmp: pathlib.Path) -> None:
    """Exceptions, skips and unknown arguments of Python tests."""
    path = tmp / "test_sample.py"
    path.write_text("from lab.runner import Skip\n"
                    "def helper(): pass\n"
                    "def test_good(tmp): assert tmp.is_dir() and not list(tmp.iterdir())\n"
                    "def test_bad():\n    print('context')\n    assert False, 'because'\n"
                    "def test_skip(): raise Skip('no card')\n"
                    "def test_odd(nothing): pass\n"
                    "def long_way(minutes): assert minutes == 3\n")
    pool = runner.Pool(Report())
    got = {name: runner.run_function(function, f"sample.{name}", pool)
           for name, function in runner.functions_of(path)}
    assert list(got) == ["good", "bad", "skip", "odd"]
    assert got["good"].status == "ok"
    assert got["bad"].status == "not ok" and "context" in got["bad"].log
    assert any("because" in line for line in got["bad"].log)
    assert (got["skip"].status, got["skip"].reason) == ("skip", "no card")
    assert got["odd"].status == "not ok" and "nothing" in got["odd"].log[-1]
    (name, function), = runner.functions_of(path, runner.LONG)
    assert name == "way"
    pool = runner.Pool(Report(), minutes=3)
    assert runner.run_function(function, "sample.way", pool).status == "ok"


def programs(tmp: pathlib.Path, count: int, report: Report) -> runner.Programs:
    """A collection of so many programs, none of which is there."""
    (tmp / "kselftest-list.txt").write_text("".join(f"x:p{n}\n" for n in range(count)))
    return runner.Programs(report, tmp, "a")


def test_two_hosts_share_the_programs(tmp: pathlib.Path) -> None:
    """Each runs once, two at a time; a single one needs no second host."""
    both = threading.Barrier(2, timeout=60)
    ran: list[tuple[runner.Pool, str]] = []

    def run(pool: runner.Pool, _profile: str, _folder: str, program: str,
            _limit: float) -> list[Outcome]:
        if program in ("p0", "p1"):
            both.wait()
        ran.append((pool, program))
        return [Outcome("one", "ok")]

    report = Report(stdout=io.StringIO())
    first, second = runner.Pool(report), runner.Pool(report)
    with mock.patch.object(runner, "run_program", run):
        todo = programs(tmp, 5, report)
        with todo.run_beside(second):
            todo.run(first)
        assert sorted(program for _, program in ran) == ["p0", "p1", "p2", "p3", "p4"], ran
        assert {pool for pool, program in ran if program in ("p0", "p1")} == {first, second}
        both = threading.Barrier(1)
        ran.clear()
        todo = programs(tmp, 1, report)
        with todo.run_beside(second):
            todo.run(first)
    assert ran == [(first, "p0")]
    assert report.passed == 6


def test_no_program_begins_after_a_failure(tmp: pathlib.Path) -> None:
    """What ends the run, as Ctrl-C does, waits for the program that runs beside, and no other."""
    begun, ended = threading.Event(), threading.Event()
    ran: list[str] = []

    def run(_pool: runner.Pool, _profile: str, _folder: str, program: str,
            _limit: float) -> list[Outcome]:
        ran.append(program)
        begun.set()
        assert ended.wait(60)
        return [Outcome("one", "ok")]

    report = Report(stdout=io.StringIO())
    todo = programs(tmp, 5, report)
    join = threading.Thread.join

    def end_and_join(thread: threading.Thread) -> None:
        ended.set()
        join(thread)

    with mock.patch.object(runner, "run_program", run), \
            mock.patch.object(threading.Thread, "join", end_and_join):
        try:
            with todo.run_beside(runner.Pool(report)):
                assert begun.wait(60)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
    assert ran == ["p0"] and report.passed == 1


def test_results_of_others_are_no_output_of_a_test() -> None:
    """A program that ends while a test function runs is told on the terminal."""
    terminal = io.StringIO()
    report = Report(stdout=terminal)
    with contextlib.redirect_stdout(io.StringIO()) as own:
        report.add("a.s.x", Outcome("x", "ok"))
    assert terminal.getvalue() == "ok 1 a.s.x\n" and not own.getvalue()
