/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Control port of the adapters of an emulated machine: a virtio-serial port
 * that takes one command per line.
 */
#ifndef SELFTEST_VFIO_AP_PORT_H
#define SELFTEST_VFIO_AP_PORT_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the machine has a control port */
bool port_present(void);

/*
 * Send @command, which ends in a newline, and store the lines of the reply
 * without its status. Returns 0, or a negative errno: that of the status,
 * -ENODEV without a port, -E2BIG if the reply is longer than @size.
 */
int port_command(const char *command, char *reply, size_t size);

#endif
