// SPDX-License-Identifier: GPL-2.0
/*
 * A mutator that knows the layout of a stream. Bytes changed at random hardly
 * ever get past the first length; so change fields, rows and
 * records, and most times correct dependent fields: lengths, the rows of
 * HWINFO with the mask, the order of IRQ rows, and the END record.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "reference.h"

#define MAX_STREAM	16384
#define MAX_RECORDS	64

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b,
				 size_t b_len, uint8_t *out, size_t max_size,
				 unsigned int seed);

/**
 * struct record - a record of the stream that is being changed
 * @at: where its head is
 * @len: bytes of head and payload that are there
 */
struct record {
	size_t at;
	size_t len;
};

/**
 * struct work - a stream that is being changed
 * @data: the bytes; there is room for more
 * @len: bytes of it
 * @nr: number of @records
 * @records: the records, up to the first one that cannot be decoded
 */
struct work {
	uint8_t data[MAX_STREAM];
	size_t len;
	unsigned int nr;
	struct record records[MAX_RECORDS];
};

static struct work work;
static uint32_t state;

/* xorshift: the same sequence for the same seed, wherever it runs */
static uint32_t pick(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 17;
	state ^= state << 5;
	return below ? state % below : 0;
}

static void start(unsigned int seed)
{
	state = seed * 2654435761U + 1;
	if (!state)
		state = 1;
}

static void scan(struct work *w)
{
	size_t at = REF_HEADER, len;

	w->nr = 0;
	if (w->len > 12 && ref_get(w->data + 8, 4) <= w->len &&
	    ref_get(w->data + 8, 4) >= REF_HEADER)
		at = ref_get(w->data + 8, 4);
	while (w->nr < MAX_RECORDS && at + REF_HEAD <= w->len) {
		len = REF_HEAD + ref_get(w->data + at + 4, 4);
		if (len > w->len - at)
			len = w->len - at;
		w->records[w->nr].at = at;
		w->records[w->nr++].len = len;
		at += len;
	}
}

/* Make room for, or take away, bytes in the middle. */
static int resize(struct work *w, size_t at, size_t old, size_t new)
{
	if (w->len - old + new > MAX_STREAM)
		return 0;
	memmove(w->data + at + new, w->data + at + old, w->len - at - old);
	if (new > old)
		memset(w->data + at + old, 0, new - old);
	w->len = w->len - old + new;
	return 1;
}

static unsigned int type_of(const struct work *w, const struct record *r)
{
	return ref_get(w->data + r->at, 2);
}

static struct record *find(struct work *w, unsigned int type)
{
	unsigned int i, n = 0;

	for (i = 0; i < w->nr; i++)
		n += type_of(w, &w->records[i]) == type;
	if (!n)
		return NULL;
	n = pick(n);
	for (i = 0; i < w->nr; i++) {
		if (type_of(w, &w->records[i]) == type && !n--)
			return &w->records[i];
	}
	return NULL;
}

/* The CONFIG that counts for a record */
static const uint8_t *masks_before(const struct work *w, size_t at)
{
	const uint8_t *masks = NULL;
	unsigned int i;

	for (i = 0; i < w->nr && w->records[i].at < at; i++) {
		if (type_of(w, &w->records[i]) == REF_CONFIG &&
		    w->records[i].len == REF_HEAD + 3 * REF_MASK)
			masks = w->data + w->records[i].at + REF_HEAD;
	}
	return masks;
}

static int insert_record(struct work *w, size_t at, unsigned int type,
			 unsigned int flags, uint32_t len)
{
	if (!resize(w, at, 0, REF_HEAD + len))
		return 0;
	ref_put(w->data + at, 2, type);
	ref_put(w->data + at + 2, 2, flags);
	ref_put(w->data + at + 4, 4, len);
	return 1;
}

