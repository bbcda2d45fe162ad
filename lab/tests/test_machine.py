# SPDX-License-Identifier: GPL-2.0
"""The adapters of the emulated machine, as an unmodified kernel finds and uses them.

No host has a module of the lab or a boot parameter for the adapters.
"""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from lab.common import config
from lab.common.errors import LabError
from lab.common.progress import say
from lab.common.run import run
from lab.guest.ap_control import command_machine, simulate, simulated
from lab.guest.counters import GUEST
from lab.guest.mdev import GuestAp
from lab.guest.vm import Guests
from lab.host.host import Host
from lab.host.lab import Lab
from lab.host.profile import adapter
from lab.image import qemu
from lab.report import tap

# Of random AP instructions.
RANDOM_SECONDS = 20
RANDOM_ROUNDS = 300_000
DEVICES = "/sys/bus/ap/devices"
RNG = "/sys/class/misc/hw_random/rng_current"


def load_drivers(host: Host) -> None:
    """Domain 47 goes to vfio_ap. All queues of domain 04 are in operation, with interrupts, when
    this returns. It polls: the AP bus reports no change of an interrupt."""
    host.run("set -e\n"
             "if [ ! -e /sys/bus/ap/drivers/vfio_ap ]; then\n"
             "\tmodprobe ap; echo -0x47 >/sys/bus/ap/aqmask\n"
             "\tmodprobe -a zcrypt_cex4 kvm iommufd vfio vfio_iommu_type1 mdev vfio_ap\n"
             "\techo 1 >/sys/bus/ap/scans\n"
             "fi\n"
             f"for queue in {DEVICES}/*.0004; do\n"
             "\tuntil grep -q 'Interrupts enabled' $queue/interrupt; do sleep 0.1; done\n"
             "done", timeout=300)


def run_program(host: Host, name: str, tests: int) -> None:
    """All tests of a program in lab/programs/adapters pass."""
    done = host.run(f"/lab/bin/{name}", timeout=600, check=False)
    outcomes = tap.parse(done.out)
    assert done.rc == 0 and len(outcomes) == tests, done.out
    assert all(outcome.status == "ok" for outcome in outcomes), done.out


def rescan(host: Host) -> list[str]:
    """Let the AP bus look at the hardware again; the names of its devices. A scan that was under
    way when the hardware changed may have missed the change, hence the second one."""
    return host.run("echo 1 >/sys/bus/ap/scans; echo 1 >/sys/bus/ap/scans\n"
                    f"ls {DEVICES}").out.split()


def apb_interrupts(host: Host) -> int:
    """Adapter interrupts that the AP bus has received."""
    line = host.run("grep '^APB:' /proc/interrupts").out
    return sum(int(word) for word in line.split()[1:] if word.isdigit())


def test_ap_devices(machine: Host) -> None:
    """Adapters, queues, types and modes are those of the profile; zcrypt binds the queues."""
    load_drivers(machine)
    assert "facilities=" not in machine.run("cat /proc/cmdline").out
    assert machine.run(f"basename $(readlink {DEVICES}/05.0047/driver)").out == "vfio_ap\n"
    assert set(rescan(machine)) >= {"card05", "card06", "card0a", "05.0004", "05.0047", "06.0004",
                                    "06.0047", "0a.0004", "0a.0047"}
    for card, hwtype, mode in (("05", "14", "cca"), ("06", "13", "ep11"), ("0a", "12", "accel")):
        found = machine.run(f"cd {DEVICES}/card{card}; cat hwtype depth config ap_functions\n"
                            f"basename $(readlink {DEVICES}/{card}.0004/driver)").out.split()
        functions = {"cca": 0x10000000, "ep11": 0x04000000, "accel": 0x08000000}
        assert found[:3] == [hwtype, "8", "1"], found
        assert int(found[3], 16) & 0x1c000000 == functions[mode], found
        assert found[4] == "cex4queue", found


def test_ap_requests(machine: Host) -> None:
    """Random numbers come from a coprocessor, by NQAP, an adapter interrupt and DQAP."""
    load_drivers(machine)
    count = f"cat {DEVICES}/05.*/request_count"
    requests = sum(map(int, machine.run(count).out.split()))
    interrupts = apb_interrupts(machine)
    data = machine.run(f"echo zcrypt >{RNG} && head -c 8192 /dev/hwrng | md5sum; "
                       f"head -c 64 /dev/hwrng | hexdump -v -e '1/1 \"%02x\"'; "
                       f"echo none >{RNG}").out.splitlines()
    assert len(set(data[-1][i:i + 2] for i in range(0, 128, 2))) > 16, data
    assert sum(map(int, machine.run(count).out.split())) > requests
    assert apb_interrupts(machine) > interrupts


