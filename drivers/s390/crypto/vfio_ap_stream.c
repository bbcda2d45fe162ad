// SPDX-License-Identifier: GPL-2.0+
/**
 * DOC: migration stream
 *
 * The stream carries no card state. It describes the guest's AP configuration
 * and adapters on the source, so that the destination can prove that its own
 * are as good before the guest depends on them. The destination compares the
 * stream with the configuration that its administrator assigned and never
 * applies it.
 *
 * This is format 1. All numbers are big-endian. A stream is a header of 8 bytes,
 * then records. A record is a head of 8 bytes and a payload of a multiple of 8
 * bytes:
 *
 * ======  ==================================================================
 * CONFIG  96 bytes: masks of adapters, usage domains and control domains
 * HWINFO  16 bytes per adapter in CONFIG, ascending by number
 * IRQ     48 bytes per adapter, ISC and notification byte, ascending
 * END     no payload
 * ======  ==================================================================
 *
 * The records stand in this order, and CONFIG, HWINFO and END stand once each.
 * There may be any number of IRQ records, also none; their rows ascend across
 * them. Nothing follows END. A decoder skips a record of an unknown type, unless
 * a flag of the record says that it must be understood.
 */

/*
 * This file uses no devices, locks or user pointers and explicit byte order, so
 * its tests run on any machine. The bytes come from an untrusted peer: every
 * length is bounded before it is used, and the decoder allocates nothing.
 */

#include <linux/bitfield.h>
#include <linux/bits.h>
#include <linux/build_bug.h>
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

static_assert(sizeof(struct vfio_ap_stream_header) == 8);
static_assert(sizeof(struct vfio_ap_stream_record) == 8);
static_assert(sizeof(struct vfio_ap_stream_config) == 96);
static_assert(sizeof(struct vfio_ap_stream_hwinfo) == 16);
static_assert(sizeof(struct vfio_ap_stream_irq_row) == 48);

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
 * vfio_ap_stream_encode_initial - write the header, CONFIG and HWINFO
 * @image: a complete image
 * @buf: where to write; VFIO_AP_STREAM_INITIAL_BYTES(@image->nr)
 *
 * Return: the number of bytes written.
 */
size_t vfio_ap_stream_encode_initial(const struct vfio_ap_stream_image *image,
				     u8 *buf)
{
	struct vfio_ap_stream_header header = {
		.magic = VFIO_AP_STREAM_MAGIC,
		.version = cpu_to_be16(VFIO_AP_STREAM_VERSION),
	};
	unsigned int i;
	u8 *p = buf;

	p = vfio_ap_stream_put(p, &header, sizeof(header));
	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_CONFIG,
				      sizeof(image->config));
	p = vfio_ap_stream_put(p, &image->config, sizeof(image->config));
	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_HWINFO, image->nr *
				      sizeof(struct vfio_ap_stream_hwinfo));
	for (i = 0; i < image->nr; i++)
		p = vfio_ap_stream_put_hwinfo(p, &image->adapter[i]);

	return p - buf;
}

/**
 * vfio_ap_stream_encode_irq_head - write the head of an IRQ record
 * @rows: number of rows that follow
 * @buf: where to write; sizeof(struct vfio_ap_stream_record)
 *
 * Return: the number of bytes written.
 */
size_t vfio_ap_stream_encode_irq_head(unsigned int rows, u8 *buf)
{
	return vfio_ap_stream_put_record(buf, VFIO_AP_STREAM_IRQ, rows *
					 sizeof(struct vfio_ap_stream_irq_row)) - buf;
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
 * vfio_ap_stream_encode_end - write the END record
 * @buf: where to write; VFIO_AP_STREAM_END_BYTES
 *
 * Return: the number of bytes written.
 */
size_t vfio_ap_stream_encode_end(u8 *buf)
{
	return vfio_ap_stream_put_record(buf, VFIO_AP_STREAM_END, 0) - buf;
}

static void vfio_ap_stream_expect(struct vfio_ap_stream_decoder *dec,
				  enum vfio_ap_stream_load_state state)
{
	dec->state = state;
	dec->fill = 0;
}

/* After a row; the next unit is another one, or the head of a record. */
static void vfio_ap_stream_end_row(struct vfio_ap_stream_decoder *dec, u32 len)
{
	dec->left -= len;
	vfio_ap_stream_expect(dec, dec->left ? dec->state : VFIO_AP_LOAD_RECORD);
}

static int vfio_ap_stream_load_header(struct vfio_ap_stream_decoder *dec)
{
	struct vfio_ap_stream_header header;

	memcpy(&header, dec->unit, sizeof(header));
	if (memcmp(header.magic, VFIO_AP_STREAM_MAGIC, sizeof(header.magic)))
		return -EINVAL;
	if (be16_to_cpu(header.version) != VFIO_AP_STREAM_VERSION)
		return -EOPNOTSUPP;
	if (header.reserved)
		return -EINVAL;

	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);
	return 0;
}