/* Rows of HWINFO as the mask wants them; those that are there keep their data. */
static void fix_hwinfo(struct work *w, struct record *r)
{
	const uint8_t *masks = masks_before(w, r->at);
	uint8_t rows[256 * 16], *old = w->data + r->at + REF_HEAD;
	size_t left = (r->len - REF_HEAD) / 16;
	unsigned int id, nr = 0;

	if (!masks)
		return;
	for (id = 0; id < 256; id++) {
		if (!ref_bit(masks, id))
			continue;
		memset(rows + 16 * nr, 0, 16);
		if (nr < left)
			memcpy(rows + 16 * nr, old + 16 * nr, 16);
		ref_put(rows + 16 * nr++, 2, id);
	}
	if (!resize(w, r->at, r->len, REF_HEAD + 16 * nr))
		return;
	ref_put(w->data + r->at + 4, 4, 16 * nr);
	memcpy(w->data + r->at + REF_HEAD, rows, 16 * nr);
}

/* One bit of a mask, chosen from those that are set; 256 if there is none */
static unsigned int pick_bit(const uint8_t *mask)
{
	unsigned int id = pick(256), tries;

	for (tries = 0; tries < 256; tries++, id = (id + 1) % 256) {
		if (ref_bit(mask, id))
			return id;
	}
	return 256;
}

static int row_order(const void *a, const void *b)
{
	const uint8_t *x = a, *y = b;
	int ret = memcmp(x, y, 3);

	return ret ? ret : memcmp(x + 8, y + 8, 8);
}

/* IRQ rows for queues that exist, each in one row, in their order */
static void fix_irq(struct work *w, struct record *r)
{
	const uint8_t *masks = masks_before(w, r->at);
	uint8_t *rows = w->data + r->at + REF_HEAD, *row;
	size_t nr = (r->len - REF_HEAD) / 48, i, k, n;
	unsigned int id;

	if (!masks || !nr)
		return;
	for (i = 0; i < nr; i++) {
		row = rows + 48 * i;
		if (row[0] || !ref_bit(masks, row[1])) {
			id = pick_bit(masks);
			if (id < 256)
				ref_put(row, 2, id);
		}
		row[2] &= 7;
		if (!ref_get(row + 8, 8))
			row[15] = 1;
		for (k = 0; k < REF_MASK; k++)
			row[16 + k] &= masks[REF_MASK + k];
	}
	qsort(rows, nr, 48, row_order);
	for (i = 0; i < nr; i++) {
		row = rows + 48 * i;
		for (k = i + 1; k < nr && !memcmp(rows + 48 * k, row, 2); k++) {
			for (n = 0; n < REF_MASK; n++)
				rows[48 * k + 16 + n] &= ~row[16 + n];
		}
	}
}

size_t input_end(const uint8_t *stream, size_t len)
{
	size_t at;
	uint64_t n;

	if (len < REF_HEADER)
		return 0;
	for (at = REF_HEADER; at + REF_HEAD <= len; at += REF_HEAD + n) {
		n = ref_get(stream + at + 4, 4);
		if (ref_get(stream + at, 2) == REF_END)
			return at;
	}
	return 0;
}

/* Each kind of record a few times: a fix may change fields that another one depends on */
static void fix(struct work *w)
{
	unsigned int i;

	if (w->len < REF_HEADER)
		return;
	scan(w);
	for (i = 0; i < w->nr; i++) {
		if (type_of(w, &w->records[i]) == REF_HWINFO)
			fix_hwinfo(w, &w->records[i]);
		scan(w);
	}
	for (i = 0; i < w->nr; i++) {
		if (type_of(w, &w->records[i]) == REF_IRQ)
			fix_irq(w, &w->records[i]);
	}
	if (!find(w, REF_END) && pick(4))
		insert_record(w, w->len, REF_END, 1, 0);
}

/* Change bytes of a part, whose size stays. */
static void mutate_part(struct work *w, size_t at, size_t len)
{
	uint8_t part[256];

	if (!len)
		return;
	if (len > sizeof(part)) {
		at += pick(len - sizeof(part));
		len = sizeof(part);
	}
	memcpy(part, w->data + at, len);
	LLVMFuzzerMutate(part, len, len);
	memcpy(w->data + at, part, len);
}

static void mutate_header(struct work *w)
{
	static const struct { uint8_t at, len; } fields[] = {
		{ 0, 4 }, { 4, 2 }, { 6, 2 },
	};
	unsigned int i = pick(sizeof(fields) / sizeof(fields[0]));

	if (w->len < REF_HEADER)
		return;
	mutate_part(w, fields[i].at, fields[i].len);
}

