// SPDX-License-Identifier: GPL-2.0+
/**
 * DOC: migration stream
 *
 * The stream carries no card state. It tells the destination what the guest's
 * AP configuration and its adapters were on the source, so that the destination
 * can prove that its own are as good before the guest depends on them. It is
 * compared with what the destination's administrator assigned and never
 * applied.
 *
 * This is format 1. All numbers are big-endian. A stream is a header of 16
 * bytes, then records; a record is a head of 8 bytes and a payload of a multiple
 * of 8 bytes:
 *
 * ======  ==================================================================
 * CONFIG  96 bytes: masks of adapters, usage domains and control domains
 * HWINFO  16 bytes for each adapter in CONFIG, ascending by number
 * IRQ     48 bytes for each adapter, ISC and notification byte, ascending
 * END     8 bytes: number of records before it, checksum
 * ======  ==================================================================
 *
 * The records stand in this order. The pair of CONFIG and HWINFO may be repeated,
 * the last one counts. There may be any number of IRQ records, also none; their
 * rows are as those of a single one. Nothing follows END. What a later version has
 * to add is a new type of record, never a longer one: a decoder skips an unknown
 * record, unless its flags say that it must be understood.
 */

/*
 * This file knows neither devices, locks nor user pointers and uses explicit
 * byte order, so that its tests run on any machine. The bytes come from an
 * untrusted peer: every length is bounded before it is used, and the decoder
 * allocates nothing.
 */

#include <linux/bitfield.h>
#include <linux/bits.h>
#include <linux/build_bug.h>
#include <linux/crc32.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/byteorder.h>

#include "vfio_ap_stream.h"

/* Fields of the TAPQ information; struct ap_tapq_hwinfo has the same as bits. */
#define HWINFO_FACILITIES	GENMASK_ULL(63, 56)
#define HWINFO_MODE		GENMASK_ULL(60, 58)
#define HWINFO_MODE_CCA		4
#define HWINFO_MODE_ACCEL	2
#define HWINFO_MODE_EP11	1
#define HWINFO_CLASS		GENMASK_ULL(55, 48)
#define HWINFO_TYPE		GENMASK_ULL(31, 24)
#define HWINFO_DOMAINS		GENMASK_ULL(23, 16)
#define HWINFO_MSGLEN		GENMASK_ULL(11, 8)
#define HWINFO_DEPTH		GENMASK_ULL(4, 0)

/* As the AP bus reads the message length, see ap_card_create(). */
#define HWINFO_MSGLEN_CHUNK	4096
#define HWINFO_MSGLEN_DEFAULT	(12 * 1024)

static_assert(sizeof(struct vfio_ap_stream_header) == 16);
static_assert(sizeof(struct vfio_ap_stream_record) == 8);
static_assert(sizeof(struct vfio_ap_stream_config) == 96);
static_assert(sizeof(struct vfio_ap_stream_hwinfo) == 16);
static_assert(sizeof(struct vfio_ap_stream_irq_row) == 48);
static_assert(sizeof(struct vfio_ap_stream_end) == 8);

/**
 * vfio_ap_stream_test_bit - test whether a mask has an id
 * @mask: VFIO_AP_STREAM_MASK_BYTES bytes, bit 0 is the MSB of byte 0
 * @id: 0 to 255
 *
 * Return: true if the bit is set.
 */
bool vfio_ap_stream_test_bit(const u8 *mask, unsigned int id)
{
	return mask[id / 8] & (0x80 >> (id % 8));
}

static unsigned int vfio_ap_stream_weight(const u8 *mask)
{
	unsigned int i, weight = 0;
	u8 bits;

	for (i = 0; i < VFIO_AP_STREAM_MASK_BYTES; i++) {
		/* Drop the last bit that is set. */
		for (bits = mask[i]; bits; bits &= bits - 1)
			weight++;
	}

	return weight;
}

static u8 *vfio_ap_stream_put(u8 *p, const void *data, size_t len)
{
	memcpy(p, data, len);
	return p + len;
}

