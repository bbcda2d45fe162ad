/* SPDX-License-Identifier: GPL-2.0 */
/*
 * AP side of the vfio-ap selftests: which queues this host has for vfio_ap,
 * control of the ap_sim simulator, and mediated devices through sysfs.
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
 * struct ap_pool - what the host has to give to mediated devices
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
 * Fill @pool. Returns NULL, or the reason why this host can not run the tests:
 * they need a simulator, because they reset and reconfigure AP queues.
 */
const char *ap_pool_get(struct ap_pool *pool);

/* Read or write a whole small file; the count read, or a negative errno */
int ap_file_read(const char *path, char *buf, size_t size);
int ap_file_write(const char *path, const char *text);

/* One command for the simulator, see ap_sim/ */
int ap_sim_control(const char *fmt, ...) __printf(1, 2);
/* How often the simulator executed an instruction, or a negative errno */
long ap_sim_counter(const char *insn);
/* Let the AP bus look at the hardware again; returns when it has */
int ap_bus_rescan(void);
/* A number out of an attribute of an adapter, e.g. "depth", "raw_hwtype" */
long ap_card_attr(unsigned int apid, const char *attr);

/* The UUID of the n-th mediated device that the tests may make */
const char *ap_mdev_uuid(unsigned int nr);
int ap_mdev_create(const char *uuid);
int ap_mdev_remove(const char *uuid);
bool ap_mdev_exists(const char *uuid);
/* Remove what an earlier, killed test left behind */
void ap_mdev_remove_all(void);
int ap_mdev_write(const char *uuid, const char *attr, const char *fmt, ...)
	__printf(3, 4);
int ap_mdev_read(const char *uuid, const char *attr, char *buf, size_t size);
/* Make the configuration of the mediated device equal to @masks */
int ap_mdev_assign(const char *uuid, const struct ap_masks *masks);
/* The path of a file of the mediated device, in a static buffer */
const char *ap_mdev_path(const char *uuid, const char *name);
/* debugfs: the migration state as the VFIO core prints it, without newline */
int ap_mdev_debug_state(const char *uuid, char *buf, size_t size);

#endif
