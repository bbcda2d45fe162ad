// SPDX-License-Identifier: GPL-2.0
/*
 * AP side of the vfio-ap selftests, see ap.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ap.h"
#include "port.h"
#include "stream.h"

#define BUS_DIR		"/sys/bus/ap"
#define DRIVER_DIR	BUS_DIR "/drivers/vfio_ap"
#define MATRIX_DIR	"/sys/devices/vfio_ap/matrix"
#define CREATE_FILE	MATRIX_DIR "/mdev_supported_types/vfio_ap-passthrough/create"
#define NR_UUIDS	4
#define APQNS_VARIABLE	"VFIO_AP_APQNS"

void ap_mask_set(__u8 *mask, unsigned int id)
{
	mask[id / 8] |= 0x80 >> id % 8;
}

void ap_mask_clear(__u8 *mask, unsigned int id)
{
	mask[id / 8] &= ~(0x80 >> id % 8);
}

bool ap_mask_test(const __u8 *mask, unsigned int id)
{
	return mask[id / 8] & 0x80 >> id % 8;
}

unsigned int ap_mask_weight(const __u8 *mask)
{
	unsigned int id, n = 0;

	for (id = 0; id < AP_IDS; id++)
		n += ap_mask_test(mask, id);
	return n;
}

unsigned int ap_mask_next(const __u8 *mask, unsigned int from, bool set)
{
	while (from < AP_IDS && ap_mask_test(mask, from) != set)
		from++;
	return from;
}

int ap_file_read(const char *path, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	do {
		n = read(fd, buf + len, size - 1 - len);
		if (n < 0) {
			n = -errno;
			close(fd);
			return n;
		}
		len += n;
	} while (n && len < size - 1);
	close(fd);
	buf[len] = '\0';
	return len;
}

int ap_file_write(const char *path, const char *text)
{
	size_t len = strlen(text);
	ssize_t n;
	int fd;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n < 0)
		n = -errno;
	else
		n = n == (ssize_t)len ? 0 : -EIO;
	close(fd);
	return n;
}

static int parse_hex_mask(const char *text, __u8 *mask)
{
	unsigned int i, byte;

	if (strncmp(text, "0x", 2))
		return -EINVAL;
	for (i = 0; i < AP_MASK_BYTES; i++) {
		if (sscanf(text + 2 + 2 * i, "%2x", &byte) != 1)
			return -EINVAL;
		mask[i] = byte;
	}
	return 0;
}

bool ap_control_present(void)
{
	return port_present();
}

/* Queues that the tests may use */
static bool usable[AP_IDS][AP_IDS];

/* Start with the queues that are bound to vfio_ap */
static const char *find_queues(void)
{
	unsigned int apid, domain;
	struct dirent *entry;
	DIR *dir;

	memset(usable, 0, sizeof(usable));
	dir = opendir(DRIVER_DIR);
	if (!dir)
		return "vfio_ap is no driver of the AP bus: no " DRIVER_DIR;
	while ((entry = readdir(dir)))
		if (sscanf(entry->d_name, "%2x.%4x", &apid, &domain) == 2 &&
		    apid < AP_IDS && domain < AP_IDS)
			usable[apid][domain] = true;
	closedir(dir);
	return NULL;
}

/* Keep the queues that the user has listed */
static const char *choose_queues(const char *list)
{
	static char reason[160];
	static bool listed[AP_IDS][AP_IDS];
	unsigned int apid, domain;
	int len;

	memset(listed, 0, sizeof(listed));
	for (;; list += len + 1) {
		len = 0;
		if (sscanf(list, "%2x.%4x%n", &apid, &domain, &len) != 2 || len != 7 ||
		    apid >= AP_IDS || domain >= AP_IDS || (list[len] && list[len] != ','))
			return APQNS_VARIABLE " is no list as in 05.0004,05.0006,06.0004";
		if (!usable[apid][domain]) {
			snprintf(reason, sizeof(reason),
				 APQNS_VARIABLE " names %02x.%04x, which is not bound to vfio_ap",
				 apid, domain);
			return reason;
		}
		listed[apid][domain] = true;
		if (!list[len])
			break;
	}
	memcpy(usable, listed, sizeof(usable));
	return NULL;
}

static const char *allowed_queues(void)
{
	const char *list = getenv(APQNS_VARIABLE), *why;

	if (!list && !ap_control_present())
		return "no control port of AP adapters; to use real queues set " APQNS_VARIABLE
		       "=05.0004,05.0006,06.0004,06.0006 or the like";
	why = find_queues();
	if (!why && list)
		why = choose_queues(list);
	return why;
}

