/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Messages of the kernel log.
 */
#ifndef SELFTEST_VFIO_AP_LOG_H
#define SELFTEST_VFIO_AP_LOG_H

/* A file descriptor at the end of the kernel log, or a negative errno */
int log_open(void);
/* The number of messages since the last call, or since log_open(), that contain @text */
unsigned int log_count(int log, const char *text);

#endif
