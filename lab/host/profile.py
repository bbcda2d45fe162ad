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
    """What a host is made of: lab/host/profiles/<name>.toml, any key replaced by Lab.boot().

    cards to reset_polls are parameters of ap_sim; an empty string leaves its default.
    vfio_adapters, vfio_domains: hex lists; these are taken from zcrypt and go to vfio_ap.
    simulate: load ap_sim, AP, zcrypt, KVM and VFIO. memory: MiB. cmdline: kernel parameters.
    icount: a nanosecond of the host is one instruction; needs one CPU, and is slow.
    """

    name: str
    cards: str = ""
    domains: str = ""
    cdomains: str = ""
    latency_us: int = 1000
    reset_polls: int = 2
    vfio_adapters: str = ""
    vfio_domains: str = ""
    simulate: bool = True
    memory: int = 2048
    cpus: int = 2
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

    def sim_params(self) -> str:
        """Module parameters for ap_sim."""
        words = [f"{key}={getattr(self, key)}" for key in ("cards", "domains", "cdomains")
                 if getattr(self, key)]
        return " ".join([*words, f"latency_us={self.latency_us}",
                         f"reset_polls={self.reset_polls}"])


def mask(numbers: str) -> str:
    """"05,0a" in the form that apmask and aqmask take to clear bits: "-0x05,-0x0a"."""
    return ",".join(f"-0x{int(word, 16):02x}" for word in numbers.split(",") if word.strip())