static u8 *vfio_ap_stream_put_record(u8 *p, enum vfio_ap_stream_type type,
				     size_t len)
{
	struct vfio_ap_stream_record rec = {
		.type = cpu_to_be16(type),
		.flags = cpu_to_be16(VFIO_AP_STREAM_MANDATORY),
		.len = cpu_to_be32(len),
	};

	return vfio_ap_stream_put(p, &rec, sizeof(rec));
}

static u8 *vfio_ap_stream_put_hwinfo(u8 *p,
				     const struct vfio_ap_stream_adapter *adapter)
{
	struct vfio_ap_stream_hwinfo row = {
		.apid = cpu_to_be16(adapter->apid),
		.info = cpu_to_be64(adapter->info),
	};

	return vfio_ap_stream_put(p, &row, sizeof(row));
}

/**
 * vfio_ap_stream_encode_header - write the header of a stream
 * @buf: where to write; VFIO_AP_STREAM_HEADER_BYTES
 */
void vfio_ap_stream_encode_header(u8 *buf)
{
	struct vfio_ap_stream_header header = {
		.magic = VFIO_AP_STREAM_MAGIC,
		.major = cpu_to_be16(VFIO_AP_STREAM_MAJOR),
		.minor = cpu_to_be16(VFIO_AP_STREAM_MINOR),
		.len = cpu_to_be32(sizeof(header)),
	};

	vfio_ap_stream_put(buf, &header, sizeof(header));
}

/**
 * vfio_ap_stream_encode_pair - write a CONFIG and a HWINFO record
 * @image: a complete image
 * @buf: where to write; VFIO_AP_STREAM_PAIR_BYTES(@image->nr)
 */
void vfio_ap_stream_encode_pair(const struct vfio_ap_stream_image *image, u8 *buf)
{
	unsigned int i;
	u8 *p = buf;

	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_CONFIG,
				      sizeof(image->config));
	p = vfio_ap_stream_put(p, &image->config, sizeof(image->config));

	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_HWINFO, image->nr *
				      sizeof(struct vfio_ap_stream_hwinfo));
	for (i = 0; i < image->nr; i++)
		p = vfio_ap_stream_put_hwinfo(p, &image->adapter[i]);
}

/**
 * vfio_ap_stream_encode_irq_head - write the head of an IRQ record
 * @rows: number of rows that follow
 * @buf: where to write; VFIO_AP_STREAM_IRQ_BYTES(0)
 */
void vfio_ap_stream_encode_irq_head(unsigned int rows, u8 *buf)
{
	vfio_ap_stream_put_record(buf, VFIO_AP_STREAM_IRQ, rows *
				  sizeof(struct vfio_ap_stream_irq_row));
}

/**
 * vfio_ap_stream_encode_irq - write a row of an IRQ record
 * @irq: the interrupts; rows have to ascend by adapter, ISC and NIB
 * @buf: where to write; sizeof(struct vfio_ap_stream_irq_row)
 */
void vfio_ap_stream_encode_irq(const struct vfio_ap_stream_irq *irq, u8 *buf)
{
	struct vfio_ap_stream_irq_row row = {
		.apid = cpu_to_be16(irq->apid),
		.isc = irq->isc,
		.nib = cpu_to_be64(irq->nib),
	};

	memcpy(row.domains, irq->domains, sizeof(row.domains));
	vfio_ap_stream_put(buf, &row, sizeof(row));
}

/**
 * vfio_ap_stream_crc - continue the checksum of a stream
 * @crc: the checksum so far, VFIO_AP_STREAM_CRC_INIT at first
 * @data: the bytes that follow
 * @len: number of bytes
 *
 * Return: the checksum with @data.
 */
u32 vfio_ap_stream_crc(u32 crc, const u8 *data, size_t len)
{
	return crc32_le(crc, data, len);
}

/**
 * vfio_ap_stream_encode_end - write the END record
 * @records: number of records before it
 * @crc: what vfio_ap_stream_crc() gives for every byte before it
 * @buf: where to write; VFIO_AP_STREAM_END_BYTES
 */
