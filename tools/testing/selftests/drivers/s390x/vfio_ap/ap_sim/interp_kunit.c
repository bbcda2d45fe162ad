// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the interpreter for the instructions of a guest
 *
 * Loads anywhere: it needs neither the simulator nor AP instructions.
 */

#include <kunit/test-bug.h>
#include <kunit/test.h>
#include <linux/module.h>

/* Nothing of it is exported. */
#include "interp.c"
#include "interp_ops.c"

/* The guest has four pages, then there is none, then one more. */
#define TEST_PAGES	6
#define TEST_HOLE	4
#define TEST_CODE	0x1000UL
#define TEST_DATA	0x2000UL
#define TEST_PSW	(PSW_MASK_EA | PSW_MASK_BA)
#define TEST_PSW_31	PSW_MASK_BA

/* What the callback for AP instructions was called with, and answers */
static u32 ap_insn;
static enum ap_sim_step ap_step;

/**
 * struct interp_test - a guest
 * @g: its processor
 * @cr: control registers
 * @readonly: its pages cannot be stored to
 * @mem: its storage
 */
struct interp_test {
	struct ap_sim_guest g;
	u64 cr[16];
	bool readonly;
	u8 mem[TEST_PAGES * PAGE_SIZE] __aligned(8);
};

static u8 *test_map(struct ap_sim_guest *g, u64 addr, bool write)
{
	struct interp_test *t = container_of(g, struct interp_test, g);

	if (addr >= sizeof(t->mem) || addr / PAGE_SIZE == TEST_HOLE ||
	    (write && t->readonly))
		return NULL;

	return t->mem + addr;
}

static enum ap_sim_step test_ap(struct ap_sim_guest *g, u32 insn)
{
	ap_insn = insn;
	ap_sim_interp_set_cc(g, 3);

	return ap_step;
}

static int interp_test_init(struct kunit *test)
{
	struct interp_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	if (!t)
		return -ENOMEM;
	t->g.cr = t->cr;
	t->g.map = test_map;
	t->g.ap = test_ap;
	t->g.psw.mask = TEST_PSW;
	ap_step = AP_SIM_STEP_DONE;
	test->priv = t;

	return 0;
}

/* Execute one instruction, given as its halfwords; the rest of them may be 0. */
static int step_at(u64 addr, u16 a, u16 b, u16 c)
{
	struct interp_test *t = kunit_get_current_test()->priv;
	const u16 text[] = { a, b, c };

	memcpy(t->mem + addr, text, ap_sim_length(a));
	t->g.psw.addr = addr;

	return ap_sim_interp_step(&t->g);
}

static int step(u16 a, u16 b, u16 c)
{
	return step_at(TEST_CODE, a, b, c);
}

static int cc(void)
{
	struct interp_test *t = kunit_get_current_test()->priv;

	return (t->g.psw.mask & PSW_MASK_CC) >> AP_SIM_CC_SHIFT;
}

#define EXPECT_STEP(test, what, ...)					\
	KUNIT_EXPECT_EQ(test, step(__VA_ARGS__), (int)AP_SIM_STEP_##what)
#define EXPECT_CC(test, value)						\
	KUNIT_EXPECT_EQ(test, cc(), value)

static void table_test(struct kunit *test)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ap_sim_ops); i++) {
		KUNIT_EXPECT_PTR_EQ(test, ap_sim_interp_find(ap_sim_ops[i].key),
				    &ap_sim_ops[i]);
		if (i)
			KUNIT_EXPECT_LT(test, ap_sim_ops[i - 1].key,
					ap_sim_ops[i].key);
	}
}

/* The same operation with 64 and 32 bits, in all combinations of operands */
struct arith_case {
	u64 a;
	u64 b;
	u64 result;
	int cc;
};

static void check_rre(struct kunit *test, u16 opcode, const struct arith_case *c,
		      unsigned int nr)
{
	struct interp_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		t->g.gpr[3] = c[i].a;
		t->g.gpr[4] = c[i].b;
		EXPECT_STEP(test, DONE, opcode, 0x0034, 0);
		KUNIT_EXPECT_EQ_MSG(test, t->g.gpr[3], c[i].result,
				    "%04x case %u", opcode, i);
		KUNIT_EXPECT_EQ(test, t->g.gpr[4], c[i].b);
		KUNIT_EXPECT_EQ_MSG(test, cc(), c[i].cc, "%04x case %u",
				    opcode, i);
	}
}

static void check_rr(struct kunit *test, u8 opcode, const struct arith_case *c,
		     unsigned int nr)
{
	struct interp_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < nr; i++) {
		t->g.gpr[3] = c[i].a;
		t->g.gpr[4] = c[i].b;
		EXPECT_STEP(test, DONE, opcode << 8 | 0x34, 0, 0);
		KUNIT_EXPECT_EQ_MSG(test, t->g.gpr[3], c[i].result,
				    "%02x case %u", opcode, i);
		KUNIT_EXPECT_EQ_MSG(test, cc(), c[i].cc, "%02x case %u",
				    opcode, i);
	}
}

