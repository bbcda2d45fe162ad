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

#include <linux/build_bug.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>
#include <asm/byteorder.h>

#include "vfio_ap_stream.h"

static_assert(sizeof(struct vfio_ap_stream_header) == 8);
static_assert(sizeof(struct vfio_ap_stream_record) == 8);
static_assert(sizeof(struct vfio_ap_stream_config) == 96);
static_assert(sizeof(struct vfio_ap_stream_hwinfo) == 16);
static_assert(sizeof(struct vfio_ap_stream_irq) == 48);

static bool vfio_ap_stream_test_bit(const u8 *mask, unsigned int id)
{
	return mask[id / 8] & (0x80 >> (id % 8));
}

static unsigned int vfio_ap_stream_weight(const u8 *mask)
{
	unsigned int i, weight = 0;
	u8 bits;

	for (i = 0; i < VFIO_AP_STREAM_MASK_BYTES; i++)
		for (bits = mask[i]; bits; bits &= bits - 1)
			weight++;

	return weight;
}

static u8 *vfio_ap_stream_put(u8 *p, const void *data, size_t len)
{
	memcpy(p, data, len);
	return p + len;
}

/**
 * vfio_ap_stream_put_record - write the head of a record
 * @p: where to write; sizeof(struct vfio_ap_stream_record)
 * @type: type of the record
 * @len: bytes of the payload
 *
 * Return: where the payload begins.
 */
u8 *vfio_ap_stream_put_record(u8 *p, enum vfio_ap_stream_type type, size_t len)
{
	struct vfio_ap_stream_record rec = {
		.type = cpu_to_be16(type),
		.flags = cpu_to_be16(VFIO_AP_STREAM_MANDATORY),
		.len = cpu_to_be32(len),
	};

	return vfio_ap_stream_put(p, &rec, sizeof(rec));
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
	size_t rows = image->nr * sizeof(image->adapter[0]);
	u8 *p = buf;

	p = vfio_ap_stream_put(p, &header, sizeof(header));
	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_CONFIG,
				      sizeof(image->config));
	p = vfio_ap_stream_put(p, &image->config, sizeof(image->config));
	p = vfio_ap_stream_put_record(p, VFIO_AP_STREAM_HWINFO, rows);
	p = vfio_ap_stream_put(p, image->adapter, rows);

	return p - buf;
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
		    len % sizeof(struct vfio_ap_stream_irq) ||
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
		if (flags & VFIO_AP_STREAM_MANDATORY || len > VFIO_AP_STREAM_MAX_OPTIONAL ||
		    len > VFIO_AP_STREAM_MAX_SKIPPED - dec->skipped)
			return -EOPNOTSUPP;
		dec->skipped += len;
		vfio_ap_stream_expect(dec, len ? VFIO_AP_LOAD_SKIP : VFIO_AP_LOAD_RECORD);
		return 0;
	}
	if (!(flags & VFIO_AP_STREAM_MANDATORY))
		return -EINVAL;
	dec->last = type;

	return 0;
}

static int vfio_ap_stream_load_hwinfo(struct vfio_ap_stream_decoder *dec,
				      enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_image *image = &dec->image;
	struct vfio_ap_stream_hwinfo row;
	u16 apid;

	memcpy(&row, dec->unit, sizeof(row));
	apid = be16_to_cpu(row.apid);
	if (apid >= VFIO_AP_STREAM_MAX_ADAPTERS ||
	    !vfio_ap_stream_test_bit(image->config.apm, apid) ||
	    (image->nr && apid <= be16_to_cpu(image->adapter[image->nr - 1].apid)) ||
	    row.reserved0 || row.reserved1 ||
	    be64_to_cpu(row.info) & ~VFIO_AP_STREAM_HWINFO_MASK)
		return -EINVAL;

	/* Unique and in the mask, so there are never more rows than bits. */
	image->adapter[image->nr++] = row;

	vfio_ap_stream_end_row(dec, sizeof(row));
	if (!dec->left)
		*event = VFIO_AP_STREAM_GOT_HWINFO;

	return 0;
}

