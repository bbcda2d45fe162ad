# SPDX-License-Identifier: GPL-2.0
"""Debian's libvirt in an emulated host: its daemon, virsh, and a domain with a vfio-ap device.

    with Libvirt(a) as here, Libvirt(b) as there:
        domain = Domain(mdev.uuid)
        here.start(domain)
        here.virsh(f"migrate --live {domain.name} {there.uri} {there.migration_uri}")
        there.wait_replies(domain, 10)
"""

from __future__ import annotations

import itertools
import shlex
import time
from dataclasses import dataclass, field
from types import TracebackType

from lab.common import speed
from lab.common.errors import LabError
from lab.guest.linux import LOOK, MEMORY, Count, LinuxVm, parse_counts, reached
from lab.host.host import Host
from lab.host.process import Process, Result
from lab.image.linux_guest import FOLDER, INITRAMFS, KERNEL

# Seconds on an idle machine for a command of virsh, which may have to wait until the daemon has
# asked QEMU for its capabilities.
STEP = 300.0
# The definition of a domain, below /lab/results in the host.
FILE = "domain.xml"
# Settings of an administrator whose hosts trust each other. The hosts have no systemd, so no
# cgroups and no virtlogd are there.
SETTINGS = {
    "libvirtd.conf": """\
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
""",
    "qemu.conf": """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
""",
}

_numbers = itertools.count()


@dataclass(frozen=True)
class Domain:
    """A Linux guest with crypto_load (lab.guest.linux). uuid: of its mdev. console: the file of its
    console in each host, below /lab/results."""

    uuid: str
    name: str = "guest"
    console: str = field(default_factory=lambda: f"guest{next(_numbers)}.console")

    def xml(self) -> str:
        """Its definition. The emulated host has no AP interrupts for itself, so libvirt must be
        told that KVM has them for guests."""
        return f"""\
<domain type='kvm'>
  <name>{self.name}</name>
  <uuid>0be70000-0000-4000-8000-000000000001</uuid>
  <memory unit='MiB'>{MEMORY}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='s390x' machine='s390-ccw-virtio'>hvm</type>
    <kernel>/lab/{FOLDER}/{KERNEL}</kernel>
    <initrd>/lab/{FOLDER}/{INITRAMFS}</initrd>
    <cmdline>{LinuxVm.COMMAND_LINE}</cmdline>
  </os>
  <cpu mode='host-passthrough'>
    <feature policy='require' name='ap'/>
    <feature policy='require' name='apqci'/>
    <feature policy='require' name='apft'/>
    <feature policy='require' name='apqi'/>
  </cpu>
  <devices>
    <hostdev mode='subsystem' type='mdev' model='vfio-ap'>
      <source>
        <address uuid='{self.uuid}'/>
      </source>
    </hostdev>
    <console type='file'>
      <source path='/lab/results/{self.console}' append='on'/>
      <target type='sclp'/>
    </console>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Libvirt:
    """libvirt's daemon in a host. Leaving the with block ends its guests and itself."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.uri = f"qemu+tcp://{host.address}/system"
        # Hosts do not know each other by the names that libvirt would send.
        self.migration_uri = f"tcp://{host.address}"
        lines = [f"cat >/etc/libvirt/{name} <<'EOT'\n{text}EOT" for name, text in SETTINGS.items()]
        # With --daemon it returns when clients can connect.
        self._starting = host.start("\n".join(["set -e", *lines, "libvirtd --daemon --listen",
                                               "virsh domcapabilities >/dev/null"]))

    def ready(self) -> None:
        """Wait until the daemon runs and knows QEMU's capabilities."""
        self._starting.wait(speed.scaled(STEP))

    def begin(self, *commands: str) -> Process:
        """Start commands of virsh, one after the other: starting virsh takes long."""
        self.ready()
        return self.host.start(shlex.join(["virsh", "; ".join(commands)]))

    def virsh(self, *commands: str, check: bool = True) -> Result:
        """Execute commands of virsh."""
        return self.begin(*commands).wait(speed.scaled(STEP), check)

    def start(self, domain: Domain) -> None:
        """Define a guest, and start it."""
        self.host.path(FILE).write_text(domain.xml(), encoding="utf-8")
        self.virsh(f"define /lab/results/{FILE}", f"start {domain.name}")

    def log(self, domain: Domain) -> str:
        """The arguments and the output of QEMU of a domain."""
        return self.host.run(f"cat /var/log/libvirt/qemu/{domain.name}.log", check=False).out

    def console(self, domain: Domain) -> str:
        """The part of the guest's console that QEMU in this host has written."""
        path = self.host.path(domain.console)
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        return text.replace("\r", "")

    def wait_replies(self, domain: Domain, number: int, since: Count | None = None) -> Count:
        """Wait until each queue of the guest has so many right replies, or more than since."""
        deadline = time.monotonic() + speed.scaled(STEP)
        while True:
            text = self.console(domain)
            last = reached(parse_counts(text), number, since)
            if last is not None:
                return last
            if time.monotonic() > deadline:
                raise LabError(f"host {self.host.name}: no {number} replies in {STEP:.0f} s\n"
                               f"{text[-4000:]}\n{self.log(domain)}")
            self.host.wait_for(lambda: self.console(domain) != text, LOOK)

    def __enter__(self) -> Libvirt:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if not self.host.alive:
            return
        if self._starting.poll() is None:
            self._starting.kill()
        # The daemon leaves guests and definitions alone when it ends.
        self.host.run(
            "for file in /run/libvirtd.pid /run/libvirt/qemu/*.pid; do\n"
            "pid=$(cat $file 2>/dev/null) && kill $pid 2>/dev/null && "
            "tail --pid=$pid -f /dev/null\n"
            "done\n"
            "rm -rf /run/libvirt /etc/libvirt/qemu/*.xml")