static void add_sub_test(struct kunit *test)
{
	static const struct arith_case add[] = {
		{ 1, 2, 3, 2 },
		{ 1, -1UL, 0, 0 },
		{ 1, -2UL, -1UL, 1 },
		{ S64_MAX, 1, (u64)S64_MIN, 3 },
		{ (u64)S64_MIN, -1UL, S64_MAX, 3 },
	};
	static const struct arith_case sub[] = {
		{ 3, 2, 1, 2 },
		{ 3, 3, 0, 0 },
		{ 3, 4, -1UL, 1 },
		{ (u64)S64_MIN, 1, S64_MAX, 3 },
		{ 0, (u64)S64_MIN, (u64)S64_MIN, 3 },
	};
	static const struct arith_case add_logical[] = {
		{ 0, 0, 0, 0 },
		{ 1, 2, 3, 1 },
		{ 1, -1UL, 0, 2 },
		{ 2, -1UL, 1, 3 },
	};
	static const struct arith_case sub_logical[] = {
		{ 1, 2, -1UL, 1 },
		{ 2, 2, 0, 2 },
		{ 3, 2, 1, 3 },
	};

	check_rre(test, 0xb908, add, ARRAY_SIZE(add));
	check_rre(test, 0xb909, sub, ARRAY_SIZE(sub));
	check_rre(test, 0xb90a, add_logical, ARRAY_SIZE(add_logical));
	check_rre(test, 0xb90b, sub_logical, ARRAY_SIZE(sub_logical));
}

/* The left half of the register stays as it is, and does not matter. */
static void add_sub_32_test(struct kunit *test)
{
	static const struct arith_case add[] = {
		{ 0xaaaaaaaa00000001, 0xbbbbbbbb00000002, 0xaaaaaaaa00000003, 2 },
		{ 0xaaaaaaaa00000001, 0x00000000ffffffff, 0xaaaaaaaa00000000, 0 },
		{ 0xaaaaaaaa00000001, 0x00000000fffffffe, 0xaaaaaaaaffffffff, 1 },
		{ 0x000000007fffffff, 0x0000000000000001, 0x0000000080000000, 3 },
		{ 0x1234567880000000, 0x00000000ffffffff, 0x123456787fffffff, 3 },
	};
	static const struct arith_case sub[] = {
		{ 0xaaaaaaaa00000003, 0xbbbbbbbb00000002, 0xaaaaaaaa00000001, 2 },
		{ 0xaaaaaaaa00000003, 0xbbbbbbbb00000003, 0xaaaaaaaa00000000, 0 },
		{ 0xaaaaaaaa00000003, 0xbbbbbbbb00000004, 0xaaaaaaaaffffffff, 1 },
		{ 0x0000000080000000, 0x0000000000000001, 0x000000007fffffff, 3 },
	};

	check_rr(test, 0x1a, add, ARRAY_SIZE(add));
	check_rr(test, 0x1b, sub, ARRAY_SIZE(sub));
}

/* With the mask bit on an overflow is a program exception, after the sum. */
static void overflow_exception_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	t->g.psw.mask |= AP_SIM_PM_OVERFLOW;
	t->g.gpr[3] = S64_MAX;
	t->g.gpr[4] = 1;
	EXPECT_STEP(test, PROGRAM, 0xb908, 0x0034, 0);
	KUNIT_EXPECT_EQ(test, t->g.pgm_code, PGM_FIXED_POINT_OVERFLOW);
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], (u64)S64_MIN);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 4);
	EXPECT_CC(test, 3);
	/* and nothing otherwise */
	t->g.gpr[3] = 1;
	EXPECT_STEP(test, DONE, 0xb908, 0x0034, 0);
}

static void bits_test(struct kunit *test)
{
	static const struct arith_case and[] = {
		{ 0xf0f0, 0x0f0f, 0, 0 },
		{ 0xf0f0, 0xff00, 0xf000, 1 },
	};
	static const struct arith_case or[] = {
		{ 0, 0, 0, 0 },
		{ 0xf0f0, 0x0f0f, 0xffff, 1 },
	};
	static const struct arith_case xor[] = {
		{ 0xf0f0, 0xf0f0, 0, 0 },
		{ 0xf0f0, 0xffff, 0x0f0f, 1 },
	};
	static const struct arith_case xor32[] = {
		{ 0x12345678f0f0f0f0, 0x87654321f0f0f0f0, 0x1234567800000000, 0 },
	};

	check_rre(test, 0xb980, and, ARRAY_SIZE(and));
	check_rre(test, 0xb981, or, ARRAY_SIZE(or));
	check_rre(test, 0xb982, xor, ARRAY_SIZE(xor));
	check_rr(test, 0x14, and, ARRAY_SIZE(and));
	check_rr(test, 0x16, or, ARRAY_SIZE(or));
	check_rr(test, 0x17, xor32, ARRAY_SIZE(xor32));
}

static void compare_test(struct kunit *test)
{
	static const struct arith_case compare[] = {
		{ 5, 5, 5, 0 },
		{ -1UL, 1, -1UL, 1 },
		{ 1, -1UL, 1, 2 },
	};
	static const struct arith_case logical[] = {
		{ 5, 5, 5, 0 },
		{ 1, -1UL, 1, 1 },
		{ -1UL, 1, -1UL, 2 },
	};

	check_rre(test, 0xb920, compare, ARRAY_SIZE(compare));
	check_rre(test, 0xb921, logical, ARRAY_SIZE(logical));
	check_rr(test, 0x19, compare, ARRAY_SIZE(compare));
	check_rr(test, 0x15, logical, ARRAY_SIZE(logical));
}

