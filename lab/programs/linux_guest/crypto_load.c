// SPDX-License-Identifier: GPL-2.0
/*
 * First process of a Linux guest: keeps requests in each of its AP queues through /dev/z90crypt and
 * compares each reply with its request.
 *
 * Each queue has SLOTS threads. A thread sends a request to its queue and waits for the reply. A
 * request has a number that no other request has; a reply is right if it has the number of its
 * request, the domain of the queue, and the content that the card returns for it.
 *
 * Lines on the console, which lab/guest/linux.py reads; APQN is as in sysfs, "05.0004":
 *
 *   guest: queue APQN TYPE                a queue that the guest has; TYPE is that of its card
 *   guest: count N gap MS [APQN:SENT:RIGHT:WRONG:FAILED]...
 *                                         every PERIOD_NS. N counts these lines. MS is the longest
 *                                         time in milliseconds since the line before in which a
 *                                         queue with requests got no reply. FAILED counts requests
 *                                         whose ioctl() returned an error
 *   guest: fault: TEXT                    the first fault of each queue, or a failed preparation
 *   guest: end APQN SENT RIGHT WRONG FAILED QUEUED
 *                                         per queue, when all requests are answered. QUEUED is the
 *                                         number of messages that the AP bus has put into the
 *                                         queue's list, those of the kernel included. A message
 *                                         that the AP bus sends to the queue again counts once
 *
 * The kernel sends SIGINT when the machine asks the guest to power off. The threads then send no
 * more requests; the program powers the guest off when all replies are there.
 */
#include <asm/zcrypt.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#include "report.h"

#define MODULES		"/modules/"
#define BINDINGS	"/sys/bus/ap/bindings"
#define DEVICES		"/sys/bus/ap/devices"
#define MAX_QUEUES	16
#define SLOTS		2		/* requests that are under way in each queue */
#define RANDOM_BYTES	64		/* that a CCA coprocessor is asked for */
#define PERIOD_NS	200000000L
#define NS_PER_MS	1000000LL
/* CKR_FUNCTION_NOT_SUPPORTED: the simulated EP11 coprocessors offer no function. */
#define NOT_SUPPORTED	0x54

/* Request and reply of a CCA coprocessor, after the CPRB: "generate random numbers" */
struct cca_request {
	struct CPRBX cprb;
	char function[2];
	uint16_t rule_length;
	char rule[8];
	uint16_t verb_length;
	uint16_t key_length;
} __attribute__((packed));

struct cca_reply {
	struct CPRBX cprb;
	char function[2];
	uint16_t rule_length;
	uint16_t verb_length;
	uint16_t pad;
} __attribute__((packed));

/* Request and reply of an EP11 coprocessor: ASN.1 sequences of octet strings */
struct octets {
	uint8_t tag;
	uint8_t length;
	uint32_t value;
} __attribute__((packed));

struct ep11_request {
	struct ep11_cprb cprb;
	uint8_t tag;
	uint8_t length;
	struct octets function;
	struct octets domain;
} __attribute__((packed));

struct ep11_reply {
	struct ep11_cprb cprb;
	uint8_t tag;
	uint8_t length;
	struct octets function;
	struct octets domain;
	struct octets value;
} __attribute__((packed));

struct queue;

/* Sends a request with that number; 0, -errno of ioctl(), or 1 if the reply is not the right one. */
typedef int (*send_fn)(const struct queue *queue, uint64_t number);

struct queue {
	unsigned int card;
	unsigned int domain;
	char type[16];
	send_fn send;
	pthread_mutex_t lock;		/* for the members below */
	uint64_t sent;
	uint64_t right;
	uint64_t wrong;
	uint64_t failed;
	long long last;			/* time of the last reply, or of the first request */
	long long gap;			/* longest time without a reply since the last line, ns */
};

static struct queue queues[MAX_QUEUES];
static int nr_queues;
static int z90crypt;
static bool stop;			/* accessed atomically: no more requests */
static int running;			/* accessed atomically: threads */

/* Power the guest off; the line says the reason if the program cannot do its work. */
static void __attribute__((noreturn)) power_off(void)
{
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void __attribute__((noreturn)) give_up(const char *what)
{
	report("fault: %s: %s", what, strerror(errno));
	power_off();
}

/* Read a file of one line, without the line's end. */
static void read_line(const char *path, char *line, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length;

	if (fd < 0)
		give_up(path);
	length = read(fd, line, size - 1);
	if (length < 0)
		give_up(path);
	close(fd);
	line[length] = '\0';
	line[strcspn(line, "\n")] = '\0';
}

static void load_module(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0))
		give_up(path);
	close(fd);
}

/* Load zcrypt and wait until each queue is bound to a driver, which the AP bus announces. */
static void load_zcrypt(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
	char bindings[64], event[4096];

	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)))
		give_up("uevents");
	load_module(MODULES "zcrypt.ko");
	load_module(MODULES "zcrypt_cex4.ko");
	for (;;) {
		read_line(BINDINGS, bindings, sizeof(bindings));
		if (strstr(bindings, "complete"))
			break;
		/* ENOBUFS: the kernel dropped events, so look again */
		if (recv(fd, event, sizeof(event), 0) < 0 && errno != ENOBUFS)
			give_up("uevents");
	}
	close(fd);
}

