// SPDX-License-Identifier: GPL-2.0
/*
 * Common setup of the vfio-ap migration tests, see env.h.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "env.h"

unsigned int env_repeat(unsigned int times)
{
	const char *text = getenv("VFIO_AP_REPEAT");

	return text && *text ? strtoul(text, NULL, 0) : times;
}

const char *env_setup(struct env *env, enum vfio_ap_path path, int *ret)
{
	const char *uuid = ap_mdev_uuid(0), *why;
	unsigned int i;

	memset(env, 0, sizeof(*env));
	env->dev.device = -1;
	*ret = 0;
	why = ap_pool_get(&env->pool);
	if (why)
		return why;
	ap_mdev_remove_all();

	for (i = 0; i < env->pool.nr_adapters; i++)
		ap_mask_set(env->masks.apm, env->pool.adapters[i]);
	for (i = 0; i < env->pool.nr_domains - 1; i++)
		ap_mask_set(env->masks.aqm, env->pool.domains[i]);
	for (i = 0; i < env->pool.nr_cdomains; i++)
		ap_mask_set(env->masks.adm, env->pool.cdomains[i]);

	*ret = ap_mdev_create(uuid);
	if (*ret) {
		fprintf(stderr, "# create %s: %s\n", uuid, strerror(-*ret));
		return NULL;
	}
	*ret = ap_mdev_assign(uuid, &env->masks);
	if (*ret)
		fprintf(stderr, "# ap_config of %s: %s\n", uuid, strerror(-*ret));
	else
		*ret = vfio_ap_open(&env->dev, uuid, path);
	if (*ret)
		ap_mdev_remove(uuid);
	return NULL;
}

const char *env_setup_control(struct env *env, enum vfio_ap_path path, int *ret)
{
	return ap_control_present() ? env_setup(env, path, ret) : AP_NO_CONTROL;
}

void env_teardown(struct env *env)
{
	if (env->dev.uuid[0])
		vfio_ap_close(&env->dev);
	stream_free(&env->stream);
	ap_mdev_remove_all();
}

long env_module_references(void)
{
	char text[32];
	int ret;

	ret = ap_file_read("/sys/module/vfio_ap/refcnt", text, sizeof(text));
	return ret < 0 ? ret : strtol(text, NULL, 10);
}

static long open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	long n = 0;

	if (!dir)
		return -errno;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

void env_count(const struct env *env, struct env_counts *counts)
{
	memset(counts, 0, sizeof(*counts));
	counts->module = env_module_references();
	counts->files = open_files();
	counts->pinned = vfio_ap_pinned();
	ap_mdev_read(env->dev.uuid, "ap_config", counts->masks, sizeof(counts->masks));
}

int env_read(int fd, size_t chunk, struct stream_buf *out)
{
	__u8 *buf;
	ssize_t n;
	int ret;

	if (!chunk)
		chunk = STREAM_MAX_SIZE;
	buf = malloc(chunk);
	if (!buf)
		return -ENOMEM;
	do {
		n = read(fd, buf, chunk);
		ret = n < 0 ? -errno : 0;
		if (n > 0)
			stream_put(out, buf, n);
	} while (n > 0 && out->len <= STREAM_MAX_SIZE);
	free(buf);
	return n > 0 ? -EFBIG : ret;
}

int env_write(int fd, const void *data, size_t len, size_t chunk, size_t *done)
{
	size_t at = 0, part;
	ssize_t n = 0;
	int ret = 0;

	if (!chunk)
		chunk = len;
	while (at < len) {
		part = len - at < chunk ? len - at : chunk;
		n = write(fd, (const __u8 *)data + at, part);
		if (n <= 0) {
			ret = n ? -errno : -EIO;
			break;
		}
		at += n;
	}
	if (done)
		*done = at;
	return ret;
}

int env_try_read(int fd)
{
	__u8 byte;
	ssize_t n = read(fd, &byte, 1);

	return n < 0 ? -errno : (int)n;
}

int env_try_write(int fd)
{
	ssize_t n = write(fd, STREAM_MAGIC, 1);

	return n < 0 ? -errno : (int)n;
}

int env_save(struct env *env, struct stream_buf *out)
{
	int fd, ret, back;

	stream_free(out);
	ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP_COPY, &fd);
	if (ret)
		return ret;
	ret = env_read(fd, 0, out);
	back = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL);
	close(fd);
	return ret ?: back;
}

int env_stream(struct env *env)
{
	const char *why;
	int ret;

	ret = env_save(env, &env->stream);
	if (ret)
		return ret;
	why = stream_decode(&env->decoded, env->stream.data, env->stream.len);
	if (!why)
		return 0;
	fprintf(stderr, "# the device's stream: %s\n", why);
	return -EINVAL;
}

int env_enter(struct env *env, __u32 state, int *fd)
{
	int device = env->dev.device, ret = 0;

	if (fd)
		*fd = -1;
	if (vfio_mig_state(device) == VFIO_DEVICE_STATE_RESUMING)
		ret = vfio_ap_reset(&env->dev);
	if (!ret)
		ret = vfio_mig_set(device, VFIO_DEVICE_STATE_RUNNING, NULL);
	if (!ret)
		ret = vfio_mig_set(device, state, fd);
	return ret;
}

static const struct {
	const char *name;
	__u32 state;
	bool session;
} stages[ENV_NR_STAGES] = {
	[ENV_RUNNING] = { "RUNNING", VFIO_DEVICE_STATE_RUNNING, false },
	[ENV_RUNNING_P2P] = { "RUNNING_P2P", VFIO_DEVICE_STATE_RUNNING_P2P, false },
	[ENV_PRE_COPY] = { "PRE_COPY", VFIO_DEVICE_STATE_PRE_COPY, true },
	[ENV_PRE_COPY_P2P] = { "PRE_COPY_P2P", VFIO_DEVICE_STATE_PRE_COPY_P2P, true },
	[ENV_STOP] = { "STOP", VFIO_DEVICE_STATE_STOP, false },
	[ENV_STOP_COPY] = { "STOP_COPY", VFIO_DEVICE_STATE_STOP_COPY, true },
	[ENV_RESUMING_HALF] = { "RESUMING, half", VFIO_DEVICE_STATE_RESUMING, true },
	[ENV_RESUMING_WHOLE] = { "RESUMING, whole", VFIO_DEVICE_STATE_RESUMING, true },
	[ENV_RESUMED] = { "STOP after RESUMING", VFIO_DEVICE_STATE_STOP, false },
};

__u32 env_state_refused(__u32 session)
{
	switch (session) {
	case VFIO_DEVICE_STATE_PRE_COPY:
		return VFIO_DEVICE_STATE_RUNNING;
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		return VFIO_DEVICE_STATE_RUNNING_P2P;
	default:
		return VFIO_DEVICE_STATE_STOP;
	}
}

const char *env_stage_name(enum env_stage stage)
{
	return stages[stage].name;
}

__u32 env_stage_state(enum env_stage stage)
{
	return stages[stage].state;
}

bool env_stage_session(enum env_stage stage)
{
	return stages[stage].session;
}

bool env_stage_source(enum env_stage stage)
{
	return stages[stage].session && stages[stage].state != VFIO_DEVICE_STATE_RESUMING;
}

static int read_part(int fd, size_t len, struct stream_buf *out)
{
	__u8 part[64];
	ssize_t n;

	n = read(fd, part, len < sizeof(part) ? len : sizeof(part));
	if (n > 0)
		stream_put(out, part, n);
	return n < 0 ? -errno : 0;
}

static int write_part(struct env *env, int fd, size_t len, struct stream_buf *out)
{
	stream_put(out, env->stream.data, len);
	return env_write(fd, env->stream.data, len, 0, NULL);
}

/* Read or write the data file of a stage that has one */
static int move_data(struct env *env, enum env_stage stage, int fd, struct stream_buf *out)
{
	int ret;

	switch (stage) {
	case ENV_PRE_COPY:
		ret = env_read(fd, 0, out);
		return ret == -ENOMSG ? 0 : ret ?: -EPROTO;
	case ENV_STOP_COPY:
		return read_part(fd, STREAM_HEADER_SIZE + 5, out);
	case ENV_RESUMING_HALF:
		return write_part(env, fd, env->decoded.hwinfo_at + STREAM_RECORD_SIZE, out);
	case ENV_RESUMING_WHOLE:
	case ENV_RESUMED:
		return write_part(env, fd, env->stream.len, out);
	default:
		return 0;
	}
}

