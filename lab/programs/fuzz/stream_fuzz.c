// SPDX-License-Identifier: GPL-2.0
/*
 * libFuzzer target: the driver's own vfio_ap_stream.c against bytes of an enemy.
 *
 * The decoder must return the same as a second decoder (reference.c) for every
 * cut of the stream, and must not access memory outside of its buffers:
 * every buffer is one allocation of the exact size, so AddressSanitizer sees a
 * single byte too many.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include <linux/kernel.h>
#include <linux/types.h>
#include <asm/byteorder.h>

#include "vfio_ap_stream.h"

#include "input.h"
#include "reference.h"

/*
 * With FUZZ_KEEP_GOING in the environment, a violation is printed, once for each place,
 * and the run goes on: a run with a planted fault lists all assertions that fail.
 */
static bool keep_going;

static void violated(const char *where, int line, const char *what, bool *reported)
{
	if (*reported)
		return;
	fprintf(stderr, "property violated: %s:%d: %s\n", where, line, what);
	if (!keep_going)
		abort();
	*reported = true;
}

#define MUST(cond)							\
	do {								\
		static bool once;					\
									\
		if (!(cond))						\
			violated(__func__, __LINE__, #cond, &once);	\
	} while (0)

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	keep_going = getenv("FUZZ_KEEP_GOING");
	return 0;
}

/**
 * struct seen - reports of a decoder on a stream
 * @error: of decode(), or -ENODATA if the stream is not complete
 * @nr: number of @events
 * @too_many: there were more
 * @events: as in struct ref_result
 * @nr_irqs: number of @irqs
 * @irqs: rows of IRQ
 * @image: the last complete one
 * @complete: there is one
 */
struct seen {
	int error;
	unsigned int nr;
	bool too_many;
	struct ref_event events[REF_MAX_EVENTS];
	unsigned int nr_irqs;
	struct vfio_ap_stream_irq irqs[REF_MAX_EVENTS];
	struct vfio_ap_stream_image image;
	bool complete;
};

static struct ref_result ref;
static struct seen whole, pieces, again;

static void *alloc(size_t len)
{
	void *p = malloc(len ? len : 1);

	if (!p)
		exit(1);
	memset(p, 0xa5, len);
	return p;
}

static void *copy_of(const void *data, size_t len)
{
	return memcpy(alloc(len), data, len);
}

static unsigned int weight(const u8 *mask)
{
	unsigned int id, n = 0;

	for (id = 0; id < 256; id++)
		n += ref_bit(mask, id);
	return n;
}

/* The rows stand for the mask, each once, in their order. */
static void check_image(const struct vfio_ap_stream_image *image)
{
	unsigned int i, apid, last = 0;

	MUST(image->nr == weight(image->config.apm));
	for (i = 0; i < image->nr && i < VFIO_AP_STREAM_MAX_ADAPTERS; i++) {
		apid = be16_to_cpu(image->adapter[i].apid);
		MUST(apid < VFIO_AP_STREAM_MAX_ADAPTERS &&
		     ref_bit(image->config.apm, apid));
		MUST(!i || apid > last);
		MUST(!(be64_to_cpu(image->adapter[i].info) & ~REF_INFO_MASK));
		last = apid;
	}
}

/* Numbers are big-endian, so that the order of bytes is that of rows. */
static int compare_irqs(const struct vfio_ap_stream_irq *a,
			const struct vfio_ap_stream_irq *b)
{
	return memcmp(a, b, VFIO_AP_STREAM_IRQ_KEY);
}

