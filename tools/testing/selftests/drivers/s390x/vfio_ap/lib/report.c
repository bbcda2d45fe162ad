// SPDX-License-Identifier: GPL-2.0
/*
 * The report of a mediated device's last migration session, see report.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

/* More than any report has: 768 differences of masks, or 256 x 7 of adapters */
#define TEXT_SIZE	(256 * 1024)

char *report_text(const char *uuid)
{
	char path[PATH_MAX], *text;
	size_t len = 0;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path),
		 "/sys/kernel/debug/vfio/%s/migration/vfio_ap/report", uuid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	text = malloc(TEXT_SIZE);
	do {
		n = text ? read(fd, text + len, TEXT_SIZE - 1 - len) : -1;
		if (n > 0)
			len += n;
	} while (n > 0);
	close(fd);
	if (n < 0) {
		free(text);
		return NULL;
	}
	text[len] = '\0';
	return text;
}

/* Cut the next line off; NULL unless it begins with @key and ": " */
static char *take(char **rest, const char *key)
{
	char *line = *rest, *end = strchr(line, '\n');
	size_t len = strlen(key);

	if (!end || strncmp(line, key, len) || strncmp(line + len, ": ", 2))
		return NULL;
	*end = '\0';
	*rest = end + 1;
	return line + len + 2;
}

static bool take_number(char **rest, const char *key, int *value)
{
	char *text = take(rest, key), *end;

	if (!text || !*text)
		return false;
	*value = strtol(text, &end, 10);
	return !*end;
}

/* COMM[PID], where COMM may hold anything */
static bool parse_opener(struct report *r, char *text)
{
	char *open, *end;

	open = text ? strrchr(text, '[') : NULL;
	if (!open)
		return false;
	*open++ = '\0';
	r->comm = text;
	r->pid = strtol(open, &end, 10);
	return end != open && !strcmp(end, "]");
}

static bool parse_status(struct report *r, const char *text)
{
	if (!text)
		return false;
	r->open = !strcmp(text, "open");
	return r->open || !strcmp(text, "ended");
}

static const char *parse_lines(struct report *r, char *rest, int nr)
{
	char *end;

	if (nr < 0)
		return "number of differences";
	r->lines = calloc(nr + 1, sizeof(*r->lines));
	if (!r->lines)
		return "memory";
	for (; *rest; rest = end + 1) {
		end = strchr(rest, '\n');
		if (!end)
			return "last line";
		if (!strncmp(rest, "queue ", 6)) {
			r->nr_lost++;
			continue;
		}
		if (r->nr_lost)
			return "a difference behind the queues";
		if (r->nr_lines == (unsigned int)nr)
			return "more differences than it says";
		*end = '\0';
		r->lines[r->nr_lines++] = rest;
	}
	return r->nr_lines == (unsigned int)nr ? NULL : "fewer differences than it says";
}

static const char *parse(struct report *r, char *rest)
{
	int nr;

	r->session = take(&rest, "session");
	if (!r->session)
		return "session";
	if (!strcmp(r->session, "none"))
		return *rest ? "more than a line without a session" : NULL;
	if (strcmp(r->session, REPORT_SAVING) && strcmp(r->session, REPORT_RESUMING))
		return "session";
	if (!parse_opener(r, take(&rest, "opened by")))
		return "opened by";
	if (!parse_status(r, take(&rest, "status")))
		return "status";
	r->reason = take(&rest, "reason");
	if (!r->reason)
		return "reason";
	if (!take_number(&rest, "error", &r->error) || r->error > 0)
		return "error";
	if (!strcmp(r->session, REPORT_SAVING) && !take_number(&rest, "published", &r->published))
		return "published";
	if (!take_number(&rest, "differences", &nr))
		return "differences";
	return parse_lines(r, rest, nr);
}

int report_read(const char *uuid, struct report *r)
{
	const char *why;

	memset(r, 0, sizeof(*r));
	r->published = -1;
	r->text = report_text(uuid);
	if (!r->text)
		return -errno;
	why = parse(r, r->text);
	if (!why)
		return 0;
	report_free(r);
	r->text = report_text(uuid);
	fprintf(stderr, "# malformed report: %s\n%s", why, r->text ?: "");
	report_free(r);
	return -EPROTO;
}

void report_free(struct report *r)
{
	free(r->lines);
	free(r->text);
	memset(r, 0, sizeof(*r));
}

unsigned int report_count(const struct report *r, const char *line)
{
	unsigned int i, n = 0;

	for (i = 0; i < r->nr_lines; i++)
		n += !strcmp(r->lines[i], line);
	return n;
}
