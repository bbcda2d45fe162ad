// SPDX-License-Identifier: GPL-2.0+
/*
 * KUnit tests of the vfio-ap migration stream
 */

#include <kunit/test.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "../vfio_ap_stream.c"
#include "vfio_ap_stream_golden.h"
#include "vfio_ap_stream_whole.h"

#define HEADER_BYTES	sizeof(struct vfio_ap_stream_header)
#define RECORD_BYTES	sizeof(struct vfio_ap_stream_record)
#define CONFIG_BYTES	sizeof(struct vfio_ap_stream_config)
#define HWINFO_BYTES	sizeof(struct vfio_ap_stream_hwinfo)
#define IRQ_BYTES	sizeof(struct vfio_ap_stream_irq)

/* Hardware information of the adapters in the golden streams */
#define INFO_CCA	0x920000000e540007ULL
#define INFO_EP11	0x860100000e540a07ULL
#define INFO_ACCEL	0xea0000000b0f001fULL

#define ADAPTER(id, hwinfo)	{ .apid = cpu_to_be16(id), .info = cpu_to_be64(hwinfo) }

/* A row of domain 04 */
#define IRQ_ROW(id, subclass, address) {				\
	.apid = cpu_to_be16(id),					\
	.isc = subclass,						\
	.nib = cpu_to_be64(address),					\
	.domains = { 0x08 },						\
}

/**
 * struct golden - a stream and its content
 * @name:	shown in the test's name
 * @data:	the stream
 * @len:	bytes of @data
 * @same:	this version's encoder writes the same stream, not only the same image
 * @nr:		number of adapters
 * @adapter:	the adapters
 */
struct golden {
	const char *name;
	const u8 *data;
	size_t len;
	bool same;
	unsigned int nr;
	struct vfio_ap_stream_hwinfo adapter[3];
};

static const struct golden goldens[] = {
	{
		.name = "none",
		.data = vfio_ap_golden_none,
		.len = sizeof(vfio_ap_golden_none),
		.same = true,
	}, {
		.name = "one",
		.data = vfio_ap_golden_one,
		.len = sizeof(vfio_ap_golden_one),
		.same = true,
		.nr = 1,
		.adapter = { ADAPTER(5, INFO_CCA) },
	}, {
		.name = "three",
		.data = vfio_ap_golden_three,
		.len = sizeof(vfio_ap_golden_three),
		.same = true,
		.nr = 3,
		.adapter = {
			ADAPTER(0, INFO_ACCEL), ADAPTER(5, INFO_CCA), ADAPTER(255, INFO_EP11),
		},
	}, {
		.name = "interrupts",
		.data = vfio_ap_golden_interrupts,
		.len = sizeof(vfio_ap_golden_interrupts),
		.nr = 3,
		.adapter = {
			ADAPTER(0, INFO_ACCEL), ADAPTER(5, INFO_CCA), ADAPTER(255, INFO_EP11),
		},
	}, {
		.name = "optional",
		.data = vfio_ap_golden_optional,
		.len = sizeof(vfio_ap_golden_optional),
		.nr = 1,
		.adapter = { ADAPTER(5, INFO_CCA) },
	},
};

KUNIT_ARRAY_PARAM_DESC(golden, goldens, name);

/**
 * struct stream_test - the data of each test case
 * @dec:	a decoder
 * @image:	an image to encode or to compare
 * @buf:	a stream that is being built
 * @len:	bytes of @buf that are in use
 * @size:	bytes of @buf
 * @events:	bit for each event that the decoder reported
 */
struct stream_test {
	struct vfio_ap_stream_decoder dec;
	struct vfio_ap_stream_image image;
	u8 *buf;
	size_t len;
	size_t size;
	unsigned long events;
};

static int stream_test_init(struct kunit *test)
{
	struct stream_test *t;

	t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t);
	t->size = SZ_256K;
	t->buf = kunit_kzalloc(test, t->size, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, t->buf);
	test->priv = t;

	return 0;
}

static void decode_init(struct stream_test *t)
{
	memset(&t->dec, 0, sizeof(t->dec));
	t->events = 0;
}

/* The decoder's error, else -ENODATA unless the stream is complete. */
static int decode_result(struct stream_test *t)
{
	if (t->dec.error)
		return t->dec.error;

	return t->dec.state == VFIO_AP_LOAD_DONE ? 0 : -ENODATA;
}

/* Decode in chunks; the first error, else whether the stream is complete. */
static int decode_chunks(struct stream_test *t, const u8 *data, size_t len,
			 size_t chunk)
{
	enum vfio_ap_stream_event event;
	ssize_t used;
	size_t done;

	decode_init(t);
	for (done = 0; done < len; done += used) {
		used = vfio_ap_stream_decode(&t->dec, data + done,
					     min(chunk, len - done), &event);
		if (used < 0)
			return used;
		t->events |= BIT(event);
	}

	return decode_result(t);
}

static int decode(struct stream_test *t)
{
	return decode_chunks(t, t->buf, t->len, t->len);
}

static void put(struct stream_test *t, const void *data, size_t len)
{
	if (WARN_ON(len > t->size - t->len))
		return;
	memcpy(t->buf + t->len, data, len);
	t->len += len;
}

static void put_zero(struct stream_test *t, size_t len)
{
	if (WARN_ON(len > t->size - t->len))
		return;
	memset(t->buf + t->len, 0, len);
	t->len += len;
}

static void put_header(struct stream_test *t, u16 version, u16 reserved)
{
	struct vfio_ap_stream_header header = {
		.magic = VFIO_AP_STREAM_MAGIC,
		.version = cpu_to_be16(version),
		.reserved = cpu_to_be16(reserved),
	};

	t->len = 0;
	put(t, &header, sizeof(header));
}

