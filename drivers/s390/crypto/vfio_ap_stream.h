/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The migration stream of a vfio-ap mediated device, format 1
 *
 * See vfio_ap_stream.c for a description of the format.
 */

#ifndef _VFIO_AP_STREAM_H_
#define _VFIO_AP_STREAM_H_

#include <linux/types.h>

#define VFIO_AP_STREAM_MAGIC		"VFAP"
#define VFIO_AP_STREAM_VERSION		1

/* Bytes of an adapter, domain or control domain mask; bit 0 is the MSB of byte 0. */
#define VFIO_AP_STREAM_MASK_BYTES	32
#define VFIO_AP_STREAM_MAX_ADAPTERS	256

/* Limits of the bytes in a stream, in an unknown record, and in all of these. */
#define VFIO_AP_STREAM_MAX_BYTES	(4U << 20)
#define VFIO_AP_STREAM_MAX_OPTIONAL	(4U << 10)
#define VFIO_AP_STREAM_MAX_SKIPPED	(64U << 10)

/*
 * The part of GR2 of PQAP(TAPQ) that format 1 carries: facilities, class, AP
 * type, number of domains, message length and queue depth. The SE bind state
 * is a property of a queue and is left out.
 */
#define VFIO_AP_STREAM_HWINFO_MASK	0xffff0000ffff0f1fULL

/* Bit 0 of the record flags: a decoder that does not know the type must fail. */
#define VFIO_AP_STREAM_MANDATORY	0x0001

/**
 * enum vfio_ap_stream_type - type of a record
 * @VFIO_AP_STREAM_CONFIG: the masks of the guest's AP configuration
 * @VFIO_AP_STREAM_HWINFO: one row of hardware information for each adapter
 * @VFIO_AP_STREAM_IRQ: the interrupts that the guest has enabled
 * @VFIO_AP_STREAM_END: no payload; the last record
 */
enum vfio_ap_stream_type {
	VFIO_AP_STREAM_CONFIG	= 1,
	VFIO_AP_STREAM_HWINFO	= 2,
	VFIO_AP_STREAM_IRQ	= 3,
	VFIO_AP_STREAM_END	= 4,
};

/**
 * struct vfio_ap_stream_header - the first 8 bytes of a stream
 * @magic:	"VFAP"
 * @version:	a decoder refuses any version but its own
 * @reserved:	0
 */
struct vfio_ap_stream_header {
	u8	magic[4];
	__be16	version;
	__be16	reserved;
};

/**
 * struct vfio_ap_stream_record - precedes the payload of each record
 * @type:	enum vfio_ap_stream_type
 * @flags:	VFIO_AP_STREAM_MANDATORY; the other bits are reserved and 0
 * @len:	bytes of the payload that follows; a multiple of 8
 */
struct vfio_ap_stream_record {
	__be16	type;
	__be16	flags;
	__be32	len;
};

/**
 * struct vfio_ap_stream_config - payload of a CONFIG record
 * @apm:	adapters of the guest
 * @aqm:	usage domains of the guest
 * @adm:	control domains of the guest
 */
struct vfio_ap_stream_config {
	u8	apm[VFIO_AP_STREAM_MASK_BYTES];
	u8	aqm[VFIO_AP_STREAM_MASK_BYTES];
	u8	adm[VFIO_AP_STREAM_MASK_BYTES];
};

/**
 * struct vfio_ap_stream_hwinfo - a row of a HWINFO record
 * @apid:	adapter number; rows ascend by it
 * @reserved0:	0
 * @reserved1:	0
 * @info:	GR2 of PQAP(TAPQ) and VFIO_AP_STREAM_HWINFO_MASK
 */
struct vfio_ap_stream_hwinfo {
	__be16	apid;
	__be16	reserved0;
	__be32	reserved1;
	__be64	info;
};

/**
 * struct vfio_ap_stream_irq - a row of an IRQ record
 * @apid:	adapter number; rows ascend by it, then by @isc, then by @nib
 * @isc:	guest interruption subclass, 0 to 7
 * @reserved0:	0
 * @reserved1:	0
 * @nib:	guest address of the notification indicator byte; not 0
 * @domains:	usage domains: the queues of the adapter that have this @isc and
 *		@nib; at least one, all of them in CONFIG, and each queue in
 *		one row only
 */
struct vfio_ap_stream_irq {
	__be16	apid;
	u8	isc;
	u8	reserved0;
	__be32	reserved1;
	__be64	nib;
	u8	domains[VFIO_AP_STREAM_MASK_BYTES];
};

/* The highest guest interruption subclass */
#define VFIO_AP_STREAM_MAX_ISC		7

/* The order of the rows: all that precedes the domains is big-endian. */
#define VFIO_AP_STREAM_IRQ_KEY		offsetof(struct vfio_ap_stream_irq, domains)