static void mutate_masks(struct work *w)
{
	struct record *r = find(w, REF_CONFIG);
	unsigned int id = pick(256);
	uint8_t *mask;

	if (!r || r->len < REF_HEAD + 3 * REF_MASK)
		return;
	mask = w->data + r->at + REF_HEAD + REF_MASK * pick(3);
	switch (pick(8)) {
	case 0:
		memset(mask, 0xff, REF_MASK);
		break;
	case 1:
		memset(mask, 0, REF_MASK);
		break;
	case 2:
		mutate_part(w, mask - w->data, REF_MASK);
		break;
	default:
		mask[id / 8] ^= 0x80 >> id % 8;
	}
}

static void mutate_hwinfo(struct work *w)
{
	struct record *r = find(w, REF_HWINFO);
	size_t rows = r ? (r->len - REF_HEAD) / 16 : 0, at;

	if (!rows)
		return;
	at = r->at + REF_HEAD + 16 * pick(rows);
	switch (pick(4)) {
	case 0:
		mutate_part(w, at, 8);
		break;
	case 1:
		w->data[at + 8 + pick(8)] ^= 1 << pick(8);
		break;
	default:
		ref_put(w->data + at + 8, 8, ref_get(w->data + at + 8, 8) & REF_INFO_MASK);
		mutate_part(w, at + 8, 8);
		if (pick(4))
			ref_put(w->data + at + 8, 8,
				ref_get(w->data + at + 8, 8) & REF_INFO_MASK);
	}
}

static void mutate_irq(struct work *w)
{
	struct record *r = find(w, REF_IRQ), *end = find(w, REF_END);
	const uint8_t *masks;
	size_t rows, at;
	unsigned int id;

	if (!r || !pick(8)) {
		at = end ? end->at : w->len;
		if (!insert_record(w, at, REF_IRQ, 1, 48))
			return;
		masks = masks_before(w, at);
		at += REF_HEAD;
		ref_put(w->data + at, 2, masks ? pick_bit(masks) & 255 : pick(256));
		w->data[at + 2] = pick(8);
		ref_put(w->data + at + 8, 8, 1 + pick(1 << 20));
		id = masks ? pick_bit(masks + REF_MASK) & 255 : pick(256);
		w->data[at + 16 + id / 8] = 0x80 >> id % 8;
		return;
	}
	rows = (r->len - REF_HEAD) / 48;
	if (!rows)
		return;
	at = r->at + REF_HEAD + 48 * pick(rows);
	id = pick(256);
	switch (pick(6)) {
	case 0:
		if (resize(w, at, 0, 48)) {
			memcpy(w->data + at, w->data + at + 48, 48);
			w->data[at + 8 + pick(8)]++;
			ref_put(w->data + r->at + 4, 4, r->len - REF_HEAD + 48);
		}
		break;
	case 1:
		if (resize(w, at, 48, 0))
			ref_put(w->data + r->at + 4, 4, r->len - REF_HEAD - 48);
		break;
	case 2:
		mutate_part(w, at, 8);
		break;
	case 3:
		mutate_part(w, at + 8, 8);
		break;
	case 4:
		w->data[at + 16 + id / 8] ^= 0x80 >> id % 8;
		break;
	default:
		mutate_part(w, at + 16, REF_MASK);
	}
}

static void mutate_record(struct work *w)
{
	struct record *r, *other;
	uint8_t copy[MAX_STREAM];
	size_t at;

	if (!w->nr)
		return;
	r = &w->records[pick(w->nr)];
	other = &w->records[pick(w->nr)];
	memcpy(copy, w->data + r->at, r->len);
	switch (pick(7)) {
	case 0:
		resize(w, r->at, r->len, 0);
		break;
	case 1:
		if (resize(w, other->at, 0, r->len))
			memcpy(w->data + other->at, copy, r->len);
		break;
	case 2:		/* a type of today or none, a flag that may be */
		ref_put(w->data + r->at, 2, pick(4) ? pick(6) : pick(1 << 16));
		break;
	case 3:
		ref_put(w->data + r->at + 2, 2, pick(4) ? pick(2) : 1U << pick(16));
		break;
	case 4:
		ref_put(w->data + r->at + 4, 4, pick(2) ? 8 * pick(700) :
							  1U << pick(32));
		break;
	case 5:
		at = pick(2) ? other->at : w->len;
		insert_record(w, at, 0x7000 + pick(2), pick(8) ? 0 : pick(4),
			      pick(8) ? 8 * pick(8) : 8 * pick(520));
		break;
	default:	/* CONFIG and HWINFO again */
		r = find(w, REF_CONFIG);
		other = find(w, REF_END);
		if (!r || r + 1 >= w->records + w->nr)
			break;
		at = other ? other->at : w->len;
		memcpy(copy, w->data + r->at, r[0].len + r[1].len);
		if (resize(w, at, 0, r[0].len + r[1].len))
			memcpy(w->data + at, copy, r[0].len + r[1].len);
	}
}

