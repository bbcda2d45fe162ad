# SPDX-License-Identifier: GPL-2.0
"""The seeds of lab/programs/fuzz: `python3 -m lab.faults.corpus` writes lab/programs/fuzz/corpus.

They are the golden streams of lab/faults/golden.py, and streams with interrupts, with many
adapters, and at the limits. lab/programs/fuzz/input.h describes the bytes of an input: the cuts of
the stream, the differences of the compared images, and the stream. The fuzzer finds all other
inputs again from these, so the corpus stays this small.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from lab.common import config
from lab.faults import golden

FOLDER = config.REPO / "lab/programs/fuzz/corpus"
IRQ = 3
# enum expand in lab/programs/fuzz/input.h
NONE, FULL_64K, BEYOND_64K, BEYOND_4M = 0, 0xf0, 0xf1, 0xff


def irq(rows: Iterable[tuple[int, int, int, Iterable[int]]]) -> bytes:
    """An IRQ record of (adapter, ISC, address, domains)."""
    return golden.record(IRQ, b"".join(
        struct.pack(">HBBIQ", apid, isc, 0, 0, nib) + golden.mask(domains)
        for apid, isc, nib, domains in rows))


def fuzz_input(stream: bytes, chunks: Iterable[int] = (), edits: Iterable[bytes] = (),
               expand: int = NONE) -> bytes:
    """An input of the fuzzer."""
    cut, changes = bytes(chunks), list(edits)
    return bytes([len(cut)]) + cut + bytes([len(changes)]) + b"".join(changes) + \
        bytes([expand]) + stream


def edit(what: int, which: int, value: int) -> bytes:
    """A difference of the local image; see edit() in lab/programs/fuzz/stream_fuzz.c."""
    return struct.pack(">BBH", what, which, value)


# Masks; then each field of the hardware information:
# facilities and class in the first 16 bits, type and domains in the third, the rest in the last.
EDITS = {
    "masks": [edit(2, 0, 3), edit(0, 0, 1), edit(1, 31, 0x80)],
    "facilities": [edit(29, 0, 0x1000), edit(29, 1, 0x8000), edit(29, 2, 0x1400)],
    "class": [edit(29, 1, 1), edit(29, 0, 0xff)],
    "modes": [edit(29, 1, 0x1800), edit(29, 1, 0x1c00), edit(29, 1, 0x0400)],
    "type": [edit(13, 0, 0x0500), edit(13, 1, 0x0f00)],
    "limits": [edit(13, 0, 1), edit(5, 1, 1), edit(5, 2, 0x0c00), edit(5, 0, 0x0200)],
}

# A dozen interrupts on two adapters, three addresses, and domains at both ends of the mask.
ROWS = [(5, 3, 0x1000, [0]), (5, 3, 0x2008, [255]), (255, 0, 0x1000, [0]),
        (255, 7, 0xfffffffffffffff8, [255])]


def seeds() -> dict[str, bytes]:
    """Name and input."""
    head = golden.header()
    three, one = list(golden.THREE), list(golden.ONE)
    everything = golden.pair(dict.fromkeys(range(256), golden.CCA), range(256), range(256))
    irqs = golden.stream(head, *three, irq(ROWS))
    found = {f"golden_{name}": fuzz_input(data) for name, (_, data) in golden.STREAMS.items()}
    found |= {f"golden_{name}_bytewise": fuzz_input(data, [1])
              for name, (_, data) in golden.STREAMS.items()}
    found |= {f"differ_{name}": fuzz_input(golden.STREAMS["three"][1], [7, 0, 3], edits)
              for name, edits in EDITS.items()}
    found |= {
        "irq": fuzz_input(irqs, [17]),
        "irq_records": fuzz_input(golden.stream(
            head, *three, irq(ROWS[:1]),
            golden.record(0x7000, b"\x01" * 8, 0), irq(ROWS[1:])), [1, 48, 5]),
        "irq_order": fuzz_input(golden.stream(head, *three, irq(ROWS[::-1]))),
        "irq_twice": fuzz_input(golden.stream(
            head, *three, irq([(5, 1, 8, [0, 255]), (5, 2, 8, [0])]))),
        "irq_same": fuzz_input(golden.stream(
            head, *three, irq([(5, 1, 8, [0]), (5, 1, 8, [255])]))),
        "irq_foreign": fuzz_input(golden.stream(head, *three, irq([(5, 1, 8, [7])]))),
        "irq_no_adapter": fuzz_input(golden.stream(head, *three, irq([(6, 1, 8, [0])]))),
        "irq_high_adapter": fuzz_input(golden.stream(head, *three, irq([(256, 1, 8, [0])]))),
        "irq_no_address": fuzz_input(golden.stream(head, *three, irq([(5, 1, 0, [0])]))),
        "irq_isc": fuzz_input(golden.stream(head, *three, irq([(5, 8, 8, [0])]))),
        "irq_empty": fuzz_input(golden.stream(head, *three, irq([(5, 1, 8, [])]))),
        "irq_none": fuzz_input(golden.stream(head, *three, irq([]))),
        "irq_huge": fuzz_input(head + b"".join(three)
                               + struct.pack(">HHI", IRQ, 1, 48 * 100000)),
        "irq_first": fuzz_input(head + irq(ROWS)),
        "all": fuzz_input(golden.stream(head, *everything), [200, 0, 255]),
        "too_many_rows": fuzz_input(head + everything[0]
                                    + struct.pack(">HHI", golden.HWINFO, 1, 257 * 16)),
        "pair_twice": fuzz_input(golden.stream(head, *one, *one), [13]),
        "truncated": fuzz_input(irqs[:-30], [0, 60]),
        "after_the_end": fuzz_input(irqs + bytes(8), [64]),
        "end_first": fuzz_input(golden.stream(head)),
        "end_long": fuzz_input(head + b"".join(three) + golden.record(golden.END, bytes(8))),
        "odd_length": fuzz_input(head + struct.pack(">HHI", 1, 1, 97)),
        "config_twice": fuzz_input(golden.stream(head, one[0], one[0], one[1])),
        "config_long": fuzz_input(head + golden.record(golden.CONFIG, bytes(104))),
        "hwinfo_first": fuzz_input(golden.stream(head, one[1], one[0])),
        "hwinfo_odd": fuzz_input(head + one[0] + golden.record(golden.HWINFO, bytes(8))),
        "hwinfo_few": fuzz_input(golden.stream(head, three[0], one[1])),
        "hwinfo_foreign": fuzz_input(golden.stream(head, one[0], golden.record(
            golden.HWINFO, struct.pack(">HHIQ", 6, 0, 0, golden.CCA)))),
        "hwinfo_order": fuzz_input(golden.stream(head, three[0], golden.record(
            golden.HWINFO, b"".join(struct.pack(">HHIQ", apid, 0, 0, golden.CCA)
                                    for apid in (5, 0, 255))))),
        "hwinfo_reserved": fuzz_input(golden.stream(head, one[0], golden.record(
            golden.HWINFO, struct.pack(">HHIQ", 5, 1, 0, golden.CCA)))),
        "hwinfo_high": fuzz_input(golden.stream(head, one[0], golden.record(
            golden.HWINFO, struct.pack(">HHIQ", 260, 0, 0, golden.CCA)))),
        "mandatory": fuzz_input(golden.stream(head, golden.record(0x7000, b""), *one)),
        "reserved_flag": fuzz_input(golden.stream(head, golden.record(0x7000, b"", 2), *one)),
        "optional_long": fuzz_input(head + struct.pack(">HHI", 0x7000, 0, 4104)),
        "magic": fuzz_input(b"vfap" + irqs[4:]),
        "version": fuzz_input(irqs[:5] + b"\x02" + irqs[6:]),
        "header_reserved": fuzz_input(golden.stream(golden.header(1, 1), *one)),
        "config_optional": fuzz_input(head + golden.record(golden.CONFIG, bytes(96), 0)),
        "end_optional": fuzz_input(head + b"".join(three) + golden.record(golden.END, b"", 0)),
        "expand_64k": fuzz_input(irqs, [255], (), FULL_64K),
        "expand_68k": fuzz_input(irqs, [255], (), BEYOND_64K),
        "expand_4m": fuzz_input(irqs, (), (), BEYOND_4M),
    }
    return found


def main() -> None:
    """Write the files, and remove those that are no longer seeds."""
    wanted = {f"{name}.bin": data for name, data in seeds().items()}
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.iterdir():
        if path.name not in wanted:
            path.unlink()
    for name, data in wanted.items():
        (FOLDER / name).write_bytes(data)
    print(f"{len(wanted)} seeds, {sum(map(len, wanted.values()))} bytes")


if __name__ == "__main__":
    main()