static void load_test(struct kunit *test)
{
	static const struct arith_case load_test[] = {
		{ 9, 0, 0, 0 },
		{ 9, -7UL, -7UL, 1 },
		{ 9, 7, 7, 2 },
	};
	struct interp_test *t = test->priv;

	check_rre(test, 0xb902, load_test, ARRAY_SIZE(load_test));

	t->g.gpr[4] = 0x11223344f5667788;
	EXPECT_STEP(test, DONE, 0xb904, 0x0034, 0);		/* LGR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x11223344f5667788);
	EXPECT_STEP(test, DONE, 0xb914, 0x0034, 0);		/* LGFR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0xfffffffff5667788);
	EXPECT_STEP(test, DONE, 0xb916, 0x0034, 0);		/* LLGFR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0xf5667788);
	EXPECT_STEP(test, DONE, 0xb984, 0x0034, 0);		/* LLGCR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x88);
	EXPECT_STEP(test, DONE, 0xb985, 0x0034, 0);		/* LLGHR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x7788);
	t->g.gpr[3] = -1UL;
	EXPECT_STEP(test, DONE, 0x1834, 0, 0);			/* LR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0xfffffffff5667788);
	EXPECT_STEP(test, DONE, 0x1234, 0, 0);			/* LTR */
	EXPECT_CC(test, 1);
}

static void immediate_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u64 *reg = &t->g.gpr[3];

	*reg = -1UL;
	EXPECT_STEP(test, DONE, 0xa738, 0x8000, 0);		/* LHI */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffffffff8000);
	*reg = 0;
	EXPECT_STEP(test, DONE, 0xa738, 0x8000, 0);
	KUNIT_EXPECT_EQ(test, *reg, 0xffff8000);
	EXPECT_STEP(test, DONE, 0xa739, 0x8000, 0);		/* LGHI */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffffffff8000);
	EXPECT_STEP(test, DONE, 0xa73b, 0x8000, 0);		/* AGHI */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffffffff0000);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xa73f, 0x0000, 0);		/* CGHI */
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xa73e, 0x0001, 0);		/* CHI */
	EXPECT_CC(test, 1);
	*reg = 0x1234567800000001;
	EXPECT_STEP(test, DONE, 0xa73a, 0xffff, 0);		/* AHI */
	KUNIT_EXPECT_EQ(test, *reg, 0x1234567800000000);
	EXPECT_CC(test, 0);

	EXPECT_STEP(test, DONE, 0xa53c, 0x8001, 0);		/* LLIHH */
	KUNIT_EXPECT_EQ(test, *reg, 0x8001000000000000);
	EXPECT_STEP(test, DONE, 0xa53d, 0x8001, 0);		/* LLIHL */
	KUNIT_EXPECT_EQ(test, *reg, 0x0000800100000000);
	EXPECT_STEP(test, DONE, 0xa53e, 0x8001, 0);		/* LLILH */
	KUNIT_EXPECT_EQ(test, *reg, 0x80010000);
	EXPECT_STEP(test, DONE, 0xa53f, 0x8001, 0);		/* LLILL */
	KUNIT_EXPECT_EQ(test, *reg, 0x8001);
	EXPECT_STEP(test, DONE, 0xa53b, 0x0110, 0);		/* OILL */
	KUNIT_EXPECT_EQ(test, *reg, 0x8111);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xa538, 0x0000, 0);		/* OIHH */
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0xa537, 0x00ff, 0);		/* NILL */
	KUNIT_EXPECT_EQ(test, *reg, 0x11);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xa535, 0x0000, 0);		/* NIHL */
	KUNIT_EXPECT_EQ(test, *reg, 0x11);
	EXPECT_CC(test, 0);

	EXPECT_STEP(test, DONE, 0xc031, 0x8000, 0x0001);	/* LGFI */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffff80000001);
	EXPECT_STEP(test, DONE, 0xc03f, 0x8000, 0x0001);	/* LLILF */
	KUNIT_EXPECT_EQ(test, *reg, 0x80000001);
	EXPECT_STEP(test, DONE, 0xc238, 0xffff, 0xffff);	/* AGFI */
	KUNIT_EXPECT_EQ(test, *reg, 0x80000000);
	EXPECT_STEP(test, DONE, 0xc23e, 0x8000, 0x0001);	/* CLGFI */
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xc03e, 0x8000, 0x0001);	/* LLIHF */
	KUNIT_EXPECT_EQ(test, *reg, 0x8000000100000000);
}

static void test_mask_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	t->g.gpr[3] = 0x00000000f00f0000;
	EXPECT_STEP(test, DONE, 0xa730, 0x0ff0, 0);		/* TMLH */
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0xa730, 0x1008, 0);
	EXPECT_CC(test, 3);
	EXPECT_STEP(test, DONE, 0xa730, 0x0801, 0);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xa730, 0x8100, 0);
	EXPECT_CC(test, 2);
	EXPECT_STEP(test, DONE, 0xa731, 0xffff, 0);		/* TMLL */
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0xa731, 0x0000, 0);
	EXPECT_CC(test, 0);

	t->g.gpr[5] = TEST_DATA;
	t->mem[TEST_DATA] = 0x90;
	EXPECT_STEP(test, DONE, 0x9190, 0x5000, 0);		/* TM */
	EXPECT_CC(test, 3);
	EXPECT_STEP(test, DONE, 0x916f, 0x5000, 0);
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0x9118, 0x5000, 0);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0x9150, 0x5000, 0);
	EXPECT_CC(test, 1);
}