/* The domains of the first adapter, and all adapters that have the same */
static const char *pool_fill(struct ap_pool *pool)
{
	static char reason[160];
	unsigned int apid, domain, first;

	for (first = 0; first < AP_IDS; first++) {
		if (memchr(usable[first], true, AP_IDS))
			break;
	}
	if (first == AP_IDS)
		return "no AP queue is bound to vfio_ap, see apmask and aqmask in " BUS_DIR;
	for (domain = 0; domain < AP_IDS; domain++)
		if (usable[first][domain])
			pool->domains[pool->nr_domains++] = domain;
	for (apid = first; apid < AP_IDS; apid++)
		if (!memcmp(usable[apid], usable[first], sizeof(usable[first])))
			pool->adapters[pool->nr_adapters++] = apid;
	if (pool->nr_adapters >= 2 && pool->nr_domains >= 2)
		return NULL;
	snprintf(reason, sizeof(reason), "there are %u adapters x %u domains, the tests need 2 x 2",
		 pool->nr_adapters, pool->nr_domains);
	return reason;
}

/* On a real machine: of the control domains only those the user spoke of */
static const char *pool_fill_cdomains(struct ap_pool *pool)
{
	__u8 mask[AP_MASK_BYTES];
	unsigned int domain;
	char text[128];

	if (ap_bus_read("ap_control_domain_mask", text, sizeof(text)) < 0 ||
	    parse_hex_mask(text, mask))
		return "no control domain mask in " BUS_DIR;
	for (domain = 0; domain < AP_IDS; domain++)
		if (ap_mask_test(mask, domain) &&
		    (ap_control_present() || memchr(pool->domains, domain, pool->nr_domains)))
			pool->cdomains[pool->nr_cdomains++] = domain;
	return pool->nr_cdomains ? NULL : "the host has no control domain that could be used";
}

const char *ap_pool_get(struct ap_pool *pool)
{
	const char *why;

	memset(pool, 0, sizeof(*pool));
	if (geteuid())
		return "not run as root";
	why = allowed_queues();
	if (why)
		return why;
	if (access(CREATE_FILE, W_OK))
		return "vfio_ap is not loaded: " CREATE_FILE " is not there";
	why = pool_fill(pool);
	return why ?: pool_fill_cdomains(pool);
}

static int control(const char *fmt, va_list ap)
{
	char line[256], reply[256];
	int len;

	len = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	if (len < 0 || len >= (int)sizeof(line) - 1)
		return -EOVERFLOW;
	strcat(line, "\n");
	return port_command(line, reply, sizeof(reply));
}

int ap_control(const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = control(fmt, ap);
	va_end(ap);
	return ret;
}

int ap_change(const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = control(fmt, ap);
	va_end(ap);
	return ret ?: ap_bus_rescan();
}

long ap_counter(const char *insn)
{
	char text[4096], *line, *rest = text;
	size_t len = strlen(insn);
	int ret;

	ret = port_command("counters\n", text, sizeof(text));
	if (ret)
		return ret;
	while ((line = strsep(&rest, "\n")))
		if (!strncmp(line, insn, len) && line[len] == ' ')
			return strtol(line + len, NULL, 0);
	return -ENOENT;
}

long ap_queue_value(unsigned int apid, unsigned int domain, const char *name)
{
	char text[4096], command[32], *word, *words = text;
	size_t len = strlen(name);
	int ret;

	snprintf(command, sizeof(command), "queues %02x.%04x\n", apid, domain);
	ret = port_command(command, text, sizeof(text));
	if (ret)
		return ret;
	while ((word = strsep(&words, " ")))
		if (!strncmp(word, name, len) && word[len] == '=')
			return strtol(word + len + 1, NULL, 10);
	return -ENOENT;
}

int ap_bus_rescan(void)
{
	long before, now;
	int ret;

	/*
	 * If a scan is under way this waits for its end, but it may have begun
	 * before the change that the caller wants to be seen. A scan begins
	 * with a query of the configuration. Without a counter of queries, two
	 * scans are necessary.
	 */
	before = ap_counter("qci");
	ret = ap_file_write(BUS_DIR "/scans", "1\n");
	now = ap_counter("qci");
	if (ret || (before >= 0 && now > before))
		return ret;
	return ap_file_write(BUS_DIR "/scans", "1\n");
}

int ap_bus_read(const char *attr, char *buf, size_t size)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), BUS_DIR "/%s", attr);
	return ap_file_read(path, buf, size);
}

int ap_bus_write(const char *attr, const char *fmt, ...)
{
	char path[PATH_MAX], text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), BUS_DIR "/%s", attr);
	return ap_file_write(path, text);
}