static bool same_irq(const struct vfio_ap_stream_irq *a,
		     const struct vfio_ap_stream_irq *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Sorted, for queues that are in the image, and each queue in one row only. */
static void check_irqs(const struct seen *seen)
{
	static u8 taken[VFIO_AP_STREAM_MAX_ADAPTERS][REF_MASK];
	const struct vfio_ap_stream_irq *irq;
	unsigned int i, k, apid;

	memset(taken, 0, sizeof(taken));
	for (i = 0; i < seen->nr_irqs; i++) {
		irq = &seen->irqs[i];
		apid = be16_to_cpu(irq->apid);
		MUST(apid < VFIO_AP_STREAM_MAX_ADAPTERS &&
		     ref_bit(seen->image.config.apm, apid));
		MUST(irq->isc <= VFIO_AP_STREAM_MAX_ISC && irq->nib);
		MUST(!i || compare_irqs(irq - 1, irq) < 0);
		MUST(weight(irq->domains));
		for (k = 0; k < REF_MASK; k++) {
			MUST(!(irq->domains[k] & ~seen->image.config.aqm[k]));
			MUST(!(irq->domains[k] & taken[apid & 255][k]));
			taken[apid & 255][k] |= irq->domains[k];
		}
	}
}

/* Field by field into zeroes: padding means nothing. */
static void take_image(struct vfio_ap_stream_image *to,
		       const struct vfio_ap_stream_image *from)
{
	unsigned int i;

	memset(to, 0, sizeof(*to));
	to->config = from->config;
	to->nr = from->nr;
	for (i = 0; i < from->nr && i < VFIO_AP_STREAM_MAX_ADAPTERS; i++) {
		to->adapter[i].apid = from->adapter[i].apid;
		to->adapter[i].info = from->adapter[i].info;
	}
}

static void note(struct seen *seen, const struct vfio_ap_stream_decoder *dec,
		 enum vfio_ap_stream_event event, size_t at)
{
	static const unsigned int types[] = {
		[VFIO_AP_STREAM_GOT_CONFIG] = REF_CONFIG,
		[VFIO_AP_STREAM_GOT_HWINFO] = REF_HWINFO,
		[VFIO_AP_STREAM_GOT_IRQ] = REF_IRQ,
		[VFIO_AP_STREAM_GOT_END] = REF_END,
	};

	if (seen->nr == REF_MAX_EVENTS) {
		seen->too_many = true;
		return;
	}
	if (event == VFIO_AP_STREAM_GOT_CONFIG)
		seen->complete = false;
	if (event == VFIO_AP_STREAM_GOT_HWINFO) {
		check_image(&dec->image);
		take_image(&seen->image, &dec->image);
		seen->complete = true;
	}
	if (event == VFIO_AP_STREAM_GOT_IRQ)
		seen->irqs[seen->nr_irqs++] = dec->irq;
	seen->events[seen->nr].type = types[event];
	seen->events[seen->nr++].at = at;
}

/* One chunk, as write() decodes it */
static int feed(struct seen *seen, struct vfio_ap_stream_decoder *dec,
		const u8 *data, size_t len, size_t at)
{
	enum vfio_ap_stream_event event, more;
	u8 *chunk = copy_of(data, len);
	size_t done = 0;
	ssize_t used;

	do {
		event = VFIO_AP_STREAM_GOT_END;
		used = vfio_ap_stream_decode(dec, chunk + done, len - done, &event);
		if (used < 0)
			break;
		/* Its caller would never come to an end. */
		MUST(used || !len);
		MUST((size_t)used <= len - done);
		MUST((size_t)used == len - done || event != VFIO_AP_STREAM_NEED_DATA);
		/* Only its last byte completes anything. */
		MUST(event == VFIO_AP_STREAM_NEED_DATA || used);
		if (!used || (size_t)used > len - done)
			break;
		done += used;
		MUST(dec->total == at + done);
		if (event != VFIO_AP_STREAM_NEED_DATA)
			note(seen, dec, event, at + done);
	} while (done < len);
	if (used < 0) {
		/* An error is final. */
		more = VFIO_AP_STREAM_GOT_END;
		MUST(vfio_ap_stream_decode(dec, chunk, len, &more) == used &&
		     vfio_ap_stream_decode(dec, chunk, 0, &more) == used);
		MUST(more == VFIO_AP_STREAM_NEED_DATA);
		MUST(dec->error == used);
	}
	free(chunk);
	return used < 0 ? used : 0;
}

static void load(struct seen *seen, const struct input *in, const u8 *data, size_t len)
{
	struct vfio_ap_stream_decoder *dec = alloc(sizeof(*dec));
	unsigned int turn = 0;
	size_t at, n;

	memset(dec, 0, sizeof(*dec));
	seen->nr = 0;
	seen->nr_irqs = 0;
	seen->too_many = false;
	seen->complete = false;
	seen->error = 0;
	for (at = 0; at < len && !seen->error; at += n) {
		n = len - at;
		if (in->nr_chunks && in->chunks[turn] < n)
			n = in->chunks[turn];
		/* A write of nothing changes nothing; after it, go on. */
		if (!n) {
			MUST(!feed(seen, dec, data + at, 0, at));
			n = 1;
		}
		turn = in->nr_chunks ? (turn + 1) % in->nr_chunks : 0;
		seen->error = feed(seen, dec, data + at, n, at);
	}
	if (!seen->error && dec->state != VFIO_AP_LOAD_DONE)
		seen->error = -ENODATA;
	free(dec);
}

static void must_equal(const struct seen *a, const struct seen *b)
{
	unsigned int i;

	MUST(a->error == b->error);
	MUST(a->nr == b->nr && a->too_many == b->too_many);
	for (i = 0; i < a->nr && i < b->nr; i++) {
		MUST(a->events[i].type == b->events[i].type);
		MUST(a->events[i].at == b->events[i].at);
	}
	MUST(a->complete == b->complete);
	MUST(!a->complete || !memcmp(&a->image, &b->image, sizeof(a->image)));
	MUST(a->nr_irqs == b->nr_irqs);
	for (i = 0; i < a->nr_irqs && i < b->nr_irqs; i++)
		MUST(same_irq(&a->irqs[i], &b->irqs[i]));
}

static bool is_row(const struct vfio_ap_stream_hwinfo *row, const u8 *bytes)
{
	return be16_to_cpu(row->apid) == ref_get(bytes, 2) &&
	       be64_to_cpu(row->info) == (ref_get(bytes + 8, 8) & REF_INFO_MASK);
}

static bool is_irq(const struct vfio_ap_stream_irq *irq, const u8 *bytes)
{
	return be16_to_cpu(irq->apid) == ref_get(bytes, 2) && irq->isc == bytes[2] &&
	       be64_to_cpu(irq->nib) == ref_get(bytes + 8, 8) &&
	       !memcmp(irq->domains, bytes + 16, REF_MASK);
}

static void must_be_right(const struct seen *seen)
{
	unsigned int i;

	MUST(seen->error == ref.error);
	MUST(seen->nr == ref.nr && seen->too_many == !!ref.too_many);
	for (i = 0; i < seen->nr && i < ref.nr; i++) {
		MUST(seen->events[i].type == ref.events[i].type);
		MUST(seen->events[i].at == ref.events[i].at);
	}
	if (seen->complete && ref.rows) {
		MUST(!memcmp(&seen->image.config, ref.masks, 3 * REF_MASK));
		MUST(seen->image.nr == ref.nr_rows);
		for (i = 0; i < seen->image.nr && i < ref.nr_rows; i++)
			MUST(is_row(&seen->image.adapter[i], ref.rows + 16 * i));
	}
	MUST(seen->nr_irqs == ref.nr_irqs);
	for (i = 0; i < seen->nr_irqs && i < ref.nr_irqs; i++)
		MUST(is_irq(&seen->irqs[i], ref.irqs[i]));
	check_irqs(seen);
}

/* Write to an allocation of its own, for the sanitizer; returns the end. */
#define PUT(p, size, encode)						\
	({								\
		u8 *part = alloc(size);					\
									\
		encode;							\
		memcpy((p), part, (size));				\
		free(part);						\
		(p) + (size);						\
	})

static void put_head(u8 *p, enum vfio_ap_stream_type type, size_t len)
{
	MUST(vfio_ap_stream_put_record(p, type, len) == p + REF_HEAD);
}

/* Encoding an accepted stream again gives one with the same meaning. */
static void encode_again(const struct seen *seen, const struct input *in)
{
	size_t size = VFIO_AP_STREAM_INITIAL_BYTES(seen->image.nr) +
		      vfio_ap_stream_irq_bytes(seen->nr_irqs) +
		      VFIO_AP_STREAM_END_BYTES;
	struct input cut = *in;
	u8 *buf = alloc(size), *p = buf;
	unsigned int i;

	p = PUT(p, VFIO_AP_STREAM_INITIAL_BYTES(seen->image.nr),
		MUST(vfio_ap_stream_encode_initial(&seen->image, part) ==
		     VFIO_AP_STREAM_INITIAL_BYTES(seen->image.nr)));
	if (seen->nr_irqs) {
		p = PUT(p, REF_HEAD, put_head(part, VFIO_AP_STREAM_IRQ, seen->nr_irqs *
					      sizeof(struct vfio_ap_stream_irq)));
		for (i = 0; i < seen->nr_irqs; i++)
			p = PUT(p, sizeof(struct vfio_ap_stream_irq),
				memcpy(part, &seen->irqs[i], sizeof(seen->irqs[i])));
	}
	p = PUT(p, REF_HEAD, put_head(part, VFIO_AP_STREAM_END, 0));

	ref_decode(&ref, buf, p - buf);
	MUST(!ref.error);
	load(&again, &cut, buf, p - buf);
	must_be_right(&again);
	MUST(!memcmp(&again.image, &seen->image, sizeof(again.image)));
	MUST(again.nr_irqs == seen->nr_irqs);
	for (i = 0; i < seen->nr_irqs; i++)
		MUST(same_irq(&again.irqs[i], &seen->irqs[i]));
	free(buf);
}

/* A line fits into its buffer with a byte to spare, so it was not cut off. */
static void count_difference(void *ctx, const char *text)
{
	unsigned int *differences = ctx;

	MUST(strlen(text) > 8 && strlen(text) < VFIO_AP_STREAM_DIFF_CHARS - 1);
	++*differences;
}

static unsigned int differing(const u8 *a, const u8 *b, size_t len)
{
	unsigned int n = 0;
	size_t i;

	for (i = 0; i < len; i++)
		n += __builtin_popcount(a[i] ^ b[i]);
	return n;
}

/* Whether an adapter with @here can stand in for one with @source, by the rules */
static bool fits(u64 source, u64 here)
{
	unsigned int ml[2] = { source >> 8 & 15, here >> 8 & 15 };

	if ((source ^ here) & 0xffff0000ff000000ULL)
		return false;
	if ((here >> 16 & 0xff) < (source >> 16 & 0xff) || (here & 31) < (source & 31))
		return false;
	/* Up to 3 the bus takes 12 KiB, from then on as many times 4 KiB. */
	ml[0] = ml[0] > 3 ? ml[0] : 3;
	ml[1] = ml[1] > 3 ? ml[1] : 3;
	return ml[1] >= ml[0];
}

static void compare(const struct vfio_ap_stream_image *source,
		    const struct vfio_ap_stream_image *here)
{
	unsigned int i, differences = 0;
	bool good = true, equal;

	equal = vfio_ap_stream_compare_config(source, here, count_difference, &differences);
	MUST(differences == differing((const u8 *)&source->config,
				      (const u8 *)&here->config, sizeof(source->config)));
	MUST(equal == !differences);

	differences = 0;
	equal = vfio_ap_stream_compare_hwinfo(source, here, count_difference, &differences);
	for (i = 0; i < source->nr; i++)
		good &= fits(be64_to_cpu(source->adapter[i].info),
			     be64_to_cpu(here->adapter[i].info));
	MUST(good == equal && good == !differences);
}

/*
 * An edit: { what 1, which 1, value 2 }. The rows stay those of the decoder: a
 * comparison of hardware follows one of masks, which found no difference.
 */
static void edit(struct vfio_ap_stream_image *image, const u8 *e)
{
	u16 value = ref_get(e + 2, 2);

	switch (e[0] % 8) {
	case 0:
		image->config.apm[e[1] % REF_MASK] ^= value;
		break;
	case 1:
		image->config.aqm[e[1] % REF_MASK] ^= value;
		break;
	case 2:
		image->config.adm[e[1] % REF_MASK] ^= value;
		break;
	default:
		if (image->nr)
			image->adapter[e[1] % image->nr].info ^= cpu_to_be64(
				((u64)value << 16 * (e[0] / 8 % 4)) & REF_INFO_MASK);
		break;
	}
}

static void compare_all(const struct vfio_ap_stream_image *source,
			const struct input *in)
{
	struct vfio_ap_stream_image *here = copy_of(source, sizeof(*source));
	unsigned int i, differences = 0;

	MUST(vfio_ap_stream_compare_config(source, here, count_difference, &differences));
	MUST(vfio_ap_stream_compare_hwinfo(source, here, count_difference, &differences));
	MUST(!differences);
	for (i = 0; i < in->nr_edits; i++) {
		edit(here, in->edits + EDIT_BYTES * i);
		compare(source, here);
		compare(here, source);
	}
	free(here);
}

static u8 *put_optional(u8 *p, unsigned int len, unsigned int nr)
{
	for (; nr; nr--) {
		ref_put(p, 2, 0x7000);
		ref_put(p + 2, 2, 0);
		ref_put(p + 4, 4, len);
		memset(p + REF_HEAD, 0, len);
		p += REF_HEAD + len;
	}
	return p;
}

/* The stream in memory of its own, made longer if the input asks for that */
static u8 *expand(const struct input *in, size_t *len)
{
	unsigned int nr = 0, payload = 0;
	u8 *buf, *p;

	switch (in->expand) {
	case EXPAND_64K:
	case EXPAND_68K:
		payload = 4096;
		nr = 16 + (in->expand == EXPAND_68K);
		break;
	case EXPAND_4M:
		nr = (4 << 20) / REF_HEAD;
		break;
	}
	*len = in->len;
	if (!nr || in->len < REF_HEADER)
		return copy_of(in->stream, in->len);

	*len += nr * (REF_HEAD + payload);
	buf = alloc(*len);
	memcpy(buf, in->stream, REF_HEADER);
	p = put_optional(buf + REF_HEADER, payload, nr);
	memcpy(p, in->stream + REF_HEADER, in->len - REF_HEADER);
	return buf;
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static const struct input at_once;
	struct input in;
	size_t len;
	u8 *stream;

	if (input_parse(&in, data, size))
		return 0;
	stream = expand(&in, &len);

	ref_decode(&ref, stream, len);
	load(&whole, &at_once, stream, len);
	must_be_right(&whole);
	load(&pieces, &in, stream, len);
	must_equal(&whole, &pieces);
	if (whole.complete)
		compare_all(&whole.image, &in);
	if (!whole.error && !whole.too_many)
		encode_again(&whole, &in);

	free(stream);
	return 0;
}