static void shift_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	t->g.gpr[4] = 0x8000000000000001;
	EXPECT_STEP(test, DONE, 0xeb34, 0x0004, 0x000d);	/* SLLG */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x10);
	EXPECT_STEP(test, DONE, 0xeb34, 0x003f, 0x000c);	/* SRLG */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 1);
	/* Only six bits of the operand count, wherever they come from. */
	t->g.gpr[5] = 0x41;
	EXPECT_STEP(test, DONE, 0xeb34, 0x5000, 0x000d);
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 2);
	KUNIT_EXPECT_EQ(test, t->g.gpr[4], 0x8000000000000001);
}

static void storage_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u64 *data = (u64 *)(t->mem + TEST_DATA);
	u64 *reg = &t->g.gpr[3];

	t->g.gpr[5] = TEST_DATA - 8;
	t->g.gpr[6] = 8;
	data[0] = 0x81828384f5667788;
	EXPECT_STEP(test, DONE, 0xe336, 0x5000, 0x0004);	/* LG */
	KUNIT_EXPECT_EQ(test, *reg, data[0]);
	EXPECT_STEP(test, DONE, 0xe330, 0x5008, 0x0014);	/* LGF */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffff81828384);
	EXPECT_STEP(test, DONE, 0xe330, 0x5008, 0x0016);	/* LLGF */
	KUNIT_EXPECT_EQ(test, *reg, 0x81828384);
	EXPECT_STEP(test, DONE, 0xe330, 0x5008, 0x0091);	/* LLGH */
	KUNIT_EXPECT_EQ(test, *reg, 0x8182);
	EXPECT_STEP(test, DONE, 0xe330, 0x5008, 0x0090);	/* LLGC */
	KUNIT_EXPECT_EQ(test, *reg, 0x81);
	EXPECT_STEP(test, DONE, 0x4830, 0x5008, 0);		/* LH */
	KUNIT_EXPECT_EQ(test, *reg, 0xffff8182);
	*reg = -1UL;
	EXPECT_STEP(test, DONE, 0x5830, 0x5008, 0);		/* L */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffff81828384);
	EXPECT_STEP(test, DONE, 0x4330, 0x5009, 0);		/* IC */
	KUNIT_EXPECT_EQ(test, *reg, 0xffffffff81828382);
	/* A displacement may be negative. */
	t->g.gpr[5] = TEST_DATA + 0x1000;
	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0xff04);
	KUNIT_EXPECT_EQ(test, *reg, data[0]);

	*reg = 0x1122334455667788;
	t->g.gpr[5] = TEST_DATA;
	data[0] = -1UL;
	EXPECT_STEP(test, DONE, 0x4230, 0x5000, 0);		/* STC */
	KUNIT_EXPECT_EQ(test, data[0], 0x88ffffffffffffff);
	EXPECT_STEP(test, DONE, 0x4030, 0x5001, 0);		/* STH */
	KUNIT_EXPECT_EQ(test, data[0], 0x887788ffffffffff);
	EXPECT_STEP(test, DONE, 0x5030, 0x5003, 0);		/* ST */
	KUNIT_EXPECT_EQ(test, data[0], 0x88778855667788ff);
	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0x0024);	/* STG */
	KUNIT_EXPECT_EQ(test, data[0], *reg);

	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0x0020);	/* CG */
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0x0009);	/* SG */
	KUNIT_EXPECT_EQ(test, *reg, 0);
	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0x0081);	/* OG */
	KUNIT_EXPECT_EQ(test, *reg, data[0]);
}

static void byte_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u8 *byte = t->mem + TEST_DATA;

	t->g.gpr[5] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0x9281, 0x5000, 0);		/* MVI */
	KUNIT_EXPECT_EQ(test, *byte, 0x81);
	EXPECT_STEP(test, DONE, 0x9581, 0x5000, 0);		/* CLI */
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0x9501, 0x5000, 0);
	EXPECT_CC(test, 2);
	EXPECT_STEP(test, DONE, 0x95ff, 0x5000, 0);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0x9602, 0x5000, 0);		/* OI */
	KUNIT_EXPECT_EQ(test, *byte, 0x83);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0x9410, 0x5000, 0);		/* NI */
	KUNIT_EXPECT_EQ(test, *byte, 0);
	EXPECT_CC(test, 0);
}

static void multiple_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u64 *data = (u64 *)(t->mem + TEST_DATA);
	int i;

	for (i = 0; i < 16; i++)
		t->g.gpr[i] = 100 + i;
	t->g.gpr[5] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0xeb13, 0x5000, 0x0024);	/* STMG */
	KUNIT_EXPECT_EQ(test, data[0], 101);
	KUNIT_EXPECT_EQ(test, data[2], 103);
	KUNIT_EXPECT_EQ(test, data[3], 0);
	/* from register 14 on, over 15 and 0, to 1 */
	EXPECT_STEP(test, DONE, 0xebe1, 0x5000, 0x0024);
	KUNIT_EXPECT_EQ(test, data[0], 114);
	KUNIT_EXPECT_EQ(test, data[3], 101);
	for (i = 0; i < 4; i++)
		data[i] = i;
	EXPECT_STEP(test, DONE, 0xebe1, 0x5000, 0x0004);	/* LMG */
	KUNIT_EXPECT_EQ(test, t->g.gpr[14], 0);
	KUNIT_EXPECT_EQ(test, t->g.gpr[15], 1);
	KUNIT_EXPECT_EQ(test, t->g.gpr[0], 2);
	KUNIT_EXPECT_EQ(test, t->g.gpr[1], 3);
	KUNIT_EXPECT_EQ(test, t->g.gpr[2], 102);
}