int ap_queue_write(unsigned int apid, unsigned int domain, const char *attr, const char *text)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), BUS_DIR "/devices/%02x.%04x/%s", apid, domain, attr);
	return ap_file_write(path, text);
}

int ap_queue_bind(unsigned int apid, unsigned int domain, const char *driver, bool bind)
{
	char path[PATH_MAX], text[16];

	snprintf(path, sizeof(path), BUS_DIR "/drivers/%s/%s", driver, bind ? "bind" : "unbind");
	snprintf(text, sizeof(text), "%02x.%04x", apid, domain);
	return ap_file_write(path, text);
}

void ap_card_describe(struct ap_card *card, unsigned int apid, __u64 info)
{
	char mode = info & STREAM_HW_CCA ? 'c' : info & STREAM_HW_EP11 ? 'p' : 'a';

	card->apid = apid;
	snprintf(card->spec, sizeof(card->spec), "%02x:%u%c:fac=0x%x:qd=%u:ml=%u:nd=%u",
		 apid, (__u32)hwinfo_get(info, STREAM_HW_AT), mode, (__u32)(info >> 32),
		 (__u32)hwinfo_get(info, STREAM_HW_QD), (__u32)hwinfo_get(info, STREAM_HW_ML),
		 (__u32)hwinfo_get(info, STREAM_HW_ND));
}

int ap_card_remove(const struct ap_card *card)
{
	return ap_change("card del %02x", card->apid);
}

int ap_card_add(const struct ap_card *card)
{
	return ap_change("card add %s", card->spec);
}

long ap_card_attr(unsigned int apid, const char *attr)
{
	char path[PATH_MAX], text[64];
	int len;

	snprintf(path, sizeof(path), BUS_DIR "/devices/card%02x/%s", apid, attr);
	len = ap_file_read(path, text, sizeof(text));
	return len < 0 ? len : strtol(text, NULL, 0);
}

const char *ap_mdev_uuid(unsigned int nr)
{
	static const char * const uuids[NR_UUIDS] = {
		"a9051e57-0000-4000-8000-000000000001",
		"a9051e57-0000-4000-8000-000000000002",
		"a9051e57-0000-4000-8000-000000000003",
		"a9051e57-0000-4000-8000-000000000004",
	};

	return nr < NR_UUIDS ? uuids[nr] : NULL;
}

const char *ap_mdev_path(const char *uuid, const char *name)
{
	static __thread char path[PATH_MAX];

	snprintf(path, sizeof(path), MATRIX_DIR "/%s/%s", uuid, name);
	return path;
}

bool ap_mdev_exists(const char *uuid)
{
	return !access(ap_mdev_path(uuid, ""), F_OK);
}

int ap_mdev_create(const char *uuid)
{
	int ret;

	ret = ap_file_write(CREATE_FILE, uuid);
	if (ret || access(ap_mdev_path(uuid, "migratable"), F_OK))
		return ret;
	return ap_mdev_write(uuid, "migratable", "1");
}

int ap_mdev_remove(const char *uuid)
{
	return ap_file_write(ap_mdev_path(uuid, "remove"), "1");
}

void ap_mdev_remove_all(void)
{
	unsigned int i;

	for (i = 0; i < NR_UUIDS; i++)
		if (ap_mdev_exists(ap_mdev_uuid(i)))
			ap_mdev_remove(ap_mdev_uuid(i));
}

int ap_mdev_write(const char *uuid, const char *attr, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return ap_file_write(ap_mdev_path(uuid, attr), text);
}

int ap_mdev_read(const char *uuid, const char *attr, char *buf, size_t size)
{
	return ap_file_read(ap_mdev_path(uuid, attr), buf, size);
}

static char *put_hex_mask(char *to, const __u8 *mask)
{
	unsigned int i;

	to += sprintf(to, "0x");
	for (i = 0; i < AP_MASK_BYTES; i++)
		to += sprintf(to, "%02x", mask[i]);
	return to;
}

int ap_mdev_assign(const char *uuid, const struct ap_masks *masks)
{
	char text[3 * (2 * AP_MASK_BYTES + 3) + 1], *to = text;

	to = put_hex_mask(to, masks->apm);
	*to++ = ',';
	to = put_hex_mask(to, masks->aqm);
	*to++ = ',';
	to = put_hex_mask(to, masks->adm);
	*to = '\0';
	return ap_mdev_write(uuid, "ap_config", "%s\n", text);
}

int ap_mdev_debug_state(const char *uuid, char *buf, size_t size)
{
	char path[PATH_MAX];
	int len;

	snprintf(path, sizeof(path), "/sys/kernel/debug/vfio/%s/migration/state", uuid);
	len = ap_file_read(path, buf, size);
	if (len < 0)
		return len;
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}
