// SPDX-License-Identifier: GPL-2.0
/*
 * Costs of migration, in an emulated host whose clock counts instructions:
 *
 *	vfio-ap-bench ADAPTERS DOMAINS
 *
 * for a device with adapters 0 to ADAPTERS and domains 0 to DOMAINS. Prints lines
 * "NAME VALUE": bytes, numbers, or nanoseconds, which are instructions if the emulator
 * was started so. Each is the least of several; in the same run its floor and the
 * straightforward design (baseline/) are measured.
 *
 * The machine takes several PQAP(TAPQ) to enable or disable an interrupt, and the driver
 * sleeps in between. So work on interrupts is measured as CPU time of this thread,
 * with the number of AP instructions in it.
 *
 * Ends with status 0 if all went well, 1 if not, 4 if it cannot run here.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "lib/ap.h"
#include "lib/env.h"
#include "lib/guest.h"
#include "lib/stream.h"
#include "lib/vfio.h"

#define REPEATS		7
/* As QEMU reads */
#define BUFFER		(1UL << 20)
#define BASELINE	"/sys/kernel/debug/vfio_ap_baseline/"
#define PARAMETERS	"/sys/module/vfio_ap_baseline/parameters/"
#define TRACING		"/sys/kernel/tracing/"
/* The guest's interrupts: all with the same subclass and byte */
#define ISC		3
#define NIB		0x1000
/* Blocks of memory that one session takes, at most */
#define MAX_BLOCKS	256
/* The function with which the driver pins a page of the guest */
#define PIN		"vfio_pin_pages"

/**
 * struct bench - the run
 * @dev: the device
 * @guest: VM of the device; it does not run
 * @good: the device's stream, without interrupts
 * @armed: the same with an interrupt of each queue
 * @out: of the last save: the stream
 * @len: bytes of it
 */
struct bench {
	struct vfio_ap dev;
	struct guest guest;
	struct stream_buf good;
	struct stream_buf armed;
	__u8 *out;
	size_t len;
};

static struct bench bench;

/* AP instructions that the driver executes for queues, by the names of the machine's counters */
static const char * const insns[] = { "tapq", "aqic", "zapq" };

#define NR_INSNS	(sizeof(insns) / sizeof(*insns))

/**
 * struct span - costs of a part of a migration
 * @cpu: instructions of this thread, AP instructions included
 * @insns: number of AP instructions
 */
struct span {
	uint64_t cpu;
	uint64_t insns[NR_INSNS];
};

static struct span span;

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static uint64_t cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void finish(void)
{
	guest_free(&bench.guest);
	vfio_ap_close(&bench.dev);
	ap_mdev_remove_all();
}

static void die(const char *what, int ret)
{
	fprintf(stderr, "# %s: %s\n", what, strerror(-ret));
	finish();
	exit(1);
}

static void set(__u32 state, int *fd)
{
	int ret = vfio_mig_set(bench.dev.device, state, fd);

	if (ret)
		die(vfio_mig_name(state), ret);
}

static void print_figure(const char *name, uint64_t value)
{
	printf("%s %llu\n", name, (unsigned long long)value);
}

/* The least of several runs, which an interrupt of the host may have made longer */
static void measure(const char *name, uint64_t (*fn)(void))
{
	uint64_t least = UINT64_MAX, value;
	unsigned int i;

	for (i = 0; i < REPEATS; i++) {
		value = fn();
		if (value < least)
			least = value;
	}
	print_figure(name, least);
}

static void span_begin(void)
{
	unsigned int i;

	for (i = 0; i < NR_INSNS; i++)
		span.insns[i] = ap_counter(insns[i]);
	span.cpu = cpu_now();
}

static void span_end(void)
{
	unsigned int i;

	span.cpu = cpu_now() - span.cpu;
	for (i = 0; i < NR_INSNS; i++)
		span.insns[i] = ap_counter(insns[i]) - span.insns[i];
}

/* The same as measure() of a function that has one span */
static void measure_span(const char *name, void (*fn)(void))
{
	struct span least = { .cpu = UINT64_MAX };
	char text[64];
	unsigned int i;

	for (i = 0; i < REPEATS; i++) {
		fn();
		if (span.cpu < least.cpu)
			least = span;
	}
	snprintf(text, sizeof(text), "%s_cpu", name);
	print_figure(text, least.cpu);
	for (i = 0; i < NR_INSNS; i++) {
		snprintf(text, sizeof(text), "%s_%s", name, insns[i]);
		print_figure(text, least.insns[i]);
	}
}

/* The cost of reading the clock, which is in each figure */
static uint64_t clock_only(void)
{
	uint64_t from = now();

	return now() - from;
}

