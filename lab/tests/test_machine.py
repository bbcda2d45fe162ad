# SPDX-License-Identifier: GPL-2.0
"""The adapters of the emulated machine, as an unmodified kernel finds and uses them.

The host has no module of the lab and no boot parameter for the adapters.
"""

from __future__ import annotations

from lab.guest.counters import GUEST
from lab.guest.mdev import GuestAp
from lab.guest.vm import Guests
from lab.host.host import Host
from lab.host.profile import adapter

DEVICES = "/sys/bus/ap/devices"
RNG = "/sys/class/misc/hw_random/rng_current"


def load_drivers(host: Host) -> None:
    """Domain 47 goes to vfio_ap. All queues of domain 04 are in operation, with interrupts, when
    this returns."""
    host.run("set -e\n"
             "modprobe ap; echo -0x47 >/sys/bus/ap/aqmask\n"
             "modprobe -a zcrypt_cex4 kvm iommufd vfio vfio_iommu_type1 mdev vfio_ap\n"
             "echo 1 >/sys/bus/ap/scans\n"
             f"for queue in {DEVICES}/*.0004; do\n"
             "\tuntil grep -q 'Interrupts enabled' $queue/interrupt; do sleep 0.1; done\n"
             "done", timeout=300)


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
    assert "ap_sim" not in machine.run("lsmod").out
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


def test_ap_guest(machine: Host) -> None:
    """A guest's CPU executes its requests; interrupts reach it while it waits for them."""
    load_drivers(machine)
    matrix = GuestAp("05,06", "47")
    with Guests() as guests:
        vm = guests.vm(guests.mdev(machine, matrix), kernel=GUEST)
        vm.wait_answered(10)
        counters = vm.stopped_counters()
        assert not counters.faults() and not counters.requeued, counters
        assert [queue.apqn for queue in counters.queues] == matrix.matrix(), counters
        assert counters.interrupts >= counters.polls > 0, counters