def test_ap_tools(machine: Host) -> None:
    """lszcrypt and chzcrypt of s390-tools show and change adapters, queues and the AP bus."""
    load_drivers(machine)
    listed = [line.split() for line in machine.run("/lab/bin/lszcrypt").out.splitlines()]
    found = {words[0]: words[1:4] for words in listed if re.fullmatch("[0-9a-f.]+", words[0])}
    assert found["05"] == ["CEX8C", "CCA-Coproc", "online"], listed
    assert found["06"] == ["CEX7P", "EP11-Coproc", "online"], listed
    assert found["0a"] == ["CEX6A", "Accelerator", "online"], listed
    assert {"05.0004", "06.0004", "0a.0004"} <= set(found), listed
    domains = machine.run("/lab/bin/lszcrypt -d").out
    assert len(re.findall(r"\bB\b(?!:)", domains)) == 2, domains
    bus = machine.run("/lab/bin/lszcrypt -b").out
    for text in ("ap_interrupts are enabled", "APSC", "APXA", "QACT"):
        assert text in bus, bus
    assert "CCA Secure Key" in machine.run("/lab/bin/lszcrypt -c 0x05").out

    def online() -> str:
        return machine.run(f"cat {DEVICES}/05.0004/online").out
    for option, state in (("-d", "0\n"), ("-e", "1\n")):
        machine.run(f"/lab/bin/chzcrypt {option} 05.0004")
        assert online() == state


def test_ap_hot_plug(machine: Host) -> None:
    """An adapter that is plugged in appears, with queues; it goes when it is unplugged."""
    load_drivers(machine)
    machine.qmp("device_add", **adapter("0b:11c:qd=3"))
    try:
        assert {"card0b", "0b.0004", "0b.0047"} <= set(rescan(machine))
        assert machine.run(f"cd {DEVICES}/card0b; cat hwtype depth").out.split() == ["11", "4"]
    finally:
        machine.qmp("device_del", id="ap-0b")
    assert not [name for name in rescan(machine) if "0b" in name]


def test_ap_kernel(a: Host) -> None:
    """The AP bus and zcrypt: states of adapters, lost requests, resets, full queues, CCA, EP11."""
    run_program(a, "adapters_test", 20)


def test_ap_instructions(a: Host) -> None:
    """A guest's AP instructions one by one: registers, condition codes, response codes."""
    run_program(a, "instructions_test", 9)


def test_ap_random(a: Host, seed: int) -> None:
    """A guest executes random AP instructions; another guest gets replies from the same queues."""
    say(f"random AP instructions for {RANDOM_SECONDS} s, SEED={seed}")
    out = a.run(f"/lab/bin/random_ap {RANDOM_SECONDS} {seed}", timeout=600).out
    counts = {name: int(value) for name, value in map(str.split, out.splitlines())}
    say(", ".join(f"{name} {value}" for name, value in counts.items()))
    assert all(counts[f"condition_{cc}"] for cc in range(4)), out
    assert counts["interruption_05"] and counts["interruption_06"], out
    assert not counts["others"], out


def counters_at_end(machine: subprocess.Popen[str]) -> str:
    """The reply to "counters" of a machine with QMP on its standard streams, when its program has
    ended well."""
    assert machine.stdin and machine.stdout
    messages = map(json.loads, machine.stdout)
    print(json.dumps({"execute": "qmp_capabilities"}), file=machine.stdin, flush=True)
    for message in messages:
        if message.get("event") in ("SHUTDOWN", "GUEST_PANICKED"):
            assert message["event"] == "SHUTDOWN", message
            break
    print(json.dumps({"execute": "x-ap-control", "arguments": {"command-line": "counters"}}),
          file=machine.stdin, flush=True)
    return next(str(message["return"]["text"]) for message in messages if "return" in message)