/* Read up to the end, as QEMU does: until nothing comes any more */
static void read_all(int fd)
{
	ssize_t n;

	bench.len = 0;
	do {
		n = read(fd, bench.out + bench.len, BUFFER - bench.len);
		if (n < 0)
			die("read", -errno);
		bench.len += n;
	} while (n);
}

static void write_all(int fd, const void *data, size_t len)
{
	ssize_t n = write(fd, data, len);

	if (n != (ssize_t)len)
		die("write", n < 0 ? -errno : -EIO);
}

/* STOP before and after, without interrupts: the driver's work for the stream alone */
static uint64_t save(void)
{
	uint64_t from;
	int fd;

	set(VFIO_DEVICE_STATE_STOP, NULL);
	from = now();
	set(VFIO_DEVICE_STATE_STOP_COPY, &fd);
	read_all(fd);
	close(fd);
	set(VFIO_DEVICE_STATE_STOP, NULL);
	return now() - from;
}

static uint64_t load(void)
{
	uint64_t from, took;
	int fd;

	/* The arc to RESUMING resets the queues: resuming() */
	set(VFIO_DEVICE_STATE_RESUMING, &fd);
	from = now();
	write_all(fd, bench.good.data, bench.good.len);
	close(fd);
	set(VFIO_DEVICE_STATE_STOP, NULL);
	took = now() - from;
	set(VFIO_DEVICE_STATE_RUNNING, NULL);
	return took;
}

static uint64_t data_size(void)
{
	uint64_t from = now();
	__u64 size;
	int ret = vfio_mig_data_size(bench.dev.device, &size);

	if (ret)
		die("VFIO_DEVICE_FEATURE_MIG_DATA_SIZE", ret);
	return now() - from;
}

static uint64_t one_syscall(void)
{
	uint64_t from = now();
	__u32 state;
	int ret = vfio_mig_get(bench.dev.device, &state);

	if (ret)
		die("VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE", ret);
	return now() - from;
}

/* The system calls of save(), or of load(), on files that do nothing */
static uint64_t save_syscalls(void)
{
	int fd = open("/dev/null", O_RDWR);
	uint64_t from = now();
	__u32 state;

	vfio_mig_get(bench.dev.device, &state);
	if (read(fd, bench.out, BUFFER) || read(fd, bench.out, BUFFER))
		die("/dev/null", -EIO);
	close(fd);
	vfio_mig_get(bench.dev.device, &state);
	return now() - from;
}

static uint64_t load_syscalls(void)
{
	int fd = open("/dev/null", O_RDWR);
	uint64_t from = now();
	__u32 state;

	write_all(fd, bench.good.data, bench.good.len);
	close(fd);
	vfio_mig_get(bench.dev.device, &state);
	return now() - from;
}

/* The guest's downtime at the source: QEMU's calls between its stop and the last byte */
static void source(void)
{
	int fd, ret;

	set(VFIO_DEVICE_STATE_RUNNING, NULL);
	set(VFIO_DEVICE_STATE_PRE_COPY, &fd);
	bench.len = read(fd, bench.out, BUFFER);
	span_begin();
	set(VFIO_DEVICE_STATE_PRE_COPY_P2P, NULL);
	set(VFIO_DEVICE_STATE_STOP_COPY, NULL);
	read_all(fd);
	span_end();
	close(fd);
	/* Back, as after a migration that failed: the interrupts are on again */
	set(VFIO_DEVICE_STATE_RUNNING, NULL);
	ret = vfio_mig_state(bench.dev.device);
	if (ret != VFIO_DEVICE_STATE_RUNNING)
		die("back to RUNNING", ret < 0 ? ret : -EIO);
}

/* Its downtime at the target; the stream of pre-copy was written before */
static void target(void)
{
	/* Without interrupts, all but END crosses in pre-copy */
	size_t early = bench.good.len - STREAM_RECORD_SIZE;
	int fd;

	set(VFIO_DEVICE_STATE_RESUMING, &fd);
	write_all(fd, bench.armed.data, early);
	span_begin();
	write_all(fd, bench.armed.data + early, bench.armed.len - early);
	set(VFIO_DEVICE_STATE_RUNNING_P2P, NULL);
	set(VFIO_DEVICE_STATE_RUNNING, NULL);
	span_end();
	close(fd);
}

/* Work of the target before the stream comes: the queues are reset */
static void resuming(void)
{
	int fd;

	set(VFIO_DEVICE_STATE_STOP, NULL);
	span_begin();
	set(VFIO_DEVICE_STATE_RESUMING, &fd);
	span_end();
	write_all(fd, bench.good.data, bench.good.len);
	close(fd);
	set(VFIO_DEVICE_STATE_RUNNING, NULL);
}