void vfio_ap_stream_encode_end(u32 records, u32 crc, u8 *buf)
{
	struct vfio_ap_stream_end end = {
		.records = cpu_to_be32(records),
	};
	u8 *p = buf;

	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_END, sizeof(end));
	p = vfio_ap_stream_put(p, &end.records, sizeof(end.records));
	end.crc = cpu_to_be32(~vfio_ap_stream_crc(crc, buf, p - buf));
	vfio_ap_stream_put(p, &end.crc, sizeof(end.crc));
}

/**
 * vfio_ap_stream_decode_init - prepare for the first byte of a stream
 * @dec: the decoder
 */
void vfio_ap_stream_decode_init(struct vfio_ap_stream_decoder *dec)
{
	memset(dec, 0, sizeof(*dec));
	dec->state = VFIO_AP_LOAD_HEADER;
	dec->crc = VFIO_AP_STREAM_CRC_INIT;
}

/* What a newer minor version may use is reserved as long as we know the version. */
static bool vfio_ap_stream_strict(const struct vfio_ap_stream_decoder *dec)
{
	return dec->minor <= VFIO_AP_STREAM_MINOR;
}

static void vfio_ap_stream_expect(struct vfio_ap_stream_decoder *dec,
				  enum vfio_ap_stream_load_state state)
{
	dec->state = state;
	dec->fill = 0;
}

static int vfio_ap_stream_load_header(struct vfio_ap_stream_decoder *dec)
{
	struct vfio_ap_stream_header header;
	u32 len;

	memcpy(&header, dec->unit, sizeof(header));
	if (memcmp(header.magic, VFIO_AP_STREAM_MAGIC, sizeof(header.magic)))
		return -EINVAL;
	if (be16_to_cpu(header.major) != VFIO_AP_STREAM_MAJOR)
		return -EOPNOTSUPP;

	dec->minor = be16_to_cpu(header.minor);
	len = be32_to_cpu(header.len);
	if (len < sizeof(header) || len % 8)
		return -EINVAL;
	if (vfio_ap_stream_strict(dec) &&
	    (len != sizeof(header) || header.reserved))
		return -EINVAL;
	if (len > VFIO_AP_STREAM_MAX_HEADER)
		return -EMSGSIZE;

	dec->left = len - sizeof(header);
	vfio_ap_stream_expect(dec, dec->left ? VFIO_AP_LOAD_SKIP :
					       VFIO_AP_LOAD_RECORD);
	return 0;
}

static int vfio_ap_stream_begin_config(struct vfio_ap_stream_decoder *dec,
				       u32 len)
{
	if (dec->last && dec->last != VFIO_AP_STREAM_HWINFO)
		return -EINVAL;
	if (len != sizeof(struct vfio_ap_stream_config))
		return -EINVAL;
	if (++dec->pairs > VFIO_AP_STREAM_MAX_PAIRS)
		return -EMSGSIZE;

	dec->last = VFIO_AP_STREAM_CONFIG;
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_CONFIG);
	return 0;
}

static int vfio_ap_stream_end_hwinfo(struct vfio_ap_stream_decoder *dec,
				     enum vfio_ap_stream_event *event)
{
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);
	dec->records++;
	*event = VFIO_AP_STREAM_GOT_HWINFO;
	return 0;
}

static int vfio_ap_stream_begin_hwinfo(struct vfio_ap_stream_decoder *dec,
				       u32 len, enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_image *image = &dec->image;
	u32 rows = len / sizeof(struct vfio_ap_stream_hwinfo);

	if (dec->last != VFIO_AP_STREAM_CONFIG)
		return -EINVAL;
	if (len % sizeof(struct vfio_ap_stream_hwinfo))
		return -EINVAL;
	if (rows > VFIO_AP_STREAM_MAX_ADAPTERS)
		return -EMSGSIZE;
	if (rows != vfio_ap_stream_weight(image->config.apm))
		return -EINVAL;

	dec->last = VFIO_AP_STREAM_HWINFO;
	dec->left = len;
	image->nr = 0;
	if (!len)
		return vfio_ap_stream_end_hwinfo(dec, event);

	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_HWINFO);
	return 0;
}

