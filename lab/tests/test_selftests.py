# SPDX-License-Identifier: GPL-2.0
"""The selftests as others run them: by the kernel's run_kselftest.sh, on machines without AP
adapters, and on machines without a control port for their adapters."""

from __future__ import annotations

import re
import shlex

from lab.common import config
from lab.common.progress import say
from lab.host.host import Host
from lab.host.process import Result
from lab.report import tap

PROGRAM = "migration_config_test"
# One of its tests, which needs queues but no control port.
TEST = "stores_without_effect_end_no_session"
FAILING = "migration_state_test"
# Programs that repeat something more often on request, and how often in a long test.
REPEATING = ("migration_file_test", "migration_lifetime_test", "migration_state_test")
REPEAT = 100
# Its tests that change the hardware.
CONTROL = {"card_of_another_type_is_difference", "reset_leads_to_running_with_dead_card",
           "comparison_executes_no_ap_instruction"}
# Tests that pass without a control port, at least.
REAL = 200
APQNS = "05.0004,05.0006,06.0004,06.0006"


def run_kselftest(host: Host, arguments: str, environment: str = "") -> Result:
    """run_kselftest.sh in the host. It opens its output by a name that udev makes elsewhere, and
    anew for each test: through a pipe nothing is overwritten."""
    return host.run("set -o pipefail; ln -sf /proc/self/fd/1 /dev/stdout; cd /lab/selftests && "
                    f"{environment} ./run_kselftest.sh {arguments} 2>&1 | cat", timeout=900,
                    check=False)


def nested(text: str) -> list[str]:
    """The results of the tests in the programs that run_kselftest.sh has run."""
    return re.findall(r"^# ((?:not )?ok \d.*)$", text, re.M)


def test_run_kselftest(a: Host) -> None:
    """Two programs with arguments handed down to them: one test; one that fails by its option."""
    done = run_kselftest(
        a, f"-t {config.SELFTEST}:{PROGRAM} -t {config.SELFTEST}:{FAILING}",
        f"KSELFTEST_{PROGRAM.upper()}_ARGS='-t {TEST}' KSELFTEST_{FAILING.upper()}_ARGS=-x")
    assert done.rc == 1, done.out
    assert f"\nok 1 selftests: {config.SELFTEST}: {PROGRAM}\n" in done.out, done.out
    assert f"\nnot ok 2 selftests: {config.SELFTEST}: {FAILING} # exit=1\n" in done.out, done.out
    assert "# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:0" in done.out, done.out
    assert nested(done.out) == [f"ok 1 config.cdev.{TEST}"], done.out
    # The limit of one program is the collection's, not the default.
    assert "timeout set to 1800" in done.out, done.out


def check_skipped(results: list[str]) -> None:
    """All of the results are skips for the right reason."""
    for result in results:
        assert result.startswith("ok ") and "# SKIP " in result and "control port" in result, result


def test_without_hardware(bare: Host) -> None:
    """Where there is nothing to test all of each program is skipped, and nothing fails."""
    done = run_kselftest(bare, f"-t {config.SELFTEST}:{PROGRAM}")
    assert done.rc == 0 and f"\nok 1 selftests: {config.SELFTEST}: {PROGRAM}" in done.out, done.out
    results = nested(done.out)
    assert len(results) > len(CONTROL), done.out
    check_skipped(results)

    # The script takes its time: the others without it.
    listing = (config.share(bare.flavour) / "selftests/kselftest-list.txt").read_text()
    programs = [name for _, name in tap.kselftest_programs(listing)]
    assert PROGRAM in programs
    text = bare.run(f"cd /lab/selftests/{config.SELFTEST}\n"
                    f"for program in {' '.join(programs)}; do ./$program 2>&1 || exit 1; done",
                    timeout=900).out
    results = re.findall(r"^(?:not )?ok .*", text, re.M)
    assert len(results) > 5 * len(programs), text
    check_skipped(results)


def run_without_port(host: Host, apqns: str | None, options: str = "",
                     program: str = PROGRAM, timeout: float = 900) -> list[tap.Outcome]:
    """A program where it finds queues but no control port, as on real hardware."""
    allowed = "" if apqns is None else f"VFIO_AP_APQNS={shlex.quote(apqns)}"
    done = host.run(f"{allowed} unshare -m sh -c 'mount -t tmpfs none /sys/class/virtio-ports && "
                    f"cd /lab/selftests/{config.SELFTEST} && exec ./{program} {options}'",
                    timeout=timeout)
    return tap.parse(done.out)


def test_foreign_queues_are_left_alone(a: Host) -> None:
    """Queues that do not belong to the tests are left alone, for any value of the variable."""
    for apqns, reason in ((None, "no control port of AP adapters; to use real queues set"),
                          ("05.0004,0b.0004", "0b.0004, which is not bound to vfio_ap"),
                          ("5.4", "VFIO_AP_APQNS is no list"),
                          ("05.0004;06.0004", "VFIO_AP_APQNS is no list"),
                          ("", "VFIO_AP_APQNS is no list"),
                          ("05.0004,05.0006", "the tests need 2 x 2")):
        options = f"-t {TEST}" if apqns is not None else ""
        outcomes = run_without_port(a, apqns, options)
        assert len(outcomes) > (0 if options else len(CONTROL))
        for outcome in outcomes:
            assert outcome.status == "skip" and reason in outcome.reason, (apqns, outcome)


def test_real_queues(a: Host) -> None:
    """With queues that the user names: only tests that change the hardware are skipped."""
    outcomes = run_without_port(a, APQNS)
    assert len(outcomes) > len(CONTROL)
    for outcome in outcomes:
        if outcome.name.split(".")[-1] in CONTROL:
            assert outcome.status == "skip" and "needs the control port" in outcome.reason, outcome
        else:
            assert outcome.status == "ok", outcome


def long_real_queues_of_all_programs(a: Host) -> None:
    """All programs on queues that the user names: no test fails, and many need no control port."""
    listing = (config.share(a.flavour) / "selftests/kselftest-list.txt").read_text()
    outcomes = [outcome for _, program in tap.kselftest_programs(listing)
                for outcome in run_without_port(a, APQNS, program=program, timeout=3600)]
    failed = [outcome for outcome in outcomes if outcome.status not in ("ok", "skip")]
    assert not failed, failed
    passed = sum(outcome.status == "ok" for outcome in outcomes)
    say(f"without a control port: {passed} tests pass, {len(outcomes) - passed} are skipped")
    assert passed >= REAL, outcomes


def long_repetitions(a: Host) -> None:
    """A hundred repetitions instead of a few: slow leaks and rare races show."""
    for program in REPEATING:
        done = a.run(f"cd /lab/selftests/{config.SELFTEST} && VFIO_AP_REPEAT={REPEAT} ./{program}",
                     timeout=7200, check=False)
        outcomes = tap.parse(done.out)
        assert done.rc == 0 and outcomes, done.out
        assert all(outcome.status == "ok" for outcome in outcomes), done.out
