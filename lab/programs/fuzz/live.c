// SPDX-License-Identifier: GPL-2.0
/*
 * Streams that are changed at random, cut at random, and written to the driver of
 * an emulated host:
 *
 *	vfio-ap-live-fuzz [SEED [COUNT [FIRST]]]
 *
 * Stream number N of a seed is the same in each run: FIRST repeats one of them.
 * After each, write() must have returned the result of the reference decoder;
 * the error must stick; and the device must be RUNNING with its configuration after
 * a reset. After each hundredth, a good stream is resumed and saved again, and
 * nothing may have been left behind.
 *
 * Ends with status 0 if all went well, 1 if not, 4 if it cannot run here.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "input.h"
#include "lib/env.h"
#include "lib/guest_fixture.h"
#include "reference.h"

#define MAX_INPUT	16384
/* An input with no chunks, no edits, nothing expanded */
#define CONTROL		3

/* Streams between two good ones */
#define PERIOD		100
/* Streams between two lines of progress */
#define NEWS		1000

/* Fields of an information word that may be larger at the destination */
#define AT_LEAST	(STREAM_HW_ND | STREAM_HW_QD | STREAM_HW_ML)

/* Of the mutator; a build for libFuzzer has it from there */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
			       unsigned int seed);

/**
 * struct live - the run
 * @fixture: the device and its guest
 * @good: an input with the stream that the device gives
 * @good_len: bytes of it
 * @before: counters between two streams, with the guest's interrupts registered
 * @accepted: streams that the device took
 * @different: streams of another configuration
 * @malformed: streams that are none
 * @unfinished: streams without an end
 */
struct live {
	struct guest_fixture fixture;
	uint8_t good[MAX_INPUT];
	size_t good_len;
	struct env_counts before;
	unsigned long accepted;
	unsigned long different;
	unsigned long malformed;
	unsigned long unfinished;
};

static struct live live;
static uint64_t state;

