// SPDX-License-Identifier: GPL-2.0
/* See reference.h. Shares no line and no header with the driver, on purpose. */
#include <errno.h>
#include <string.h>

#include "reference.h"

/**
 * struct walk - the state of the one loop over the records
 * @strict: reserved fields have to be 0
 * @last: the last record of a known type
 * @records: those before the present one
 * @pairs: CONFIG records
 * @skipped: payload bytes of unknown records
 * @key: of the last IRQ row, which the next one has to exceed
 * @taken: queues that an IRQ row has named
 */
struct walk {
	int strict;
	unsigned int last;
	uint32_t records;
	unsigned int pairs;
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

uint32_t ref_crc(const uint8_t *data, size_t len)
{
	static uint32_t table[256];
	uint32_t crc;
	unsigned int i, k;

	for (i = 0; i < 256 && !table[255]; i++) {
		for (crc = i, k = 0; k < 8; k++)
			crc = crc & 1 ? crc >> 1 ^ 0xedb88320U : crc >> 1;
		table[i] = crc;
	}
	for (crc = ~0U; len--; data++)
		crc = crc >> 8 ^ table[(crc ^ *data) & 0xff];
	return ~crc;
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
static int hwinfo_row(const struct walk *w, const struct ref_result *r,
		      const uint8_t *row, const uint8_t *before)
{
	unsigned int apid = ref_get(row, 2);

	if (apid > 255 || !ref_bit(r->masks, apid))
		return -EINVAL;
	if (before && apid <= ref_get(before, 2))
		return -EINVAL;
	if (w->strict && (!all_zero(row + 2, 6) ||
			  ref_get(row + 8, 8) & ~REF_INFO_MASK))
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
	if (w->strict && !all_zero(row + 3, 5))
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
	if (len % 8 || (w->strict && flags > 1))
		return -EINVAL;
	switch (type) {
	case REF_CONFIG:
		if ((w->last && w->last != REF_HWINFO) || len != 3 * REF_MASK)
			return -EINVAL;
		return ++w->pairs > 17 ? -EMSGSIZE : 0;
	case REF_HWINFO:
		if (w->last != REF_CONFIG || len % 16)
			return -EINVAL;
		if (len > 256 * 16)
			return -EMSGSIZE;
		return len / 16 == weight(r->masks) ? 0 : -EINVAL;
	case REF_IRQ:
		if ((w->last != REF_HWINFO && w->last != REF_IRQ) || !len || len % 48)
			return -EINVAL;
		return len > (4 << 20) - at ? -EMSGSIZE : 0;
	case REF_END:
		if ((w->last != REF_HWINFO && w->last != REF_IRQ) || len != 8)
			return -EINVAL;
		return 0;
	}
	if (flags & 1)
		return -EOPNOTSUPP;
	if (len > 4096 || w->skipped + len > 65536)
		return -EMSGSIZE;
	w->skipped += len;
	return 0;
}

static int header(struct walk *w, const uint8_t *data, uint32_t *len)
{
	if (memcmp(data, "VFAP", 4))
		return -EINVAL;
	if (ref_get(data + 4, 2) != 1)
		return -EOPNOTSUPP;
	w->strict = !ref_get(data + 6, 2);
	*len = ref_get(data + 8, 4);
	if (*len < REF_HEADER || *len % 8)
		return -EINVAL;
	if (w->strict && (*len != REF_HEADER || !all_zero(data + 12, 4)))
		return -EINVAL;
	return *len > 256 ? -EMSGSIZE : 0;
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
			ret = hwinfo_row(w, r, p + i, i ? p + i - 16 : NULL);
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
		if (left < len)
			return -ENODATA;
		if (ref_get(p + 4, 4) != ref_crc(data, at + 4))
			return -EBADMSG;
		if (ref_get(p, 4) != w->records)
			return -EINVAL;
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
	ret = header(w, data, &len);
	if (ret)
		return ret;
	for (at = len; at <= size && size - at >= REF_HEAD; at += len) {
		type = ref_get(data + at, 2);
		len = ref_get(data + at + 4, 4);
		ret = head(w, r, type, ref_get(data + at + 2, 2), len, at + REF_HEAD);
		if (ret)
			return ret;
		at += REF_HEAD;
		ret = payload(w, r, data, at, type, len, size - at);
		if (ret || type == REF_END)
			return ret;
		w->records++;
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
		r->error = -EMSGSIZE;
	if (len > limit && !r->error)
		r->error = -EINVAL;
}