static int send_cca(const struct queue *queue, uint64_t number)
{
	struct cca_request request = {
		.cprb = {
			.cprb_len = sizeof(struct CPRBX),
			.cprb_ver_id = 2,
			.func_id = "T2",
			.req_parml = sizeof(request) - sizeof(struct CPRBX),
			.rpl_msgbl = sizeof(struct cca_reply),
			.rpl_datal = RANDOM_BYTES,
			.domain = queue->domain,
		},
		.function = "RL",
		.rule_length = sizeof(request.rule_length) + sizeof(request.rule),
		.rule = "RANDOM  ",
		.verb_length = sizeof(request.verb_length),
		.key_length = sizeof(request.key_length),
	};
	struct cca_reply reply = {};
	uint8_t data[RANDOM_BYTES];
	struct ica_xcRB block = {
		.agent_ID = 0x4341,	/* "CA" */
		.user_defined = queue->card,
		.request_control_blk_length = sizeof(request),
		.request_control_blk_addr = (uint8_t *)&request,
		.reply_control_blk_length = sizeof(reply),
		.reply_control_blk_addr = (uint8_t *)&reply,
		.reply_data_length = sizeof(data),
		.reply_data_addr = data,
	};

	memcpy(request.cprb.logon_id, &number, sizeof(number));
	if (ioctl(z90crypt, ZSECSENDCPRB, &block))
		return -errno;
	return block.status || block.reply_control_blk_length != sizeof(reply) ||
	       block.reply_data_length != sizeof(data) ||
	       memcmp(reply.cprb.logon_id, &number, sizeof(number)) ||
	       reply.cprb.domain != queue->domain ||
	       reply.cprb.ccp_rtcode || reply.cprb.ccp_rscode ||
	       reply.cprb.rpld_datal != sizeof(data) ||
	       memcmp(reply.function, request.function, sizeof(reply.function));
}

static bool holds(const struct octets *octets, uint32_t value)
{
	return octets->tag == 4 && octets->length == sizeof(value) && octets->value == value;
}

static int send_ep11(const struct queue *queue, uint64_t number)
{
	const uint32_t function = number;
	struct ep11_request request = {
		.cprb = {
			.cprb_len = sizeof(struct ep11_cprb),
			.cprb_ver_id = 4,
			.func_id = "T4",
			.target_id = queue->domain,
			.reserved1 = number >> 32,
			.reserved2 = number,
			.payload_len = sizeof(request) - sizeof(struct ep11_cprb),
		},
		.tag = 0x30,
		.length = sizeof(request.function) + sizeof(request.domain),
		.function = { 4, sizeof(request.function.value), function },
		.domain = { 4, sizeof(request.domain.value), queue->domain },
	};
	struct ep11_target_dev target = { queue->card, queue->domain };
	struct ep11_reply reply = {};
	struct ep11_urb block = {
		.targets_num = 1,
		.targets = (uint8_t *)&target,
		.req_len = sizeof(request),
		.req = (uint8_t *)&request,
		.resp_len = sizeof(reply),
		.resp = (uint8_t *)&reply,
	};

	if (ioctl(z90crypt, ZSENDEP11CPRB, &block))
		return -errno;
	return block.resp_len != sizeof(reply) || reply.cprb.ret_code ||
	       reply.cprb.reserved1 != request.cprb.reserved1 ||
	       reply.cprb.reserved2 != request.cprb.reserved2 ||
	       !holds(&reply.function, function) || !holds(&reply.domain, queue->domain) ||
	       !holds(&reply.value, NOT_SUPPORTED);
}

/* Find the guest's queues. */
static void find_queues(void)
{
	struct dirent **names;
	int count = scandir(DEVICES, &names, NULL, alphasort);
	int i;

	if (count < 0)
		give_up(DEVICES);
	for (i = 0; i < count; i++) {
		unsigned int card, domain;
		struct queue *queue;
		char path[64];

		if (sscanf(names[i]->d_name, "%2x.%4x", &card, &domain) != 2)
			continue;
		if (nr_queues == MAX_QUEUES) {
			errno = E2BIG;
			give_up("queues");
		}
		queue = &queues[nr_queues++];
		queue->card = card;
		queue->domain = domain;
		snprintf(path, sizeof(path), DEVICES "/card%02x/type", queue->card);
		read_line(path, queue->type, sizeof(queue->type));
		report("queue %02x.%04x %s", queue->card, queue->domain, queue->type);
		switch (queue->type[strlen(queue->type) - 1]) {
		case 'C':
			queue->send = send_cca;
			break;
		case 'P':
			queue->send = send_ep11;
			break;
		default:
			report("fault: replies of %s cannot be checked", queue->type);
			power_off();
		}
		pthread_mutex_init(&queue->lock, NULL);
	}
	if (!nr_queues) {
		errno = ENODEV;
		give_up("queues");
	}
}