static void chars_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u8 *data = t->mem + TEST_DATA;

	t->g.gpr[5] = TEST_DATA;
	memcpy(data, "abcdefgh", 8);
	EXPECT_STEP(test, DONE, 0xd203, 0x5010, 0x5002);	/* MVC */
	KUNIT_EXPECT_EQ(test, memcmp(data + 0x10, "cdef\0", 5), 0);
	EXPECT_STEP(test, DONE, 0xd503, 0x5010, 0x5002);	/* CLC */
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0xd503, 0x5000, 0x5002);
	EXPECT_CC(test, 1);
	EXPECT_STEP(test, DONE, 0xd503, 0x5002, 0x5000);
	EXPECT_CC(test, 2);
	/* The classical way to fill storage */
	EXPECT_STEP(test, DONE, 0xd206, 0x5001, 0x5000);
	KUNIT_EXPECT_EQ(test, memcmp(data, "aaaaaaaa", 8), 0);
	/* and to clear it */
	EXPECT_STEP(test, DONE, 0xd707, 0x5000, 0x5000);	/* XC */
	KUNIT_EXPECT_EQ(test, memcmp(data, "\0\0\0\0\0\0\0\0", 8), 0);
	EXPECT_CC(test, 0);
	EXPECT_STEP(test, DONE, 0xd703, 0x5000, 0x5010);
	KUNIT_EXPECT_EQ(test, memcmp(data, "cdef", 4), 0);
	EXPECT_CC(test, 1);
}

static void branch_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	unsigned long *psw = &t->g.psw.addr;
	int i, mask;

	for (i = 0; i < 4; i++) {
		ap_sim_interp_set_cc(&t->g, i);
		for (mask = 0; mask < 16; mask++) {
			EXPECT_STEP(test, DONE, 0xa704 | mask << 4, 0x0010, 0);
			KUNIT_EXPECT_EQ(test, *psw, TEST_CODE +
					(mask & 8 >> i ? 0x20 : 4));
		}
	}
	t->g.gpr[4] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0x07f4, 0, 0);			/* BR */
	KUNIT_EXPECT_EQ(test, *psw, TEST_DATA);
	EXPECT_STEP(test, DONE, 0x07f0, 0, 0);			/* not with register 0 */
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE + 2);
	EXPECT_STEP(test, DONE, 0x47f0, 0x4008, 0);		/* B */
	KUNIT_EXPECT_EQ(test, *psw, TEST_DATA + 8);
	EXPECT_STEP(test, DONE, 0xc0f4, 0xffff, 0xfffe);	/* JG, backwards */
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE - 4);

	EXPECT_STEP(test, DONE, 0xc0e5, 0x0000, 0x0008);	/* BRASL */
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE + 0x10);
	KUNIT_EXPECT_EQ(test, t->g.gpr[14], TEST_CODE + 6);
	EXPECT_STEP(test, DONE, 0xa7e5, 0xfffc, 0);		/* BRAS */
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE - 8);
	KUNIT_EXPECT_EQ(test, t->g.gpr[14], TEST_CODE + 4);
	t->g.gpr[14] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0x0dee, 0, 0);			/* BASR: the old value */
	KUNIT_EXPECT_EQ(test, *psw, TEST_DATA);
	KUNIT_EXPECT_EQ(test, t->g.gpr[14], TEST_CODE + 2);

	t->g.gpr[3] = 2;
	EXPECT_STEP(test, DONE, 0xa737, 0x0010, 0);		/* BRCTG */
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE + 0x20);
	EXPECT_STEP(test, DONE, 0xa737, 0x0010, 0);
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE + 4);
	/* counts in the right half only */
	t->g.gpr[3] = 0x100000001;
	EXPECT_STEP(test, DONE, 0xa736, 0x0010, 0);		/* BRCT */
	KUNIT_EXPECT_EQ(test, *psw, TEST_CODE + 4);
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x100000000);
}

static void address_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	t->g.gpr[4] = -8UL;
	t->g.gpr[5] = 0x100000010;
	EXPECT_STEP(test, DONE, 0x4134, 0x5fff, 0);		/* LA */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x100001007);
	EXPECT_STEP(test, DONE, 0xe334, 0x5fff, 0xff71);	/* LAY */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0x100000007);
	EXPECT_STEP(test, DONE, 0xc030, 0x0000, 0x0800);	/* LARL */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], TEST_CODE + 0x1000);

	/* 31 bits; the left half stays, and a link says so */
	t->g.psw.mask = TEST_PSW_31;
	t->g.gpr[3] = -1UL;
	EXPECT_STEP(test, DONE, 0x4130, 0x5000, 0);
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0xffffffff00000010);
	EXPECT_STEP(test, DONE, 0x0d30, 0, 0);			/* BASR */
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 0xffffffff80001002);
	t->mem[TEST_DATA] = 0x5a;
	t->g.gpr[5] = 0x80000000 | TEST_DATA;
	EXPECT_STEP(test, DONE, 0x955a, 0x5000, 0);
	EXPECT_CC(test, 0);
	/* 24 bits */
	t->g.psw.mask = 0;
	t->g.gpr[5] = 0xff000000 | TEST_DATA;
	EXPECT_STEP(test, DONE, 0x955a, 0x5000, 0);
	EXPECT_CC(test, 0);
}

