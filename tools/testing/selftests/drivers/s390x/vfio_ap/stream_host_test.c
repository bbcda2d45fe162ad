// SPDX-License-Identifier: GPL-2.0
/*
 * The driver's own stream code on the machine that builds it, of either byte
 * order: the golden streams that KUnit uses too, the tests' decoder as a second
 * opinion, and damaged streams under the compiler's sanitizers.
 *
 * "make host_test" builds and runs it.
 */
#include "vfio_ap_stream.c"
#include "tests/vfio_ap_stream_golden.h"
#include "tests/vfio_ap_stream_whole.h"

#include <time.h>

#include "lib/stream.h"
#include "kselftest_harness.h"

#define GOLDEN(stream, n, plain_format) {					\
	.name = #stream,							\
	.data = vfio_ap_golden_##stream,					\
	.len = sizeof(vfio_ap_golden_##stream),				\
	.adapters = n,							\
	.plain = plain_format,						\
}

/**
 * struct golden - a stream that every later version has to understand
 * @name: for messages
 * @data: the bytes
 * @len: how many
 * @adapters: rows of HWINFO at its end
 * @plain: the encoder gives the same bytes
 */
struct golden {
	const char *name;
	const u8 *data;
	size_t len;
	unsigned int adapters;
	bool plain;
};

static const struct golden goldens[] = {
	GOLDEN(none, 0, true),
	GOLDEN(one, 1, true),
	GOLDEN(three, 3, true),
	GOLDEN(optional, 1, false),
	GOLDEN(interrupts, 3, false),
};

static struct vfio_ap_stream_decoder dec;

static void ignore(void *ctx, const char *text)
{
	(void)ctx;
	/* The last byte but one is free, so the text was not cut off. */
	if (strlen(text) > VFIO_AP_STREAM_DIFF_CHARS - 2)
		abort();
}

/* As write() does it; compares with @local unless that is NULL */
static int load(const u8 *data, size_t len, const struct vfio_ap_stream_image *local)
{
	enum vfio_ap_stream_event event;
	ssize_t used;

	while (len) {
		used = vfio_ap_stream_decode(&dec, data, len, &event);
		if (used < 0) {
			/* An error is final */
			if (vfio_ap_stream_decode(&dec, data, len, &event) != used)
				abort();
			return used;
		}
		if (!used || (size_t)used > len)
			abort();
		if (local && event == VFIO_AP_STREAM_GOT_CONFIG &&
		    !vfio_ap_stream_compare_config(&dec.image, local, ignore, NULL))
			return -ENXIO;
		if (local && event == VFIO_AP_STREAM_GOT_HWINFO &&
		    !vfio_ap_stream_compare_hwinfo(&dec.image, local, ignore, NULL))
			return -ENXIO;
		data += used;
		len -= used;
	}
	return 0;
}

static int load_in_pieces(const u8 *data, size_t len, size_t piece)
{
	int ret = 0;
	size_t n;

	memset(&dec, 0, sizeof(dec));
	for (; len && !ret; data += n, len -= n) {
		n = len < piece ? len : piece;
		ret = load(data, n, NULL);
	}
	return ret;
}

TEST(golden_streams_decode_in_any_chunks)
{
	size_t i, piece;

	for (i = 0; i < ARRAY_SIZE(goldens); i++) {
		for (piece = 1; piece <= goldens[i].len; piece++) {
			ASSERT_EQ(0, load_in_pieces(goldens[i].data, goldens[i].len, piece)) {
				TH_LOG("%s in pieces of %zu", goldens[i].name, piece);
			}
			ASSERT_TRUE(dec.state == VFIO_AP_LOAD_DONE);
			EXPECT_EQ(goldens[i].adapters, dec.image.nr);
		}
	}
}

TEST(encoder_gives_golden_streams)
{
	static u8 buf[VFIO_AP_STREAM_BUF_BYTES];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(goldens); i++) {
		if (!goldens[i].plain)
			continue;
		ASSERT_EQ(0, load_in_pieces(goldens[i].data, goldens[i].len, 64));
		ASSERT_EQ(goldens[i].len, vfio_ap_stream_encode(&dec.image, buf));
		EXPECT_EQ(0, memcmp(goldens[i].data, buf, goldens[i].len));
	}
}