static int vfio_ap_stream_begin_irq(struct vfio_ap_stream_decoder *dec, u32 len)
{
	if (dec->last != VFIO_AP_STREAM_HWINFO && dec->last != VFIO_AP_STREAM_IRQ)
		return -EINVAL;
	if (!len || len % sizeof(struct vfio_ap_stream_irq_row))
		return -EINVAL;
	if (len > VFIO_AP_STREAM_MAX_BYTES - dec->total)
		return -EMSGSIZE;

	dec->last = VFIO_AP_STREAM_IRQ;
	dec->left = len;
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_IRQ);
	return 0;
}

static int vfio_ap_stream_begin_end(struct vfio_ap_stream_decoder *dec, u32 len)
{
	if (dec->last != VFIO_AP_STREAM_HWINFO && dec->last != VFIO_AP_STREAM_IRQ)
		return -EINVAL;
	if (len != sizeof(struct vfio_ap_stream_end))
		return -EINVAL;

	dec->last = VFIO_AP_STREAM_END;
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_END);
	return 0;
}

static int vfio_ap_stream_begin_unknown(struct vfio_ap_stream_decoder *dec,
					u16 flags, u32 len)
{
	if (flags & VFIO_AP_STREAM_MANDATORY)
		return -EOPNOTSUPP;
	if (len > VFIO_AP_STREAM_MAX_OPTIONAL ||
	    len > VFIO_AP_STREAM_MAX_SKIPPED - dec->skipped)
		return -EMSGSIZE;

	dec->skipped += len;
	dec->left = len;
	dec->records++;
	vfio_ap_stream_expect(dec, len ? VFIO_AP_LOAD_SKIP :
					 VFIO_AP_LOAD_RECORD);
	return 0;
}

static int vfio_ap_stream_load_record(struct vfio_ap_stream_decoder *dec,
				      enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_record rec;
	u16 flags;
	u32 len;

	memcpy(&rec, dec->unit, sizeof(rec));
	flags = be16_to_cpu(rec.flags);
	len = be32_to_cpu(rec.len);
	if (len % 8)
		return -EINVAL;
	if (vfio_ap_stream_strict(dec) && flags & ~VFIO_AP_STREAM_MANDATORY)
		return -EINVAL;

	switch (be16_to_cpu(rec.type)) {
	case VFIO_AP_STREAM_CONFIG:
		return vfio_ap_stream_begin_config(dec, len);
	case VFIO_AP_STREAM_HWINFO:
		return vfio_ap_stream_begin_hwinfo(dec, len, event);
	case VFIO_AP_STREAM_IRQ:
		return vfio_ap_stream_begin_irq(dec, len);
	case VFIO_AP_STREAM_END:
		return vfio_ap_stream_begin_end(dec, len);
	default:
		return vfio_ap_stream_begin_unknown(dec, flags, len);
	}
}

static int vfio_ap_stream_load_config(struct vfio_ap_stream_decoder *dec,
				      enum vfio_ap_stream_event *event)
{
	memcpy(&dec->image.config, dec->unit, sizeof(dec->image.config));
	dec->records++;
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);
	*event = VFIO_AP_STREAM_GOT_CONFIG;
	return 0;
}

static int vfio_ap_stream_load_hwinfo(struct vfio_ap_stream_decoder *dec,
				      enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_image *image = &dec->image;
	struct vfio_ap_stream_hwinfo row;
	u16 apid;
	u64 info;

	memcpy(&row, dec->unit, sizeof(row));
	apid = be16_to_cpu(row.apid);
	info = be64_to_cpu(row.info);
	if (apid >= VFIO_AP_STREAM_MAX_ADAPTERS ||
	    !vfio_ap_stream_test_bit(image->config.apm, apid))
		return -EINVAL;
	if (image->nr && apid <= image->adapter[image->nr - 1].apid)
		return -EINVAL;
	if (vfio_ap_stream_strict(dec) &&
	    (row.reserved0 || row.reserved1 || info & ~VFIO_AP_STREAM_HWINFO_MASK))
		return -EINVAL;

	/* Unique and in the mask, so there are never more rows than bits. */
	image->adapter[image->nr].apid = apid;
	image->adapter[image->nr].info = info & VFIO_AP_STREAM_HWINFO_MASK;
	image->nr++;

	dec->left -= sizeof(row);
	if (!dec->left)
		return vfio_ap_stream_end_hwinfo(dec, event);

	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_HWINFO);
	return 0;
}