static int vfio_ap_stream_load_irq(struct vfio_ap_stream_decoder *dec,
				   enum vfio_ap_stream_event *event)
{
	struct vfio_ap_stream_irq irq;
	bool any = false;
	unsigned int i;
	u16 apid;

	memcpy(&irq, dec->unit, sizeof(irq));
	apid = be16_to_cpu(irq.apid);
	if (apid >= VFIO_AP_STREAM_MAX_ADAPTERS ||
	    !vfio_ap_stream_test_bit(dec->image.config.apm, apid) ||
	    irq.isc > VFIO_AP_STREAM_MAX_ISC || !irq.nib ||
	    irq.reserved0 || irq.reserved1)
		return -EINVAL;

	/* Those of an adapter stand together. The first one ascends: no NIB is 0. */
	if (memcmp(&irq, &dec->irq, VFIO_AP_STREAM_IRQ_KEY) <= 0)
		return -EINVAL;

	if (irq.apid != dec->irq.apid)
		memset(dec->taken, 0, sizeof(dec->taken));
	for (i = 0; i < VFIO_AP_STREAM_MASK_BYTES; i++) {
		if (irq.domains[i] & (~dec->image.config.aqm[i] | dec->taken[i]))
			return -EINVAL;
		dec->taken[i] |= irq.domains[i];
		any |= irq.domains[i];
	}
	if (!any)
		return -EINVAL;

	dec->irq = irq;
	vfio_ap_stream_end_row(dec, sizeof(irq));
	*event = VFIO_AP_STREAM_GOT_IRQ;

	return 0;
}

/* Bytes of the unit that is collected; 0 when the stream is complete. */
static u32 vfio_ap_stream_wanted(const struct vfio_ap_stream_decoder *dec)
{
	static const u8 bytes[] = {
		[VFIO_AP_LOAD_HEADER] = sizeof(struct vfio_ap_stream_header),
		[VFIO_AP_LOAD_RECORD] = sizeof(struct vfio_ap_stream_record),
		[VFIO_AP_LOAD_CONFIG] = sizeof(struct vfio_ap_stream_config),
		[VFIO_AP_LOAD_HWINFO] = sizeof(struct vfio_ap_stream_hwinfo),
		[VFIO_AP_LOAD_IRQ] = sizeof(struct vfio_ap_stream_irq),
		[VFIO_AP_LOAD_DONE] = 0,
	};

	return dec->state == VFIO_AP_LOAD_SKIP ? dec->left : bytes[dec->state];
}

static int vfio_ap_stream_load_unit(struct vfio_ap_stream_decoder *dec,
				    enum vfio_ap_stream_event *event)
{
	switch (dec->state) {
	case VFIO_AP_LOAD_HEADER:
		return vfio_ap_stream_load_header(dec);
	case VFIO_AP_LOAD_RECORD:
		return vfio_ap_stream_load_record(dec, event);
	case VFIO_AP_LOAD_HWINFO:
		return vfio_ap_stream_load_hwinfo(dec, event);
	case VFIO_AP_LOAD_IRQ:
		return vfio_ap_stream_load_irq(dec, event);
	case VFIO_AP_LOAD_CONFIG:
		memcpy(&dec->image.config, dec->unit, sizeof(dec->image.config));
		*event = VFIO_AP_STREAM_GOT_CONFIG;
		break;
	default:
		break;
	}
	vfio_ap_stream_expect(dec, VFIO_AP_LOAD_RECORD);

	return 0;
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