def test_ap_random_host(lab: Lab, seed: int) -> None:
    """A program without an operating system executes random AP instructions; it and the emulator
    reach the end."""
    program = lab.logs / "random_host"
    program.parent.mkdir(parents=True, exist_ok=True)
    run([f"{config.CROSS_COMPILE}gcc", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none,-N",
         "-Wl,-Ttext=0x10000", f"-DSEED={seed}", f"-DROUNDS={RANDOM_ROUNDS}", "-o", program,
         config.REPO / "lab/programs/adapters/random_host.S"], error=LabError)
    say(f"{RANDOM_ROUNDS} random AP instructions, SEED={seed}")
    cards = [adapter(f"{apid:02x}:14{mode}", domains="00:01:02:03", latency_us=50)
             for apid, mode in enumerate("ccpa")]
    argv = [*qemu.emulator(), "-M", "s390-ccw-virtio", "-cpu", "max", "-accel", "tcg", "-m", "16",
            "-nodefaults", "-display", "none", "-no-shutdown", "-qmp", "stdio",
            "-kernel", str(program),
            *(word for card in cards for word in ("-device", json.dumps(card)))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as machine:
        try:
            text = counters_at_end(machine)
        finally:
            machine.kill()
    counts = {name: int(value) for name, value in map(str.split, text.splitlines()[:-1])}
    say(", ".join(f"{name} {value}" for name, value in counts.items()))
    for name in ("tapq", "rapq", "zapq", "aqic", "qact", "qci", "nqap", "dqap", "answered",
                 "host_irqs", "guest_irqs", "discarded", "exceptions"):
        assert counts[name], text


def check_guest(host: Host, matrix: GuestAp, masks: str) -> None:
    """A guest gets replies from its queues; interrupts reach it while it waits for them. masks: of
    the crypto control block, as KVM logs them."""
    with Guests() as guests:
        command_machine(host, "counters clear")
        vm = guests.vm(guests.mdev(host, matrix), kernel=GUEST)
        vm.wait_answered(10)
        log = host.run("cat /sys/kernel/debug/s390dbf/kvm-*/sprintf").out
        assert f"SET CRYCB: {masks}" in log, log
        counters = vm.stopped_counters()
        assert not counters.faults() and not counters.requeued, counters
        assert [queue.apqn for queue in counters.queues] == matrix.matrix(), counters
        assert counters.interrupts >= counters.polls > 0, counters
        # The guest's CPU waits for each reply: the machine alerts KVM, which wakes the CPU.
        queues = simulated(host, *matrix.matrix())
        assert all(queue["guest_irqs"] and not queue["host_irqs"] for queue in queues.values())
        alerts = [line for line in command_machine(host, "counters") if "gib_alerts" in line]
        assert int(alerts[0].split()[1]) > 0, alerts


def test_ap_guest(machine: Host) -> None:
    """The crypto control block of a guest has format 2: 256 adapters, 256 domains."""
    load_drivers(machine)
    check_guest(machine, GuestAp("05,06", "47"), f"apm {1 << 58 | 1 << 57:016x} {0:016x}")


def long_ap_guest_without_msa3(lab: Lab) -> None:
    """The host lacks MSA extension 3, so that the crypto control block has format 0: 64 adapters,
    16 domains."""
    host = lab.boot("a", cpu="max,msa3=off")
    check_guest(host, GuestAp("05,06", "04,06"), f"apm {1 << 58 | 1 << 57:016x} aqm 0a00 adm")


def test_ap_control(machine: Host) -> None:
    """Commands from outside: adapters come and go and change their state, errors have names."""
    load_drivers(machine)
    simulate(machine, "card add fa:13c:fac=0x6a120000:nd=20:ml=5:qd=4", "domain add fb",
             "config fa off", "checkstop 06 on")
    topology = command_machine(machine, "topology")
    assert "card fa at=13 fac=6a120000 nd=20 ml=5 qd=4 config=0 checkstop=0" in topology
    assert "domains 04,47,fb" in topology and "cdomains 04,47" in topology, topology
    assert {"cardfa", "fa.00fb", "05.00fb"} <= set(rescan(machine))
    state = machine.run(f"cat {DEVICES}/cardfa/config {DEVICES}/card06/chkstop").out.split()
    assert state == ["0", "1"]
    simulate(machine, "checkstop 06 off", "card del fa", "domain del fb")
    assert not [name for name in rescan(machine) if "fa" in name or "fb" in name]
    for command, error in (("card add 05:14c", "EEXIST"), ("card del fa", "ENOENT"),
                           ("domain add 04", "EEXIST"), ("domain add 100", "ERANGE"),
                           ("card add fa:14x", "EINVAL"), ("card add fa:14c:qd=32", "ERANGE"),
                           ("rc 05.0099 tapq 7", "ENOENT"), ("segment 12", "EINVAL"),
                           ("nonsense", "EINVAL")):
        with pytest.raises(LabError, match=f"error {error}$"):
            command_machine(machine, command)


def test_ap_faults(machine: Host) -> None:
    """The AP bus gives a queue up whose reset fails; a scan after the fault brings it back."""
    load_drivers(machine)
    queue = f"{DEVICES}/05.0004"
    # The AP bus reports no change of these states.
    wait = f"until grep -q {{}} {queue}/states; do sleep 0.1; done"
    command_machine(machine, "counters clear")
    simulate(machine, "rc 05.0004 rapq 44")
    try:
        machine.run(f"echo 1 >{queue}/reset\n" + wait.format("ERROR"))
    finally:
        simulate(machine, "rc 05.0004 rapq 0")
    failed = simulated(machine, "05.0004")["05.0004"]["rapq"]
    machine.run("echo 1 >/sys/bus/ap/scans\n" + wait.format("OPERATING"))
    load_drivers(machine)
    assert simulated(machine, "05.0004")["05.0004"]["rapq"] > failed > 0


def test_ap_control_port(machine: Host) -> None:
    """Commands from inside: one program at a time opens the port and reads its replies only."""
    ask = ("for port in /sys/class/virtio-ports/*; do\n"
           "\tif [ \"$(cat $port/name)\" = ap.control ]; then control=/dev/${port##*/}; fi\n"
           "done\n"
           "ask() { exec 4<>$control; echo \"$1\" >&4\n"
           "\twhile read -r line <&4; do\n"
           "\t\techo \"$line\"; case $line in ok|error*) break;; esac\n"
           "\tdone; exec 4>&-; }\n")
    assert machine.run(f"{ask}ask 'config 05 maybe'").out == "error EINVAL\n"
    # An unread reply is gone when the port is opened again.
    out = machine.run(f"{ask}exec 4<>$control; echo queues >&4; exec 4>&-; ask counters").out
    assert out.splitlines()[0].startswith("tapq ") and out.endswith("ok\n"), out