/* Count a reply. */
static void count_reply(struct queue *queue, uint64_t number, int result)
{
	long long time = now();
	bool first;

	pthread_mutex_lock(&queue->lock);
	if (time - queue->last > queue->gap)
		queue->gap = time - queue->last;
	queue->last = time;
	first = result && !queue->wrong && !queue->failed;
	if (!result)
		queue->right++;
	else if (result > 0)
		queue->wrong++;
	else
		queue->failed++;
	pthread_mutex_unlock(&queue->lock);
	if (first)
		report("fault: queue %02x.%04x: request %llx: %s", queue->card, queue->domain,
		       (unsigned long long)number,
		       result > 0 ? "wrong reply" : strerror(-result));
}

/* A thread of a queue: requests with the numbers (queue, slot, counter) */
static void *use_queue(void *arg)
{
	uintptr_t slot = (uintptr_t)arg;
	struct queue *queue = &queues[slot / SLOTS];
	uint64_t number = (uint64_t)(slot + 1) << 40;

	while (!__atomic_load_n(&stop, __ATOMIC_SEQ_CST)) {
		number++;
		pthread_mutex_lock(&queue->lock);
		if (!queue->sent++)
			queue->last = now();
		pthread_mutex_unlock(&queue->lock);
		count_reply(queue, number, queue->send(queue, number));
	}
	__atomic_sub_fetch(&running, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Print a line with all counts. */
static void print_counts(void)
{
	static unsigned long nr_lines;
	long long time, gap = 0;
	char text[LINE / 2];
	int length = 0, i;

	for (i = 0; i < nr_queues; i++) {
		struct queue *queue = &queues[i];

		pthread_mutex_lock(&queue->lock);
		time = now();
		if (queue->sent > queue->right + queue->wrong + queue->failed &&
		    time - queue->last > queue->gap)
			queue->gap = time - queue->last;
		if (queue->gap > gap)
			gap = queue->gap;
		queue->gap = 0;
		length += snprintf(text + length, sizeof(text) - length,
				   " %02x.%04x:%llu:%llu:%llu:%llu", queue->card, queue->domain,
				   (unsigned long long)queue->sent,
				   (unsigned long long)queue->right,
				   (unsigned long long)queue->wrong,
				   (unsigned long long)queue->failed);
		pthread_mutex_unlock(&queue->lock);
		if ((size_t)length >= sizeof(text)) {
			errno = E2BIG;
			give_up("line of counts");
		}
	}
	report("count %lu gap %lld%s", ++nr_lines, gap / NS_PER_MS, text);
}

/* Print the final counts; no thread runs any more. */
static void print_end(void)
{
	char path[64], line[32];
	int i;

	for (i = 0; i < nr_queues; i++) {
		struct queue *queue = &queues[i];

		snprintf(path, sizeof(path), DEVICES "/%02x.%04x/request_count", queue->card,
			 queue->domain);
		read_line(path, line, sizeof(line));
		report("end %02x.%04x %llu %llu %llu %llu %s", queue->card, queue->domain,
		       (unsigned long long)queue->sent, (unsigned long long)queue->right,
		       (unsigned long long)queue->wrong, (unsigned long long)queue->failed, line);
	}
}

static void prepare(void)
{
	if (mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) ||
	    mount("sysfs", "/sys", "sysfs", 0, NULL))
		give_up("mount");
	load_zcrypt();
	z90crypt = open("/dev/z90crypt", O_RDWR | O_CLOEXEC);
	if (z90crypt < 0)
		give_up("/dev/z90crypt");
	find_queues();
}

int main(void)
{
	const struct itimerspec period = { { 0, PERIOD_NS }, { 0, PERIOD_NS } };
	struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
	struct signalfd_siginfo info;
	uint64_t ticks;
	sigset_t set;
	uintptr_t i;

	/* Without this, the kernel restarts the guest instead of sending SIGINT */
	reboot(RB_DISABLE_CAD);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fds[0].fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	fds[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fds[0].fd < 0 || fds[1].fd < 0 || timerfd_settime(fds[0].fd, 0, &period, NULL))
		give_up("timer and signal");
	prepare();

	running = nr_queues * SLOTS;
	for (i = 0; i < (uintptr_t)nr_queues * SLOTS; i++) {
		pthread_t thread;

		errno = pthread_create(&thread, NULL, use_queue, (void *)i);
		if (errno)
			give_up("thread");
	}
	while (__atomic_load_n(&running, __ATOMIC_SEQ_CST)) {
		if (poll(fds, 2, -1) < 0)
			give_up("poll");
		if ((fds[0].revents & POLLIN) &&
		    read(fds[0].fd, &ticks, sizeof(ticks)) == sizeof(ticks))
			print_counts();
		if ((fds[1].revents & POLLIN) &&
		    read(fds[1].fd, &info, sizeof(info)) == sizeof(info))
			__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
	}
	print_end();
	report("power off");
	power_off();
}