/* Bytes of the header, CONFIG and HWINFO of @n adapters. */
#define VFIO_AP_STREAM_INITIAL_BYTES(n)					\
	(sizeof(struct vfio_ap_stream_header) +				\
	 2 * sizeof(struct vfio_ap_stream_record) +			\
	 sizeof(struct vfio_ap_stream_config) +				\
	 (n) * sizeof(struct vfio_ap_stream_hwinfo))

/* Bytes of an IRQ record of so many rows; without rows there is no record. */
static inline size_t vfio_ap_stream_irq_bytes(unsigned int rows)
{
	return rows ? sizeof(struct vfio_ap_stream_record) +
		      rows * sizeof(struct vfio_ap_stream_irq) : 0;
}

#define VFIO_AP_STREAM_END_BYTES	sizeof(struct vfio_ap_stream_record)

/**
 * struct vfio_ap_stream_image - the AP configuration of a guest
 * @config:	the masks
 * @nr:		number of rows of @adapter that are in use; when the image is
 *		complete, the number of bits in @config.apm
 * @adapter:	one row for each adapter in @config.apm, ascending by number
 */
struct vfio_ap_stream_image {
	struct vfio_ap_stream_config config;
	unsigned int nr;
	struct vfio_ap_stream_hwinfo adapter[VFIO_AP_STREAM_MAX_ADAPTERS];
};

/**
 * enum vfio_ap_stream_event - the part that vfio_ap_stream_decode() completed
 * @VFIO_AP_STREAM_NEED_DATA:	none; all bytes were consumed
 * @VFIO_AP_STREAM_GOT_CONFIG:	the image's masks
 * @VFIO_AP_STREAM_GOT_HWINFO:	the image's adapters
 * @VFIO_AP_STREAM_GOT_IRQ:	a row of an IRQ record, in the decoder's @irq
 * @VFIO_AP_STREAM_GOT_END:	the stream
 */
enum vfio_ap_stream_event {
	VFIO_AP_STREAM_NEED_DATA,
	VFIO_AP_STREAM_GOT_CONFIG,
	VFIO_AP_STREAM_GOT_HWINFO,
	VFIO_AP_STREAM_GOT_IRQ,
	VFIO_AP_STREAM_GOT_END,
};

/* The unit that the decoder collects: SKIP is the payload of an unknown record. */
enum vfio_ap_stream_load_state {
	VFIO_AP_LOAD_HEADER,
	VFIO_AP_LOAD_RECORD,
	VFIO_AP_LOAD_CONFIG,
	VFIO_AP_LOAD_HWINFO,
	VFIO_AP_LOAD_IRQ,
	VFIO_AP_LOAD_SKIP,
	VFIO_AP_LOAD_DONE,
};

/**
 * struct vfio_ap_stream_decoder - an incremental decoder
 * @state:	the unit that is collected
 * @unit:	the bytes of the unit that have arrived
 * @fill:	number of bytes in @unit
 * @left:	bytes of the payload that have not been decoded
 * @total:	bytes of the stream that have arrived
 * @skipped:	payload bytes of unknown records
 * @last:	type of the last known record, 0 before the first one
 * @error:	0, or the negative errno that every later call returns
 * @irq:	the last row of an IRQ record
 * @taken:	domains of the adapter of @irq that have been in a row
 * @image:	the source's configuration; complete when @state is
 *		VFIO_AP_LOAD_DONE
 */
struct vfio_ap_stream_decoder {
	enum vfio_ap_stream_load_state state;
	u8	unit[sizeof(struct vfio_ap_stream_config)];
	u32	fill;
	u32	left;
	u32	total;
	u32	skipped;
	u16	last;
	int	error;
	struct vfio_ap_stream_irq irq;
	u8	taken[VFIO_AP_STREAM_MASK_BYTES];
	struct vfio_ap_stream_image image;
};

/* Bytes that hold the text of any difference, NUL included. */
#define VFIO_AP_STREAM_DIFF_CHARS	80

/* Called for each difference of a comparison; @ctx is the caller's. */
typedef void (*vfio_ap_stream_diff_fn)(void *ctx, const char *text);

u8 *vfio_ap_stream_put_record(u8 *p, enum vfio_ap_stream_type type, size_t len);
size_t vfio_ap_stream_encode_initial(const struct vfio_ap_stream_image *image,
				     u8 *buf);
ssize_t vfio_ap_stream_decode(struct vfio_ap_stream_decoder *dec,
			      const u8 *data, size_t len,
			      enum vfio_ap_stream_event *event);
bool vfio_ap_stream_compare_config(const struct vfio_ap_stream_image *source,
				   const struct vfio_ap_stream_image *local,
				   vfio_ap_stream_diff_fn report, void *ctx);
bool vfio_ap_stream_compare_hwinfo(const struct vfio_ap_stream_image *source,
				   const struct vfio_ap_stream_image *local,
				   vfio_ap_stream_diff_fn report, void *ctx);

#endif /* _VFIO_AP_STREAM_H_ */