static void put_record(struct stream_test *t, u16 type, u16 flags, u32 len)
{
	struct vfio_ap_stream_record rec = {
		.type = cpu_to_be16(type),
		.flags = cpu_to_be16(flags),
		.len = cpu_to_be32(len),
	};

	put(t, &rec, sizeof(rec));
}

/* CONFIG of the adapters 05 and 06, as many as @nr */
static void put_config(struct stream_test *t, unsigned int nr)
{
	struct vfio_ap_stream_config config = {
		.apm = { (u8)(nr == 2 ? 0x06 : nr == 1 ? 0x04 : 0) },
		.aqm = { 0x08 },
		.adm = { 0x08 },
	};

	put_record(t, VFIO_AP_STREAM_CONFIG, 1, sizeof(config));
	put(t, &config, sizeof(config));
}

static void put_row(struct stream_test *t, u16 apid, u16 reserved0,
		    u32 reserved1, u64 info)
{
	struct vfio_ap_stream_hwinfo row = {
		.apid = cpu_to_be16(apid),
		.reserved0 = cpu_to_be16(reserved0),
		.reserved1 = cpu_to_be32(reserved1),
		.info = cpu_to_be64(info),
	};

	put(t, &row, sizeof(row));
}

static void put_hwinfo(struct stream_test *t, unsigned int nr)
{
	unsigned int i;

	put_record(t, VFIO_AP_STREAM_HWINFO, 1, nr * HWINFO_BYTES);
	for (i = 0; i < nr; i++)
		put_row(t, 5 + i, 0, 0, INFO_CCA);
}

static void put_end(struct stream_test *t)
{
	put_record(t, VFIO_AP_STREAM_END, 1, 0);
}

static void put_good_header(struct stream_test *t)
{
	put_header(t, 1, 0);
}

static void put_good(struct stream_test *t)
{
	put_good_header(t);
	put_config(t, 2);
	put_hwinfo(t, 2);
	put_end(t);
}

static void expect_golden(struct kunit *test, const struct golden *golden,
			  const struct vfio_ap_stream_image *image)
{
	unsigned int i, apid;

	KUNIT_ASSERT_EQ(test, image->nr, golden->nr);
	for (i = 0; i < golden->nr; i++) {
		KUNIT_EXPECT_MEMEQ(test, &image->adapter[i], &golden->adapter[i],
				   HWINFO_BYTES);
		apid = be16_to_cpu(golden->adapter[i].apid);
		KUNIT_EXPECT_TRUE(test,
				  vfio_ap_stream_test_bit(image->config.apm, apid));
	}
	KUNIT_EXPECT_EQ(test, vfio_ap_stream_weight(image->config.apm), golden->nr);
}

static void golden_decode(struct kunit *test)
{
	const struct golden *golden = test->param_value;
	struct stream_test *t = test->priv;

	KUNIT_ASSERT_EQ(test, 0, decode_chunks(t, golden->data, golden->len,
					       golden->len));
	expect_golden(test, golden, &t->dec.image);
	KUNIT_EXPECT_TRUE(test, t->events & BIT(VFIO_AP_STREAM_GOT_CONFIG));
	KUNIT_EXPECT_TRUE(test, t->events & BIT(VFIO_AP_STREAM_GOT_HWINFO));
	KUNIT_EXPECT_TRUE(test, t->events & BIT(VFIO_AP_STREAM_GOT_END));
}

static void golden_encode(struct kunit *test)
{
	const struct golden *golden = test->param_value;
	struct stream_test *t = test->priv;
	size_t len;
	bool same;

	KUNIT_ASSERT_EQ(test, 0, decode_chunks(t, golden->data, golden->len,
					       golden->len));
	len = vfio_ap_stream_encode(&t->dec.image, t->buf);
	KUNIT_ASSERT_EQ(test, len, VFIO_AP_STREAM_BYTES(golden->nr));
	same = len == golden->len && !memcmp(t->buf, golden->data, len);
	KUNIT_EXPECT_EQ(test, golden->same, same);

	KUNIT_ASSERT_EQ(test, 0, decode_chunks(t, t->buf, len, len));
	expect_golden(test, golden, &t->dec.image);
}

/* Chunks of any size give the same result, down to single bytes. */
static void golden_any_chunking(struct kunit *test)
{
	const struct golden *golden = test->param_value;
	struct stream_test *t = test->priv;
	size_t chunk;

	for (chunk = 1; chunk <= golden->len; chunk++) {
		KUNIT_ASSERT_EQ_MSG(test, 0,
				    decode_chunks(t, golden->data, golden->len, chunk),
				    "chunks of %zu bytes", chunk);
		expect_golden(test, golden, &t->dec.image);
	}
}

static void golden_truncated(struct kunit *test)
{
	const struct golden *golden = test->param_value;
	struct stream_test *t = test->priv;
	size_t len;

	for (len = 0; len < golden->len; len++)
		KUNIT_ASSERT_EQ_MSG(test, -ENODATA,
				    decode_chunks(t, golden->data, len, golden->len),
				    "after %zu bytes", len);
}

static void golden_bytes_after_end(struct kunit *test)
{
	const struct golden *golden = test->param_value;
	struct stream_test *t = test->priv;

	t->len = 0;
	put(t, golden->data, golden->len);
	put_zero(t, 1);
	KUNIT_EXPECT_EQ(test, -EINVAL, decode(t));
	KUNIT_EXPECT_EQ(test, -EINVAL, decode_chunks(t, t->buf, t->len, 1));
}

