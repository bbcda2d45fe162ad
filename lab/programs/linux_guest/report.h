/* SPDX-License-Identifier: GPL-2.0 */
/* What the programs of the Linux guest share: lines on the console, and the time. */
#ifndef REPORT_H
#define REPORT_H

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S	1000000000LL
#define LINE		1024		/* bytes of a line at most */

/**
 * report() - print a line that starts with "guest: "
 * @format: the rest of the line, as for printf()
 *
 * One write() per line, because processes and threads report at the same time.
 */
__attribute__((format(printf, 1, 2)))
static inline void report(const char *format, ...)
{
	char line[LINE] = "guest: ";
	size_t length = strlen(line);
	va_list args;
	int more;

	va_start(args, format);
	more = vsnprintf(line + length, sizeof(line) - length - 1, format, args);
	va_end(args);
	if (more < 0 || (size_t)more >= sizeof(line) - length - 1)
		_exit(1);
	length += more;
	line[length++] = '\n';
	if (write(STDOUT_FILENO, line, length) < 0)
		_exit(1);
}

/**
 * now() - read the guest's clock
 *
 * Return: nanoseconds since the guest was started, without the time in which it was stopped
 */
static inline long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * NS_PER_S + time.tv_nsec;
}

#endif /* REPORT_H */
