/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The report of a mediated device's last migration session, as debugfs has it:
 * /sys/kernel/debug/vfio/UUID/migration/vfio_ap/report
 *
 *	session: none
 *
 * before the first session, and then
 *
 *	session: saving
 *	opened by: COMM[PID]
 *	status: open
 *	reason: -
 *	error: 0
 *	published: 0
 *	differences: 0
 *
 * or "resuming", without "published", and with one line for each difference.
 */
#ifndef SELFTEST_VFIO_AP_REPORT_H
#define SELFTEST_VFIO_AP_REPORT_H

#include <stdbool.h>

#include <sys/types.h>

#define REPORT_SAVING		"saving"
#define REPORT_RESUMING		"resuming"

/* Why a session ended */
#define REPORT_NOTHING		"-"
#define REPORT_COMPLETED	"completed"
#define REPORT_LEFT_EARLY	"left before the end of the stream"
#define REPORT_RESET		"device reset"
#define REPORT_CLOSED		"device closed"
#define REPORT_CONFIG		"the configurations differ"
#define REPORT_HARDWARE		"the hardware differs"
#define REPORT_MALFORMED	"the stream is malformed"
#define REPORT_TRUNCATED	"the stream is truncated"
#define REPORT_VERSION		"the stream is of an unknown version"
#define REPORT_HOST_CHANGE	"the host changed the AP configuration"
#define REPORT_TOO_OFTEN	"the host changed the AP configuration too often"
#define REPORT_INTERRUPTS	"the guest's interrupts can not be registered"
#define REPORT_REQUESTED	"the device was requested back"

/**
 * struct report - a report that was read
 * @text: all of it; the other strings point into it, or are literals
 * @session: "saving", "resuming", or "none": then nothing else is set
 * @comm: name of the process that opened the session
 * @pid: its number
 * @open: the session is open
 * @reason: why it ended
 * @error: 0 or a negative errno
 * @published: -1 unless saving: how often a new configuration was published
 * @nr_lines: number of differences
 * @lines: a line for each
 * @nr_lost: number of queues whose interrupts were not restored
 */
struct report {
	char *text;
	const char *session;
	const char *comm;
	pid_t pid;
	bool open;
	const char *reason;
	int error;
	int published;
	unsigned int nr_lines;
	char **lines;
	unsigned int nr_lost;
};

/* The report as it is, in memory to be freed; NULL with errno set */
char *report_text(const char *uuid);
/*
 * Read the report and check that it is well-formed: 0; -EPROTO if it is not,
 * which is told on stderr; another negative errno if it can not be read.
 */
int report_read(const char *uuid, struct report *r);
void report_free(struct report *r);
/* How often a line is among the differences */
unsigned int report_count(const struct report *r, const char *line);

#endif