/* Operands and instructions that begin in one page and end in the next */
static void page_crossing_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u8 *edge = t->mem + TEST_DATA + PAGE_SIZE;

	t->g.gpr[5] = TEST_DATA + PAGE_SIZE - 4;
	t->g.gpr[3] = 0x0102030405060708;
	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0x0024);	/* STG */
	KUNIT_EXPECT_EQ(test, memcmp(edge - 4, &t->g.gpr[3], 8), 0);
	EXPECT_STEP(test, DONE, 0xe340, 0x5000, 0x0004);	/* LG */
	KUNIT_EXPECT_EQ(test, t->g.gpr[4], t->g.gpr[3]);
	EXPECT_STEP(test, DONE, 0xd207, 0x5008, 0x5000);	/* MVC */
	KUNIT_EXPECT_EQ(test, memcmp(edge + 4, &t->g.gpr[3], 8), 0);

	KUNIT_EXPECT_EQ(test, step_at(TEST_DATA + PAGE_SIZE - 2, 0xa739, 0x0007, 0),
			(int)AP_SIM_STEP_DONE);
	KUNIT_EXPECT_EQ(test, t->g.gpr[3], 7);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_DATA + PAGE_SIZE + 2);

	/* In 64-bit mode addresses wrap around at the end, where there is nothing. */
	t->g.gpr[5] = -4UL;
	EXPECT_STEP(test, FAULT, 0xe330, 0x5000, 0x0004);
	KUNIT_EXPECT_EQ(test, t->g.fault_addr, -4UL);
}

/* Nothing changes, not even the part for which there is storage. */
static void fault_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u64 hole = TEST_HOLE * PAGE_SIZE;
	struct ap_sim_guest before;

	t->g.gpr[3] = 0x0102030405060708;
	t->g.gpr[5] = hole - 4;
	before = t->g;
	EXPECT_STEP(test, FAULT, 0xe330, 0x5000, 0x0024);	/* STG */
	KUNIT_EXPECT_EQ(test, t->g.fault_addr, hole);
	KUNIT_EXPECT_TRUE(test, t->g.fault_write);
	KUNIT_EXPECT_EQ(test, *(u32 *)(t->mem + hole - 4), 0);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE);
	KUNIT_EXPECT_EQ(test, memcmp(before.gpr, t->g.gpr, sizeof(before.gpr)), 0);

	EXPECT_STEP(test, FAULT, 0xeb0f, 0x5000, 0x0004);	/* LMG */
	KUNIT_EXPECT_FALSE(test, t->g.fault_write);
	KUNIT_EXPECT_EQ(test, memcmp(before.gpr, t->g.gpr, sizeof(before.gpr)), 0);
	EXPECT_STEP(test, FAULT, 0xd207, 0x5000, 0x5000);	/* MVC */
	EXPECT_STEP(test, FAULT, 0xd507, 0x5000, 0x5000);	/* CLC */
	EXPECT_STEP(test, FAULT, 0xd700, 0x5004, 0x5000);	/* XC */
	EXPECT_STEP(test, FAULT, 0x9601, 0x5004, 0);		/* OI */
	EXPECT_STEP(test, FAULT, 0x9501, 0x5004, 0);		/* CLI */
	EXPECT_STEP(test, FAULT, 0x9101, 0x5004, 0);		/* TM */
	EXPECT_STEP(test, FAULT, 0xb2b2, 0x5004, 0);		/* LPSWE */
	EXPECT_STEP(test, FAULT, 0x5a30, 0x5004, 0);		/* A */
	EXPECT_CC(test, 0);

	/* What may be read only */
	t->readonly = true;
	t->g.gpr[5] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0xe330, 0x5000, 0x0004);
	EXPECT_STEP(test, FAULT, 0xe330, 0x5000, 0x0024);
	KUNIT_EXPECT_EQ(test, t->g.fault_addr, TEST_DATA);
	KUNIT_EXPECT_TRUE(test, t->g.fault_write);
	EXPECT_STEP(test, FAULT, 0xad00, 0x5000, 0);		/* STOSM */
	KUNIT_EXPECT_EQ(test, t->g.psw.mask, TEST_PSW);
	t->readonly = false;

	/* The instruction itself: its beginning, and its end */
	t->g.psw.addr = hole;
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_step(&t->g), (int)AP_SIM_STEP_FAULT);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, hole);
	t->g.psw.addr = hole - 2;
	*(u16 *)(t->mem + hole - 2) = 0xa739;
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_step(&t->g), (int)AP_SIM_STEP_FAULT);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, hole - 2);
	KUNIT_EXPECT_EQ(test, t->g.fault_addr, hole);
}

static void prefix_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	t->mem[0x123] = 1;
	t->mem[TEST_DATA + 0x123] = 2;
	t->g.prefix = TEST_DATA;
	/* The code is in the area that changes places, too. */
	memcpy(t->mem + TEST_DATA + TEST_CODE, "\x95\x02\x01\x23", 4);
	t->g.psw.addr = TEST_CODE;
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_step(&t->g), (int)AP_SIM_STEP_DONE);
	EXPECT_CC(test, 0);
	memcpy(t->mem + TEST_DATA + TEST_CODE, "\x95\x01\x51\x23", 4);
	t->g.gpr[5] = TEST_DATA;
	t->g.psw.addr = TEST_CODE;
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_step(&t->g), (int)AP_SIM_STEP_DONE);
	EXPECT_CC(test, 0);
}

