# SPDX-License-Identifier: GPL-2.0
"""Golden migration streams, encoded a second time and independently of the driver.

The C header that the KUnit tests and the little-endian user-space test share is
written from here; `python3 -m lab.golden` prints it. A difference between the two
encoders is a difference in the reading of the format.
"""

import struct
from collections.abc import Iterable

CONFIG, HWINFO, IRQ, END = 1, 2, 3, 4
MANDATORY = 1

HEADER = "drivers/s390/crypto/tests/vfio_ap_stream_golden.h"


def mask(ids: Iterable[int]) -> bytes:
    """32 bytes, bit 0 is the most significant bit of byte 0."""
    bits = bytearray(32)
    for number in ids:
        bits[number // 8] |= 0x80 >> (number % 8)
    return bytes(bits)


def info(facilities: int, kind: int, domains: int, depth: int, length: int = 0,
         klass: int = 0) -> int:
    """GR2 of PQAP(TAPQ) as far as the format carries it."""
    return (facilities << 56 | klass << 48 | kind << 24 | domains << 16
            | length << 8 | depth)


def header(version: int = 1, reserved: int = 0) -> bytes:
    return struct.pack(">4sHH", b"VFAP", version, reserved)


def record(kind: int, payload: bytes, flags: int = MANDATORY) -> bytes:
    return struct.pack(">HHI", kind, flags, len(payload)) + payload


def config(adapters: Iterable[int], domains: Iterable[int], control: Iterable[int]) -> bytes:
    return record(CONFIG, mask(adapters) + mask(domains) + mask(control))


def hwinfo(adapters: dict[int, int]) -> bytes:
    rows = (struct.pack(">HHIQ", apid, 0, 0, adapters[apid]) for apid in sorted(adapters))
    return record(HWINFO, b"".join(rows))


def irqs(*rows: tuple[int, int, int, Iterable[int]]) -> bytes:
    """Rows of adapter, ISC, NIB and domains."""
    return record(IRQ, b"".join(struct.pack(">HBBIQ", apid, isc, 0, 0, nib) + mask(domains)
                                for apid, isc, nib, domains in rows))


def stream(head: bytes, *records: bytes) -> bytes:
    """Header, records and the END record."""
    return head + b"".join(records) + record(END, b"")


def pair(adapters: dict[int, int], domains: Iterable[int],
         control: Iterable[int]) -> tuple[bytes, bytes]:
    return config(adapters, domains, control), hwinfo(adapters)


CCA = info(0x92, 14, 84, 7)
EP11 = info(0x86, 14, 84, 7, length=10, klass=1)
ACCEL = info(0xea, 11, 15, 31)

ONE = pair({5: CCA}, [4, 0x47], [4])
THREE = pair({0: ACCEL, 5: CCA, 255: EP11}, [0, 255], [0, 1, 255])

STREAMS: dict[str, tuple[str, bytes]] = {
    "none": ("No adapter, domain or control domain",
             stream(header(), *pair({}, [], []))),
    "one": ("Adapter 05, a type 14 CCA coprocessor; domains 04 and 47",
            stream(header(), *ONE)),
    "three": ("Adapters 00, 05 and ff of three kinds; the outermost domains",
              stream(header(), *THREE)),
    "optional": ("As \"one\", with optional records of unknown types at every place",
                 stream(header(), record(0x7001, b"\xaa" * 24, 0), ONE[0],
                        record(0x7002, b"", 0), ONE[1], record(0x7001, b"\x55" * 8, 0))),
    "interrupts": ("As \"three\", with interrupts: of two NIBs, of two ISCs, in two records",
                   stream(header(), *THREE,
                          irqs((0, 7, 1, [0]), (5, 3, 0x1008, [0, 255])),
                          irqs((255, 0, 0xfffffffffffff000, [255]), (255, 3, 0x1008, [0])))),
}


def c_header() -> str:
    """The text of the C header."""
    text = ["/* SPDX-License-Identifier: GPL-2.0 */",
            "/* Golden streams of format 1; written by an encoder of their own. */", ""]
    for name, (comment, data) in STREAMS.items():
        text.append(f"/* {comment} */" if "\n" not in comment else f"/*\n * {comment}\n */")
        text.append(f"static const u8 vfio_ap_golden_{name}[] = {{")
        text += ["\t" + " ".join(f"0x{byte:02x}," for byte in data[at:at + 8])
                 for at in range(0, len(data), 8)]
        text += ["};", ""]
    return "\n".join(text[:-1]) + "\n"


if __name__ == "__main__":
    print(c_header(), end="")
