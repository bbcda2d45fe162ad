// SPDX-License-Identifier: GPL-2.0
/* See reference.h. Shares no line and no header with the driver, on purpose. */
#include <errno.h>
#include <string.h>

#include "reference.h"

/**
 * struct walk - the state of the one loop over the records
 * @last: the last record of a known type
 * @skipped: payload bytes of unknown records
 * @key: of the last IRQ row, which the next one has to exceed
 * @taken: queues that an IRQ row has named
 */
struct walk {
	unsigned int last;
	uint32_t skipped;
	uint8_t key[11];
	uint8_t taken[256][REF_MASK];
};

uint64_t ref_get(const uint8_t *p, unsigned int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | *p++;
	return value;
}

void ref_put(uint8_t *p, unsigned int bytes, uint64_t value)
{
	while (bytes--) {
		p[bytes] = value;
		value >>= 8;
	}
}

static void add(struct ref_result *r, unsigned int type, size_t at)
{
	if (r->nr == REF_MAX_EVENTS) {
		r->too_many = 1;
		return;
	}
	r->events[r->nr].type = type;
	r->events[r->nr++].at = at;
}

static int all_zero(const uint8_t *p, size_t len)
{
	while (len && !*p) {
		p++;
		len--;
	}
	return !len;
}

static unsigned int weight(const uint8_t *mask)
{
	unsigned int id, n = 0;

	for (id = 0; id < 256; id++)
		n += ref_bit(mask, id);
	return n;
}

/* A row of HWINFO: { apid 2, 0 2, 0 4, info 8 }, ascending, each in the mask */
static int hwinfo_row(const struct ref_result *r, const uint8_t *row,
		      const uint8_t *before)
{
	unsigned int apid = ref_get(row, 2);

	if (apid > 255 || !ref_bit(r->masks, apid))
		return -EINVAL;
	if (before && apid <= ref_get(before, 2))
		return -EINVAL;
	if (!all_zero(row + 2, 6) || ref_get(row + 8, 8) & ~REF_INFO_MASK)
		return -EINVAL;
	return 0;
}

/* A row of IRQ: { apid 2, isc 1, 0 1, 0 4, nib 8, domains 32 } */
static int irq_row(struct walk *w, const struct ref_result *r, const uint8_t *row)
{
	unsigned int apid = ref_get(row, 2);
	uint8_t key[11];
	unsigned int i;

	if (apid > 255 || !ref_bit(r->masks, apid) || row[2] > 7 || all_zero(row + 8, 8))
		return -EINVAL;
	if (!all_zero(row + 3, 5))
		return -EINVAL;
	/* Big-endian, so that the order of the numbers is that of their bytes */
	memcpy(key, row, 3);
	memcpy(key + 3, row + 8, 8);
	if (memcmp(key, w->key, sizeof(key)) <= 0)
		return -EINVAL;
	memcpy(w->key, key, sizeof(key));
	if (all_zero(row + 16, REF_MASK))
		return -EINVAL;
	for (i = 0; i < 256; i++) {
		if (!ref_bit(row + 16, i))
			continue;
		if (!ref_bit(r->masks + REF_MASK, i) || ref_bit(w->taken[apid], i))
			return -EINVAL;
		w->taken[apid][i / 8] |= 0x80 >> i % 8;
	}
	return 0;
}

/* Whether a record may stand here, by its head alone */
static int head(struct walk *w, const struct ref_result *r, unsigned int type,
		unsigned int flags, uint32_t len, size_t at)
{
	if (len % 8 || flags > 1 || (type && type <= REF_END && !flags))
		return -EINVAL;
	switch (type) {
	case REF_CONFIG:
		return w->last || len != 3 * REF_MASK ? -EINVAL : 0;
	case REF_HWINFO:
		if (w->last != REF_CONFIG || len != 16 * weight(r->masks))
			return -EINVAL;
		return 0;
	case REF_IRQ:
		if ((w->last != REF_HWINFO && w->last != REF_IRQ) || !len || len % 48)
			return -EINVAL;
		return len > (4 << 20) - at ? -EINVAL : 0;
	case REF_END:
		if ((w->last != REF_HWINFO && w->last != REF_IRQ) || len)
			return -EINVAL;
		return 0;
	}
	if (flags & 1 || len > 4096 || w->skipped + len > 65536)
		return -EOPNOTSUPP;
	w->skipped += len;
	return 0;
}

static int header(const uint8_t *data)
{
	if (memcmp(data, "VFAP", 4))
		return -EINVAL;
	if (ref_get(data + 4, 2) != 1)
		return -EOPNOTSUPP;
	return ref_get(data + 6, 2) ? -EINVAL : 0;
}

/* The rows or the payload of a record of which @left bytes have arrived */
static int payload(struct walk *w, struct ref_result *r, const uint8_t *data,
		   size_t at, unsigned int type, uint32_t len, size_t left)
{
	const uint8_t *p = data + at;
	uint32_t i;
	int ret;

	switch (type) {
	case REF_CONFIG:
		if (left < len)
			return -ENODATA;
		r->masks = p;
		add(r, type, at + len);
		return 0;
	case REF_HWINFO:
		r->nr_rows = 0;
		r->rows = p;
		for (i = 0; i < len; i += 16) {
			if (left < i + 16)
				return -ENODATA;
			ret = hwinfo_row(r, p + i, i ? p + i - 16 : NULL);
			if (ret)
				return ret;
			r->nr_rows++;
		}
		add(r, type, at + len);
		return 0;
	case REF_IRQ:
		for (i = 0; i < len; i += 48) {
			if (left < i + 48)
				return -ENODATA;
			ret = irq_row(w, r, p + i);
			if (ret)
				return ret;
			if (r->nr_irqs < REF_MAX_EVENTS)
				r->irqs[r->nr_irqs++] = p + i;
			add(r, type, at + i + 48);
		}
		return 0;
	case REF_END:
		add(r, type, at + len);
		return left > len ? -EINVAL : 0;
	}
	return left < len ? -ENODATA : 0;
}

static int walk(struct walk *w, struct ref_result *r, const uint8_t *data, size_t size)
{
	unsigned int type;
	uint32_t len;
	size_t at;
	int ret;

	if (size < REF_HEADER)
		return -ENODATA;
	ret = header(data);
	if (ret)
		return ret;
	for (at = REF_HEADER; at <= size && size - at >= REF_HEAD; at += len) {
		type = ref_get(data + at, 2);
		len = ref_get(data + at + 4, 4);
		ret = head(w, r, type, ref_get(data + at + 2, 2), len, at + REF_HEAD);
		if (ret)
			return ret;
		at += REF_HEAD;
		ret = payload(w, r, data, at, type, len, size - at);
		if (ret || type == REF_END)
			return ret;
		if (type <= REF_END && type)
			w->last = type;
	}
	return -ENODATA;
}

void ref_decode(struct ref_result *r, const uint8_t *data, size_t len)
{
	static struct walk w;
	size_t limit = 4 << 20;

	memset(&w, 0, sizeof(w));
	r->nr = 0;
	r->too_many = 0;
	r->masks = NULL;
	r->rows = NULL;
	r->nr_rows = 0;
	r->nr_irqs = 0;
	r->error = walk(&w, r, data, len < limit ? len : limit);
	if (len > limit && r->error == -ENODATA)
		r->error = -EINVAL;
	if (len > limit && !r->error)
		r->error = -EINVAL;
}
