# SPDX-License-Identifier: GPL-2.0
"""Programs that report several tests: criteria for passed, failed, missing."""

from __future__ import annotations

import pathlib
import threading
from collections.abc import Sequence

from lab.host.pool import Pool
from lab.report import tap
from lab.report.tap import Outcome
from lab.tests import names, suites
from lab.tests.names import Section

TAP = "TAP version 13\n1..2\n# RUN global.one ...\nok 1 global.one\n"


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
    """Several suites in one text, with misleading messages."""
    text = "loaded\nsuite: one\nKTAP version 1\n  Expected a == b, suite: no\nsuite: two\nlast\n"
    assert suites.split_suites(text) == [
        ("one", "KTAP version 1\n  Expected a == b, suite: no\n"), ("two", "last\n")]
    assert suites.split_suites("nothing\n") == []


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


def test_kselftest_list(tmp: pathlib.Path) -> None:
    """Programs and limits of an installed collection."""
    assert tap.kselftest_programs("drivers/s390x/vfio_ap:one\n\ndrivers/s390x/vfio_ap:two.sh\n"
                                  ) == [("drivers/s390x/vfio_ap", "one"),
                                        ("drivers/s390x/vfio_ap", "two.sh")]
    assert tap.kselftest_timeout(tmp, 45) == 45
    (tmp / "settings").write_text("timeout=120\n")
    assert tap.kselftest_timeout(tmp, 45) == 120


class Printed(suites.Suite):
    """A suite that prints a text; it can wait before that."""

    def __init__(self, section: Section, text: str, gate: threading.Barrier | None = None,
                 ran: list[tuple[str, Pool]] | None = None) -> None:
        super().__init__(section, section.tests)
        self._text = text
        self._gate = gate
        self._ran = ran

    def _run(self, pool: Pool) -> None:
        if self._gate:
            self._gate.wait()
        if self._ran is not None:
            self._ran.append((self.section.title, pool))
        self.take(self.section.title, tap.parse(self._text))


def differences(text: str, *listed: str) -> list[str]:
    """Failures, as a whole, of a program that prints this."""
    suite = Printed(Section("kselftest", "program", listed), text)
    suite.run(Pool())
    return suite.differences()


def test_reported_and_listed_tests_agree() -> None:
    """No output, a test that is not listed, one that is listed and gone: each is a failure."""
    good = "TAP version 13\n1..1\nok 1 global.one\n"
    assert not differences(good, "one")
    assert any("did not report: one" in line for line in differences("", "one"))
    assert differences(good, "one", "two") == ["did not report: two"]
    assert differences(good, "two") == ["did not report: two",
                                        "not in lab/tests/expected-tests: one"]
    assert any("not every planned test" in line for line in differences(TAP, "one", "two"))


def test_only_selected_tests_have_to_report() -> None:
    """A kernel without a part of the series lacks the tests of that part."""
    section = Section("kunit", "m_kunit", ("s.one", "s.two"))
    suite = suites.Kunit(section, ["s.one"])
    suite.take("s", tap.parse("TAP version 13\n1..1\nok 1 one\n"))
    assert not suite.differences()
    suite = suites.Kunit(section, ["s.one", "s.two"])
    suite.take("s", tap.parse("TAP version 13\n1..1\nok 1 one\n"))
    assert suite.differences() == ["did not report: s.two"]


def test_sections() -> None:
    """The list of tests in C is read and written; an empty section is refused."""
    text = "[kunit m_kunit]\ns.one\n\n[kselftest p]\none\nf.cdev.two\n\n"
    sections = names.parse("# comment\n" + text)
    assert names.format_sections(sections) == text
    assert sections[0].names() == ["a.s.one", "a.m_kunit.complete"]
    assert sections[1].names() == ["a.p.one", "a.p.f.cdev.two", "a.p.complete"]
    for bad in ("one\n", "[kselftest p]\n", "[other p]\none\n", "[kselftest]\none\n"):
        try:
            names.parse(bad)
        except names.NamesError:
            continue
        raise AssertionError(f"{bad!r} was taken")


def test_every_built_program_is_listed() -> None:
    """A program that is built and not listed, or listed and not built, is named."""
    sections = [Section("kselftest", "gone_test", ("one",))]
    found = suites.not_listed("no-such-flavour", sections)
    assert found == ["kselftest gone_test is in lab/tests/expected-tests and was not built"], found


def programs(count: int, gate: threading.Barrier | None,
             ran: list[tuple[str, Pool]]) -> Sequence[suites.Suite]:
    """So many programs; the first two wait for each other."""
    return [Printed(Section("kselftest", f"p{number}", ("one",)),
                    "TAP version 13\n1..1\nok 1 global.one\n", gate if number < 2 else None, ran)
            for number in range(count)]


def test_two_hosts_share_the_programs() -> None:
    """Each runs once, two at a time; a single one needs no second host."""
    ran: list[tuple[str, Pool]] = []
    first, second = Pool(), Pool()
    todo = programs(5, threading.Barrier(2, timeout=60), ran)
    runner = suites.Runner(todo, first, second)
    runner.start()
    for suite in todo:
        assert not runner.results(suite).differences()
    runner.stop(abort=False)
    assert sorted(title for title, _ in ran) == ["p0", "p1", "p2", "p3", "p4"], ran
    assert {pool for title, pool in ran if title in ("p0", "p1")} == {first, second}, ran
    ran.clear()
    todo = programs(1, None, ran)
    runner = suites.Runner(todo, first, second)
    runner.start()
    runner.results(todo[0])
    runner.stop(abort=False)
    assert ran == [("p0", first)], ran


def test_no_program_starts_after_an_abort() -> None:
    """Ctrl-C waits for the program that runs in the second host, and no other starts."""
    ran: list[tuple[str, Pool]] = []
    gate = threading.Barrier(2, timeout=60)
    runner = suites.Runner(programs(5, gate, ran), Pool(), Pool())
    runner.start()
    stopper = threading.Thread(target=runner.stop, args=(True,))
    stopper.start()
    assert runner.ending.wait(60)
    gate.wait()
    stopper.join()
    assert [title for title, _ in ran] == ["p0"], ran
