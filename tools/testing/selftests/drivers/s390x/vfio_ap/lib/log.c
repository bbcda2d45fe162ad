// SPDX-License-Identifier: GPL-2.0
/*
 * Messages of the kernel log, see log.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

int log_open(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (log < 0)
		return -errno;
	lseek(log, 0, SEEK_END);
	return log;
}

unsigned int log_count(int log, const char *text)
{
	unsigned int found = 0;
	char record[8192];
	ssize_t n;

	/* EPIPE: the oldest messages were overwritten; read on */
	while ((n = read(log, record, sizeof(record) - 1)) > 0 || errno == EPIPE) {
		if (n <= 0)
			continue;
		record[n] = '\0';
		found += !!strstr(record, text);
	}
	return found;
}