/* Rows ascend, so each is there once, and those of an adapter stand together. */
static bool vfio_ap_stream_irq_ascends(const struct vfio_ap_stream_irq *last,
				       const struct vfio_ap_stream_irq *irq)
{
	if (irq->apid != last->apid)
		return irq->apid > last->apid;
	if (irq->isc != last->isc)
		return irq->isc > last->isc;

	return irq->nib > last->nib;
}

/* Take the domains of a row: at least one, each in CONFIG and in no other row. */
static int vfio_ap_stream_take_domains(struct vfio_ap_stream_decoder *dec,
				       const struct vfio_ap_stream_irq *irq)
{
	bool any = false;
	unsigned int i;

	if (irq->apid != dec->irq.apid)
		memset(dec->taken, 0, sizeof(dec->taken));

	for (i = 0; i < VFIO_AP_STREAM_MASK_BYTES; i++) {
		if (irq->domains[i] & (~dec->image.config.aqm[i] | dec->taken[i]))
			return -EINVAL;
		dec->taken[i] |= irq->domains[i];
		any |= irq->domains[i];
	}

	return any ? 0 : -EINVAL;
}

static int vfio_ap_stream_load_irq(struct vfio_ap_stream_decoder *dec,
				   enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_irq_row row;
	struct vfio_ap_stream_irq irq;
	int ret;

	memcpy(&row, dec->unit, sizeof(row));
	irq.apid = be16_to_cpu(row.apid);
	irq.isc = row.isc;
	irq.nib = be64_to_cpu(row.nib);
	memcpy(irq.domains, row.domains, sizeof(irq.domains));
	if (irq.apid >= VFIO_AP_STREAM_MAX_ADAPTERS ||
	    !vfio_ap_stream_test_bit(dec->image.config.apm, irq.apid))
		return -EINVAL;
	if (irq.isc > VFIO_AP_STREAM_MAX_ISC || !irq.nib)
		return -EINVAL;
	if (vfio_ap_stream_strict(dec) && (row.reserved0 || row.reserved1))
		return -EINVAL;
	/* No row has a NIB of 0, so the first one ascends. */
	if (!vfio_ap_stream_irq_ascends(&dec->irq, &irq))
		return -EINVAL;

	ret = vfio_ap_stream_take_domains(dec, &irq);
	if (ret)
		return ret;
	dec->irq = irq;

	dec->left -= sizeof(row);
	if (!dec->left)
		dec->records++;
	vfio_ap_stream_expect(dec, dec->left ? VFIO_AP_LOAD_IRQ :
					       VFIO_AP_LOAD_RECORD);
	*event = VFIO_AP_STREAM_GOT_IRQ;
	return 0;
}

static int vfio_ap_stream_load_end(struct vfio_ap_stream_decoder *dec,
				   enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_end end;
	u32 crc;

	memcpy(&end, dec->unit, sizeof(end));
	crc = ~vfio_ap_stream_crc(dec->crc, dec->unit,
				  offsetof(typeof(end), crc));
	if (be32_to_cpu(end.crc) != crc)
		return -EBADMSG;
	if (be32_to_cpu(end.records) != dec->records)
		return -EINVAL;

	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_DONE);
	*event = VFIO_AP_STREAM_GOT_END;
	return 0;
}

/* Bytes of what is collected next; none when the stream is complete. */
static u32 vfio_ap_stream_wanted(const struct vfio_ap_stream_decoder *dec)
{
	switch (dec->state) {
	case VFIO_AP_LOAD_HEADER:
		return sizeof(struct vfio_ap_stream_header);
	case VFIO_AP_LOAD_RECORD:
		return sizeof(struct vfio_ap_stream_record);
	case VFIO_AP_LOAD_CONFIG:
		return sizeof(struct vfio_ap_stream_config);
	case VFIO_AP_LOAD_HWINFO:
		return sizeof(struct vfio_ap_stream_hwinfo);
	case VFIO_AP_LOAD_IRQ:
		return sizeof(struct vfio_ap_stream_irq_row);
	case VFIO_AP_LOAD_END:
		return sizeof(struct vfio_ap_stream_end);
	case VFIO_AP_LOAD_SKIP:
		return dec->left;
	case VFIO_AP_LOAD_DONE:
		break;
	}

	return 0;
}

