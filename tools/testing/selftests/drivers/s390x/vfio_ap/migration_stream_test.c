// SPDX-License-Identifier: GPL-2.0
/*
 * vfio-ap migration: streams as a hostile or different peer might send them.
 *
 * Each variant forges a stream from the device's own one. It is written
 * whole and byte by byte, and must come to the same end both ways.
 */
#include <errno.h>

#include "lib/env.h"
#include "kselftest_harness.h"

/* For a variant that does not tell where its error has to show */
#define ANYWHERE 0

FIXTURE(malformed) {
	struct env env;
	int device;
};

/*
 * @forge: make the stream out of a good one
 * @err: result of write()
 * @at: function that gives the number of bytes with which the error has to
 *	show, or ANYWHERE
 */
FIXTURE_VARIANT(malformed) {
	void (*forge)(struct stream_buf *b, struct stream *good);
	int err;
	size_t (*at)(const struct stream_buf *b, const struct stream *good);
};

#define MALFORMED(name, error, where)					\
	static void forge_##name(struct stream_buf *b, struct stream *s);	\
	FIXTURE_VARIANT_ADD(malformed, name) {				\
		.forge = forge_##name,					\
		.err = error,						\
		.at = where,						\
	};								\
	static void forge_##name(struct stream_buf *b, struct stream *s)

FIXTURE_SETUP(malformed)
{
	ENV_SETUP(env_setup, &self->env, VFIO_AP_CDEV);
	self->device = self->env.dev.device;
	ASSERT_EQ(0, env_stream(&self->env));
}

FIXTURE_TEARDOWN(malformed)
{
	env_teardown(&self->env);
}

static size_t in_header(const struct stream_buf *b, const struct stream *s)
{
	(void)b;
	(void)s;
	return STREAM_HEADER_SIZE;
}

/* With the header of the first record, whose length says it all */
static size_t in_first_record_header(const struct stream_buf *b, const struct stream *s)
{
	(void)b;
	(void)s;
	return STREAM_HEADER_SIZE + STREAM_RECORD_SIZE;
}

static size_t in_config(const struct stream_buf *b, const struct stream *s)
{
	(void)b;
	return s->hwinfo_at;
}

static size_t in_hwinfo(const struct stream_buf *b, const struct stream *s)
{
	(void)b;
	return s->end_at;
}

static size_t in_whole(const struct stream_buf *b, const struct stream *s)
{
	(void)s;
	return b->len;
}

/* A good stream with one byte changed */
static void forge_byte(struct stream_buf *b, const struct stream *s, size_t at, __u8 flip)
{
	stream_encode(b, s);
	b->data[at] ^= flip;
}

static void forge_start(struct stream_buf *b, const struct stream *s)
{
	stream_header(b);
	stream_config(b, &s->masks);
}

MALFORMED(magic, -EINVAL, in_header)
{
	forge_byte(b, s, 0, 1);
}

MALFORMED(zeroes, -EINVAL, in_header)
{
	stream_put(b, NULL, s->len);
}

MALFORMED(newer_version, -EOPNOTSUPP, in_header)
{
	forge_byte(b, s, 5, 3);
}

MALFORMED(version_0, -EOPNOTSUPP, in_header)
{
	forge_byte(b, s, 5, 1);
}

MALFORMED(reserved_of_header, -EINVAL, in_header)
{
	forge_byte(b, s, 7, 1);
}

MALFORMED(record_type_0, -EOPNOTSUPP, in_first_record_header)
{
	forge_byte(b, s, s->config_at + 1, STREAM_CONFIG);
}

MALFORMED(unknown_flag_of_a_record, -EINVAL, in_first_record_header)
{
	forge_byte(b, s, s->config_at + 3, 2);
}

MALFORMED(config_without_the_mandatory_flag, -EINVAL, in_first_record_header)
{
	forge_byte(b, s, s->config_at + 3, STREAM_MANDATORY);
}

