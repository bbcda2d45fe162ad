/* SPDX-License-Identifier: GPL-2.0 */
/*
 * AP side of the vfio-ap selftests: which queues this host has for vfio_ap,
 * control of the adapters of an emulated machine, and mediated devices through
 * sysfs.
 *
 * Functions that can fail return 0 or a negative errno unless stated
 * otherwise.
 */
#ifndef SELFTEST_VFIO_AP_AP_H
#define SELFTEST_VFIO_AP_AP_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

#include "kselftest.h"

#define AP_IDS		256
#define AP_MASK_BYTES	(AP_IDS / 8)
#define AP_UUID_SIZE	37

/**
 * struct ap_masks - an AP configuration
 * @apm: adapters; bit 0 is the leftmost bit of byte 0
 * @aqm: usage domains
 * @adm: control domains
 */
struct ap_masks {
	__u8 apm[AP_MASK_BYTES];
	__u8 aqm[AP_MASK_BYTES];
	__u8 adm[AP_MASK_BYTES];
};

void ap_mask_set(__u8 *mask, unsigned int id);
void ap_mask_clear(__u8 *mask, unsigned int id);
bool ap_mask_test(const __u8 *mask, unsigned int id);
unsigned int ap_mask_weight(const __u8 *mask);
/* First id >= @from in the mask (or, with @set false, not in it), or AP_IDS */
unsigned int ap_mask_next(const __u8 *mask, unsigned int from, bool set);

/**
 * struct ap_pool - queues and domains of the host for mediated devices
 * @adapters: adapters of which vfio_ap owns a queue in each of @domains
 * @nr_adapters: number of @adapters
 * @domains: usage domains
 * @nr_domains: number of @domains
 * @cdomains: control domains of the host
 * @nr_cdomains: number of @cdomains
 */
struct ap_pool {
	__u8 adapters[AP_IDS];
	unsigned int nr_adapters;
	__u8 domains[AP_IDS];
	unsigned int nr_domains;
	__u8 cdomains[AP_IDS];
	unsigned int nr_cdomains;
};

/*
 * Fill @pool. Returns NULL, or the reason why this host cannot run the tests.
 *
 * The tests reset queues, so real ones are left alone unless the user gives
 * them away: without a control port only those APQNs are used that the
 * environment variable VFIO_AP_APQNS names, such as
 *
 *	VFIO_AP_APQNS=05.0004,05.0006,06.0004,06.0006
 *
 * All of them must be bound to vfio_ap, and assigned to no mediated device.
 */
const char *ap_pool_get(struct ap_pool *pool);

/*
 * Whether the host is an emulated machine with a control port, which tests need
 * that change hardware:
 *
 *	-chardev ap-control,id=ap -device virtserialport,chardev=ap,name=ap.control
 */
bool ap_control_present(void);
#define AP_NO_CONTROL "changes hardware, needs the control port of AP adapters"

/* Read or write a whole small file; the count read, or a negative errno */
int ap_file_read(const char *path, char *buf, size_t size);
int ap_file_write(const char *path, const char *text);

/* Status words of an emulated queue before PQAP(AQIC) takes effect, by default */
#define AP_AQIC_POLLS	3
/* Answers before a reset takes effect, by default */
#define AP_RESET_POLLS	2

/* One command for the adapters of the emulated machine */
int ap_control(const char *fmt, ...) __printf(1, 2);
/* The same, and let the AP bus scan its hardware */
int ap_change(const char *fmt, ...) __printf(1, 2);
/* How often the machine executed an AP instruction, or a negative errno */
long ap_counter(const char *insn);
/* A number that the machine reports of a queue, such as "qlen", or a negative errno */
long ap_queue_value(unsigned int apid, unsigned int domain, const char *name);
/* Let the AP bus look at the hardware again; returns when it has */
int ap_bus_rescan(void);
/* A number out of an attribute of an adapter, e.g. "depth", "raw_hwtype" */
long ap_card_attr(unsigned int apid, const char *attr);

/* Read or write an attribute of the AP bus, e.g. "apmask" */
int ap_bus_read(const char *attr, char *buf, size_t size);
int ap_bus_write(const char *attr, const char *fmt, ...) __printf(2, 3);
/* Write an attribute of a queue, e.g. "driver_override" */
int ap_queue_write(unsigned int apid, unsigned int domain, const char *attr, const char *text);
/* Bind a queue to a driver of the AP bus, or unbind it */
int ap_queue_bind(unsigned int apid, unsigned int domain, const char *driver, bool bind);

/**
 * struct ap_card - an adapter of the emulated machine, to plug it again
 * @apid: adapter
 * @spec: the adapter as the command "card add" takes it
 */
struct ap_card {
	unsigned int apid;
	char spec[128];
};

/* @info: the adapter's information word as the stream has it */
void ap_card_describe(struct ap_card *card, unsigned int apid, __u64 info);
/* The AP bus has seen it when these return */
int ap_card_remove(const struct ap_card *card);
int ap_card_add(const struct ap_card *card);

/* The UUID of the n-th mediated device that the tests may make */
const char *ap_mdev_uuid(unsigned int nr);
/* Where there is a switch for that, the new device is made migratable */
int ap_mdev_create(const char *uuid);
int ap_mdev_remove(const char *uuid);
bool ap_mdev_exists(const char *uuid);
/* Remove the devices of an earlier test that was killed */
void ap_mdev_remove_all(void);
int ap_mdev_write(const char *uuid, const char *attr, const char *fmt, ...)
	__printf(3, 4);
int ap_mdev_read(const char *uuid, const char *attr, char *buf, size_t size);
/* Make the configuration of the mediated device equal to @masks */
int ap_mdev_assign(const char *uuid, const struct ap_masks *masks);
/* The path of a file of the mediated device, in a buffer of the calling thread */
const char *ap_mdev_path(const char *uuid, const char *name);
/* debugfs: the migration state as the VFIO core prints it, without newline */
int ap_mdev_debug_state(const char *uuid, char *buf, size_t size);

#endif