/* splitmix64: the same sequence for the same seed */
static uint64_t next(void)
{
	uint64_t z = state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/* Some bytes of a part change; its length may shrink. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size)
{
	unsigned int n = 1 + next() % 4;

	(void)max_size;
	if (!size)
		return 0;
	while (n--) {
		switch (next() % 4) {
		case 0:
			data[next() % size] ^= 1 << next() % 8;
			break;
		case 1:
			data[next() % size] = next();
			break;
		case 2:
			data[next() % size] = next() % 2 ? 0xff : 0;
			break;
		default:
			data[next() % size]++;
		}
	}
	return size;
}

/* Stream @nr of a seed, as an input */
static size_t make_input(uint8_t *buf, uint64_t seed, uint64_t nr)
{
	unsigned int rounds;
	size_t len = live.good_len;

	state = seed * 0x100000001b3ULL + nr;
	next();
	memcpy(buf, live.good, len);
	for (rounds = next() % 4; rounds; rounds--)
		len = LLVMFuzzerCustomMutator(buf, len, MAX_INPUT, next());
	return len;
}

/* Write a stream in the chunks of the input; 0 or a negative errno */
static int write_chunks(int fd, const struct input *in)
{
	size_t at, part;
	unsigned int i = 0;
	ssize_t n;

	for (at = 0; at < in->len; at += n) {
		part = in->len - at;
		if (in->nr_chunks && in->chunks[i % in->nr_chunks] + 1U < part)
			part = in->chunks[i % in->nr_chunks] + 1U;
		i++;
		n = write(fd, in->stream + at, part);
		if (n < 0)
			return -errno;
		if (n != (ssize_t)part)
			return -EPROTO;
	}
	return 0;
}

/* Whether a source's information word is one that this host takes for its own @here */
static bool row_fits(uint64_t source, uint64_t here)
{
	if ((source ^ here) & STREAM_HW_MASK & ~(AT_LEAST | STREAM_HW_BS))
		return false;
	return hwinfo_get(source, STREAM_HW_ND) <= hwinfo_get(here, STREAM_HW_ND) &&
	       hwinfo_get(source, STREAM_HW_QD) <= hwinfo_get(here, STREAM_HW_QD) &&
	       hwinfo_get(source, STREAM_HW_ML) <= hwinfo_get(here, STREAM_HW_ML);
}

/* Whether the CONFIG of a stream is the configuration of this host */
static bool masks_fit(const struct ref_result *ref)
{
	return !ref->masks ||
	       !memcmp(ref->masks, &live.fixture.env.decoded.masks, sizeof(struct ap_masks));
}

/* HWINFO is compared at its end */
static bool rows_complete(const struct ref_result *ref)
{
	unsigned int i;

	for (i = 0; i < ref->nr && i < REF_MAX_EVENTS; i++)
		if (ref->events[i].type == REF_HWINFO)
			return true;
	return false;
}

/* Whether HWINFO is one that this host can take over */
static bool rows_fit(const struct ref_result *ref)
{
	const struct stream *good = &live.fixture.env.decoded;
	unsigned int i;

	if (!rows_complete(ref))
		return true;
	for (i = 0; i < ref->nr_rows && i < good->nr_rows; i++)
		if (!row_fits(ref_get(ref->rows + 16 * i + 8, 8), good->rows[i].info))
			return false;
	return true;
}

/* Whether all its notification bytes lie in the memory of the guest */
static bool bytes_fit(const struct ref_result *ref)
{
	unsigned int i;

	for (i = 0; i < ref->nr_irqs; i++)
		if (ref_get(ref->irqs[i] + 8, 8) >= live.fixture.env.dev.mem_size)
			return false;
	return true;
}

/* The reason why write()'s result does not fit the stream, or NULL */
static const char *check_result(const struct ref_result *ref, int ret)
{
	int error = ref->error == -ENODATA ? 0 : ref->error;

	switch (ret) {
	case 0:
		if (error)
			return "a malformed stream was taken";
		if (!masks_fit(ref) || !rows_fit(ref))
			return "a stream of another configuration was taken";
		return ref->error || bytes_fit(ref) ? NULL : "a byte outside of memory was taken";
	case -ENXIO:
		return masks_fit(ref) && rows_fit(ref) ? "an equal configuration was refused" : NULL;
	case -EINVAL:
		if (!ref->error && !bytes_fit(ref))
			return NULL;
		break;
	}
	if (!error)
		return "a good stream was refused";
	return ret == error ? NULL : "another error than that of the stream";
}

static void tally(const struct ref_result *ref, int ret)
{
	if (ret == -ENXIO)
		live.different++;
	else if (ret)
		live.malformed++;
	else if (ref->error)
		live.unfinished++;
	else
		live.accepted++;
}

/* The session is over, for the reason that the stream gave; RUNNING afterwards */
static const char *end_session(const struct ref_result *ref, int ret)
{
	struct env *env = &live.fixture.env;
	int device = env->dev.device, left;

	if (vfio_mig_state(device) != VFIO_DEVICE_STATE_RESUMING)
		return "the state has changed";
	if (!ret) {
		left = vfio_mig_set(device, VFIO_DEVICE_STATE_RUNNING, NULL);
		if (left != (ref->error == -ENODATA ? -EINVAL : ref->error))
			return "RESUMING was left with another error";
		if (!left)
			return NULL;
	}
	if (vfio_ap_reset(&env->dev))
		return "the device cannot be reset";
	return vfio_mig_state(device) == VFIO_DEVICE_STATE_RUNNING ? NULL : "not RUNNING";
}

/* NULL, or the failure of a stream */
static const char *try_stream(const struct input *in)
{
	static struct ref_result ref;
	const char *why;
	int fd, ret;

	if (vfio_mig_set(live.fixture.env.dev.device, VFIO_DEVICE_STATE_RESUMING, &fd))
		return "no session";
	ref_decode(&ref, in->stream, in->len);
	ret = write_chunks(fd, in);
	why = check_result(&ref, ret);
	if (!why && ret && env_try_write(fd) != ret)
		why = "the error does not stick";
	if (!why)
		why = end_session(&ref, ret);
	tally(&ref, ret);
	close(fd);
	if (why)
		fprintf(stderr, "write: %d, reference: %d\n", ret, ref.error);
	return why;
}

/* A good migration, and nothing is left of those before; NULL, or the failure */
static const char *check_good_stream(void)
{
	struct env *env = &live.fixture.env;
	struct stream_buf out = {};
	const char *why = NULL;
	struct env_counts now;

	if (env_resume(env, env->stream.data, env->stream.len, 0))
		why = "the good stream was refused";
	else if (env_save(env, &out))
		why = "the device cannot be saved";
	else if (out.len != env->stream.len || memcmp(out.data, env->stream.data, out.len))
		why = "the device gives another stream";
	stream_free(&out);
	env_count(env, &now);
	if (!why && now.pinned != live.before.pinned)
		why = "pages are still pinned";
	else if (!why && now.files != live.before.files)
		why = "files are still open";
	else if (!why && memcmp(&now, &live.before, sizeof(now)))
		why = "the module has another user, or the device another configuration";
	return why;
}

static void dump(const uint8_t *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		fprintf(stderr, "%02x%s", data[i], i % 32 == 31 || i == len - 1 ? "\n" : "");
}

static int setup(void)
{
	struct guest_fixture *f = &live.fixture;
	const char *why;
	int ret;

	why = guest_fixture_setup(f, VFIO_AP_CDEV, &ret);
	if (why) {
		fprintf(stderr, "cannot run here: %s\n", why);
		return 4;
	}
	if (!ret)
		ret = guest_fixture_start(f);
	if (!ret)
		ret = guest_wait_answered(&f->guest, 1);
	if (!ret)
		ret = guest_stop(&f->guest);
	if (!ret)
		ret = env_stream(&f->env);
	if (ret || !f->env.decoded.nr_irqs) {
		fprintf(stderr, "no device with interrupts: %s\n", strerror(-ret));
		return 1;
	}
	if (CONTROL + f->env.stream.len > MAX_INPUT)
		return 1;
	memcpy(live.good + CONTROL, f->env.stream.data, f->env.stream.len);
	live.good_len = CONTROL + f->env.stream.len;
	env_count(&f->env, &live.before);
	/* Most streams end with a reset, and the driver looks 20 ms later whether it is done */
	return ap_control("reset_polls 0") ? 1 : 0;
}

static void news(uint64_t done)
{
	printf("%llu streams: %lu accepted, %lu of another configuration, ",
	       (unsigned long long)done, live.accepted, live.different);
	printf("%lu malformed, %lu without end\n", live.malformed, live.unfinished);
	fflush(stdout);
}

static int run(uint64_t seed, uint64_t count, uint64_t first)
{
	static uint8_t buf[MAX_INPUT];
	struct input in;
	const char *why;
	uint64_t nr;
	size_t len;

	for (nr = first; nr < first + count; nr++) {
		len = make_input(buf, seed, nr);
		if (input_parse(&in, buf, len))
			continue;
		why = try_stream(&in);
		if (!why && (nr + 1) % PERIOD == 0)
			why = check_good_stream();
		if (why) {
			fprintf(stderr, "seed %llu, stream %llu: %s\n", (unsigned long long)seed,
				(unsigned long long)nr, why);
			dump(in.stream, in.len);
			return 1;
		}
		if ((nr + 1) % NEWS == 0)
			news(nr + 1 - first);
	}
	why = check_good_stream();
	if (why)
		fprintf(stderr, "seed %llu, at the end: %s\n", (unsigned long long)seed, why);
	news(count);
	return why ? 1 : 0;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 0) : NEWS;
	uint64_t first = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;
	int ret;

	ret = setup();
	if (!ret)
		ret = run(seed, count, first);
	guest_fixture_teardown(&live.fixture);
	return ret;
}