static void map_memory(bool map)
{
	struct vfio_iommu_type1_dma_map add = {
		.argsz = sizeof(add),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)bench.dev.mem,
		.size = bench.dev.mem_size,
	};
	struct vfio_iommu_type1_dma_unmap del = {
		.argsz = sizeof(del),
		.size = bench.dev.mem_size,
	};

	if (map ? ioctl(bench.dev.container, VFIO_IOMMU_MAP_DMA, &add) :
		  ioctl(bench.dev.container, VFIO_IOMMU_UNMAP_DMA, &del))
		die(map ? "map" : "unmap", -errno);
}

/* Nanoseconds of the clock, including the time that the driver waits for the machine */
static uint64_t unmap(void)
{
	uint64_t from;

	target();
	from = now();
	map_memory(false);
	from = now() - from;
	map_memory(true);
	return from;
}

static int baseline_open(const char *name, int flags)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), BASELINE "%s", name);
	fd = open(path, flags);
	if (fd < 0)
		die(path, -errno);
	return fd;
}

static uint64_t baseline_once(const char *name)
{
	int fd = baseline_open(name, O_WRONLY);
	uint64_t from = now();

	write_all(fd, "1", 1);
	from = now() - from;
	close(fd);
	return from;
}

/* Time of the instructions themselves: twice as many less once as many */
static uint64_t baseline_tapq(void)
{
	return baseline_once("tapq2") - baseline_once("tapq1");
}

static uint64_t baseline_aqic(void)
{
	return baseline_once("aqic2") - baseline_once("aqic1");
}

static uint64_t baseline_zapq(void)
{
	return baseline_once("zapq2") - baseline_once("zapq1");
}

static uint64_t baseline_save(void)
{
	int fd = baseline_open("state", O_RDONLY);
	uint64_t from = now();

	read_all(fd);
	from = now() - from;
	close(fd);
	return from;
}

static uint64_t baseline_load(void)
{
	int fd = baseline_open("state", O_WRONLY);
	uint64_t from = now();

	write_all(fd, bench.out, bench.len);
	from = now() - from;
	close(fd);
	return from;
}

/**
 * struct block - memory that was allocated
 * @at: where, as a trace event tells it
 * @size: bytes
 */
struct block {
	unsigned long long at;
	unsigned long size;
};

static void trace(const char *name, const char *value)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), TRACING "%s", name);
	ret = ap_file_write(path, value);
	if (ret < 0)
		die(path, ret);
}

static void trace_clear(void)
{
	int fd = open(TRACING "trace", O_WRONLY | O_TRUNC);

	if (fd < 0)
		die("trace", -errno);
	close(fd);
}

static void trace_begin(void)
{
	char pid[16];

	trace_clear();
	snprintf(pid, sizeof(pid), "%d", getpid());
	trace("set_event_pid", pid);
	trace("events/kmem/kmalloc/enable", "1");
	trace("events/kmem/kmem_cache_alloc/enable", "1");
	trace("events/kmem/kfree/enable", "1");
	trace("events/kmem/kmem_cache_free/enable", "1");
}

/* Bytes that the driver has allocated since trace_begin(), and not freed */
static unsigned long trace_end(void)
{
	static struct block blocks[MAX_BLOCKS];
	const char *ptr, *size;
	unsigned long long at;
	unsigned int i, nr = 0;
	unsigned long sum = 0;
	char line[512];
	FILE *file;

	trace("events/kmem/enable", "0");
	trace("set_event_pid", "");
	file = fopen(TRACING "trace", "r");
	if (!file)
		die("trace", -errno);
	while (fgets(line, sizeof(line), file)) {
		ptr = strstr(line, "ptr=");
		if (*line == '#' || !ptr)
			continue;
		at = strtoull(ptr + 4, NULL, 16);
		/* Large blocks have two events: of the slab's allocator, and of its user */
		for (i = 0; i < nr && blocks[i].at != at; i++)
			;
		if (i < nr)
			blocks[i] = blocks[--nr];
		size = strstr(line, "bytes_alloc=");
		if (size && strstr(line, "[vfio_ap]") && nr < MAX_BLOCKS)
			blocks[nr++] = (struct block){ at, strtoul(size + 12, NULL, 10) };
	}
	fclose(file);
	if (nr == MAX_BLOCKS)
		die("too many blocks of memory", -E2BIG);
	for (i = 0; i < nr; i++)
		sum += blocks[i].size;
	return sum;
}

/* Number of calls of a kernel function while fn() runs */
static unsigned int count_calls(const char *function, void (*fn)(void))
{
	unsigned int calls = 0;
	char line[512];
	FILE *file;

	snprintf(line, sizeof(line), "p:bench/call %s", function);
	trace("kprobe_events", line);
	trace("events/bench/call/enable", "1");
	trace_clear();
	fn();
	trace("events/bench/call/enable", "0");
	file = fopen(TRACING "trace", "r");
	if (!file)
		die("trace", -errno);
	while (fgets(line, sizeof(line), file))
		calls += *line != '#' && strstr(line, " call: ");
	fclose(file);
	trace("kprobe_events", "-:bench/call");
	return calls;
}