static void encode_sizes(struct kunit *test)
{
	struct stream_test *t = test->priv;
	unsigned int i;
	size_t len;

	memset(&t->image.config, 0xff, sizeof(t->image.config));
	t->image.nr = VFIO_AP_STREAM_MAX_ADAPTERS;
	for (i = 0; i < t->image.nr; i++)
		t->image.adapter[i].apid = cpu_to_be16(i);

	/* 256 adapters with 256 domains each */
	len = vfio_ap_stream_encode(&t->image, t->buf);
	KUNIT_EXPECT_EQ(test, len, VFIO_AP_STREAM_BUF_BYTES);
	KUNIT_EXPECT_LT(test, len, 24 * 1024);
	t->len = len;
	KUNIT_EXPECT_EQ(test, 0, decode(t));
	KUNIT_EXPECT_MEMEQ(test, &t->dec.image, &t->image, sizeof(t->image));

	/* 60 adapters */
	KUNIT_EXPECT_LT(test, VFIO_AP_STREAM_BYTES(60), 6 * 1024);
}

/**
 * struct header_case - a header and the decoder's result
 * @name:	shown in the test's name
 * @version:	version
 * @reserved:	reserved field
 * @ret:	0 or a negative errno
 */
struct header_case {
	const char *name;
	u16 version;
	u16 reserved;
	int ret;
};

static const struct header_case header_cases[] = {
	{ "ours", 1, 0, 0 },
	{ "newer", 2, 0, -EOPNOTSUPP },
	{ "older", 0, 0, -EOPNOTSUPP },
	{ "newest", 0xffff, 0, -EOPNOTSUPP },
	{ "newer_reserved", 2, 1, -EOPNOTSUPP },
	{ "reserved", 1, 1, -EINVAL },
	{ "reserved_high", 1, 0x8000, -EINVAL },
};

KUNIT_ARRAY_PARAM_DESC(header, header_cases, name);

static void header_rules(struct kunit *test)
{
	const struct header_case *c = test->param_value;
	struct stream_test *t = test->priv;

	put_header(t, c->version, c->reserved);
	put_config(t, 2);
	put_hwinfo(t, 2);
	put_end(t);
	KUNIT_EXPECT_EQ(test, c->ret, decode(t));
	KUNIT_EXPECT_EQ(test, c->ret, decode_chunks(t, t->buf, t->len, 1));
}

static void header_magic(struct kunit *test)
{
	struct stream_test *t = test->priv;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		put_good(t);
		t->buf[i] ^= 0x20;
		KUNIT_EXPECT_EQ(test, -EINVAL, decode(t));
	}
}

/* Records that come where, as often or as long as they must not. */
static void record_order(struct kunit *test)
{
	struct stream_test *t = test->priv;

	put_good_header(t);
	put_hwinfo(t, 2);
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "HWINFO first");

	put_good_header(t);
	put_end(t);
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "END first");

	put_good_header(t);
	put_config(t, 2);
	put_config(t, 2);
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "CONFIG twice");

	put_good_header(t);
	put_config(t, 2);
	put_end(t);
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "no HWINFO");

	put_good_header(t);
	put_config(t, 2);
	put_hwinfo(t, 2);
	put_hwinfo(t, 2);
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "HWINFO twice");

	put_good_header(t);
	put_config(t, 2);
	put_hwinfo(t, 2);
	put_config(t, 2);
	put_hwinfo(t, 2);
	put_end(t);
	KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "CONFIG and HWINFO twice");
}

static void put_any(struct stream_test *t, char what)
{
	switch (what) {
	case 'C':
		put_config(t, 2);
		break;
	case 'H':
		put_hwinfo(t, 2);
		break;
	case 'E':
		put_end(t);
		break;
	default:
		put_record(t, 0x1234, 0, 8);
		put_zero(t, 8);
	}
}

/* By the format: CONFIG, HWINFO, END, once each. */
static int judge_sequence(const char *records)
{
	char last = 0;

	for (; *records; records++) {
		if (last == 'E')
			return -EINVAL;
		if (*records == 'U')
			continue;
		if (last != (*records == 'C' ? 0 : *records == 'H' ? 'C' : 'H'))
			return -EINVAL;
		last = *records;
	}

	return last == 'E' ? 0 : -ENODATA;
}

/* Every sequence of up to five records; U is unknown. */
static void record_sequences(struct kunit *test)
{
	static const char kinds[] = "CHEU";
	struct stream_test *t = test->priv;
	char records[6] = {};
	unsigned int nr, i, len;

	for (len = 0; len < sizeof(records); len++) {
		for (nr = 0; nr < 1 << (2 * len); nr++) {
			put_good_header(t);
			for (i = 0; i < len; i++) {
				records[i] = kinds[nr >> (2 * i) & 3];
				put_any(t, records[i]);
			}
			KUNIT_ASSERT_EQ_MSG(test, judge_sequence(records),
					    decode(t), "%s", records);
		}
	}
}

/**
 * struct length_case - the head of a record and the result of the decoder
 * @name:	shown in the test's name
 * @type:	type of the record, put where that type is expected
 * @flags:	its flags
 * @len:	its payload length
 * @ret:	the decoder's answer to the head alone
 */
struct length_case {
	const char *name;
	u16 type;
	u16 flags;
	u32 len;
	int ret;
};