static int vfio_ap_stream_load_unit(struct vfio_ap_stream_decoder *dec,
				    enum vfio_ap_stream_event *event)
{
	switch (dec->state) {
	case VFIO_AP_LOAD_HEADER:
		return vfio_ap_stream_load_header(dec);
	case VFIO_AP_LOAD_RECORD:
		return vfio_ap_stream_load_record(dec, event);
	case VFIO_AP_LOAD_CONFIG:
		return vfio_ap_stream_load_config(dec, event);
	case VFIO_AP_LOAD_HWINFO:
		return vfio_ap_stream_load_hwinfo(dec, event);
	case VFIO_AP_LOAD_IRQ:
		return vfio_ap_stream_load_irq(dec, event);
	case VFIO_AP_LOAD_END:
		return vfio_ap_stream_load_end(dec, event);
	case VFIO_AP_LOAD_SKIP:
		vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);
		return 0;
	case VFIO_AP_LOAD_DONE:
		break;
	}

	return -EINVAL;
}

/*
 * Collect bytes of the present unit. Returns how many were used. The payload of
 * END is not added to the checksum, as it contains the checksum.
 */
static u32 vfio_ap_stream_collect(struct vfio_ap_stream_decoder *dec,
				  const u8 *data, u32 len)
{
	if (dec->state != VFIO_AP_LOAD_SKIP)
		memcpy(dec->unit + dec->fill, data, len);
	if (dec->state != VFIO_AP_LOAD_END)
		dec->crc = vfio_ap_stream_crc(dec->crc, data, len);
	dec->fill += len;
	dec->total += len;

	return len;
}

/* Use the bytes up to the end of the present unit, and act on it at its end. */
static ssize_t vfio_ap_stream_advance(struct vfio_ap_stream_decoder *dec,
				      const u8 *data, size_t len,
				      enum vfio_ap_stream_event *event)
{
	u32 wanted = vfio_ap_stream_wanted(dec);
	u32 used;
	int ret;

	if (!wanted)
		return -EINVAL;

	used = min_t(size_t, len, wanted - dec->fill);
	if (used > VFIO_AP_STREAM_MAX_BYTES - dec->total)
		return -EMSGSIZE;

	vfio_ap_stream_collect(dec, data, used);
	if (dec->fill < wanted)
		return used;

	ret = vfio_ap_stream_load_unit(dec, event);
	if (ret)
		return ret;

	return used;
}

/**
 * vfio_ap_stream_decode - take the next bytes of a stream
 * @dec: the decoder
 * @data: the bytes; any chunking will do
 * @len: number of bytes
 * @event: what was completed, VFIO_AP_STREAM_MORE if nothing was
 *
 * Stops behind the last byte of a CONFIG, HWINFO or END record, or of a row of an
 * IRQ record, so that the caller can judge it before any byte that follows. An
 * error is final: later calls return it again.
 *
 * Return: the number of bytes used, less than @len only together with an event;
 * or
 * * -EINVAL: malformed; or bytes after the end
 * * -EBADMSG: wrong checksum
 * * -EMSGSIZE: longer than any stream or record may be
 * * -EOPNOTSUPP: another major version, or an unknown record that must be
 *   understood
 */
ssize_t vfio_ap_stream_decode(struct vfio_ap_stream_decoder *dec,
			      const u8 *data, size_t len,
			      enum vfio_ap_stream_event *event)
{
	size_t done = 0;
	ssize_t used;

	*event = VFIO_AP_STREAM_MORE;
	if (dec->error)
		return dec->error;

	while (done < len && *event == VFIO_AP_STREAM_MORE) {
		used = vfio_ap_stream_advance(dec, data + done, len - done, event);
		if (used < 0) {
			dec->error = used;
			return used;
		}
		done += used;
	}

	return done;
}