/* Two decoders, written apart from each other, see the same */
TEST(test_decoder_agrees_on_golden_streams)
{
	struct stream_buf b = {};
	struct stream s;
	unsigned int k;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(goldens); i++) {
		if (!goldens[i].plain)
			continue;
		ASSERT_EQ(0, load_in_pieces(goldens[i].data, goldens[i].len, 64));
		ASSERT_EQ(NULL, stream_decode(&s, goldens[i].data, goldens[i].len));
		EXPECT_EQ(0, memcmp(&s.masks, &dec.image.config, sizeof(s.masks)));
		ASSERT_EQ(dec.image.nr, s.nr_rows);
		for (k = 0; k < s.nr_rows; k++) {
			EXPECT_EQ(be16_to_cpu(dec.image.adapter[k].apid), s.rows[k].apid);
			EXPECT_EQ(be64_to_cpu(dec.image.adapter[k].info), s.rows[k].info);
		}
		stream_encode(&b, &s);
		ASSERT_EQ(goldens[i].len, b.len);
		EXPECT_EQ(0, memcmp(goldens[i].data, b.data, b.len));
		stream_free(&b);
	}
}

TEST(test_decoder_agrees_on_golden_interrupts)
{
	const struct golden *g = &goldens[ARRAY_SIZE(goldens) - 1];
	enum vfio_ap_stream_event event;
	struct stream s;
	unsigned int rows = 0;
	ssize_t used;
	size_t done;

	ASSERT_EQ(NULL, stream_decode(&s, g->data, g->len));
	EXPECT_EQ(2U, s.irq_records);
	memset(&dec, 0, sizeof(dec));
	for (done = 0; done < g->len; done += used) {
		used = vfio_ap_stream_decode(&dec, g->data + done, g->len - done, &event);
		ASSERT_LT(0, used);
		if (event != VFIO_AP_STREAM_GOT_IRQ)
			continue;
		ASSERT_LT(rows, s.nr_irqs);
		EXPECT_EQ(be16_to_cpu(dec.irq.apid), s.irqs[rows].apid);
		EXPECT_EQ(dec.irq.isc, s.irqs[rows].isc);
		EXPECT_EQ(be64_to_cpu(dec.irq.nib), s.irqs[rows].nib);
		EXPECT_EQ(0, memcmp(dec.irq.domains, s.irqs[rows].domains, AP_MASK_BYTES));
		rows++;
	}
	EXPECT_EQ(rows, s.nr_irqs);
}

TEST(golden_streams_are_incomplete_at_each_cut)
{
	size_t i, cut;

	for (i = 0; i < ARRAY_SIZE(goldens); i++) {
		for (cut = 0; cut < goldens[i].len; cut++) {
			ASSERT_EQ(0, load_in_pieces(goldens[i].data, cut, 64));
			ASSERT_FALSE(dec.state == VFIO_AP_LOAD_DONE);
		}
	}
}

/*
 * Two writers whose bytes get mixed, with some bits wrong: anything but an
 * error of the documented ones, or a stream that is not complete, is a fault.
 */
TEST(mixed_and_damaged_streams_are_harmless)
{
	static const int errors[] = {
		-EINVAL, -ENODATA, -EOPNOTSUPP, -ENXIO,
	};
	const struct golden *g = &goldens[ARRAY_SIZE(goldens) - 1];
	struct vfio_ap_stream_image local;
	unsigned int seed = time(NULL), round, w;
	size_t at[2], n, i;
	u8 piece[64];
	int ret;

	TH_LOG("seed %u", seed);
	ASSERT_EQ(0, load_in_pieces(g->data, g->len, 64));
	local = dec.image;
	for (round = 0; round < 200000; round++) {
		memset(&dec, 0, sizeof(dec));
		at[0] = 0;
		at[1] = 0;
		ret = 0;
		while (!ret && (at[0] < g->len || at[1] < g->len)) {
			w = rand_r(&seed) % (round % 3 ? 64 : 2) == 1;
			if (at[w] == g->len)
				w = !w;
			n = 1 + rand_r(&seed) % (w ? 20 : sizeof(piece));
			if (n > g->len - at[w])
				n = g->len - at[w];
			memcpy(piece, g->data + at[w], n);
			at[w] += n;
			if (rand_r(&seed) % 16 == 0)
				piece[rand_r(&seed) % n] ^= 1 << rand_r(&seed) % 8;
			ret = load(piece, n, &local);
		}
		/* Both are never taken; a skipped record may hold the bytes that one lacks */
		if (!ret && dec.state != VFIO_AP_LOAD_DONE)
			ret = -ENODATA;
		for (i = 0; i < ARRAY_SIZE(errors) && ret != errors[i]; i++)
			;
		ASSERT_LT(i, ARRAY_SIZE(errors)) {
			TH_LOG("round %u: %d", round, ret);
		}
	}
}

TEST_HARNESS_MAIN