static const struct length_case length_cases[] = {
	{ "config_short", VFIO_AP_STREAM_CONFIG, 1, 88, -EINVAL },
	{ "config_long", VFIO_AP_STREAM_CONFIG, 1, 104, -EINVAL },
	{ "config_empty", VFIO_AP_STREAM_CONFIG, 1, 0, -EINVAL },
	{ "config_huge", VFIO_AP_STREAM_CONFIG, 1, 0xfffffff8, -EINVAL },
	{ "config_odd", VFIO_AP_STREAM_CONFIG, 1, 97, -EINVAL },
	{ "config_flags", VFIO_AP_STREAM_CONFIG, 3, 96, -EINVAL },
	{ "config_optional", VFIO_AP_STREAM_CONFIG, 0, 96, -EINVAL },
	{ "hwinfo_short", VFIO_AP_STREAM_HWINFO, 1, 16, -EINVAL },
	{ "hwinfo_empty", VFIO_AP_STREAM_HWINFO, 1, 0, -EINVAL },
	{ "hwinfo_half_row", VFIO_AP_STREAM_HWINFO, 1, 40, -EINVAL },
	{ "hwinfo_long", VFIO_AP_STREAM_HWINFO, 1, 48, -EINVAL },
	{ "hwinfo_256_rows", VFIO_AP_STREAM_HWINFO, 1, 256 * 16, -EINVAL },
	{ "hwinfo_257_rows", VFIO_AP_STREAM_HWINFO, 1, 257 * 16, -EINVAL },
	{ "hwinfo_huge", VFIO_AP_STREAM_HWINFO, 1, 0xfffffff0, -EINVAL },
	{ "hwinfo_optional", VFIO_AP_STREAM_HWINFO, 0, 32, -EINVAL },
	{ "end", VFIO_AP_STREAM_END, 1, 0, 0 },
	{ "end_long", VFIO_AP_STREAM_END, 1, 8, -EINVAL },
	{ "end_optional", VFIO_AP_STREAM_END, 0, 0, -EINVAL },
	{ "irq_one_row", VFIO_AP_STREAM_IRQ, 1, 48, -ENODATA },
	{ "irq_empty", VFIO_AP_STREAM_IRQ, 1, 0, -EINVAL },
	{ "irq_half_row", VFIO_AP_STREAM_IRQ, 1, 72, -EINVAL },
	{ "irq_more_than_a_stream", VFIO_AP_STREAM_IRQ, 1, 87384 * 48, -EINVAL },
	{ "irq_huge", VFIO_AP_STREAM_IRQ, 1, 0xfffffff0, -EINVAL },
	{ "irq_optional", VFIO_AP_STREAM_IRQ, 0, 48, -EINVAL },
	{ "unknown_mandatory", 0x1234, 1, 8, -EOPNOTSUPP },
	{ "unknown_mandatory_huge", 0x1234, 1, 0xfffffff8, -EOPNOTSUPP },
	{ "unknown_optional", 0x1234, 0, 4096, -ENODATA },
	{ "unknown_optional_long", 0x1234, 0, 4104, -EOPNOTSUPP },
	{ "unknown_optional_huge", 0x1234, 0, 0xfffffff8, -EOPNOTSUPP },
	{ "unknown_optional_flags", 0x1234, 2, 8, -EINVAL },
	{ "unknown_optional_odd", 0x1234, 0, 4, -EINVAL },
	{ "type_0", 0, 1, 8, -EOPNOTSUPP },
};

KUNIT_ARRAY_PARAM_DESC(length, length_cases, name);

static void record_lengths(struct kunit *test)
{
	const struct length_case *c = test->param_value;
	struct stream_test *t = test->priv;

	put_good_header(t);
	if (c->type == VFIO_AP_STREAM_HWINFO || c->type == VFIO_AP_STREAM_IRQ ||
	    c->type == VFIO_AP_STREAM_END)
		put_config(t, 2);
	if (c->type == VFIO_AP_STREAM_IRQ || c->type == VFIO_AP_STREAM_END)
		put_hwinfo(t, 2);
	put_record(t, c->type, c->flags, c->len);
	KUNIT_EXPECT_EQ(test, c->ret, decode(t));
	KUNIT_EXPECT_EQ(test, c->ret, decode_chunks(t, t->buf, t->len, 1));
}

static void optional_records_are_skipped(struct kunit *test)
{
	struct stream_test *t = test->priv;
	unsigned int i;

	put_good_header(t);
	put_record(t, 0x1234, 0, 8);
	put_zero(t, 8);
	put_config(t, 2);
	put_record(t, 0x1235, 0, 0);
	put_hwinfo(t, 2);
	for (i = 0; i < 15; i++) {
		put_record(t, 0x1236, 0, 4096);
		put_zero(t, 4096);
	}
	put_record(t, 0x1236, 0, 4088);
	put_zero(t, 4088);
	put_end(t);
	KUNIT_EXPECT_EQ(test, 0, decode(t));
	KUNIT_EXPECT_EQ(test, 0, decode_chunks(t, t->buf, t->len, 13));

	/* That was 64 KiB in all; eight bytes more are too many. */
	put_good_header(t);
	for (i = 0; i < 16; i++) {
		put_record(t, 0x1236, 0, 4096);
		put_zero(t, 4096);
	}
	KUNIT_EXPECT_EQ(test, -ENODATA, decode(t));
	put_record(t, 0x1236, 0, 8);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, decode(t));
}

/* Empty optional records cost nothing but are bytes of a stream, too. */
static void stream_too_long(struct kunit *test)
{
	struct stream_test *t = test->priv;
	enum vfio_ap_stream_event event;
	struct vfio_ap_stream_record rec = { .type = cpu_to_be16(0x1234) };
	ssize_t ret = 0;
	u32 done;

	put_good_header(t);
	decode_init(t);
	vfio_ap_stream_decode(&t->dec, t->buf, t->len, &event);
	for (done = t->len; done < VFIO_AP_STREAM_MAX_BYTES; done += ret) {
		ret = vfio_ap_stream_decode(&t->dec, (u8 *)&rec, sizeof(rec),
					    &event);
		KUNIT_ASSERT_EQ(test, ret, sizeof(rec));
	}
	KUNIT_EXPECT_EQ(test, -EINVAL,
			vfio_ap_stream_decode(&t->dec, (u8 *)&rec, 1, &event));
}

static void put_irq(struct stream_test *t, const struct vfio_ap_stream_irq *irq)
{
	put(t, irq, sizeof(*irq));
}

/**
 * struct irq_case - the second of two rows and the result of the decoder
 * @name:	shown in the test's name
 * @apid:	adapter number; the first row has 05
 * @isc:	ISC; the first row has 3
 * @nib:	address; the first row has 1000
 * @domain:	domain; the first row has 04, as CONFIG has, and no other
 * @ret:	the decoder's answer
 */
