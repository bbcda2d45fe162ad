# SPDX-License-Identifier: GPL-2.0
# The kernel's list of instructions (opcode, name, format) as initializers of struct opcode: the
# byte of the instruction that holds the second part of the opcode, its mask, and both parts.
# The places per format are those of arch/s390/tools/gen_opcode_table.c.

BEGIN {
	split("RI RIL SSF", nibble)
	split("E IE RRE RRF RRR S SIL SSE", second)
	split("RIE RIS RRS RSE RSL RSY RXE RXF RXY SIY VRI VRR VRS VRV VRX VSI", last)
	for (i in nibble)
		place[nibble[i]] = "1, 0x0f"
	for (i in second)
		place[second[i]] = "1, 0xff"
	for (i in last)
		place[last[i]] = "5, 0xff"
}

{
	split($3, format, "_")
	where = length($1) == 2 ? "0, 0x00" : place[format[1]]
	if (where == "") {
		print "opcodes.awk: unknown format " $3 >"/dev/stderr"
		exit 1
	}
	printf "{ %s, 0x%s, 0x%s },\n", where, substr($1, 1, 2),
	       length($1) == 2 ? "00" : substr($1, 3)
}
