# SPDX-License-Identifier: GPL-2.0
"""The sets of patches: names, prerequisites, addressees and limits. They are sent separately.

patches/TREE/SET/ holds a set: the patches, `series` (their order), `cover` (first line: the
subject), and `tests` (globs of the tests that its kernel must pass). build/TREE has all sets of
that tree, in the order of SETS.
"""

from __future__ import annotations

from dataclasses import dataclass

KVM = "kvm@vger.kernel.org"                     # VFIO and KVM
S390 = "linux-s390@vger.kernel.org"
KSELFTEST = "linux-kselftest@vger.kernel.org"
QEMU = ("qemu-devel@nongnu.org", "qemu-s390x@nongnu.org")

PATCH_LINES = 2500
DRIVER = "drivers/s390/crypto/"


@dataclass(frozen=True)
class Growth:
    """A limit of lines that files may have grown by since pristine, prerequisites included.

    files: a glob; added: only files that pristine source lacks; lines: the limit.
    """

    files: str
    lines: int
    added: bool = False


@dataclass(frozen=True)
class Set:
    """A set: its prerequisites (direct ones suffice), the lists it is sent to, and its limits.

    patches: the most it may have, 0 for any number.
    """

    name: str
    needs: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    patches: int = 0
    growth: tuple[Growth, ...] = ()


SETS = {
    "linux": (
        Set("type1", to=(KVM,)),
        Set("ap", to=(S390,)),
        Set("kvm", to=(KVM, S390)),
        Set("fixes", to=(S390,)),
        Set("selftests-base", ("fixes",), (KSELFTEST, S390)),
        Set("migration", ("type1", "fixes"), (S390, KVM), patches=12, growth=(
            Growth(f"{DRIVER}vfio_ap_*.[ch]", 3300, added=True),
            Growth(f"{DRIVER}vfio_ap_ops.c", 554))),
        Set("selftests-migration", ("migration", "selftests-base"), (KSELFTEST, S390)),
        Set("migratable", ("migration", "selftests-migration"), (S390, KVM)),
    ),
    "qemu": (
        Set("machine", to=QEMU),
        Set("client", to=QEMU),
    ),
}


def with_needs(sets: tuple[Set, ...], name: str) -> list[str]:
    """A set and all that it needs, in the order of sets; the set itself is the last one."""
    known = {one.name: one for one in sets}
    found: set[str] = set()
    todo = [name]
    while todo:
        one = known[todo.pop()]
        found.add(one.name)
        todo += one.needs
    return [one.name for one in sets if one.name in found]