static void mutate_stream(struct work *w)
{
	unsigned int rounds = 1 + pick(3);

	while (rounds--) {
		scan(w);
		switch (pick(10)) {
		case 0:
			w->len = LLVMFuzzerMutate(w->data, w->len, MAX_STREAM);
			break;
		case 1:
			mutate_header(w);
			break;
		case 2:
		case 3:
			mutate_masks(w);
			break;
		case 4:
		case 5:
			mutate_hwinfo(w);
			break;
		case 6:
		case 7:
			mutate_irq(w);
			break;
		default:
			mutate_record(w);
		}
		if (!pick(4))
			fix(w);
	}
	if (pick(8))
		fix(w);
	if (!pick(16) && w->len)
		w->len = pick(w->len) + 1;
	if (!pick(32) && w->len >= 4)
		w->data[w->len - 1 - pick(4)] ^= 1 << pick(8);
}

static void mutate_control(uint8_t *control, size_t *len)
{
	unsigned int chunks = pick(4) ? pick(MAX_CHUNKS + 1) : 0;
	unsigned int edits = pick(MAX_EDITS + 1), i;
	size_t at = 0;

	control[at++] = chunks;
	for (i = 0; i < chunks; i++)
		control[at++] = pick(4) ? pick(20) : pick(256);
	control[at++] = edits;
	for (i = 0; i < edits * EDIT_BYTES; i++)
		control[at++] = pick(4) ? pick(256) : pick(4);
	control[at++] = EXPAND_NONE;
	*len = at;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed)
{
	uint8_t control[3 + MAX_CHUNKS + MAX_EDITS * EDIT_BYTES];
	struct input in;
	size_t len;

	start(seed);
	if (input_parse(&in, data, size) || in.len > MAX_STREAM / 2)
		return LLVMFuzzerMutate(data, size, max_size);

	len = in.stream - data;
	memcpy(control, data, len);
	/* Expanded streams are slow, and the corpus has some already. */
	control[len - 1] = EXPAND_NONE;
	memcpy(work.data, in.stream, in.len);
	work.len = in.len;
	if (!pick(4))
		mutate_control(control, &len);
	else
		mutate_stream(&work);
	if (len > max_size)
		return size;
	if (work.len > max_size - len)
		work.len = max_size - len;
	memcpy(data, control, len);
	memcpy(data + len, work.data, work.len);
	return len + work.len;
}

/* The control part and the first records of one, the rest of the other */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_len, const uint8_t *b,
				 size_t b_len, uint8_t *out, size_t max_size,
				 unsigned int seed)
{
	static struct work other;
	struct input x, y;
	size_t head, from, len;

	start(seed);
	if (input_parse(&x, a, a_len) || input_parse(&y, b, b_len) ||
	    x.len > MAX_STREAM / 2 || y.len > MAX_STREAM / 2)
		return 0;
	head = x.stream - a;
	memcpy(work.data, x.stream, x.len);
	work.len = x.len;
	scan(&work);
	memcpy(other.data, y.stream, y.len);
	other.len = y.len;
	scan(&other);
	if (!work.nr || !other.nr || head > max_size)
		return 0;
	work.len = work.records[pick(work.nr)].at;
	from = other.records[pick(other.nr)].at;
	len = other.len - from;
	memcpy(work.data + work.len, other.data + from, len);
	work.len += len;
	fix(&work);
	if (work.len > max_size - head)
		work.len = max_size - head;
	memcpy(out, a, head);
	out[head - 1] = EXPAND_NONE;
	memcpy(out + head, work.data, work.len);
	return head + work.len;
}