MALFORMED(config_too_short, -EINVAL, in_first_record_header)
{
	forge_byte(b, s, s->config_at + 7, STREAM_CONFIG_SIZE ^ (STREAM_CONFIG_SIZE - 8));
}

MALFORMED(config_too_long, -EINVAL, in_first_record_header)
{
	forge_byte(b, s, s->config_at + 7, STREAM_CONFIG_SIZE ^ (STREAM_CONFIG_SIZE + 8));
}

MALFORMED(config_empty, -EINVAL, in_first_record_header)
{
	stream_header(b);
	stream_record(b, STREAM_CONFIG, STREAM_MANDATORY, 0);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

MALFORMED(length_of_a_record_is_not_a_multiple_of_8, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_record(b, 0x4321, 0, 12);
	stream_put(b, NULL, 12);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

MALFORMED(hwinfo_before_config, -EINVAL, ANYWHERE)
{
	stream_header(b);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_config(b, &s->masks);
	stream_end(b);
}

MALFORMED(no_config, -EINVAL, ANYWHERE)
{
	stream_header(b);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

MALFORMED(no_hwinfo, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_end(b);
}

MALFORMED(end_at_once, -EINVAL, ANYWHERE)
{
	(void)s;
	stream_header(b);
	stream_end(b);
}

MALFORMED(config_twice_in_a_row, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_config(b, &s->masks);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

MALFORMED(hwinfo_twice_in_a_row, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

MALFORMED(second_config_without_hwinfo, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_config(b, &s->masks);
	stream_end(b);
}

MALFORMED(bytes_after_end, -EINVAL, in_whole)
{
	stream_encode(b, s);
	stream_put(b, NULL, 1);
}

MALFORMED(second_stream_after_end, -EINVAL, ANYWHERE)
{
	stream_encode(b, s);
	stream_encode(b, s);
}

MALFORMED(end_with_a_payload, -EINVAL, in_whole)
{
	forge_byte(b, s, s->end_at + 7, 8);
}

MALFORMED(end_without_the_mandatory_flag, -EINVAL, in_whole)
{
	forge_byte(b, s, s->end_at + 3, STREAM_MANDATORY);
}

MALFORMED(reserved_16_of_hwinfo, -EINVAL, in_hwinfo)
{
	forge_byte(b, s, s->hwinfo_at + STREAM_RECORD_SIZE + 3, 1);
}

MALFORMED(reserved_32_of_hwinfo, -EINVAL, in_hwinfo)
{
	forge_byte(b, s, s->hwinfo_at + STREAM_RECORD_SIZE + 4, 0x80);
}

MALFORMED(hwinfo_bits_outside_of_the_format, -EINVAL, in_hwinfo)
{
	s->rows[0].info |= 0x0000000000001000ULL;
	stream_encode(b, s);
}

/* A source masks the SE bind state off: a device cannot have sent this */
MALFORMED(hwinfo_with_bind_state, -EINVAL, in_hwinfo)
{
	s->rows[0].info |= STREAM_HW_BS;
	stream_encode(b, s);
}

MALFORMED(hwinfo_not_sorted, -EINVAL, in_hwinfo)
{
	struct stream_hwrow row = s->rows[0];

	s->rows[0] = s->rows[1];
	s->rows[1] = row;
	stream_encode(b, s);
}

MALFORMED(hwinfo_not_unique, -EINVAL, in_hwinfo)
{
	s->rows[1] = s->rows[0];
	stream_encode(b, s);
}

MALFORMED(hwinfo_of_no_adapter_of_the_guest, -EINVAL, in_hwinfo)
{
	unsigned int last = s->nr_rows - 1;

	s->rows[last].apid = ap_mask_next(s->masks.apm, s->rows[last].apid, false);
	stream_encode(b, s);
}

MALFORMED(hwinfo_of_adapter_256, -EINVAL, in_hwinfo)
{
	s->rows[s->nr_rows - 1].apid |= 0x100;
	stream_encode(b, s);
}

MALFORMED(hwinfo_lacks_an_adapter, -EINVAL, ANYWHERE)
{
	s->nr_rows--;
	stream_encode(b, s);
}

MALFORMED(hwinfo_empty, -EINVAL, ANYWHERE)
{
	s->nr_rows = 0;
	stream_encode(b, s);
}

MALFORMED(hwinfo_of_half_a_row, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_record(b, STREAM_HWINFO, STREAM_MANDATORY, s->nr_rows * STREAM_HWROW_SIZE - 8);
	stream_put(b, NULL, s->nr_rows * STREAM_HWROW_SIZE - 8);
	stream_end(b);
}

/* An allocation that follows the peer's word would be of this size */
MALFORMED(hwinfo_of_4_gigabytes, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_record(b, STREAM_HWINFO, STREAM_MANDATORY, 0xfffffff0);
	stream_put(b, NULL, 64);
}

MALFORMED(hwinfo_of_257_adapters, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_record(b, STREAM_HWINFO, STREAM_MANDATORY, 257 * STREAM_HWROW_SIZE);
	stream_put(b, NULL, 257 * STREAM_HWROW_SIZE);
}

MALFORMED(unknown_mandatory_record, -EOPNOTSUPP, ANYWHERE)
{
	forge_start(b, s);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_record(b, 0x4321, STREAM_MANDATORY, 8);
	stream_put(b, NULL, 8);
	stream_end(b);
}

MALFORMED(optional_record_over_4_kilobytes, -EOPNOTSUPP, ANYWHERE)
{
	forge_start(b, s);
	stream_record(b, 0x4321, 0, STREAM_OPTIONAL_MAX + 8);
	stream_put(b, NULL, STREAM_OPTIONAL_MAX + 8);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

MALFORMED(optional_record_of_4_gigabytes, -EOPNOTSUPP, ANYWHERE)
{
	forge_start(b, s);
	stream_record(b, 0x4321, 0, 0xfffffff8);
	stream_put(b, NULL, 64);
}

MALFORMED(optional_records_over_64_kilobytes_in_all, -EOPNOTSUPP, ANYWHERE)
{
	unsigned int sum;

	forge_start(b, s);
	stream_hwinfo(b, s->rows, s->nr_rows);
	for (sum = 0; sum <= STREAM_OPTIONAL_SUM; sum += STREAM_OPTIONAL_MAX) {
		stream_record(b, 0x4321, 0, STREAM_OPTIONAL_MAX);
		stream_put(b, NULL, STREAM_OPTIONAL_MAX);
	}
	stream_end(b);
}

/* Records without payload must be bounded too */
MALFORMED(empty_optional_records_without_end, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	while (b->len <= STREAM_MAX_SIZE)
		stream_record(b, 0x4321, 0, 0);
}

MALFORMED(config_and_hwinfo_twice, -EINVAL, ANYWHERE)
{
	forge_start(b, s);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_config(b, &s->masks);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_end(b);
}

/* Differences, of which each fails the record that shows it */
MALFORMED(adapter_missing_here, -ENXIO, in_config)
{
	ap_mask_set(s->masks.apm, ap_mask_next(s->masks.apm, 0, false));
	stream_encode(b, s);
}

MALFORMED(adapter_missing_there, -ENXIO, in_config)
{
	ap_mask_clear(s->masks.apm, s->rows[0].apid);
	memmove(s->rows, s->rows + 1, --s->nr_rows * sizeof(*s->rows));
	stream_encode(b, s);
}

MALFORMED(another_adapter, -ENXIO, in_config)
{
	unsigned int other = ap_mask_next(s->masks.apm, s->rows[s->nr_rows - 1].apid, false);

	ap_mask_clear(s->masks.apm, s->rows[s->nr_rows - 1].apid);
	ap_mask_set(s->masks.apm, other);
	s->rows[s->nr_rows - 1].apid = other;
	stream_encode(b, s);
}

MALFORMED(domain_missing_here, -ENXIO, in_config)
{
	ap_mask_set(s->masks.aqm, ap_mask_next(s->masks.aqm, 0, false));
	stream_encode(b, s);
}

MALFORMED(domain_missing_there, -ENXIO, in_config)
{
	ap_mask_clear(s->masks.aqm, ap_mask_next(s->masks.aqm, 0, true));
	stream_encode(b, s);
}

MALFORMED(control_domain_missing_here, -ENXIO, in_config)
{
	ap_mask_set(s->masks.adm, ap_mask_next(s->masks.adm, 0, false));
	stream_encode(b, s);
}

MALFORMED(control_domain_missing_there, -ENXIO, in_config)
{
	ap_mask_clear(s->masks.adm, ap_mask_next(s->masks.adm, 0, true));
	stream_encode(b, s);
}

MALFORMED(everything_assigned_there, -ENXIO, in_config)
{
	unsigned int apid;

	memset(&s->masks, 0xff, sizeof(s->masks));
	s->nr_rows = AP_IDS;
	for (apid = 0; apid < AP_IDS; apid++)
		s->rows[apid] = (struct stream_hwrow){ .apid = apid, .info = s->rows[0].info };
	stream_encode(b, s);
}

static void put_last(struct stream_buf *b, struct stream *s, __u64 field, __u64 value)
{
	struct stream_hwrow *row = &s->rows[s->nr_rows - 1];

	row->info = hwinfo_put(row->info, field, value);
	stream_encode(b, s);
}

static __u64 get_last(const struct stream *s, __u64 field)
{
	return hwinfo_get(s->rows[s->nr_rows - 1].info, field);
}

MALFORMED(older_type_there, -ENXIO, in_hwinfo)
{
	put_last(b, s, STREAM_HW_AT, get_last(s, STREAM_HW_AT) - 1);
}

MALFORMED(newer_type_there, -ENXIO, in_hwinfo)
{
	put_last(b, s, STREAM_HW_AT, get_last(s, STREAM_HW_AT) + 1);
}

MALFORMED(other_class, -ENXIO, in_hwinfo)
{
	put_last(b, s, STREAM_HW_CLASS, get_last(s, STREAM_HW_CLASS) ^ 1);
}

MALFORMED(other_facility, -ENXIO, in_hwinfo)
{
	put_last(b, s, STREAM_HW_APSC, !get_last(s, STREAM_HW_APSC));
}

MALFORMED(other_mode, -ENXIO, in_hwinfo)
{
	__u64 mode = s->rows[s->nr_rows - 1].info & STREAM_HW_MODE;

	s->rows[s->nr_rows - 1].info ^= mode;
	s->rows[s->nr_rows - 1].info |= mode == STREAM_HW_CCA ? STREAM_HW_EP11 : STREAM_HW_CCA;
	stream_encode(b, s);
}

MALFORMED(more_domains_there, -ENXIO, in_hwinfo)
{
	put_last(b, s, STREAM_HW_ND, get_last(s, STREAM_HW_ND) + 1);
}

MALFORMED(deeper_queues_there, -ENXIO, in_hwinfo)
{
	put_last(b, s, STREAM_HW_QD, get_last(s, STREAM_HW_QD) + 1);
}

/* Up to 3 the AP bus takes the field for 12 KiB, from 4 on for pages */
MALFORMED(longer_messages_there, -ENXIO, in_hwinfo)
{
	__u64 ml = get_last(s, STREAM_HW_ML);

	put_last(b, s, STREAM_HW_ML, ml > 3 ? ml + 1 : 4);
}

MALFORMED(first_adapter_is_compared_too, -ENXIO, in_hwinfo)
{
	s->rows[0].info = hwinfo_put(s->rows[0].info, STREAM_HW_AT,
				     hwinfo_get(s->rows[0].info, STREAM_HW_AT) - 1);
	stream_encode(b, s);
}

/* Bytes at both ends of a record that are written one by one, and the longest piece otherwise */
#define EDGE	128
#define PIECE	500

/*
 * Write a stream byte by byte, but the middle of a long record in pieces: system
 * calls are slow in emulated hosts. *@done is the number of bytes written.
 */
static int write_bytes(int fd, const struct stream_buf *b, size_t *done)
{
	size_t start = 0, end = STREAM_HEADER_SIZE, at = 0, len, part;
	__u32 length;
	int ret = 0;

	while (!ret && at < b->len) {
		if (at == end) {
			length = b->len - at < STREAM_RECORD_SIZE ? 0 :
				 stream_get32(b->data + at + STREAM_RECORD_SIZE - sizeof(length));
			start = at;
			end = at + STREAM_RECORD_SIZE + length;
		}
		len = 1;
		if (at >= start + EDGE && at + EDGE < end)
			len = end - EDGE - at < PIECE ? end - EDGE - at : PIECE;
		if (len > b->len - at)
			len = b->len - at;
		ret = env_write(fd, b->data + at, len, 0, &part);
		at += part;
	}
	*done = at;
	return ret;
}

/*
 * Also: the stream is compared, never applied. The user of the device gets no
 * queue that the administrator did not assign.
 */
TEST_F_TIMEOUT(malformed, is_refused_and_changes_nothing, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream good = env->decoded;
	char before[512], after[512];
	struct stream_buf bad = {};
	size_t done, limit;
	int bytes, fd, err;

	ASSERT_LT(0, ap_mdev_read(env->dev.uuid, "ap_config", before, sizeof(before)));
	variant->forge(&bad, &good);
	for (bytes = 0; bytes < 2; bytes++) {
		/* Megabytes of short records take too long */
		if (bytes && bad.len > 0x20000)
			continue;
		ASSERT_EQ(0, env_enter(env, VFIO_DEVICE_STATE_RESUMING, &fd));
		if (bytes)
			err = write_bytes(fd, &bad, &done);
		else
			err = env_write(fd, bad.data, bad.len, 0, &done);
		EXPECT_EQ(variant->err, err) {
			TH_LOG("%s", bytes ? "byte by byte" : "at once");
		}
		if (bytes && variant->at) {
			limit = variant->at(&bad, &env->decoded);
			EXPECT_LE(done + 1, limit);
		}
		/* The error sticks for every write and state change */
		EXPECT_EQ(variant->err, env_try_write(fd));
		EXPECT_EQ(variant->err, env_write(fd, env->stream.data, env->stream.len, 0, NULL));
		EXPECT_NE(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_STOP, NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
		EXPECT_NE(0, vfio_mig_set(self->device, VFIO_DEVICE_STATE_RUNNING, NULL));
		EXPECT_EQ(VFIO_DEVICE_STATE_RESUMING, vfio_mig_state(self->device));
		EXPECT_EQ(0, vfio_ap_reset(&env->dev));
		close(fd);
		/* And leaves nothing for the next migration */
		EXPECT_EQ(0, env_resume(env, env->stream.data, env->stream.len, 0));
	}
	ASSERT_LT(0, ap_mdev_read(env->dev.uuid, "ap_config", after, sizeof(after)));
	EXPECT_STREQ(before, after);
	/* A new stream has the guest's own resources */
	ASSERT_EQ(0, env_stream(env));
	EXPECT_EQ(0, memcmp(&env->masks, &env->decoded.masks, sizeof(env->masks)));
	stream_free(&bad);
}

FIXTURE(different) {
	struct env env;
};

/*
 * @forge: make the stream out of a good one; false if this host's cards do not
 *	   allow the difference
 */
FIXTURE_VARIANT(different) {
	bool (*forge)(struct stream_buf *b, struct stream *good);
};

#define DIFFERENT(name)							\
	static bool differ_##name(struct stream_buf *b, struct stream *s);	\
	FIXTURE_VARIANT_ADD(different, name) {				\
		.forge = differ_##name,					\
	};								\
	static bool differ_##name(struct stream_buf *b, struct stream *s)

FIXTURE_SETUP(different)
{
	ENV_SETUP(env_setup, &self->env, VFIO_AP_CDEV);
	ASSERT_EQ(0, env_stream(&self->env));
}

FIXTURE_TEARDOWN(different)
{
	env_teardown(&self->env);
}

DIFFERENT(identical_stream)
{
	stream_encode(b, s);
	return true;
}

/* More than the source has does not disturb a guest */
static bool lower_field(struct stream_buf *b, struct stream *s, __u64 field)
{
	bool done = false;
	unsigned int i;

	for (i = 0; i < s->nr_rows; i++) {
		if (!hwinfo_get(s->rows[i].info, field))
			continue;
		s->rows[i].info = hwinfo_put(s->rows[i].info, field,
					     hwinfo_get(s->rows[i].info, field) - 1);
		done = true;
	}
	stream_encode(b, s);
	return done;
}

DIFFERENT(fewer_domains_there)
{
	return lower_field(b, s, STREAM_HW_ND);
}

DIFFERENT(flatter_queues_there)
{
	return lower_field(b, s, STREAM_HW_QD);
}

DIFFERENT(shorter_messages_there)
{
	return lower_field(b, s, STREAM_HW_ML);
}

/* The AP bus takes 0 to 3 for the same 12 KiB */
DIFFERENT(message_length_3_there)
{
	unsigned int i;

	for (i = 0; i < s->nr_rows; i++)
		s->rows[i].info = hwinfo_put(s->rows[i].info, STREAM_HW_ML, 3);
	stream_encode(b, s);
	return true;
}

DIFFERENT(unknown_optional_records)
{
	stream_header(b);
	stream_record(b, 0x4321, 0, 0);
	stream_config(b, &s->masks);
	stream_record(b, 0xffff, 0, STREAM_OPTIONAL_MAX);
	stream_put(b, NULL, STREAM_OPTIONAL_MAX);
	stream_hwinfo(b, s->rows, s->nr_rows);
	stream_record(b, 0, 0, 8);
	stream_put(b, NULL, 8);
	stream_end(b);
	return true;
}

DIFFERENT(unknown_optional_records_of_64_kilobytes)
{
	unsigned int sum;

	stream_header(b);
	stream_config(b, &s->masks);
	stream_hwinfo(b, s->rows, s->nr_rows);
	for (sum = 0; sum < STREAM_OPTIONAL_SUM; sum += STREAM_OPTIONAL_MAX) {
		stream_record(b, 0x4321, 0, STREAM_OPTIONAL_MAX);
		stream_put(b, NULL, STREAM_OPTIONAL_MAX);
	}
	stream_end(b);
	return true;
}

static int resume_bytes(struct env *env, const struct stream_buf *b)
{
	size_t done;
	int fd, ret;

	ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RESUMING, &fd);
	if (ret)
		return ret;
	ret = write_bytes(fd, b, &done);
	if (!ret)
		ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL);
	close(fd);
	return ret;
}

TEST_F_TIMEOUT(different, is_accepted, ENV_TIMEOUT)
{
	struct env *env = &self->env;
	struct stream good = env->decoded;
	struct stream_buf b = {};

	if (!variant->forge(&b, &good)) {
		stream_free(&b);
		SKIP(return, "no card of this host can have less");
	}
	EXPECT_EQ(0, env_resume(env, b.data, b.len, 0));
	EXPECT_EQ(0, resume_bytes(env, &b));
	EXPECT_EQ(0, env_resume(env, b.data, b.len, 13));
	stream_free(&b);
}

TEST_HARNESS_MAIN
