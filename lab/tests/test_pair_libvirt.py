# SPDX-License-Identifier: GPL-2.0
"""Debian's libvirt, unmodified, migrates a Linux guest with a vfio-ap device between two hosts."""

from __future__ import annotations

from lab.guest.kernel_log import KernelLog
from lab.guest.libvirt import Domain, Libvirt
from lab.guest.linux import LinuxVm, find_faults
from lab.guest.linux_trips import slow_queues
from lab.guest.mdev import GuestAp
from lab.guest.vm import HELD_OFF, Guests
from lab.host.host import Host

AP = GuestAp("05,06", "04,06")
ENOUGH = 10
STATE = "/lab/results/guest.save"


def migrate(domain: Domain, there: Libvirt, options: str = "") -> tuple[str, str]:
    """The commands of virsh. They take the definition of the domain along."""
    return (f"migrate-setmaxdowntime {domain.name} {LinuxVm.DOWNTIME}",
            f"migrate --live --persistent --undefinesource {options} {domain.name} {there.uri} "
            f"{there.migration_uri}")


def check_works(domain: Domain, here: Libvirt, *before: Libvirt) -> None:
    """The guest's requests are answered, each rightly, and its kernel reports nothing. before: the
    hosts that it was in."""
    here.wait_replies(domain, ENOUGH, since=here.wait_replies(domain, 0))
    faults = find_faults("".join(side.console(domain) for side in (*before, here)))
    assert not faults, faults


def check_moved(domain: Domain, here: Libvirt, there: Libvirt) -> None:
    """The domain runs there, its requests are answered, and here libvirt has forgotten it."""
    lists = [side.begin("list --all --name") for side in (here, there)]
    assert [process.wait().out.split() for process in lists] == [[], [domain.name]]
    assert there.virsh(f"domstate {domain.name}").out.split() == ["running"]
    check_works(domain, there, here)


def test_live(a: Host, b: Host) -> None:
    """The command that administrators use, and a domain that they would write."""
    with slow_queues(a, b), Guests() as guests, Libvirt(a) as here, Libvirt(b) as there:
        mdev = guests.mdev(a, AP)
        target = guests.mdev(b, AP, ident=mdev.uuid)
        domain = Domain(mdev.uuid)
        here.start(domain)
        here.wait_replies(domain, ENOUGH)
        here.virsh(*migrate(domain, there))
        check_moved(domain, here, there)
        assert target.guest_matrix() == AP.matrix(), target.guest_matrix()


def long_other_uuid(a: Host, b: Host) -> None:
    """The device of the destination has another UUID, which the administrator puts into the
    definition."""
    with slow_queues(a, b), Guests() as guests, Libvirt(a) as here, Libvirt(b) as there:
        mdev, target = guests.mdev(a, AP), guests.mdev(b, AP)
        domain = Domain(mdev.uuid)
        here.start(domain)
        here.wait_replies(domain, ENOUGH)
        text = here.virsh(f"dumpxml --migratable {domain.name}").out
        assert mdev.uuid in text, text
        file = "/lab/results/other.xml"
        a.path("other.xml").write_text(text.replace(mdev.uuid, target.uuid), encoding="utf-8")
        here.virsh(*migrate(domain, there, f"--xml {file} --persistent-xml {file}"))
        check_moved(domain, here, there)
        text = there.virsh(f"dumpxml {domain.name}").out
        assert target.uuid in text and mdev.uuid not in text, text


def long_saved_and_restored(a: Host) -> None:
    """To a file and back."""
    with slow_queues(a), Guests() as guests, Libvirt(a) as here:
        domain = Domain(guests.mdev(a, AP).uuid)
        here.start(domain)
        here.wait_replies(domain, ENOUGH)
        here.virsh(f"save {domain.name} {STATE}")
        assert here.virsh(f"domstate {domain.name}").out.split() == ["shut", "off"]
        here.virsh(f"restore {STATE}")
        assert here.virsh(f"domstate {domain.name}").out.split() == ["running"]
        check_works(domain, here)


def long_refused(a: Host, b: Host) -> None:
    """The destination lacks a domain: virsh prints the error of QEMU there, the kernel log there
    has the reason, and the guest goes on where it is."""
    with slow_queues(a, b), Guests() as guests, Libvirt(a) as here, Libvirt(b) as there:
        mdev = guests.mdev(a, AP)
        target = guests.mdev(b, GuestAp("05,06", "04", cdomains="04,06"), ident=mdev.uuid)
        domain = Domain(mdev.uuid)
        here.start(domain)
        here.wait_replies(domain, ENOUGH)
        log = KernelLog(b)
        result = here.virsh(*migrate(domain, there), check=False)
        assert result.rc == 1, result
        assert "Message from the destination host" in result.out, result
        assert "load of migration failed: No such device or address" in result.out, result
        assert log.failures(target) == ["domain 0006: assigned on the source only"], log.of(target)
        assert not there.virsh("list --all --name").out.split()
        check_works(domain, here)


def long_migratable(a: Host, b: Host) -> None:
    """virsh repeats why QEMU refuses while `migratable` is 0; with 1 the guest migrates."""
    with slow_queues(a, b), Guests() as guests, Libvirt(a) as here, Libvirt(b) as there:
        mdev = guests.mdev(a, AP, migratable=False)
        guests.mdev(b, AP, ident=mdev.uuid)
        domain = Domain(mdev.uuid)
        here.start(domain)
        here.wait_replies(domain, ENOUGH)
        result = here.virsh(*migrate(domain, there), check=False)
        assert result.rc == 1, result
        assert HELD_OFF in result.out, result
        assert here.virsh(f"domstate {domain.name}").out.split() == ["running"]
        mdev.set_migratable(True)
        here.virsh(*migrate(domain, there))
        check_moved(domain, here, there)