static int vfio_ap_stream_begin_unknown(struct vfio_ap_stream_decoder *dec,
					u16 flags, u32 len)
{
	if (flags & VFIO_AP_STREAM_MANDATORY || len > VFIO_AP_STREAM_MAX_OPTIONAL ||
	    len > VFIO_AP_STREAM_MAX_SKIPPED - dec->skipped)
		return -EOPNOTSUPP;

	dec->skipped += len;
	vfio_ap_stream_expect(dec, len ? VFIO_AP_LOAD_SKIP : VFIO_AP_LOAD_RECORD);
	return 0;
}

static int vfio_ap_stream_load_record(struct vfio_ap_stream_decoder *dec,
				      enum vfio_ap_stream_event *event)
{
	bool after_hwinfo = dec->last == VFIO_AP_STREAM_HWINFO ||
			    dec->last == VFIO_AP_STREAM_IRQ;
	struct vfio_ap_stream_record rec;
	u16 type, flags;
	u32 len;

	memcpy(&rec, dec->unit, sizeof(rec));
	type = be16_to_cpu(rec.type);
	flags = be16_to_cpu(rec.flags);
	len = be32_to_cpu(rec.len);
	if (len % 8 || flags & ~VFIO_AP_STREAM_MANDATORY)
		return -EINVAL;

	dec->left = len;
	switch (type) {
	case VFIO_AP_STREAM_CONFIG:
		if (dec->last || len != sizeof(struct vfio_ap_stream_config))
			return -EINVAL;
		vfio_ap_stream_expect(dec, VFIO_AP_LOAD_CONFIG);
		break;
	case VFIO_AP_STREAM_HWINFO:
		if (dec->last != VFIO_AP_STREAM_CONFIG ||
		    len != vfio_ap_stream_weight(dec->image.config.apm) *
			   sizeof(struct vfio_ap_stream_hwinfo))
			return -EINVAL;
		if (!len)
			*event = VFIO_AP_STREAM_GOT_HWINFO;
		vfio_ap_stream_expect(dec, len ? VFIO_AP_LOAD_HWINFO :
						 VFIO_AP_LOAD_RECORD);
		break;
	case VFIO_AP_STREAM_IRQ:
		if (!after_hwinfo || !len ||
		    len % sizeof(struct vfio_ap_stream_irq_row) ||
		    len > VFIO_AP_STREAM_MAX_BYTES - dec->total)
			return -EINVAL;
		vfio_ap_stream_expect(dec, VFIO_AP_LOAD_IRQ);
		break;
	case VFIO_AP_STREAM_END:
		if (!after_hwinfo || len)
			return -EINVAL;
		*event = VFIO_AP_STREAM_GOT_END;
		vfio_ap_stream_expect(dec, VFIO_AP_LOAD_DONE);
		break;
	default:
		return vfio_ap_stream_begin_unknown(dec, flags, len);
	}
	if (!(flags & VFIO_AP_STREAM_MANDATORY))
		return -EINVAL;
	dec->last = type;

	return 0;
}

static void vfio_ap_stream_load_config(struct vfio_ap_stream_decoder *dec,
				       enum vfio_ap_stream_event *event)
{
	memcpy(&dec->image.config, dec->unit, sizeof(dec->image.config));
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);
	*event = VFIO_AP_STREAM_GOT_CONFIG;
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
	    !vfio_ap_stream_test_bit(image->config.apm, apid) ||
	    (image->nr && apid <= image->adapter[image->nr - 1].apid) ||
	    row.reserved0 || row.reserved1 || info & ~VFIO_AP_STREAM_HWINFO_MASK)
		return -EINVAL;

	/* Unique and in the mask, so there are never more rows than bits. */
	image->adapter[image->nr].apid = apid;
	image->adapter[image->nr].info = info;
	image->nr++;

	vfio_ap_stream_end_row(dec, sizeof(row));
	if (!dec->left)
		*event = VFIO_AP_STREAM_GOT_HWINFO;

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
	    !vfio_ap_stream_test_bit(dec->image.config.apm, irq.apid) ||
	    irq.isc > VFIO_AP_STREAM_MAX_ISC || !irq.nib ||
	    row.reserved0 || row.reserved1)
		return -EINVAL;
	/* No row has a NIB of 0, so the first one ascends. */
	if (!vfio_ap_stream_irq_ascends(&dec->irq, &irq))
		return -EINVAL;

	ret = vfio_ap_stream_take_domains(dec, &irq);
	if (ret)
		return ret;
	dec->irq = irq;

	vfio_ap_stream_end_row(dec, sizeof(row));
	*event = VFIO_AP_STREAM_GOT_IRQ;
	return 0;
}