	return ret ? ret : (ssize_t)used;
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
static bool vfio_ap_stream_compare_mask(const char *name, int digits,
					const u8 *source, const u8 *local,
					vfio_ap_stream_diff_fn report, void *ctx)
{
	char text[VFIO_AP_STREAM_DIFF_CHARS];
	unsigned int id;
	bool here;

	if (!memcmp(source, local, VFIO_AP_STREAM_MASK_BYTES))
		return true;

	for (id = 0; id < VFIO_AP_STREAM_MASK_BYTES * 8; id++) {
		here = vfio_ap_stream_test_bit(local, id);
		if (here == vfio_ap_stream_test_bit(source, id))
			continue;
		snprintf(text, sizeof(text), "%s %0*x: assigned %s only", name,
			 digits, id, here ? "here" : "on the source");
		report(ctx, text);
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

	equal = vfio_ap_stream_compare_mask("adapter", 2, s->apm, l->apm, report, ctx);
	equal &= vfio_ap_stream_compare_mask("domain", 4, s->aqm, l->aqm, report, ctx);
	equal &= vfio_ap_stream_compare_mask("control domain", 4, s->adm, l->adm,
					     report, ctx);

	return equal;
}

enum vfio_ap_stream_format {
	VFIO_AP_FORMAT_DECIMAL,
	VFIO_AP_FORMAT_HEX,
	VFIO_AP_FORMAT_MODE,
	VFIO_AP_FORMAT_MSGLEN,
};

/*
 * The fields of the TAPQ information, see struct ap_tapq_hwinfo. A Linux guest's AP
 * bus drops a card whose type or facilities change, together with its requests. A
 * guest can use a larger queue, message or domain range.
 */
static const struct vfio_ap_stream_field {
	const char *name;
	u8 shift;
	u8 mask;
	enum vfio_ap_stream_format format;
	bool may_be_larger;
} vfio_ap_stream_fields[] = {
	{ "type", 24, 0xff, VFIO_AP_FORMAT_DECIMAL, false },
	{ "mode", 58, 0x07, VFIO_AP_FORMAT_MODE, false },
	{ "facilities", 56, 0xe3, VFIO_AP_FORMAT_HEX, false },
	{ "class", 48, 0xff, VFIO_AP_FORMAT_HEX, false },
	{ "domains", 16, 0xff, VFIO_AP_FORMAT_DECIMAL, true },
	{ "queue depth", 0, 0x1f, VFIO_AP_FORMAT_DECIMAL, true },
	{ "message length", 8, 0x0f, VFIO_AP_FORMAT_MSGLEN, true },
};

static unsigned int vfio_ap_stream_get(const struct vfio_ap_stream_field *field,
				       u64 info)
{
	unsigned int value = info >> field->shift & field->mask;

	/* The AP bus reads the length in the same way, see ap_card_create(). */
	if (field->format == VFIO_AP_FORMAT_MSGLEN)
		return value > 3 ? value * 4096 : 12 * 1024;

	return value;
}

static bool vfio_ap_stream_compare_field(const struct vfio_ap_stream_field *field,
					 const struct vfio_ap_stream_hwinfo *source,
					 const struct vfio_ap_stream_hwinfo *local,
					 vfio_ap_stream_diff_fn report, void *ctx)
{
	static const char *const modes[] = {
		"unknown", "ep11", "accel", "unknown",
		"cca", "unknown", "unknown", "unknown",
	};
	unsigned int want = vfio_ap_stream_get(field, be64_to_cpu(source->info));
	unsigned int here = vfio_ap_stream_get(field, be64_to_cpu(local->info));
	unsigned int apid = be16_to_cpu(source->apid);
	char text[VFIO_AP_STREAM_DIFF_CHARS];

	if (here == want || (field->may_be_larger && here > want))
		return true;

	if (field->format == VFIO_AP_FORMAT_MODE)
		snprintf(text, sizeof(text),
			 "adapter %02x: mode %s on the source, %s here", apid,
			 modes[want], modes[here]);
	else
		snprintf(text, sizeof(text), field->format == VFIO_AP_FORMAT_HEX ?
			 "adapter %02x: %s 0x%02x on the source, 0x%02x here" :
			 "adapter %02x: %s %u on the source, %u here",
			 apid, field->name, want, here);
	report(ctx, text);

	return false;
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
	unsigned int i, k;

	for (i = 0; i < source->nr; i++) {
		if (source->adapter[i].info == local->adapter[i].info)
			continue;
		for (k = 0; k < ARRAY_SIZE(vfio_ap_stream_fields); k++)
			fits &= vfio_ap_stream_compare_field(&vfio_ap_stream_fields[k],
							     &source->adapter[i],
							     &local->adapter[i],
							     report, ctx);
	}

	return fits;
}