/**
 * vfio_ap_stream_decode_finish - judge a stream at its end
 * @dec: the decoder
 *
 * Return: 0 if the stream is complete; -ENODATA if it was truncated; otherwise
 * what vfio_ap_stream_decode() returned.
 */
int vfio_ap_stream_decode_finish(const struct vfio_ap_stream_decoder *dec)
{
	if (dec->error)
		return dec->error;

	return dec->state == VFIO_AP_LOAD_DONE ? 0 : -ENODATA;
}

/* Report each id that only one of two masks has. */
static bool vfio_ap_stream_compare_mask(enum vfio_ap_stream_field field,
					const u8 *source, const u8 *here,
					vfio_ap_stream_diff_fn report, void *ctx)
{
	struct vfio_ap_stream_diff diff = { .field = field };
	unsigned int id;

	if (!memcmp(source, here, VFIO_AP_STREAM_MASK_BYTES))
		return true;

	for (id = 0; id < VFIO_AP_STREAM_MASK_BYTES * 8; id++) {
		diff.id = id;
		diff.source = vfio_ap_stream_test_bit(source, id);
		diff.here = vfio_ap_stream_test_bit(here, id);
		if (diff.source != diff.here)
			report(ctx, &diff);
	}

	return false;
}

/**
 * vfio_ap_stream_compare_config - compare the masks of two images
 * @source: the image from the stream
 * @here: the image of the destination's guest
 * @report: called for each difference
 * @ctx: passed to @report
 *
 * Return: 0, or -ENXIO if adapters, domains or control domains differ.
 */
int vfio_ap_stream_compare_config(const struct vfio_ap_stream_image *source,
				  const struct vfio_ap_stream_image *here,
				  vfio_ap_stream_diff_fn report, void *ctx)
{
	bool equal;

	equal = vfio_ap_stream_compare_mask(VFIO_AP_DIFF_ADAPTER,
					    source->config.apm,
					    here->config.apm, report, ctx);
	equal &= vfio_ap_stream_compare_mask(VFIO_AP_DIFF_DOMAIN,
					     source->config.aqm,
					     here->config.aqm, report, ctx);
	equal &= vfio_ap_stream_compare_mask(VFIO_AP_DIFF_CONTROL,
					     source->config.adm,
					     here->config.adm, report, ctx);

	return equal ? 0 : -ENXIO;
}

static u64 vfio_ap_stream_field(enum vfio_ap_stream_field field, u64 info)
{
	u64 chunks;

	switch (field) {
	case VFIO_AP_DIFF_TYPE:
		return FIELD_GET(HWINFO_TYPE, info);
	case VFIO_AP_DIFF_MODE:
		return FIELD_GET(HWINFO_MODE, info);
	case VFIO_AP_DIFF_FACILITIES:
		return FIELD_GET(HWINFO_FACILITIES, info & ~HWINFO_MODE);
	case VFIO_AP_DIFF_CLASS:
		return FIELD_GET(HWINFO_CLASS, info);
	case VFIO_AP_DIFF_DOMAINS:
		return FIELD_GET(HWINFO_DOMAINS, info);
	case VFIO_AP_DIFF_DEPTH:
		return FIELD_GET(HWINFO_DEPTH, info);
	case VFIO_AP_DIFF_MSGLEN:
		chunks = FIELD_GET(HWINFO_MSGLEN, info);
		return chunks > 3 ? chunks * HWINFO_MSGLEN_CHUNK :
				    HWINFO_MSGLEN_DEFAULT;
	default:
		return 0;
	}
}

/*
 * A Linux guest's AP bus drops a card whose type or facilities change, requests
 * and all; so these are equal. It can live with more of the rest.
 */
static bool vfio_ap_stream_field_fits(const struct vfio_ap_stream_diff *diff)
{
	switch (diff->field) {
	case VFIO_AP_DIFF_DOMAINS:
	case VFIO_AP_DIFF_DEPTH:
	case VFIO_AP_DIFF_MSGLEN:
		return diff->here >= diff->source;
	default:
		return diff->here == diff->source;
	}
}