int env_enter_stage(struct env *env, enum env_stage stage, int *fd, struct stream_buf *out)
{
	bool resumed = stage == ENV_RESUMED;
	int ret;

	stream_free(out);
	ret = env_enter(env, resumed ? VFIO_DEVICE_STATE_RESUMING : stages[stage].state, fd);
	if (!ret && *fd >= 0)
		ret = move_data(env, stage, *fd, out);
	if (!ret && resumed) {
		ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_STOP, NULL);
		close(*fd);
		*fd = -1;
	}
	return ret;
}

pid_t env_remove_in_child(const char *uuid)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	close_range(3, ~0U, 0);
	_exit(ap_mdev_remove(uuid) ? 1 : 0);
}

int env_neighbour(struct env *env, struct vfio_ap *dev, enum vfio_ap_path path)
{
	const char *uuid = ap_mdev_uuid(1);
	struct ap_masks masks = env->masks;
	int ret;

	memset(masks.aqm, 0, sizeof(masks.aqm));
	ap_mask_set(masks.aqm, env->pool.domains[env->pool.nr_domains - 1]);
	ret = ap_mdev_create(uuid);
	if (!ret)
		ret = ap_mdev_assign(uuid, &masks);
	if (!ret)
		ret = vfio_ap_open(dev, uuid, path);
	return ret;
}

int env_resume(struct env *env, const void *data, size_t len, size_t chunk)
{
	int fd, ret;

	ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RESUMING, &fd);
	if (ret)
		return ret;
	ret = env_write(fd, data, len, chunk, NULL);
	if (!ret)
		ret = vfio_mig_set(env->dev.device, VFIO_DEVICE_STATE_RUNNING, NULL);
	close(fd);
	if (ret)
		vfio_ap_reset(&env->dev);
	return ret;
}
