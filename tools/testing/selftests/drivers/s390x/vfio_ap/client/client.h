/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VMM's side of a migration: the VFIO calls of QEMU 11.1, in QEMU's order
 * and with QEMU's sizes, for devices with and without VFIO_MIGRATION_PRE_COPY
 * and VFIO_MIGRATION_P2P. To be a VMM that knows less than the device offers,
 * clear bits of &struct client.flags after client_realize().
 *
 * Functions return 0 or a negative errno. Where QEMU recovers from an error
 * they recover as QEMU does, and then return the error.
 */
#ifndef SELFTEST_VFIO_AP_CLIENT_H
#define SELFTEST_VFIO_AP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <linux/types.h>

struct vfio_ap;

/* QEMU reads at most this much of a device's state at once */
#define CLIENT_MAX_BUFFER	0x100000UL
/* Size of QEMUFile's buffer, at the edges of which it cuts the stream */
#define CLIENT_FILE_BUFFER	32768
/* Flag and length before a chunk in QEMU's migration stream */
#define CLIENT_CHUNK_HEADER	16
/* A place in that stream where the state of a device may begin */
#define CLIENT_FILE_START	36

/**
 * struct client_data - state of a device between source and destination
 * @bytes: the state
 * @len: its length
 * @precopied: bytes of it that were read before the device stopped
 * @chunk: the most that the source read at once
 * @nr_reads: read() calls that the source needed, with those that got nothing
 */
struct client_data {
	__u8 *bytes;
	size_t len;
	size_t precopied;
	size_t chunk;
	unsigned int nr_reads;
};

/**
 * struct client - the migration state that a VMM keeps for a device
 * @device: device file descriptor
 * @flags: VFIO_MIGRATION_* of the device
 * @state: the state that the VMM thinks the device is in
 * @data_fd: data file, or -1
 * @log: file to which calls are printed, or NULL
 * @container: type1 container whose dirty pages are tracked, or -1
 * @mem_size: bytes of memory mapped in it, from address 0
 * @dirty: dirty pages are being tracked
 * @paused: the guest was never started (-S): stops do not set the device state
 */
struct client {
	int device;
	__u64 flags;
	__u32 state;
	int data_fd;
	FILE *log;
	int container;
	size_t mem_size;
	bool dirty;
	bool paused;
};

/* Look at the device as QEMU does when it realizes it, with a reset */
int client_realize(struct client *c, const struct vfio_ap *dev);

/* The whole source side up to the end of a migration: the device is in STOP */
int client_save(struct client *c, struct client_data *data);
/*
 * The same in steps; after an error the caller has to cancel.
 *
 * client_save_iterate() is called again and again while the guest runs. It
 * returns 1 when there is nothing left that could be read before the stop.
 */
int client_save_setup(struct client *c, struct client_data *data);
int client_save_iterate(struct client *c, struct client_data *data);
int client_save_complete(struct client *c, struct client_data *data);
/* The source side of a migration that failed on the destination: runs again */
int client_cancel(struct client *c);

/* Destination: load, but do not run. On error the data file is closed */
int client_load(struct client *c, const struct client_data *data);
/* Destination: run, and close the data file afterwards */
int client_start(struct client *c);
/* Release the device as QEMU does at the end of the VM */
int client_quit(struct client *c);

void client_data_free(struct client_data *data);

#endif