struct irq_case {
	const char *name;
	u16 apid;
	u8 isc;
	u64 nib;
	int domain;
	int ret;
};

static const struct irq_case irq_cases[] = {
	{ "good", 6, 3, 0x1000, 4, 0 },
	{ "lower_isc_of_another_adapter", 6, 0, 1, 4, 0 },
	{ "highest_isc", 6, 7, U64_MAX, 4, 0 },
	{ "twice", 5, 3, 0x1000, 4, -EINVAL },
	{ "queue_twice_by_isc", 5, 4, 0x1000, 4, -EINVAL },
	{ "queue_twice_by_nib", 5, 3, 0x1001, 4, -EINVAL },
	{ "descending_adapter", 4, 3, 0x1000, 4, -EINVAL },
	{ "descending_isc", 5, 2, 0x1000, 4, -EINVAL },
	{ "descending_nib", 5, 3, 0xfff, 4, -EINVAL },
	{ "not_in_mask", 7, 3, 0x1000, 4, -EINVAL },
	{ "beyond_mask", 256, 3, 0x1000, 4, -EINVAL },
	{ "isc_8", 6, 8, 0x1000, 4, -EINVAL },
	{ "isc_255", 6, 255, 0x1000, 4, -EINVAL },
	{ "no_nib", 6, 3, 0, 4, -EINVAL },
	{ "domain_not_in_mask", 6, 3, 0x1000, 5, -EINVAL },
	{ "no_domain", 6, 3, 0x1000, -1, -EINVAL },
};

KUNIT_ARRAY_PARAM_DESC(irq, irq_cases, name);

/* In one record or in two: it makes no difference. */
static void irq_rows(struct kunit *test)
{
	struct vfio_ap_stream_irq first = IRQ_ROW(5, 3, 0x1000);
	const struct irq_case *c = test->param_value;
	struct vfio_ap_stream_irq second = IRQ_ROW(c->apid, c->isc, c->nib);
	struct stream_test *t = test->priv;
	unsigned int records;

	second.domains[0] = 0;
	if (c->domain >= 0)
		second.domains[c->domain / 8] = 0x80 >> (c->domain % 8);

	for (records = 1; records <= 2; records++) {
		put_good_header(t);
		put_config(t, 2);
		put_hwinfo(t, 2);
		put_record(t, VFIO_AP_STREAM_IRQ, 1, (3 - records) * IRQ_BYTES);
		put_irq(t, &first);
		if (records == 2)
			put_record(t, VFIO_AP_STREAM_IRQ, 1, IRQ_BYTES);
		put_irq(t, &second);
		put_end(t);
		KUNIT_EXPECT_EQ(test, c->ret, decode(t));
		KUNIT_EXPECT_EQ(test, c->ret, decode_chunks(t, t->buf, t->len, 1));
		KUNIT_EXPECT_TRUE(test, t->events & BIT(VFIO_AP_STREAM_GOT_IRQ));
		if (!c->ret)
			KUNIT_EXPECT_MEMEQ(test, &t->dec.irq, &second,
					   sizeof(second));
	}
}

static void irq_reserved_fields(struct kunit *test)
{
	struct stream_test *t = test->priv;
	struct vfio_ap_stream_irq irq = IRQ_ROW(5, 3, 0x1000);
	unsigned int at;
	size_t row;

	for (at = 3; at < 8; at++) {
		put_good_header(t);
		put_config(t, 2);
		put_hwinfo(t, 2);
		put_record(t, VFIO_AP_STREAM_IRQ, 1, IRQ_BYTES);
		row = t->len;
		put_irq(t, &irq);
		t->buf[row + at] = 1;
		put_end(t);
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "byte %u", at);
	}
}

/* Between HWINFO and END, and nowhere else */
static void irq_place(struct kunit *test)
{
	struct vfio_ap_stream_irq irq = IRQ_ROW(5, 3, 0x1000);
	struct stream_test *t = test->priv;
	unsigned int place;

	for (place = 0; place < 4; place++) {
		put_good_header(t);
		if (place > 0)
			put_config(t, 2);
		if (place > 1)
			put_hwinfo(t, 2);
		put_record(t, VFIO_AP_STREAM_IRQ, 1, IRQ_BYTES);
		put_irq(t, &irq);
		if (place == 2) {
			put_end(t);
			KUNIT_EXPECT_EQ(test, 0, decode(t));
			continue;
		}
		if (place == 3) {
			put_config(t, 2);
			put_end(t);
		}
		KUNIT_EXPECT_EQ_MSG(test, -EINVAL, decode(t), "place %u", place);
	}
}

