// SPDX-License-Identifier: GPL-2.0
/*
 * The vfio-ap migration stream as tests read and forge it, see stream.h.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream.h"

__u16 stream_get16(const void *data)
{
	const __u8 *p = data;

	return (__u16)(p[0] << 8 | p[1]);
}

__u32 stream_get32(const void *data)
{
	const __u8 *p = data;

	return (__u32)stream_get16(p) << 16 | stream_get16(p + 2);
}

__u64 stream_get64(const void *data)
{
	const __u8 *p = data;

	return (__u64)stream_get32(p) << 32 | stream_get32(p + 4);
}

void stream_free(struct stream_buf *b)
{
	free(b->data);
	memset(b, 0, sizeof(*b));
}

void stream_put(struct stream_buf *b, const void *data, size_t len)
{
	if (b->len + len > b->size) {
		b->size = 2 * (b->len + len);
		b->data = realloc(b->data, b->size);
		if (!b->data) {
			perror("stream");
			exit(1);
		}
	}
	if (data)
		memcpy(b->data + b->len, data, len);
	else
		memset(b->data + b->len, 0, len);
	b->len += len;
}

void stream_put16(struct stream_buf *b, __u16 value)
{
	__u8 bytes[] = { value >> 8, value };

	stream_put(b, bytes, sizeof(bytes));
}

void stream_put32(struct stream_buf *b, __u32 value)
{
	stream_put16(b, value >> 16);
	stream_put16(b, value);
}

void stream_put64(struct stream_buf *b, __u64 value)
{
	stream_put32(b, value >> 32);
	stream_put32(b, value);
}

void stream_header(struct stream_buf *b)
{
	stream_put(b, STREAM_MAGIC, 4);
	stream_put16(b, STREAM_VERSION);
	stream_put16(b, 0);
}

void stream_record(struct stream_buf *b, __u16 type, __u16 flags, __u32 len)
{
	stream_put16(b, type);
	stream_put16(b, flags);
	stream_put32(b, len);
}

void stream_config(struct stream_buf *b, const struct ap_masks *masks)
{
	stream_record(b, STREAM_CONFIG, STREAM_MANDATORY, STREAM_CONFIG_SIZE);
	stream_put(b, masks->apm, AP_MASK_BYTES);
	stream_put(b, masks->aqm, AP_MASK_BYTES);
	stream_put(b, masks->adm, AP_MASK_BYTES);
}

void stream_hwinfo(struct stream_buf *b, const struct stream_hwrow *rows, unsigned int nr)
{
	unsigned int i;

	stream_record(b, STREAM_HWINFO, STREAM_MANDATORY, nr * STREAM_HWROW_SIZE);
	for (i = 0; i < nr; i++) {
		stream_put16(b, rows[i].apid);
		stream_put16(b, 0);
		stream_put32(b, 0);
		stream_put64(b, rows[i].info);
	}
}

void stream_irqs(struct stream_buf *b, const struct stream_irqrow *rows, unsigned int nr)
{
	unsigned int i;

	stream_record(b, STREAM_IRQ, STREAM_MANDATORY, nr * STREAM_IRQROW_SIZE);
	for (i = 0; i < nr; i++) {
		stream_put16(b, rows[i].apid);
		stream_put(b, &rows[i].isc, 1);
		stream_put(b, NULL, 5);
		stream_put64(b, rows[i].nib);
		stream_put(b, rows[i].domains, AP_MASK_BYTES);
	}
}

void stream_end(struct stream_buf *b)
{
	stream_record(b, STREAM_END, STREAM_MANDATORY, 0);
}

void stream_encode(struct stream_buf *b, const struct stream *s)
{
	stream_header(b);
	stream_config(b, &s->masks);
	stream_hwinfo(b, s->rows, s->nr_rows);
	if (s->nr_irqs)
		stream_irqs(b, s->irqs, s->nr_irqs);
	stream_end(b);
}

static const char *decode_header(const __u8 *p, size_t len)
{
	if (len < STREAM_HEADER_SIZE)
		return "shorter than its header";
	if (memcmp(p, STREAM_MAGIC, 4))
		return "magic";
	if (stream_get16(p + 4) != STREAM_VERSION)
		return "version";
	if (stream_get16(p + 6))
		return "reserved field of the header";
	return NULL;
}

static const char *decode_config(struct stream *s, const __u8 *p, __u32 len)
{
	if (len != STREAM_CONFIG_SIZE)
		return "length of CONFIG";
	memcpy(s->masks.apm, p, AP_MASK_BYTES);
	memcpy(s->masks.aqm, p + AP_MASK_BYTES, AP_MASK_BYTES);
	memcpy(s->masks.adm, p + 2 * AP_MASK_BYTES, AP_MASK_BYTES);
	return NULL;
}

static const char *decode_hwinfo(struct stream *s, const __u8 *p, __u32 len)
{
	struct stream_hwrow *row;
	unsigned int i;

	if (len % STREAM_HWROW_SIZE || len / STREAM_HWROW_SIZE > AP_IDS)
		return "length of HWINFO";
	s->nr_rows = len / STREAM_HWROW_SIZE;
	for (i = 0; i < s->nr_rows; i++, p += STREAM_HWROW_SIZE) {
		row = &s->rows[i];
		row->apid = stream_get16(p);
		row->info = stream_get64(p + 8);
		if (row->apid >= AP_IDS || !ap_mask_test(s->masks.apm, row->apid))
			return "HWINFO of an adapter that is not in CONFIG";
		if (i && row->apid <= row[-1].apid)
			return "HWINFO is not sorted, or not unique";
		if (stream_get16(p + 2) || stream_get32(p + 4))
			return "reserved field of HWINFO";
		if (row->info & ~STREAM_HW_MASK)
			return "bits in HWINFO that do not belong to the format";
	}
	if (s->nr_rows != ap_mask_weight(s->masks.apm))
		return "an adapter without HWINFO";
	return NULL;
}

static bool irq_ascends(const struct stream_irqrow *a, const struct stream_irqrow *b)
{
	if (a->apid != b->apid)
		return a->apid < b->apid;
	if (a->isc != b->isc)
		return a->isc < b->isc;
	return a->nib < b->nib;
}

static const char *decode_irq_row(struct stream *s, struct stream_irqrow *row, const __u8 *p)
{
	const struct stream_irqrow *other;
	unsigned int i;

	row->apid = stream_get16(p);
	row->isc = p[2];
	row->nib = stream_get64(p + 8);
	memcpy(row->domains, p + 16, AP_MASK_BYTES);
	if (p[3] || stream_get32(p + 4))
		return "reserved field of IRQ";
	if (row->apid >= AP_IDS || !ap_mask_test(s->masks.apm, row->apid))
		return "IRQ of an adapter that is not in CONFIG";
	if (row->isc > 7)
		return "ISC of IRQ";
	if (!row->nib)
		return "NIB of IRQ";
	if (!ap_mask_weight(row->domains))
		return "IRQ of no queue";
	if (row > s->irqs && !irq_ascends(row - 1, row))
		return "IRQ is not sorted, or not unique";
	for (i = 0; i < AP_IDS; i++) {
		if (!ap_mask_test(row->domains, i))
			continue;
		if (!ap_mask_test(s->masks.aqm, i))
			return "IRQ of a domain that is not in CONFIG";
		for (other = s->irqs; other < row; other++)
			if (other->apid == row->apid && ap_mask_test(other->domains, i))
				return "a queue in two rows of IRQ";
	}
	return NULL;
}

static const char *decode_irq(struct stream *s, const __u8 *p, __u32 len)
{
	const char *why = NULL;

	if (!len || len % STREAM_IRQROW_SIZE)
		return "length of IRQ";
	for (; len && !why; len -= STREAM_IRQROW_SIZE, p += STREAM_IRQROW_SIZE) {
		if (s->nr_irqs == STREAM_MAX_IRQS)
			return "more rows of IRQ than a test has";
		why = decode_irq_row(s, &s->irqs[s->nr_irqs], p);
		s->nr_irqs += !why;
	}
	s->irq_records++;
	return why;
}

/* The record at offset @at */
static const char *decode_record(struct stream *s, const __u8 *start, size_t at, size_t len)
{
	const __u8 *p = start + at;
	__u32 size;

	if (len - at < STREAM_RECORD_SIZE)
		return "a record that is cut off";
	if (stream_get16(p + 2) != STREAM_MANDATORY)
		return "flags of a record";
	size = stream_get32(p + 4);
	if (size % 8 || size > len - at - STREAM_RECORD_SIZE)
		return "length of a record";

	switch (stream_get16(p)) {
	case STREAM_CONFIG:
		if (s->config_at)
			return "place of CONFIG";
		s->config_at = at;
		return decode_config(s, p + STREAM_RECORD_SIZE, size);
	case STREAM_HWINFO:
		if (!s->config_at || s->hwinfo_at)
			return "place of HWINFO";
		s->hwinfo_at = at;
		return decode_hwinfo(s, p + STREAM_RECORD_SIZE, size);
	case STREAM_IRQ:
		if (!s->hwinfo_at)
			return "place of IRQ";
		return decode_irq(s, p + STREAM_RECORD_SIZE, size);
	case STREAM_END:
		if (!s->hwinfo_at)
			return "place of END";
		s->end_at = at;
		return size ? "length of END" : NULL;
	default:
		return "type of a record";
	}
}

static const char *decode(struct stream *s, const __u8 *start, size_t len)
{
	size_t at = STREAM_HEADER_SIZE;
	const char *why;

	memset(s, 0, sizeof(*s));
	s->len = len;
	why = decode_header(start, len);
	while (!why && at < len) {
		if (s->end_at)
			return "bytes after END";
		why = decode_record(s, start, at, len);
		if (!why)
			at += STREAM_RECORD_SIZE + stream_get32(start + at + 4);
	}
	return why;
}

const char *stream_decode(struct stream *s, const void *data, size_t len)
{
	const char *why = decode(s, data, len);

	return why ?: s->end_at ? NULL : "no END";
}

const char *stream_decode_pre_copy(struct stream *s, const void *data, size_t len)
{
	const char *why = decode(s, data, len);

	if (why)
		return why;
	if (s->end_at || s->irq_records)
		return "END or IRQ before STOP_COPY";
	return s->hwinfo_at ? NULL : "no HWINFO";
}