static void control_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u64 *data = (u64 *)(t->mem + TEST_DATA);

	t->g.gpr[5] = TEST_DATA;
	data[0] = 6;
	data[1] = 7;
	EXPECT_STEP(test, DONE, 0xeb67, 0x5000, 0x002f);	/* LCTLG */
	KUNIT_EXPECT_EQ(test, t->cr[6], 6);
	KUNIT_EXPECT_EQ(test, t->cr[7], 7);
	EXPECT_STEP(test, DONE, 0xeb66, 0x5010, 0x0025);	/* STCTG */
	KUNIT_EXPECT_EQ(test, data[2], 6);
	EXPECT_STEP(test, PROGRAM, 0xeb66, 0x5004, 0x002f);
	KUNIT_EXPECT_EQ(test, t->g.pgm_code, PGM_SPECIFICATION);

	/* The host wants to know of control register 6. */
	t->g.lctl = 0x0200;
	t->cr[6] = 0;
	EXPECT_STEP(test, INTERCEPT, 0xeb57, 0x5000, 0x002f);
	KUNIT_EXPECT_EQ(test, t->g.ipa, 0xeb57);
	KUNIT_EXPECT_EQ(test, t->g.ipb, 0x5000002f);
	KUNIT_EXPECT_EQ(test, t->cr[6], 0);
	EXPECT_STEP(test, DONE, 0xeb77, 0x5000, 0x002f);
	t->g.ictl_stctl = true;
	EXPECT_STEP(test, INTERCEPT, 0xeb66, 0x5010, 0x0025);
}

static void load_psw_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u64 *data = (u64 *)(t->mem + TEST_DATA);

	t->g.gpr[5] = TEST_DATA;
	data[0] = TEST_PSW | PSW_MASK_WAIT | PSW_MASK_IO;
	data[1] = 0x123456;
	EXPECT_STEP(test, DONE, 0xb2b2, 0x5000, 0);		/* LPSWE */
	KUNIT_EXPECT_EQ(test, t->g.psw.mask, data[0]);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, data[1]);
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_step(&t->g), (int)AP_SIM_STEP_WAIT);

	t->g.psw.mask = TEST_PSW;
	data[0] = 0x020a000080123456;
	EXPECT_STEP(test, DONE, 0x8200, 0x5000, 0);		/* LPSW */
	KUNIT_EXPECT_EQ(test, t->g.psw.mask, 0x0202000080000000);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, 0x123456);

	t->g.psw.mask = TEST_PSW;
	data[0] = 0x0202000080123456;
	EXPECT_STEP(test, PROGRAM, 0x8200, 0x5000, 0);
	KUNIT_EXPECT_EQ(test, t->g.pgm_code, PGM_SPECIFICATION);
	t->g.ictl_lpsw = true;
	EXPECT_STEP(test, INTERCEPT, 0x8200, 0x5000, 0);
	EXPECT_STEP(test, INTERCEPT, 0xb2b2, 0x5000, 0);
}

static void bad_psw_test(struct kunit *test)
{
	static const psw_t bad[] = {
		{ TEST_PSW, 0x1001 },
		{ TEST_PSW | 1UL << 63, 0x1000 },
		{ TEST_PSW | PSW_MASK_DAT, 0x1000 },
		{ PSW_MASK_EA, 0x1000 },
		{ PSW_MASK_BA, 0x80001000 },
		{ 0, 0x1001000 },
	};
	struct interp_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		t->g.psw = bad[i];
		KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_step(&t->g),
				(int)AP_SIM_STEP_PROGRAM);
		KUNIT_EXPECT_EQ(test, t->g.pgm_code, PGM_SPECIFICATION);
		KUNIT_EXPECT_EQ(test, t->g.ilen, 0);
		KUNIT_EXPECT_EQ(test, t->g.psw.addr, bad[i].addr);
	}
}

static void system_mask_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u8 *byte = t->mem + TEST_DATA;

	t->g.gpr[5] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0xad03, 0x5000, 0);		/* STOSM */
	KUNIT_EXPECT_EQ(test, *byte, 0);
	KUNIT_EXPECT_EQ(test, t->g.psw.mask, TEST_PSW | PSW_MASK_IO | PSW_MASK_EXT);
	EXPECT_STEP(test, DONE, 0xac01, 0x5000, 0);		/* STNSM */
	KUNIT_EXPECT_EQ(test, *byte, 3);
	KUNIT_EXPECT_EQ(test, t->g.psw.mask, TEST_PSW | PSW_MASK_EXT);
	*byte = 2;
	EXPECT_STEP(test, DONE, 0x8000, 0x5000, 0);		/* SSM */
	KUNIT_EXPECT_EQ(test, t->g.psw.mask, TEST_PSW | PSW_MASK_IO);
}

static void intercept_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	EXPECT_STEP(test, INTERCEPT, 0x8324, 0x0500, 0);	/* DIAG */
	KUNIT_EXPECT_EQ(test, t->g.ipa, 0x8324);
	KUNIT_EXPECT_EQ(test, t->g.ipb, 0x05000000);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 4);
	EXPECT_STEP(test, INTERCEPT, 0xae24, 0x5006, 0);	/* SIGP */
	EXPECT_STEP(test, INTERCEPT, 0xb210, 0x5000, 0);	/* SPX */
	EXPECT_STEP(test, INTERCEPT, 0xb220, 0x0012, 0);	/* SERVC */

	EXPECT_STEP(test, DONE, 0xb2ad, 0x0024, 0);		/* NQAP */
	KUNIT_EXPECT_EQ(test, ap_insn, 0xb2ad0024);
	EXPECT_CC(test, 3);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 4);
	ap_step = AP_SIM_STEP_INTERCEPT;
	EXPECT_STEP(test, INTERCEPT, 0xb2af, 0x0000, 0);	/* PQAP */
	KUNIT_EXPECT_EQ(test, t->g.ipa, 0xb2af);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 4);
	ap_step = AP_SIM_STEP_FAULT;
	EXPECT_STEP(test, FAULT, 0xb2ae, 0x0024, 0);		/* DQAP */
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE);
}

