/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A second decoder of the migration stream, written from the description of the
 * format alone. It has the whole stream at once and keeps no state between calls,
 * so that its results are easy to verify by reading.
 */
#ifndef LAB_FUZZ_REFERENCE_H
#define LAB_FUZZ_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#define REF_MAX_EVENTS	1024

/* Layout of a stream, for programs that write one. */
#define REF_HEADER	8
#define REF_HEAD	8
#define REF_CONFIG	1
#define REF_HWINFO	2
#define REF_IRQ		3
#define REF_END		4
#define REF_MASK	32
#define REF_INFO_MASK	0xffff0000ffff0f1fULL

/**
 * struct ref_event - the decoder has to report this
 * @type: REF_CONFIG, REF_HWINFO, REF_IRQ (one for each row) or REF_END
 * @at: bytes of the stream up to the end of the reported record
 */
struct ref_event {
	unsigned int type;
	size_t at;
};

/**
 * struct ref_result - result of decoding a stream
 * @error: 0, or the errno of the first thing that is wrong; -ENODATA for a stream
 *	   that is right so far but has no end
 * @nr: number of @events, and of rows in @irqs respectively
 * @too_many: there would have been more events than fit
 * @masks: CONFIG
 * @rows: the payload of HWINFO
 * @nr_rows: rows in it
 * @irqs: the rows of all IRQ records
 */
struct ref_result {
	int error;
	unsigned int nr;
	int too_many;
	struct ref_event events[REF_MAX_EVENTS];
	const uint8_t *masks;
	const uint8_t *rows;
	unsigned int nr_rows;
	unsigned int nr_irqs;
	const uint8_t *irqs[REF_MAX_EVENTS];
};

static inline int ref_bit(const uint8_t *mask, unsigned int id)
{
	return mask[id / 8] >> (7 - id % 8) & 1;
}

uint64_t ref_get(const uint8_t *p, unsigned int bytes);
void ref_put(uint8_t *p, unsigned int bytes, uint64_t value);
void ref_decode(struct ref_result *r, const uint8_t *data, size_t len);

#endif