/* As many rows as there are queues: each with a NIB of its own */
static void irq_each_queue(struct kunit *test)
{
	struct stream_test *t = test->priv;
	struct vfio_ap_stream_irq irq = { .isc = 3 };
	enum vfio_ap_stream_event event;
	unsigned int apid, domain;

	memset(&t->image.config, 0xff, sizeof(t->image.config));
	t->image.nr = VFIO_AP_STREAM_MAX_ADAPTERS;
	for (apid = 0; apid < t->image.nr; apid++)
		t->image.adapter[apid].apid = cpu_to_be16(apid);

	decode_init(t);
	t->len = vfio_ap_stream_encode_initial(&t->image, t->buf);
	put_record(t, VFIO_AP_STREAM_IRQ, 1, 65536 * IRQ_BYTES);
	vfio_ap_stream_decode(&t->dec, t->buf, HEADER_BYTES + RECORD_BYTES +
			      CONFIG_BYTES, &event);
	KUNIT_ASSERT_EQ(test, event, VFIO_AP_STREAM_GOT_CONFIG);
	vfio_ap_stream_decode(&t->dec, t->buf + HEADER_BYTES + RECORD_BYTES +
			      CONFIG_BYTES, 256 * HWINFO_BYTES + RECORD_BYTES, &event);
	KUNIT_ASSERT_EQ(test, event, VFIO_AP_STREAM_GOT_HWINFO);
	vfio_ap_stream_decode(&t->dec, t->buf + t->len - RECORD_BYTES,
			      RECORD_BYTES, &event);

	for (apid = 0; apid < 256; apid++) {
		irq.apid = cpu_to_be16(apid);
		for (domain = 0; domain < 256; domain++) {
			memset(irq.domains, 0, sizeof(irq.domains));
			irq.domains[domain / 8] = 0x80 >> (domain % 8);
			irq.nib = cpu_to_be64(0x1000 + domain);
			KUNIT_ASSERT_EQ(test, sizeof(irq),
					vfio_ap_stream_decode(&t->dec, (u8 *)&irq,
							      sizeof(irq), &event));
			KUNIT_ASSERT_EQ(test, event, VFIO_AP_STREAM_GOT_IRQ);
		}
	}
	t->len = 0;
	put_end(t);
	vfio_ap_stream_decode(&t->dec, t->buf, t->len, &event);
	KUNIT_EXPECT_EQ(test, event, VFIO_AP_STREAM_GOT_END);
	KUNIT_EXPECT_EQ(test, 0, decode_result(t));
}

/* The rows of the golden stream, written again */
static void irq_encode(struct kunit *test)
{
	struct stream_test *t = test->priv;
	const u8 *data = vfio_ap_golden_interrupts;
	size_t len = sizeof(vfio_ap_golden_interrupts), done;
	size_t initial = VFIO_AP_STREAM_INITIAL_BYTES(3);
	enum vfio_ap_stream_event event;
	unsigned int rows = 0;
	ssize_t used;

	decode_init(t);
	put(t, data, initial);
	for (done = 0; done < len; done += used) {
		used = vfio_ap_stream_decode(&t->dec, data + done, len - done, &event);
		KUNIT_ASSERT_GT(test, used, 0);
		if (event != VFIO_AP_STREAM_GOT_IRQ)
			continue;
		if (!(rows++ % 2))
			t->len = vfio_ap_stream_put_record(t->buf + t->len,
							   VFIO_AP_STREAM_IRQ,
							   2 * IRQ_BYTES) - t->buf;
		put_irq(t, &t->dec.irq);
	}
	KUNIT_EXPECT_EQ(test, rows, 4);
	KUNIT_EXPECT_EQ(test, t->len + VFIO_AP_STREAM_END_BYTES, len);
	KUNIT_EXPECT_MEMEQ(test, t->buf, data, t->len);

	/* A Linux guest on 60 adapters: one NIB */
	KUNIT_EXPECT_LT(test, VFIO_AP_STREAM_BYTES(60) + vfio_ap_stream_irq_bytes(60),
			6 * 1024);
	KUNIT_EXPECT_LT(test, VFIO_AP_STREAM_BYTES(256) + vfio_ap_stream_irq_bytes(256),
			24 * 1024);
}

/**
 * struct row_case - the second of two rows and the result of the decoder
 * @name:	shown in the test's name
 * @apid:	adapter number; the first row has 05
 * @reserved0:	first reserved field
 * @reserved1:	second reserved field
 * @info:	hardware information
 * @ret:	the decoder's answer
 */
struct row_case {
	const char *name;
	u16 apid;
	u16 reserved0;
	u32 reserved1;
	u64 info;
	int ret;
};

static const struct row_case row_cases[] = {
	{ "good", 6, 0, 0, INFO_EP11, 0 },
	{ "twice", 5, 0, 0, INFO_EP11, -EINVAL },
	{ "descending", 4, 0, 0, INFO_EP11, -EINVAL },
	{ "not_in_mask", 7, 0, 0, INFO_EP11, -EINVAL },
	{ "beyond_mask", 256, 0, 0, INFO_EP11, -EINVAL },
	{ "far_beyond_mask", 0xffff, 0, 0, INFO_EP11, -EINVAL },
	{ "reserved0", 6, 1, 0, INFO_EP11, -EINVAL },
	{ "reserved1", 6, 0, 1, INFO_EP11, -EINVAL },
	{ "bind_state", 6, 0, 0, INFO_EP11 | BIT_ULL(46), -EINVAL },
	{ "bits_of_no_field", 6, 0, 0, INFO_EP11 | BIT_ULL(5), -EINVAL },
};

KUNIT_ARRAY_PARAM_DESC(row, row_cases, name);

static void hwinfo_rows(struct kunit *test)
{
	const struct row_case *c = test->param_value;
	struct stream_test *t = test->priv;

	put_good_header(t);
	put_config(t, 2);
	put_record(t, VFIO_AP_STREAM_HWINFO, 1, 2 * HWINFO_BYTES);
	put_row(t, 5, 0, 0, INFO_CCA);
	put_row(t, c->apid, c->reserved0, c->reserved1, c->info);
	put_end(t);
	KUNIT_EXPECT_EQ(test, c->ret, decode(t));
	if (!c->ret)
		KUNIT_EXPECT_EQ(test, be64_to_cpu(t->dec.image.adapter[1].info),
				INFO_EP11);
}

static void errors_stick(struct kunit *test)
{
	struct stream_test *t = test->priv;
	enum vfio_ap_stream_event event;

	put_header(t, 2, 0);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP, decode(t));
	put_good(t);
	KUNIT_EXPECT_EQ(test, -EOPNOTSUPP,
			vfio_ap_stream_decode(&t->dec, t->buf, t->len, &event));
	KUNIT_EXPECT_EQ(test, event, VFIO_AP_STREAM_NEED_DATA);
}