/* Bytes of the unit that is collected; 0 when the stream is complete. */
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
		vfio_ap_stream_load_config(dec, event);
		return 0;
	case VFIO_AP_LOAD_HWINFO:
		return vfio_ap_stream_load_hwinfo(dec, event);
	case VFIO_AP_LOAD_IRQ:
		return vfio_ap_stream_load_irq(dec, event);
	case VFIO_AP_LOAD_SKIP:
		vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);
		return 0;
	case VFIO_AP_LOAD_DONE:
		break;
	}

	return -EINVAL;
}

/* Use the bytes up to the end of the unit, and decode the unit at its end. */
static ssize_t vfio_ap_stream_advance(struct vfio_ap_stream_decoder *dec,
				      const u8 *data, size_t len,
				      enum vfio_ap_stream_event *event)
{
	u32 wanted = vfio_ap_stream_wanted(dec);
	u32 used = min_t(size_t, len, wanted - dec->fill);
	int ret;

	if (!wanted || used > VFIO_AP_STREAM_MAX_BYTES - dec->total)
		return -EINVAL;

	if (dec->state != VFIO_AP_LOAD_SKIP)
		memcpy(dec->unit + dec->fill, data, used);
	dec->fill += used;
	dec->total += used;
	if (dec->fill < wanted)
		return used;

	ret = vfio_ap_stream_load_unit(dec, event);

	if (ret)
		return ret;

	return used;
}

/**
 * vfio_ap_stream_decode - take the next bytes of a stream
 * @dec: the decoder; all bytes are 0 before the first call
 * @data: the bytes, in chunks of any length
 * @len: number of bytes
 * @event: the part that was completed, VFIO_AP_STREAM_NEED_DATA if none was
 *
 * Stops after the last byte of a CONFIG, HWINFO or END record, or of a row of an
 * IRQ record, so that the caller can compare it before any byte that follows. An
 * error is final: later calls return it again.
 *
 * Return: the number of bytes used, less than @len only together with an event;
 * or
 * * -EINVAL: malformed, longer than a stream may be, or bytes after the end
 * * -EOPNOTSUPP: another version, or an unknown record that must be understood
 *   or is too long to be skipped
 */
ssize_t vfio_ap_stream_decode(struct vfio_ap_stream_decoder *dec,
			      const u8 *data, size_t len,
			      enum vfio_ap_stream_event *event)
{
	size_t done = 0;
	ssize_t used;

	*event = VFIO_AP_STREAM_NEED_DATA;
	if (dec->error)
		return dec->error;

	while (done < len && *event == VFIO_AP_STREAM_NEED_DATA) {
		used = vfio_ap_stream_advance(dec, data + done, len - done, event);
		if (used < 0) {
			dec->error = used;
			return used;
		}
		done += used;
	}

	return done;
}

/* Report each id that only one of two masks has. */
static bool vfio_ap_stream_compare_mask(enum vfio_ap_stream_field field,
					const u8 *source, const u8 *local,
					vfio_ap_stream_diff_fn report, void *ctx)
{
	struct vfio_ap_stream_diff diff = { .field = field };
	unsigned int id;

	if (!memcmp(source, local, VFIO_AP_STREAM_MASK_BYTES))
		return true;

	for (id = 0; id < VFIO_AP_STREAM_MASK_BYTES * 8; id++) {
		diff.id = id;
		diff.source = vfio_ap_stream_test_bit(source, id);
		diff.local = vfio_ap_stream_test_bit(local, id);
		if (diff.source != diff.local)
			report(ctx, &diff);
	}

	return false;
}

/**
 * vfio_ap_stream_compare_config - compare the masks of two images
 * @source: the image from the stream
 * @local: the image of the destination's guest
 * @report: called for each difference
 * @ctx: passed to @report
 *
 * Return: true if adapters, domains and control domains are equal.
 */
