// SPDX-License-Identifier: GPL-2.0
/*
 * Control port of the adapters of an emulated machine, see port.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "ap.h"
#include "port.h"

#define PORTS_DIR	"/sys/class/virtio-ports"
#define PORT_NAME	"ap.control\n"
#define LOCK_FILE	"/run/ap.control.lock"

/* The device node of the port; false if the machine has none */
static bool find_port(char *path, size_t size)
{
	char name[PATH_MAX], text[64];
	struct dirent *entry;
	bool found = false;
	DIR *dir;

	dir = opendir(PORTS_DIR);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		snprintf(name, sizeof(name), PORTS_DIR "/%s/name", entry->d_name);
		found = ap_file_read(name, text, sizeof(text)) > 0 && !strcmp(text, PORT_NAME);
		if (found)
			snprintf(path, size, "/dev/%s", entry->d_name);
	}
	closedir(dir);
	return found;
}

bool port_present(void)
{
	char path[PATH_MAX];

	return find_port(path, sizeof(path)) && !access(path, R_OK | W_OK);
}

/* The last line of a reply is "ok" or "error NAME" */
static int parse_status(const char *status)
{
	static const struct {
		const char *name;
		int error;
	} errors[] = {
		{ "error EEXIST", EEXIST },
		{ "error EINVAL", EINVAL },
		{ "error ENODEV", ENODEV },
		{ "error ENOENT", ENOENT },
		{ "error ERANGE", ERANGE },
	};
	unsigned int i;

	if (!strcmp(status, "ok"))
		return 0;
	for (i = 0; i < sizeof(errors) / sizeof(*errors); i++)
		if (!strcmp(status, errors[i].name))
			return -errors[i].error;
	return -EPROTO;
}

/* Start of the last line if it is complete and ends the reply, or NULL */
static char *find_status(char *reply, size_t len)
{
	char *status;

	if (!len || reply[len - 1] != '\n')
		return NULL;
	reply[len - 1] = '\0';
	status = strrchr(reply, '\n');
	status = status ? status + 1 : reply;
	if (!strcmp(status, "ok") || !strncmp(status, "error ", 6))
		return status;
	reply[len - 1] = '\n';
	return NULL;
}

static int read_reply(int fd, char *reply, size_t size)
{
	char *status = NULL;
	size_t len = 0;
	ssize_t n;
	int ret;

	while (!status) {
		if (len == size - 1)
			return -E2BIG;
		n = read(fd, reply + len, size - 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EPIPE;
		len += n;
		reply[len] = '\0';
		status = find_status(reply, len);
	}
	ret = parse_status(status);
	*status = '\0';
	return ret;
}

int port_command(const char *command, char *reply, size_t size)
{
	size_t len = strlen(command);
	char path[PATH_MAX];
	int fd, lock, ret;

	if (!find_port(path, sizeof(path)))
		return -ENODEV;
	/* The port has one opener at a time. */
	lock = open(LOCK_FILE, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (lock < 0)
		return -errno;
	if (flock(lock, LOCK_EX)) {
		ret = -errno;
		close(lock);
		return ret;
	}
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
	} else {
		ret = write(fd, command, len) == (ssize_t)len ?
			read_reply(fd, reply, size) : -EIO;
		close(fd);
	}
	close(lock);
	return ret;
}