/* The decoder reports each record before it reads the next one. */
static void events_come_in_time(struct kunit *test)
{
	struct stream_test *t = test->priv;
	enum vfio_ap_stream_event event;
	size_t config_end = HEADER_BYTES + RECORD_BYTES + CONFIG_BYTES;
	ssize_t used;

	put_good_header(t);
	put_config(t, 2);
	put_record(t, 0xffff, 0xffff, 1);

	decode_init(t);
	used = vfio_ap_stream_decode(&t->dec, t->buf, t->len, &event);
	KUNIT_EXPECT_EQ(test, used, config_end);
	KUNIT_EXPECT_EQ(test, event, VFIO_AP_STREAM_GOT_CONFIG);
	used = vfio_ap_stream_decode(&t->dec, t->buf + used, t->len - used, &event);
	KUNIT_EXPECT_EQ(test, used, -EINVAL);
}

/**
 * struct diff_log - the differences that a comparison reported
 * @nr:		number of differences
 * @last:	text of the last one
 */
struct diff_log {
	unsigned int nr;
	char last[VFIO_AP_STREAM_DIFF_CHARS];
};

static void log_diff(void *ctx, const char *text)
{
	struct diff_log *log = ctx;

	log->nr++;
	strscpy(log->last, text);
}

/**
 * struct compare_case - two values of an adapter's information
 * @name:	shown in the test's name
 * @source:	information at the source
 * @local:	information at the destination
 * @line:	text of the difference; NULL if there is none
 */
struct compare_case {
	const char *name;
	u64 source;
	u64 local;
	const char *line;
};

static const struct compare_case compare_cases[] = {
	{ "equal", INFO_CCA, INFO_CCA, NULL },
	{ "type_newer", INFO_CCA - BIT_ULL(24), INFO_CCA,
	  "adapter 05: type 13 on the source, 14 here" },
	{ "type_older", INFO_CCA, INFO_CCA - BIT_ULL(24),
	  "adapter 05: type 14 on the source, 13 here" },
	{ "mode_ep11", INFO_CCA, INFO_CCA ^ (5ULL << 58),
	  "adapter 05: mode cca on the source, ep11 here" },
	{ "mode_accel", INFO_CCA ^ (6ULL << 58), INFO_CCA,
	  "adapter 05: mode accel on the source, cca here" },
	{ "mode_none", INFO_CCA, INFO_CCA & ~(7ULL << 58),
	  "adapter 05: mode cca on the source, unknown here" },
	{ "apsc", INFO_CCA, INFO_CCA & ~BIT_ULL(63),
	  "adapter 05: facilities 0x82 on the source, 0x02 here" },
	{ "mex4k", INFO_CCA, INFO_CCA | BIT_ULL(62),
	  "adapter 05: facilities 0x82 on the source, 0xc2 here" },
	{ "crt4k", INFO_CCA, INFO_CCA | BIT_ULL(61),
	  "adapter 05: facilities 0x82 on the source, 0xa2 here" },
	{ "apxa", INFO_CCA, INFO_CCA & ~BIT_ULL(57),
	  "adapter 05: facilities 0x82 on the source, 0x80 here" },
	{ "slcf", INFO_CCA, INFO_CCA | BIT_ULL(56),
	  "adapter 05: facilities 0x82 on the source, 0x83 here" },
	{ "class_larger", INFO_CCA, INFO_CCA | BIT_ULL(48),
	  "adapter 05: class 0x00 on the source, 0x01 here" },
	{ "class_smaller", INFO_CCA | BIT_ULL(55), INFO_CCA,
	  "adapter 05: class 0x80 on the source, 0x00 here" },
	{ "domains_more", INFO_CCA, INFO_CCA + BIT_ULL(16), NULL },
	{ "domains_fewer", INFO_CCA, INFO_CCA - BIT_ULL(16),
	  "adapter 05: domains 84 on the source, 83 here" },
	{ "depth_more", INFO_CCA, INFO_CCA + 1, NULL },
	{ "depth_less", INFO_CCA, INFO_CCA - 1,
	  "adapter 05: queue depth 7 on the source, 6 here" },
	{ "message_longer", INFO_CCA, INFO_CCA | 4ULL << 8, NULL },
	{ "message_shorter", INFO_CCA | 10ULL << 8, INFO_CCA | 9ULL << 8,
	  "adapter 05: message length 40960 on the source, 36864 here" },
	/* The AP bus takes anything up to 3 for its default of 12 KiB. */
	{ "message_default", INFO_CCA | 3ULL << 8, INFO_CCA, NULL },
	{ "message_4_to_default", INFO_CCA | 4ULL << 8, INFO_CCA,
	  "adapter 05: message length 16384 on the source, 12288 here" },
};

KUNIT_ARRAY_PARAM_DESC(compare, compare_cases, name);

static void set_adapters(struct vfio_ap_stream_image *image, u64 info)
{
	memset(image, 0, sizeof(*image));
	image->config.apm[0] = 0x06;
	image->nr = 2;
	image->adapter[0] = (struct vfio_ap_stream_hwinfo)ADAPTER(5, info);
	image->adapter[1] = (struct vfio_ap_stream_hwinfo)ADAPTER(6, INFO_EP11);
}

static void compare_hwinfo(struct kunit *test)
{
	const struct compare_case *c = test->param_value;
	struct stream_test *t = test->priv;
	struct diff_log log = {};
	bool fits;

	set_adapters(&t->image, c->source);
	set_adapters(&t->dec.image, c->local);
	fits = vfio_ap_stream_compare_hwinfo(&t->image, &t->dec.image, log_diff, &log);
	KUNIT_EXPECT_EQ(test, fits, !c->line);
	KUNIT_ASSERT_EQ(test, log.nr, c->line ? 1 : 0);
	if (c->line)
		KUNIT_EXPECT_STREQ(test, log.last, c->line);
}