bool vfio_ap_stream_compare_config(const struct vfio_ap_stream_image *source,
				   const struct vfio_ap_stream_image *local,
				   vfio_ap_stream_diff_fn report, void *ctx)
{
	const struct vfio_ap_stream_config *s = &source->config;
	const struct vfio_ap_stream_config *l = &local->config;
	bool equal;

	equal = vfio_ap_stream_compare_mask(VFIO_AP_DIFF_ADAPTER, s->apm, l->apm,
					    report, ctx);
	equal &= vfio_ap_stream_compare_mask(VFIO_AP_DIFF_DOMAIN, s->aqm, l->aqm,
					     report, ctx);
	equal &= vfio_ap_stream_compare_mask(VFIO_AP_DIFF_CONTROL, s->adm, l->adm,
					     report, ctx);

	return equal;
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
 * A Linux guest's AP bus drops a card whose type or facilities change, together
 * with its requests. A guest can use a larger queue, message or domain range.
 */
static bool vfio_ap_stream_field_fits(const struct vfio_ap_stream_diff *diff)
{
	switch (diff->field) {
	case VFIO_AP_DIFF_DOMAINS:
	case VFIO_AP_DIFF_DEPTH:
	case VFIO_AP_DIFF_MSGLEN:
		return diff->local >= diff->source;
	default:
		return diff->local == diff->source;
	}
}

static bool vfio_ap_stream_compare_adapter(const struct vfio_ap_stream_adapter *source,
					   const struct vfio_ap_stream_adapter *local,
					   vfio_ap_stream_diff_fn report, void *ctx)
{
	struct vfio_ap_stream_diff diff = { .id = source->apid };
	bool fits = true;

	if (source->info == local->info)
		return true;

	for (diff.field = VFIO_AP_DIFF_TYPE; diff.field <= VFIO_AP_DIFF_MSGLEN;
	     diff.field++) {
		diff.source = vfio_ap_stream_field(diff.field, source->info);
		diff.local = vfio_ap_stream_field(diff.field, local->info);
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
 * @local: the image of the destination's guest; its adapters are those of
 *	@source, as vfio_ap_stream_compare_config() has found
 * @report: called for each difference
 * @ctx: passed to @report
 *
 * Return: true if each adapter can replace the source's.
 */
bool vfio_ap_stream_compare_hwinfo(const struct vfio_ap_stream_image *source,
				   const struct vfio_ap_stream_image *local,
				   vfio_ap_stream_diff_fn report, void *ctx)
{
	bool fits = true;
	unsigned int i;

	for (i = 0; i < source->nr; i++)
		fits &= vfio_ap_stream_compare_adapter(&source->adapter[i],
						       &local->adapter[i],
						       report, ctx);

	return fits;
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
 * vfio_ap_stream_diff_format - describe a difference
 * @diff: the difference
 * @buf: where to write
 * @size: bytes of @buf; VFIO_AP_STREAM_DIFF_CHARS are enough
 */
void vfio_ap_stream_diff_format(const struct vfio_ap_stream_diff *diff,
				char *buf, size_t size)
{
	static const struct {
		const char *name;
		bool hex;
	} fields[] = {
		[VFIO_AP_DIFF_TYPE]	  = { "type" },
		[VFIO_AP_DIFF_FACILITIES] = { "facilities", true },
		[VFIO_AP_DIFF_CLASS]	  = { "class", true },
		[VFIO_AP_DIFF_DOMAINS]	  = { "domains" },
		[VFIO_AP_DIFF_DEPTH]	  = { "queue depth" },
		[VFIO_AP_DIFF_MSGLEN]	  = { "message length" },
	};
	const char *where = diff->source ? "assigned on the source only" :
					   "assigned here only";

	switch (diff->field) {
	case VFIO_AP_DIFF_ADAPTER:
		snprintf(buf, size, "adapter %02x: %s", diff->id, where);
		return;
	case VFIO_AP_DIFF_DOMAIN:
		snprintf(buf, size, "domain %04x: %s", diff->id, where);
		return;
	case VFIO_AP_DIFF_CONTROL:
		snprintf(buf, size, "control domain %04x: %s", diff->id, where);
		return;
	case VFIO_AP_DIFF_MODE:
		snprintf(buf, size, "adapter %02x: mode %s on the source, %s here",
			 diff->id, vfio_ap_stream_mode_name(diff->source),
			 vfio_ap_stream_mode_name(diff->local));
		return;
	default:
		snprintf(buf, size, fields[diff->field].hex ?
			 "adapter %02x: %s 0x%02llx on the source, 0x%02llx here" :
			 "adapter %02x: %s %llu on the source, %llu here",
			 diff->id, fields[diff->field].name, diff->source,
			 diff->local);
	}
}
