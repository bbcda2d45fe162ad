# SPDX-License-Identifier: GPL-2.0
"""Host profiles: the hardware and the settings of an emulated host."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from typing import Any

from lab.common import config
from lab.common.errors import LabError


@dataclass(frozen=True)
class Profile:
    """Parts of a host: lab/host/profiles/<name>.toml, any key replaced by Lab.boot().

    cards: the adapters of the machine, with commas between them, each as adapter() takes it.
    domains, cdomains: hex lists of usage and control domains; cdomains "": as domains.
    vfio_adapters, vfio_domains: hex lists; these are taken from zcrypt and go to vfio_ap.
    drivers: load AP, zcrypt, KVM and VFIO. memory: MiB. cmdline: kernel parameters.
    cpu: -cpu of the emulator.
    icount: a nanosecond of the host is one instruction; needs one CPU, and is slow.
    """

    name: str
    cards: str = ""
    domains: str = ""
    cdomains: str = ""
    vfio_adapters: str = ""
    vfio_domains: str = ""
    drivers: bool = True
    memory: int = 2048
    cpus: int = 2
    cpu: str = "max"
    cmdline: str = ""
    icount: bool = False

    @classmethod
    def load(cls, name: str) -> Profile:
        """Read lab/host/profiles/<name>.toml; LabError names an unknown profile or key."""
        path = config.REPO / "lab/host/profiles" / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.toml")))
            raise LabError(f"no host profile {name!r}; there are: {known}")
        with path.open("rb") as stream:
            return cls(name).changed(tomllib.load(stream), str(path))

    def changed(self, keys: dict[str, Any], where: str) -> Profile:
        """A copy with keys replaced, each checked for its name and type."""
        types = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        for key, value in keys.items():
            if key == "name" or key not in types:
                raise LabError(f"{where}: unknown profile key {key!r}")
            if type(value) is not types[key]:
                raise LabError(f"{where}: {key} must be of type {types[key].__name__}")
        return replace(self, **keys)

    def adapters(self) -> list[dict[str, object]]:
        """The adapters of the machine, each as -device and device_add of the emulator take it."""
        return [adapter(card, domains=colons(self.domains),
                        control_domains=colons(self.cdomains or self.domains))
                for card in self.cards.split(",") if card]


# Mode in the description of a card, and its name in the emulator.
MODES = {"c": "cca", "p": "ep11", "a": "accel"}
# Fields of the description of a card, and their names in the emulator.
FIELDS = {"fac": "facilities", "nd": "max-domain", "ml": "message-limit"}


def adapter(card: str, **properties: object) -> dict[str, object]:
    """A device of the emulator from the description of a card, APID:TYPE{c|p|a}[:key=value]...,
    and more properties: adapter("05:14c:qd=3") has id and apid 5, a depth of 4, mode cca."""
    apid, kind, *words = card.split(":")
    found: dict[str, object] = {"driver": "ap-adapter", "id": f"ap-{apid}", "apid": int(apid, 16),
                                "hwtype": int(kind[:-1]), "mode": MODES[kind[-1]]}
    for word in words:
        key, _, value = word.partition("=")
        number = int(value, 0)
        found.update({"depth": number + 1} if key == "qd" else {FIELDS[key]: number})
    found.update({key.replace("_", "-"): value for key, value in properties.items()})
    return found


def colons(numbers: str) -> str:
    """A list with colons in the place of commas, as the emulator takes domains."""
    return numbers.replace(",", ":")


def mask(numbers: str) -> str:
    """"05,0a" in the form that apmask and aqmask take to clear bits: "-0x05,-0x0a"."""
    return ",".join(f"-0x{int(word, 16):02x}" for word in numbers.split(",") if word.strip())