static void problem_state_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	t->g.psw.mask |= PSW_MASK_PSTATE;
	t->g.gpr[5] = TEST_DATA;
	EXPECT_STEP(test, DONE, 0xa739, 0x0001, 0);
	ap_insn = 0;
	EXPECT_STEP(test, PROGRAM, 0xb2af, 0x0000, 0);
	KUNIT_EXPECT_EQ(test, t->g.pgm_code, PGM_PRIVILEGED_OP);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 4);
	KUNIT_EXPECT_EQ(test, ap_insn, 0);
	EXPECT_STEP(test, PROGRAM, 0x8324, 0x0500, 0);
	EXPECT_STEP(test, PROGRAM, 0xb2b2, 0x5000, 0);
	EXPECT_STEP(test, PROGRAM, 0xeb66, 0x5000, 0x002f);
	EXPECT_STEP(test, PROGRAM, 0xad03, 0x5000, 0);
}

static void unknown_test(struct kunit *test)
{
	struct interp_test *t = test->priv;

	EXPECT_STEP(test, OPERATION, 0x0000, 0, 0);
	KUNIT_EXPECT_EQ(test, t->g.ipa, 0);
	KUNIT_EXPECT_EQ(test, t->g.ilen, 2);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 2);
	EXPECT_STEP(test, OPERATION, 0xb2ff, 0x1234, 0);
	KUNIT_EXPECT_EQ(test, t->g.ipa, 0xb2ff);
	KUNIT_EXPECT_EQ(test, t->g.ipb, 0x12340000);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 4);
	EXPECT_STEP(test, OPERATION, 0xe312, 0x3456, 0x78ff);
	KUNIT_EXPECT_EQ(test, t->g.ipb, 0x345678ff);
	KUNIT_EXPECT_EQ(test, t->g.psw.addr, TEST_CODE + 6);
	/* in the problem state, too */
	t->g.psw.mask |= PSW_MASK_PSTATE;
	EXPECT_STEP(test, OPERATION, 0x0000, 0, 0);
}

static void copy_test(struct kunit *test)
{
	struct interp_test *t = test->priv;
	u8 *buf = kunit_kzalloc(test, 2 * PAGE_SIZE, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, buf);
	memset(t->mem + TEST_CODE + 1, 0x5a, 2 * PAGE_SIZE);
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_copy(&t->g, TEST_CODE + 1, buf,
						      2 * PAGE_SIZE, false),
			(int)AP_SIM_STEP_DONE);
	KUNIT_EXPECT_NULL(test, memchr_inv(buf, 0x5a, 2 * PAGE_SIZE));
	memset(buf, 0xa5, 2 * PAGE_SIZE);
	/* into the hole: nothing */
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_copy(&t->g, TEST_DATA + 1, buf,
						      2 * PAGE_SIZE, true),
			(int)AP_SIM_STEP_FAULT);
	KUNIT_EXPECT_EQ(test, t->g.fault_addr, TEST_HOLE * PAGE_SIZE);
	KUNIT_EXPECT_NULL(test, memchr(t->mem, 0xa5, sizeof(t->mem)));
	KUNIT_EXPECT_EQ(test, (int)ap_sim_interp_copy(&t->g, TEST_DATA, buf,
						      2 * PAGE_SIZE, true),
			(int)AP_SIM_STEP_DONE);
	KUNIT_EXPECT_NULL(test, memchr_inv(t->mem + TEST_DATA, 0xa5,
					   2 * PAGE_SIZE));
}

static struct kunit_case interp_test_cases[] = {
	KUNIT_CASE(table_test),
	KUNIT_CASE(add_sub_test),
	KUNIT_CASE(add_sub_32_test),
	KUNIT_CASE(overflow_exception_test),
	KUNIT_CASE(bits_test),
	KUNIT_CASE(compare_test),
	KUNIT_CASE(load_test),
	KUNIT_CASE(immediate_test),
	KUNIT_CASE(test_mask_test),
	KUNIT_CASE(shift_test),
	KUNIT_CASE(storage_test),
	KUNIT_CASE(byte_test),
	KUNIT_CASE(multiple_test),
	KUNIT_CASE(chars_test),
	KUNIT_CASE(branch_test),
	KUNIT_CASE(address_test),
	KUNIT_CASE(page_crossing_test),
	KUNIT_CASE(fault_test),
	KUNIT_CASE(prefix_test),
	KUNIT_CASE(control_test),
	KUNIT_CASE(load_psw_test),
	KUNIT_CASE(bad_psw_test),
	KUNIT_CASE(system_mask_test),
	KUNIT_CASE(intercept_test),
	KUNIT_CASE(problem_state_test),
	KUNIT_CASE(unknown_test),
	KUNIT_CASE(copy_test),
	{}
};

static struct kunit_suite interp_test_suite = {
	.name = "ap_sim_interp",
	.init = interp_test_init,
	.test_cases = interp_test_cases,
};

kunit_test_suite(interp_test_suite);

MODULE_DESCRIPTION("KUnit tests of the AP simulator's interpreter");
MODULE_LICENSE("GPL");