/* Which bits of the information count, and whether more of them will do. */
static void compare_each_bit(struct kunit *test)
{
	const u64 more = GENMASK_ULL(23, 16) | GENMASK_ULL(11, 8) | GENMASK_ULL(4, 0);
	const u64 same = GENMASK_ULL(63, 48) | GENMASK_ULL(31, 24);
	struct stream_test *t = test->priv;
	unsigned int bit;

	KUNIT_ASSERT_EQ(test, more | same, VFIO_AP_STREAM_HWINFO_MASK);
	for (bit = 0; bit < 64; bit++) {
		/* Messages of up to 3 units are as long as those of none. */
		u64 with = bit == 8 || bit == 9 ? 7ULL << 8 : 0;
		bool up = !(same & BIT_ULL(bit));
		bool down = !((same | more) & BIT_ULL(bit));
		struct diff_log log = {};

		with |= BIT_ULL(bit);
		set_adapters(&t->image, with & ~BIT_ULL(bit));
		set_adapters(&t->dec.image, with);
		KUNIT_ASSERT_EQ_MSG(test, up,
				    vfio_ap_stream_compare_hwinfo(&t->image,
								  &t->dec.image,
								  log_diff, &log),
				    "bit %u set here", bit);
		KUNIT_ASSERT_EQ_MSG(test, down,
				    vfio_ap_stream_compare_hwinfo(&t->dec.image,
								  &t->image,
								  log_diff, &log),
				    "bit %u set at the source", bit);
		KUNIT_ASSERT_EQ(test, log.nr, !up + !down);
	}
}

/* Every difference of every adapter is reported, not only the first. */
static void compare_hwinfo_reports_all(struct kunit *test)
{
	struct stream_test *t = test->priv;
	struct diff_log log = {};

	set_adapters(&t->image, INFO_CCA);
	set_adapters(&t->dec.image, INFO_ACCEL - BIT_ULL(18));
	t->dec.image.adapter[1].info = cpu_to_be64(INFO_ACCEL);
	KUNIT_EXPECT_FALSE(test,
			   vfio_ap_stream_compare_hwinfo(&t->image, &t->dec.image,
							 log_diff, &log));
	/* type, mode, facilities, domains of 05; the same, class and length of 06 */
	KUNIT_EXPECT_EQ(test, log.nr, 4 + 6);
}

static const char *const mask_formats[] = {
	"adapter %02x: assigned %s only",
	"domain %04x: assigned %s only",
	"control domain %04x: assigned %s only",
};

/* Each of the 768 mask bits counts, in either direction, and is named. */
static void compare_config(struct kunit *test)
{
	struct stream_test *t = test->priv;
	u8 *masks = (u8 *)&t->image.config;
	char line[VFIO_AP_STREAM_DIFF_CHARS];
	unsigned int bit;

	for (bit = 0; bit < CONFIG_BYTES * 8; bit++) {
		const char *format = mask_formats[bit / 256];
		struct diff_log log = {};

		masks[bit / 8] ^= 0x80 >> (bit % 8);
		KUNIT_ASSERT_FALSE(test,
				   vfio_ap_stream_compare_config(&t->image,
								 &t->dec.image,
								 log_diff, &log));
		KUNIT_ASSERT_EQ(test, log.nr, 1);
		snprintf(line, sizeof(line), format, bit % 256, "on the source");
		KUNIT_ASSERT_STREQ(test, log.last, line);

		KUNIT_ASSERT_FALSE(test,
				   vfio_ap_stream_compare_config(&t->dec.image,
								 &t->image,
								 log_diff, &log));
		KUNIT_ASSERT_EQ(test, log.nr, 2);
		snprintf(line, sizeof(line), format, bit % 256, "here");
		KUNIT_ASSERT_STREQ(test, log.last, line);
		masks[bit / 8] ^= 0x80 >> (bit % 8);
	}
	KUNIT_ASSERT_TRUE(test,
			  vfio_ap_stream_compare_config(&t->image, &t->dec.image,
							log_diff, NULL));
}

static struct kunit_case stream_cases[] = {
	KUNIT_CASE_PARAM(golden_decode, golden_gen_params),
	KUNIT_CASE_PARAM(golden_encode, golden_gen_params),
	KUNIT_CASE_PARAM(golden_any_chunking, golden_gen_params),
	KUNIT_CASE_PARAM(golden_truncated, golden_gen_params),
	KUNIT_CASE_PARAM(golden_bytes_after_end, golden_gen_params),
	KUNIT_CASE(encode_sizes),
	KUNIT_CASE_PARAM(header_rules, header_gen_params),
	KUNIT_CASE(header_magic),
	KUNIT_CASE(record_order),
	KUNIT_CASE(record_sequences),
	KUNIT_CASE_PARAM(irq_rows, irq_gen_params),
	KUNIT_CASE(irq_reserved_fields),
	KUNIT_CASE(irq_place),
	KUNIT_CASE(irq_each_queue),
	KUNIT_CASE(irq_encode),
	KUNIT_CASE_PARAM(record_lengths, length_gen_params),
	KUNIT_CASE(optional_records_are_skipped),
	KUNIT_CASE(stream_too_long),
	KUNIT_CASE_PARAM(hwinfo_rows, row_gen_params),
	KUNIT_CASE(errors_stick),
	KUNIT_CASE(events_come_in_time),
	KUNIT_CASE_PARAM(compare_hwinfo, compare_gen_params),
	KUNIT_CASE(compare_each_bit),
	KUNIT_CASE(compare_hwinfo_reports_all),
	KUNIT_CASE(compare_config),
	{}
};

static struct kunit_suite stream_suite = {
	.name = "vfio_ap_stream",
	.init = stream_test_init,
	.test_cases = stream_cases,
};

kunit_test_suite(stream_suite);

MODULE_DESCRIPTION("KUnit tests of the vfio-ap migration stream");
MODULE_LICENSE("GPL");