static void memory(void)
{
	unsigned long size;
	int fd;

	set(VFIO_DEVICE_STATE_STOP, NULL);
	trace_begin();
	set(VFIO_DEVICE_STATE_STOP_COPY, &fd);
	size = trace_end();
	close(fd);
	print_figure("save_memory", size);

	set(VFIO_DEVICE_STATE_STOP, NULL);
	trace_begin();
	set(VFIO_DEVICE_STATE_RESUMING, &fd);
	write_all(fd, bench.good.data, bench.good.len);
	size = trace_end();
	close(fd);
	print_figure("load_memory", size);
	set(VFIO_DEVICE_STATE_STOP, NULL);
	set(VFIO_DEVICE_STATE_RUNNING, NULL);
}

/* The stream of the last save with an interrupt of each queue put in */
static void arm(const struct ap_masks *masks)
{
	static struct stream s;
	const char *why = stream_decode(&s, bench.good.data, bench.good.len);
	unsigned int i;

	if (why) {
		fprintf(stderr, "# stream: %s\n", why);
		die("stream", -EINVAL);
	}
	for (i = 0; i < s.nr_rows; i++) {
		s.irqs[i] = (struct stream_irqrow){ s.rows[i].apid, ISC, NIB, {} };
		memcpy(s.irqs[i].domains, masks->aqm, sizeof(masks->aqm));
	}
	s.nr_irqs = s.nr_rows;
	s.irq_records = 1;
	stream_encode(&bench.armed, &s);
}

static void measure_stream(void)
{
	uint64_t before;

	save();
	stream_put(&bench.good, bench.out, bench.len);
	print_figure("size", bench.good.len);
	measure("save", save);
	measure("save_floor", save_syscalls);
	measure("load", load);
	measure("load_floor", load_syscalls);
	measure("data_size", data_size);
	measure("data_size_floor", one_syscall);
	memory();

	set(VFIO_DEVICE_STATE_RUNNING, NULL);
	measure_span("resuming", resuming);
	measure("tapq", baseline_tapq);
	measure("aqic", baseline_aqic);
	measure("zapq", baseline_zapq);
	measure("baseline_save", baseline_save);
	before = bench.len;
	measure("baseline_load", baseline_load);
	print_figure("baseline_size", before);
}

static void measure_interrupts(const struct ap_masks *masks)
{
	arm(masks);
	measure_span("target", target);
	print_figure("pins", count_calls(PIN, target));
	measure_span("source", source);
	/* A machine that enables and disables an interrupt when it accepts to */
	ap_control("aqic_polls 0");
	measure_span("target_at_once", target);
	measure_span("source_at_once", source);
	ap_control("aqic_polls %d", AP_AQIC_POLLS);
	save();
	print_figure("armed_size", bench.len);
	set(VFIO_DEVICE_STATE_RUNNING, NULL);
	measure("armed_data_size", data_size);
	measure("unmap", unmap);
}

static void set_parameter(const char *name, const char *value)
{
	char path[128];
	int ret;

	snprintf(path, sizeof(path), PARAMETERS "%s", name);
	ret = ap_file_write(path, value);
	if (ret < 0)
		die(path, ret);
}

int main(int argc, char **argv)
{
	struct ap_masks masks = {};
	const char *uuid = ap_mdev_uuid(0);
	uint64_t from;
	unsigned int i;
	int ret;

	if (argc != 3) {
		fprintf(stderr, "usage: %s ADAPTERS DOMAINS\n", argv[0]);
		return 2;
	}
	bench.dev.device = -1;
	for (i = 0; i < (unsigned int)atoi(argv[1]); i++)
		ap_mask_set(masks.apm, i);
	for (i = 0; i < (unsigned int)atoi(argv[2]); i++)
		ap_mask_set(masks.aqm, i);
	set_parameter("adapters", argv[1]);
	set_parameter("domains", argv[2]);
	bench.out = malloc(BUFFER);
	if (!bench.out)
		return 4;
	memset(bench.out, 1, BUFFER);

	ap_mdev_remove_all();
	ret = ap_mdev_create(uuid);
	from = now();
	if (!ret)
		ret = ap_mdev_assign(uuid, &masks);
	print_figure("assign", now() - from);
	if (!ret)
		ret = vfio_ap_open(&bench.dev, uuid, VFIO_AP_GROUP);
	if (!ret)
		ret = guest_create(&bench.guest, &bench.dev, GUEST_ENTRY);
	if (ret)
		die("the device", ret);

	measure("clock", clock_only);
	measure_stream();
	measure_interrupts(&masks);

	finish();
	return 0;
}
