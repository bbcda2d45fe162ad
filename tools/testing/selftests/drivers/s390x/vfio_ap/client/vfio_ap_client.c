// SPDX-License-Identifier: GPL-2.0
/*
 * vfio_ap_client - save and resume a vfio-ap mediated device without a VMM
 *
 * Makes the calls that QEMU makes, on a VM that does not run; the stream from
 * source to destination is a file.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/stream.h"
#include "../lib/vfio.h"
#include "client.h"

static void print_help(FILE *to)
{
	fputs("Usage: vfio_ap_client [OPTION]... COMMAND\n"
	      "\n"
	      "  info UUID           migration flags, state and data size of the device\n"
	      "  save UUID FILE      as the source of a migration: its state to FILE\n"
	      "  resume UUID FILE    as the destination: compare FILE with the device, run\n"
	      "  show FILE           print what is in a saved FILE\n"
	      "\n"
	      "  -c, --cdev          open through the character device and iommufd;\n"
	      "                      default: through VFIO group and type1 container\n"
	      "  -b, --buffer=BYTES  resume: what the source read at once; default 1 MiB\n"
	      "  -s, --stop-copy     do without PRE_COPY and P2P, as older VMMs\n"
	      "  -v, --verbose       print each call on stderr\n"
	      "  -h, --help\n"
	      "\n"
	      "Exit status: 0, 1 on an error of the device or stream, 2 on a wrong command\n"
	      "line.\n", to);
}

static int fail(const char *what, int ret)
{
	fprintf(stderr, "vfio_ap_client: %s: %s\n", what, strerror(-ret));
	return 1;
}

static int load_file(const char *name, struct client_data *data)
{
	FILE *f = fopen(name, "rb");
	size_t n;

	memset(data, 0, sizeof(*data));
	if (!f)
		return -errno;
	data->bytes = malloc(STREAM_MAX_SIZE + 1);
	if (!data->bytes) {
		fclose(f);
		return -ENOMEM;
	}
	n = fread(data->bytes, 1, STREAM_MAX_SIZE + 1, f);
	fclose(f);
	if (n > STREAM_MAX_SIZE)
		return -EFBIG;
	data->len = n;
	return 0;
}

static int store_file(const char *name, const struct client_data *data)
{
	FILE *f = fopen(name, "wb");
	bool ok;

	if (!f)
		return -errno;
	ok = fwrite(data->bytes, 1, data->len, f) == data->len;
	if (fclose(f))
		ok = false;
	return ok ? 0 : -EIO;
}

static int do_info(int device)
{
	__u64 flags, size;
	int ret, state;

	ret = vfio_mig_flags(device, &flags);
	if (ret)
		return fail("migration flags", ret);
	state = vfio_mig_state(device);
	if (state < 0)
		return fail("migration state", state);
	ret = vfio_mig_data_size(device, &size);
	if (ret)
		return fail("data size", ret);
	printf("flags%s%s%s\nstate %s\nsize %llu\n",
	       flags & VFIO_MIGRATION_STOP_COPY ? " STOP_COPY" : "",
	       flags & VFIO_MIGRATION_P2P ? " P2P" : "",
	       flags & VFIO_MIGRATION_PRE_COPY ? " PRE_COPY" : "",
	       vfio_mig_name(state), (unsigned long long)size);
	return 0;
}

static int do_save(struct client *c, const char *name)
{
	struct client_data data = {};
	int ret;

	ret = client_save(c, &data);
	if (ret) {
		fail("save", ret);
	} else {
		ret = store_file(name, &data);
		if (ret)
			fail(name, ret);
		else
			printf("%zu bytes in %u reads of at most %zu, %zu before the stop\n",
			       data.len, data.nr_reads, data.chunk, data.precopied);
	}
	client_data_free(&data);
	return !!ret;
}

static int do_resume(struct client *c, const char *name, size_t chunk)
{
	struct client_data data;
	int ret;

	ret = load_file(name, &data);
	if (ret) {
		fail(name, ret);
	} else {
		data.chunk = chunk;
		ret = client_load(c, &data);
		if (!ret)
			ret = client_start(c);
		if (ret)
			fail("resume", ret);
		else
			printf("%zu bytes accepted\n", data.len);
	}
	client_data_free(&data);
	return !!ret;
}

static void show_mask(const char *name, const __u8 *mask)
{
	unsigned int id;

	printf("%s", name);
	for (id = ap_mask_next(mask, 0, true); id < AP_IDS; id = ap_mask_next(mask, id + 1, true))
		printf(" %02x", id);
	printf("\n");
}

static int do_show(const char *name)
{
	static struct stream s;
	struct client_data data;
	const char *why;
	unsigned int i;
	__u64 info;
	int ret;

	ret = load_file(name, &data);
	if (ret) {
		fail(name, ret);
		goto out;
	}
	why = stream_decode(&s, data.bytes, data.len);
	if (why) {
		fprintf(stderr, "vfio_ap_client: %s: malformed: %s\n", name, why);
		ret = -EINVAL;
		goto out;
	}
	show_mask("adapters", s.masks.apm);
	show_mask("domains", s.masks.aqm);
	show_mask("control domains", s.masks.adm);
	for (i = 0; i < s.nr_rows; i++) {
		info = s.rows[i].info;
		printf("adapter %02x: facilities 0x%08x at %u nd %u ml %u qd %u\n",
		       s.rows[i].apid, (__u32)(info >> 32),
		       (__u32)hwinfo_get(info, STREAM_HW_AT),
		       (__u32)hwinfo_get(info, STREAM_HW_ND),
		       (__u32)hwinfo_get(info, STREAM_HW_ML),
		       (__u32)hwinfo_get(info, STREAM_HW_QD));
	}
out:
	client_data_free(&data);
	return !!ret;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "cdev", no_argument, NULL, 'c' },
		{ "buffer", required_argument, NULL, 'b' },
		{ "stop-copy", no_argument, NULL, 's' },
		{ "verbose", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{}
	};
	enum vfio_ap_path path = VFIO_AP_GROUP;
	size_t chunk = CLIENT_MAX_BUFFER;
	const char *command, *name;
	bool verbose = false, stop_copy = false;
	struct vfio_ap dev;
	struct client c;
	char *end;
	int opt, ret;

	while ((opt = getopt_long(argc, argv, "cb:svh", options, NULL)) != -1) {
		switch (opt) {
		case 'c':
			path = VFIO_AP_CDEV;
			break;
		case 'b':
			chunk = strtoul(optarg, &end, 0);
			if (!chunk || *end) {
				print_help(stderr);
				return 2;
			}
			break;
		case 's':
			stop_copy = true;
			break;
		case 'v':
			verbose = true;
			break;
		case 'h':
			print_help(stdout);
			return 0;
		default:
			print_help(stderr);
			return 2;
		}
	}
	argc -= optind;
	argv += optind;
	command = argc ? argv[0] : "";
	if (!strcmp(command, "show") && argc == 2)
		return do_show(argv[1]);
	if (!(!strcmp(command, "info") && argc == 2) &&
	    !(!strcmp(command, "save") && argc == 3) &&
	    !(!strcmp(command, "resume") && argc == 3)) {
		print_help(stderr);
		return 2;
	}
	name = argv[2];

	ret = vfio_ap_open(&dev, argv[1], path);
	if (ret)
		return fail(argv[1], ret);
	ret = client_realize(&c, &dev);
	if (ret) {
		fail("realize", ret);
		vfio_ap_close(&dev);
		return 1;
	}
	if (stop_copy)
		c.flags &= VFIO_MIGRATION_STOP_COPY;
	c.log = verbose ? stderr : NULL;
	if (!strcmp(command, "info")) {
		ret = do_info(dev.device);
	} else {
		if (!strcmp(command, "save"))
			ret = do_save(&c, name);
		else
			ret = do_resume(&c, name, chunk);
		if (client_quit(&c))
			ret = 1;
	}
	vfio_ap_close(&dev);
	return ret;
}
