# SPDX-License-Identifier: GPL-2.0
"""The enabling library takes only a QEMU that it knows."""

from __future__ import annotations

import pathlib

from lab.common import config
from lab.guest.mdev import GuestAp
from lab.guest.qmp import QemuError
from lab.guest.vm import LIBRARY, Guests
from lab.host.host import Host

AP = GuestAp("05", "04")
PROGRAM = config.S390_ROOT / "usr/bin/qemu-system-s390x"


def altered(host: Host, name: str, old: bytes, new: bytes) -> tuple[pathlib.Path, str]:
    """A copy of QEMU with a text replaced: its path here and in the host."""
    assert len(old) == len(new)
    content = PROGRAM.read_bytes()
    assert old in content
    path = host.path(name)
    path.write_bytes(content.replace(old, new))
    path.chmod(0o755)
    return path, f"/lab/results/{name}"


def check_declined(host: Host, program: str, reason: str) -> None:
    """In the lab that QEMU ends; elsewhere it runs, and vfio-ap blocks migration as ever."""
    with Guests() as guests:
        mdev = guests.mdev(host, AP)
        try:
            guests.vm(mdev, program=program)
        except QemuError as error:
            assert reason in str(error), error
        else:
            raise AssertionError("the library took a QEMU that it does not know")
        vm = guests.vm(mdev, program=program, strict=False)
        assert f"{reason}; vfio-ap stays unmigratable" in vm.log(), vm.log()
        try:
            vm.call("migrate", uri=f"tcp:{host.address}:1")
        except QemuError as error:
            assert "non-migratable device" in str(error), error
        else:
            raise AssertionError("vfio-ap is migratable in a QEMU that was to stay unchanged")


def test_unknown_version(a: Host) -> None:
    """The version is looked at first."""
    path, program = altered(a, "qemu-version", b"Debian 1:10.0.", b"Debian 1:10.1.")
    check_declined(a, program, "is not a build that this library knows")
    path.unlink()


def test_unknown_layout(a: Host) -> None:
    """The version fits, the program's own tables say something else of its structures."""
    path, program = altered(a, "qemu-layout", b"\0migration-events\0",
                            b"\0migration-other!\0")
    check_declined(a, program, "VFIODevice.migration_events is not where it is expected")
    path.unlink()


def test_other_program(a: Host) -> None:
    """Whatever else it is loaded into: one line, and nothing changes; in the lab a failure."""
    command = f"VFIO_AP_ENABLE_STRICT={{}} LD_PRELOAD={LIBRARY} /usr/bin/true"
    result = a.run(command.format(0))
    assert result.out.count("\n") == 1 and "stays unmigratable" in result.out, result
    result = a.run(command.format(1), check=False)
    assert result.rc == 1 and result.out.startswith("vfio-ap-enable: "), result