static bool vfio_ap_stream_compare_adapter(const struct vfio_ap_stream_adapter *source,
					   const struct vfio_ap_stream_adapter *here,
					   vfio_ap_stream_diff_fn report, void *ctx)
{
	struct vfio_ap_stream_diff diff = { .id = source->apid };
	bool fits = true;

	if (source->info == here->info)
		return true;

	for (diff.field = VFIO_AP_DIFF_TYPE; diff.field <= VFIO_AP_DIFF_MSGLEN;
	     diff.field++) {
		diff.source = vfio_ap_stream_field(diff.field, source->info);
		diff.here = vfio_ap_stream_field(diff.field, here->info);
		if (vfio_ap_stream_field_fits(&diff))
			continue;
		fits = false;
		report(ctx, &diff);
	}

	return fits;
}

/**
 * vfio_ap_stream_compare_hwinfo - compare the adapters of two images
 * @source: the image from the stream
 * @here: the image of the destination's guest
 * @report: called for each difference
 * @ctx: passed to @report
 *
 * For images that passed vfio_ap_stream_compare_config().
 *
 * Return: 0, or -EXDEV if @here cannot stand in for @source.
 */
int vfio_ap_stream_compare_hwinfo(const struct vfio_ap_stream_image *source,
				  const struct vfio_ap_stream_image *here,
				  vfio_ap_stream_diff_fn report, void *ctx)
{
	bool fits = true;
	unsigned int i;

	if (source->nr != here->nr)
		return -EXDEV;

	for (i = 0; i < source->nr; i++) {
		if (source->adapter[i].apid != here->adapter[i].apid)
			return -EXDEV;
		fits &= vfio_ap_stream_compare_adapter(&source->adapter[i],
						       &here->adapter[i],
						       report, ctx);
	}

	return fits ? 0 : -EXDEV;
}

static const char *vfio_ap_stream_mode_name(u64 mode)
{
	switch (mode) {
	case HWINFO_MODE_CCA:
		return "cca";
	case HWINFO_MODE_EP11:
		return "ep11";
	case HWINFO_MODE_ACCEL:
		return "accel";
	default:
		return "unknown";
	}
}

/**
 * vfio_ap_stream_diff_format - write a difference as a line of text
 * @diff: the difference
 * @buf: where to write
 * @size: bytes of @buf; VFIO_AP_STREAM_DIFF_CHARS are enough
 *
 * Return: the characters of the whole line, without the NUL, as snprintf().
 */
int vfio_ap_stream_diff_format(const struct vfio_ap_stream_diff *diff,
			       char *buf, size_t size)
{
	static const char * const names[] = {
		[VFIO_AP_DIFF_TYPE]	= "at",
		[VFIO_AP_DIFF_DOMAINS]	= "nd",
		[VFIO_AP_DIFF_DEPTH]	= "qd",
		[VFIO_AP_DIFF_MSGLEN]	= "ml",
	};

	switch (diff->field) {
	case VFIO_AP_DIFF_ADAPTER:
		return snprintf(buf, size, "adapter %02x assigned: source %llu here %llu",
				diff->id, diff->source, diff->here);
	case VFIO_AP_DIFF_DOMAIN:
		return snprintf(buf, size, "domain %04x assigned: source %llu here %llu",
				diff->id, diff->source, diff->here);
	case VFIO_AP_DIFF_CONTROL:
		return snprintf(buf, size,
				"control domain %04x assigned: source %llu here %llu",
				diff->id, diff->source, diff->here);
	case VFIO_AP_DIFF_MODE:
		return snprintf(buf, size, "adapter %02x mode: source %s here %s",
				diff->id, vfio_ap_stream_mode_name(diff->source),
				vfio_ap_stream_mode_name(diff->here));
	case VFIO_AP_DIFF_FACILITIES:
		return snprintf(buf, size,
				"adapter %02x facilities: source 0x%02llx here 0x%02llx",
				diff->id, diff->source, diff->here);
	case VFIO_AP_DIFF_CLASS:
		return snprintf(buf, size, "adapter %02x class: source 0x%02llx here 0x%02llx",
				diff->id, diff->source, diff->here);
	default:
		return snprintf(buf, size, "adapter %02x %s: source %llu here %llu",
				diff->id, names[diff->field],
				diff->source, diff->here);
	}
}
