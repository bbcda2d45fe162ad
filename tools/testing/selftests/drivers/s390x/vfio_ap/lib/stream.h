/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The vfio-ap migration stream, format 1, as tests read and forge it.
 *
 * Written from the description of the format, not from the driver: the two
 * check each other. All integers in the stream are big-endian.
 *
 *   header   "VFAP", u16 version, u16 0
 *   record   u16 type, u16 flags, u32 payload length; payload
 *   CONFIG   u8 apm[32], aqm[32], adm[32]
 *   HWINFO   per adapter: u16 apid, u16 0, u32 0, u64 hardware information
 *   IRQ      per adapter, guest ISC and NIB: u16 apid, u8 isc, u8 0, u32 0, u64 nib,
 *            u8 domains[32]
 *   END      no payload
 *
 * Order: CONFIG, HWINFO, any number of IRQ, END.
 */
#ifndef SELFTEST_VFIO_AP_STREAM_H
#define SELFTEST_VFIO_AP_STREAM_H

#include <stddef.h>

#include <linux/types.h>

#include "ap.h"

#define STREAM_MAGIC		"VFAP"
#define STREAM_VERSION		1
#define STREAM_HEADER_SIZE	8
#define STREAM_RECORD_SIZE	8
#define STREAM_MAX_SIZE		(4U << 20)

#define STREAM_CONFIG		1
#define STREAM_HWINFO		2
#define STREAM_IRQ		3
#define STREAM_END		4

#define STREAM_MANDATORY	0x0001

#define STREAM_CONFIG_SIZE	96
#define STREAM_HWROW_SIZE	16
#define STREAM_IRQROW_SIZE	48

/* More rows of IRQ than any test makes */
#define STREAM_MAX_IRQS		1024

#define STREAM_OPTIONAL_MAX	4096
#define STREAM_OPTIONAL_SUM	65536

/*
 * The information word of an adapter as TAPQ gives it, leftmost bit first:
 * facility bits 8, class 8, SE bind state 2, 14 unused, AP type 8, domains 8,
 * 4 unused, message length 4, 3 unused, queue depth 5.
 */
#define STREAM_HW_MASK		0xffff0000ffff0f1fULL
#define STREAM_HW_APSC		0x8000000000000000ULL
#define STREAM_HW_CCA		0x1000000000000000ULL
#define STREAM_HW_ACCEL		0x0800000000000000ULL
#define STREAM_HW_EP11		0x0400000000000000ULL
#define STREAM_HW_MODE		(STREAM_HW_CCA | STREAM_HW_ACCEL | STREAM_HW_EP11)
#define STREAM_HW_CLASS		0x00ff000000000000ULL
#define STREAM_HW_BS		0x0000c00000000000ULL
#define STREAM_HW_AT		0x00000000ff000000ULL
#define STREAM_HW_ND		0x0000000000ff0000ULL
#define STREAM_HW_ML		0x0000000000000f00ULL
#define STREAM_HW_QD		0x000000000000001fULL

/* The value of a field of an information word, and the word with it changed */
static inline __u64 hwinfo_get(__u64 info, __u64 field)
{
	return (info & field) / (field & -field);
}

static inline __u64 hwinfo_put(__u64 info, __u64 field, __u64 value)
{
	return (info & ~field) | (value * (field & -field) & field);
}

/**
 * struct stream_buf - bytes of a stream that grows
 * @data: the bytes
 * @len: how many there are
 * @size: how many fit
 */
struct stream_buf {
	__u8 *data;
	size_t len;
	size_t size;
};

/**
 * struct stream_hwrow - one row of a HWINFO record
 * @apid: adapter
 * @info: its information word
 */
struct stream_hwrow {
	__u16 apid;
	__u64 info;
};

/**
 * struct stream_irqrow - one row of an IRQ record
 * @apid: adapter
 * @isc: guest interruption subclass
 * @nib: guest address of the notification indicator byte
 * @domains: domains of the queues that have them
 */
struct stream_irqrow {
	__u16 apid;
	__u8 isc;
	__u64 nib;
	__u8 domains[AP_MASK_BYTES];
};

/* Length of an IRQ record with so many rows */
#define STREAM_IRQ_SIZE(rows)						\
	((size_t)STREAM_RECORD_SIZE + (size_t)(rows) * STREAM_IRQROW_SIZE)

/* Length of the header, CONFIG and HWINFO with so many rows */
#define STREAM_INITIAL_SIZE(rows)					\
	((size_t)(STREAM_HEADER_SIZE + 2 * STREAM_RECORD_SIZE +		\
		  STREAM_CONFIG_SIZE) + (size_t)(rows) * STREAM_HWROW_SIZE)

/**
 * struct stream - a decoded stream
 * @masks: adapters, domains, control domains
 * @nr_rows: number of @rows
 * @rows: HWINFO
 * @nr_irqs: number of @irqs
 * @irqs: the rows of all IRQ records
 * @irq_records: number of these
 * @config_at: offset of the CONFIG record, in bytes
 * @hwinfo_at: offset of the HWINFO record
 * @end_at: offset of the END record, 0 in a stream that ends before it
 * @len: length of the stream
 */
struct stream {
	struct ap_masks masks;
	unsigned int nr_rows;
	struct stream_hwrow rows[AP_IDS];
	unsigned int nr_irqs;
	struct stream_irqrow irqs[STREAM_MAX_IRQS];
	unsigned int irq_records;
	size_t config_at;
	size_t hwinfo_at;
	size_t end_at;
	size_t len;
};

/* Building: these end the program if there is no memory */
void stream_free(struct stream_buf *b);
void stream_put(struct stream_buf *b, const void *data, size_t len);
void stream_put16(struct stream_buf *b, __u16 value);
void stream_put32(struct stream_buf *b, __u32 value);
void stream_put64(struct stream_buf *b, __u64 value);
void stream_header(struct stream_buf *b);
/* Head of a record; the caller puts the payload after it */
void stream_record(struct stream_buf *b, __u16 type, __u16 flags, __u32 len);
void stream_config(struct stream_buf *b, const struct ap_masks *masks);
void stream_hwinfo(struct stream_buf *b, const struct stream_hwrow *rows, unsigned int nr);
void stream_irqs(struct stream_buf *b, const struct stream_irqrow *rows, unsigned int nr);
void stream_end(struct stream_buf *b);
/* The whole stream */
void stream_encode(struct stream_buf *b, const struct stream *s);

/* Strict; NULL, or the defect of the stream */
const char *stream_decode(struct stream *s, const void *data, size_t len);
/* The same for the bytes that a source sends before STOP_COPY: no IRQ, no END */
const char *stream_decode_pre_copy(struct stream *s, const void *data, size_t len);

__u16 stream_get16(const void *data);
__u32 stream_get32(const void *data);
__u64 stream_get64(const void *data);

#endif
