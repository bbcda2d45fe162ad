// SPDX-License-Identifier: GPL-2.0
/*
 * The adapters of the emulated machine, as the AP bus and zcrypt use them.
 *
 * The tests add an adapter and a domain of their own, and remove them at the
 * end.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <asm/zcrypt.h>

#include "lib/ap.h"
#include "lib/env.h"
#include "kselftest_harness.h"

/* Debug kernels on emulated machines are slow. */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT	ENV_TIMEOUT

#define AP_DIR		"/sys/bus/ap/"
#define RNG_CURRENT	"/sys/class/misc/hw_random/rng_current"
#define TEXT_SIZE	(256 * 1024)

/* The card and the domain of the tests, and a card for other purposes */
#define CARD		0xfa
#define DOM		0xfb
#define OTHER		0xf9
#define QUEUE		"fa.00fb"
#define CCA_CARD	"fa:14c"

/* Bytes at whose multiples NQAP and DQAP may end early, by default */
#define SEGMENT		0x100000

/* How long to wait for things which the kernel does in its own time */
#define DEADLINE_MS	(ENV_PATIENCE * 1000)

/* PKCS #11: the function is not supported */
#define EP11_NOT_SUPPORTED 0x54

/*
 * Poll, as neither the AP bus nor the machine reports these events. Evaluates to
 * whether the condition came true.
 */
#define wait_until(cond)						\
({									\
	long __end = now_ms() + DEADLINE_MS;				\
	bool __ok;							\
									\
	while (!(__ok = (cond)) && now_ms() < __end)			\
		usleep(10000);						\
	__ok;								\
})

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static long queue_value(const char *key)
{
	return ap_queue_value(CARD, DOM, key);
}

/* An attribute of an AP device, without the newline, in a static buffer */
static const char *bus_attr(const char *dev, const char *attr)
{
	static char text[256];
	char path[128];

	snprintf(path, sizeof(path), AP_DIR "devices/%s/%s", dev, attr);
	if (ap_file_read(path, text, sizeof(text)) < 0)
		return "";
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static bool bus_attr_is(const char *dev, const char *attr, const char *value)
{
	return !strcmp(bus_attr(dev, attr), value);
}

static bool bus_has(const char *dev)
{
	char path[128];

	snprintf(path, sizeof(path), AP_DIR "devices/%s", dev);
	return !access(path, F_OK);
}

/*
 * A scan that another task has under way is not repeated for us and may have
 * begun before the change, so ask until the bus has seen it.
 */
#define rescan_until(cond)						\
	wait_until(({ ap_bus_rescan(); (cond); }))

/* Interrupts the kernel has counted under a name in /proc/interrupts */
static long proc_interrupts(const char *name)
{
	static char text[TEXT_SIZE];
	long sum = 0, n;
	char *pos, *end;

	if (ap_file_read("/proc/interrupts", text, sizeof(text)) < 0)
		return -1;
	pos = strstr(text, name);
	if (!pos)
		return -1;
	pos = strchr(pos, ':');
	for (pos++;; pos = end) {
		n = strtol(pos, &end, 10);
		if (end == pos || (*end != ' ' && *end != '\n'))
			return sum;
		sum += n;
	}
}

static bool all_gone(void)
{
	return !bus_has(QUEUE) && !bus_has("cardfa") && !bus_has("cardf9");
}

static void remove_from_machine(void)
{
	ap_control("card del %02x", CARD);
	ap_control("card del %02x", OTHER);
	ap_control("domain del %02x", DOM);
}

FIXTURE(adapter) {
	int fd;			/* zcrypt device node */
	char rng[64];		/* hwrng in use before */
};

FIXTURE_SETUP(adapter)
{
	self->fd = -1;
	if (geteuid())
		SKIP(return, "not run as root");
	if (!ap_control_present())
		SKIP(return, AP_NO_CONTROL);
	if (access(AP_DIR "scans", W_OK))
		SKIP(return, "no AP bus: ap.ko is not loaded");
	if (access("/dev/z90crypt", R_OK | W_OK))
		SKIP(return, "no /dev/z90crypt: zcrypt.ko is not loaded");

	remove_from_machine();
	ASSERT_TRUE(rescan_until(all_gone()));
	self->fd = open("/dev/z90crypt", O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->fd, 0);
	if (ap_file_read(RNG_CURRENT, self->rng, sizeof(self->rng)) < 0)
		self->rng[0] = '\0';
	ASSERT_EQ(0, ap_control("domain add %02x", DOM));
}

FIXTURE_TEARDOWN(adapter)
{
	if (self->fd < 0)
		return;
	close(self->fd);
	ap_control("rc * rapq 0");
	ap_control("reset_polls %d", AP_RESET_POLLS);
	ap_control("segment %d", SEGMENT);
	remove_from_machine();
	if (!all_gone())
		rescan_until(all_gone());
	if (self->rng[0])
		ap_file_write(RNG_CURRENT, self->rng);
}

/* The AP bus has brought the queue into operation, with interrupts or without */
static bool queue_is_up(bool irq)
{
	return bus_attr_is(QUEUE, "reset", "No Reset Timer set.") &&
	       bus_attr_is(QUEUE, "interrupt",
			   irq ? "Interrupts enabled." : "Interrupts disabled.");
}

/*
 * Add the card of the tests and wait for its queue. The hwrng of zcrypt must
 * not send requests of its own.
 */
static void add_card(struct __test_metadata *_metadata, const char *spec)
{
	ASSERT_EQ(0, ap_control("card add %s", spec));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	ap_file_write(RNG_CURRENT, "none");
	ASSERT_TRUE(wait_until(queue_is_up(true))) {
		TH_LOG("reset: %s", bus_attr(QUEUE, "reset"));
		TH_LOG("interrupt: %s", bus_attr(QUEUE, "interrupt"));
	}
	ASSERT_TRUE(wait_until(queue_value("qlen") == 0));
	ASSERT_EQ(0, ap_control("counters clear"));
}

/* A request for random numbers to a CCA coprocessor, as hardware knows it */
struct cca_request {
	struct CPRBX cprb;
	char function_code[2];
	__u16 rule_len;
	char rule[8];
	__u16 verb_len;
	__u16 key_len;
};

static_assert(sizeof(struct cca_request) == 236, "no padding");

struct cca_reply {
	struct CPRBX cprb;
	char function_code[2];
	__u8 parm[254];
};

/* Send a CCA request to the queue of the tests; 0 or a negative errno */
static int cca_send(int fd, const char *function, struct cca_reply *reply,
		    void *data, size_t *len)
{
	struct cca_request req = {
		.cprb = {
			.cprb_len = sizeof(req.cprb),
			.cprb_ver_id = 2,
			.func_id = { 'T', '2' },
			.req_parml = sizeof(req) - sizeof(req.cprb),
			.rpl_msgbl = sizeof(*reply),
			.rpl_datal = *len,
			.domain = DOM,
		},
		.function_code = { function[0], function[1] },
		.rule_len = 10,
		.rule = { 'R', 'A', 'N', 'D', 'O', 'M', ' ', ' ' },
		.verb_len = 2,
		.key_len = 2,
	};
	struct ica_xcRB xcrb = {
		.agent_ID = 0x4341,	/* "CA" */
		.user_defined = CARD,
		.request_control_blk_length = sizeof(req),
		.request_control_blk_addr = (void *)&req,
		.reply_control_blk_length = sizeof(*reply),
		.reply_control_blk_addr = (void *)reply,
		.reply_data_length = *len,
		.reply_data_addr = data,
	};

	memset(reply, 0, sizeof(*reply));
	if (ioctl(fd, ZSECSENDCPRB, &xcrb))
		return -errno;
	*len = xcrb.reply_data_length;
	return 0;
}

/* Get random numbers; 0 if the reply is right, else a negative errno */
static int cca_random(int fd)
{
	static const __u8 zero[256];
	struct cca_reply reply;
	__u8 data[256] = { 0 };
	size_t len = sizeof(data);
	int ret;

	ret = cca_send(fd, "RL", &reply, data, &len);
	if (ret)
		return ret;
	if (len != sizeof(data) || !memcmp(data, zero, len) ||
	    reply.cprb.cprb_ver_id != 2 || reply.cprb.ccp_rtcode ||
	    reply.cprb.ccp_rscode || reply.cprb.rpld_datal != len ||
	    memcmp(reply.function_code, "RL", 2))
		return -EPROTO;
	return 0;
}

TEST_F(adapter, counters)
{
	ASSERT_EQ(0, ap_control("card add " CCA_CARD));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	EXPECT_LT(0, ap_counter("tapq"));
	EXPECT_LT(0, ap_counter("qci"));
	EXPECT_LT(0, ap_counter("rapq"));
	EXPECT_LT(0, queue_value("tapq"));
	EXPECT_LT(0, queue_value("rapq"));
	/* The AP bus does nothing that the machine does not know. */
	EXPECT_EQ(0, ap_counter("exceptions"));
	EXPECT_EQ(-ENOENT, ap_counter("lpar"));

	ASSERT_TRUE(wait_until(queue_is_up(true)));
	ASSERT_EQ(0, ap_control("counters clear"));
	EXPECT_EQ(0, queue_value("rapq"));
	EXPECT_EQ(0, queue_value("aqic"));
}

TEST_F(adapter, card_appears_and_goes)
{
	ASSERT_EQ(0, ap_control("card add fa:13c:ml=5:qd=2"));
	ASSERT_TRUE(rescan_until(bus_has("cardfa")));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	EXPECT_STREQ("13", bus_attr("cardfa", "hwtype"));
	EXPECT_STREQ("13", bus_attr("cardfa", "raw_hwtype"));
	EXPECT_STREQ("3", bus_attr("cardfa", "depth"));
	EXPECT_STREQ("0x92000000", bus_attr("cardfa", "ap_functions"));
	EXPECT_STREQ("20480", bus_attr("cardfa", "max_msg_size"));

	ASSERT_EQ(0, ap_control("card del fa"));
	ASSERT_TRUE(rescan_until(!bus_has("cardfa")));
	EXPECT_FALSE(bus_has(QUEUE));
}

TEST_F(adapter, domain_appears_and_goes)
{
	ASSERT_EQ(0, ap_control("card add " CCA_CARD));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	ASSERT_EQ(0, ap_control("domain del fb"));
	ASSERT_TRUE(rescan_until(!bus_has(QUEUE)));
	ASSERT_EQ(0, ap_control("domain add fb"));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
}

/* A type newer than the AP bus knows: it asks for the compatible one (QACT). */
TEST_F(adapter, compatible_type)
{
	ASSERT_EQ(0, ap_control("card add fa:15p"));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	EXPECT_LT(0, ap_counter("qact"));
	EXPECT_STREQ("15", bus_attr("cardfa", "raw_hwtype"));
	EXPECT_STREQ("14", bus_attr("cardfa", "hwtype"));
}

TEST_F(adapter, deconfigure)
{
	add_card(_metadata, CCA_CARD);

	ASSERT_EQ(0, ap_control("config fa off"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "config", "0")));
	EXPECT_TRUE(rescan_until(bus_attr_is(QUEUE, "config", "0")));
	EXPECT_EQ(-ENODEV, cca_random(self->fd));
	EXPECT_EQ(0, queue_value("irq"));

	ASSERT_EQ(0, ap_control("config fa on"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "config", "1")));
	ASSERT_TRUE(wait_until(queue_is_up(true)));
	EXPECT_EQ(0, cca_random(self->fd));
}

TEST_F(adapter, checkstop)
{
	add_card(_metadata, CCA_CARD);

	ASSERT_EQ(0, ap_control("checkstop fa on"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "chkstop", "1")));
	EXPECT_TRUE(rescan_until(bus_attr_is(QUEUE, "chkstop", "1")));
	EXPECT_EQ(-ENODEV, cca_random(self->fd));

	ASSERT_EQ(0, ap_control("checkstop fa off"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "chkstop", "0")));
	ASSERT_TRUE(wait_until(queue_is_up(true)));
	EXPECT_EQ(0, cca_random(self->fd));
}

/* A request under way is lost with the configuration of its card. */
TEST_F(adapter, deconfigure_with_request)
{
	int status;
	pid_t pid;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_control("latency " QUEUE " 600000000"));

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(cca_random(self->fd) == -ENODEV ? 0 : 1);

	ASSERT_TRUE(wait_until(queue_value("qlen") == 1));
	ASSERT_EQ(0, ap_control("config fa off"));
	EXPECT_EQ(0, queue_value("qlen"));
	EXPECT_EQ(1, queue_value("discarded"));
	EXPECT_TRUE(rescan_until(waitpid(pid, &status, WNOHANG) == pid));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(adapter, response_code_on_demand)
{
	add_card(_metadata, CCA_CARD);

	/* Message too big, once: the request fails, the next one does not. */
	ASSERT_EQ(0, ap_control("rc " QUEUE " nqap 15 1"));
	EXPECT_EQ(-EINVAL, cca_random(self->fd));
	EXPECT_EQ(0, cca_random(self->fd));
	EXPECT_EQ(2, queue_value("nqap"));
	EXPECT_EQ(1, queue_value("answered"));

	/* Without a count until cleared; the AP bus gives up on the queue. */
	ASSERT_EQ(0, ap_control("rc " QUEUE " tapq 1"));
	ASSERT_TRUE(rescan_until(!bus_has(QUEUE)));
	ASSERT_EQ(0, ap_control("rc " QUEUE " tapq 0"));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));

	/* Any queue: a reset fails, the AP bus repeats it at its next scan. */
	ASSERT_TRUE(wait_until(queue_is_up(true)));
	ASSERT_EQ(0, ap_control("counters clear"));
	ASSERT_EQ(0, ap_control("rc * rapq 5"));
	ASSERT_EQ(0, ap_file_write(AP_DIR "devices/" QUEUE "/reset", "1"));
	EXPECT_EQ(-ENODEV, cca_random(self->fd));
	ASSERT_EQ(0, ap_control("rc * rapq 0"));
	EXPECT_LE(1, queue_value("rapq"));
	ASSERT_TRUE(rescan_until(queue_is_up(true)));
	EXPECT_EQ(0, cca_random(self->fd));
}

/* The AP bus ignores an interrupt without a reply. */
TEST_F(adapter, interrupt_on_demand)
{
	add_card(_metadata, CCA_CARD);
	EXPECT_EQ(1, queue_value("irq"));
	EXPECT_EQ(0, queue_value("host_irqs"));
	EXPECT_EQ(0, ap_control("notify " QUEUE));
	EXPECT_EQ(1, queue_value("host_irqs"));
	EXPECT_EQ(0, queue_value("replies"));
	EXPECT_EQ(0, cca_random(self->fd));
	EXPECT_EQ(2, queue_value("host_irqs"));
}

/* The AP bus believes that a queue is there in spite of an asynchronous error. */
TEST_F(adapter, asynchronous_error)
{
	add_card(_metadata, CCA_CARD);

	ASSERT_EQ(0, ap_control("rc " QUEUE " tapq 9 async"));
	ASSERT_EQ(0, ap_bus_rescan());
	EXPECT_TRUE(bus_has(QUEUE));
	ASSERT_EQ(0, ap_control("rc " QUEUE " tapq 9"));
	EXPECT_TRUE(rescan_until(!bus_has(QUEUE)));
}

TEST_F(adapter, reset_takes_its_time)
{
	long tapq, polls = 10;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_control("reset_polls %ld", polls));
	/* The reset does not end before the test has looked at it */
	ASSERT_EQ(0, ap_control("rc " QUEUE " tapq 2"));
	ASSERT_EQ(0, ap_file_write(AP_DIR "devices/" QUEUE "/reset", "1"));
	EXPECT_LT(0, queue_value("reset"));
	EXPECT_EQ(1, queue_value("irq"));
	EXPECT_STREQ("Reset in progress.", bus_attr(QUEUE, "reset"));
	ASSERT_EQ(0, ap_control("rc " QUEUE " tapq 0"));
	ASSERT_TRUE(wait_until(queue_is_up(true)));

	/* One answer for each poll, and one more that the reset is done. */
	tapq = queue_value("tapq");
	EXPECT_LT(polls, tapq);
	EXPECT_EQ(1, queue_value("rapq"));
	EXPECT_EQ(0, queue_value("reset"));
	EXPECT_EQ(0, cca_random(self->fd));
}

/*
 * An interrupt makes the AP bus fetch a reply. The AP bus does not poll before
 * that, and both sides count the interrupt.
 */
TEST_F(adapter, zcrypt_by_interrupt)
{
	long apb, begin;

	add_card(_metadata, CCA_CARD);
	EXPECT_EQ(1, queue_value("irq"));
	EXPECT_EQ(6, queue_value("isc"));	/* the AP bus's */
	EXPECT_EQ(0, queue_value("gisa"));
	ASSERT_EQ(0, ap_control("latency " QUEUE " 300000"));

	apb = proc_interrupts("APB");
	ASSERT_LE(0, apb);
	begin = now_ms();
	ASSERT_EQ(0, cca_random(self->fd));
	EXPECT_LE(300, now_ms() - begin);

	EXPECT_EQ(1, queue_value("nqap"));
	EXPECT_EQ(1, queue_value("answered"));
	EXPECT_EQ(1, queue_value("host_irqs"));
	EXPECT_LT(apb, proc_interrupts("APB"));
	/*
	 * Once after the request was sent, once after the interrupt, and when the
	 * AP bus wakes up for another reason. Polling needs more.
	 */
	EXPECT_GE(5, queue_value("dqap"));
}

/* Without interrupts, the AP bus polls the queue. */
TEST_F(adapter, zcrypt_by_polling)
{
	int status;
	pid_t pid;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_control("rc " QUEUE " aqic 5"));
	ASSERT_EQ(0, ap_file_write(AP_DIR "devices/" QUEUE "/reset", "1"));
	ASSERT_TRUE(wait_until(queue_is_up(false)));
	EXPECT_EQ(0, queue_value("irq"));
	ASSERT_EQ(0, ap_control("latency " QUEUE " 600000000"));
	ASSERT_EQ(0, ap_control("counters clear"));

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(cca_random(self->fd) ? 1 : 0);
	EXPECT_TRUE(wait_until(queue_value("dqap") > 5));
	ASSERT_EQ(0, ap_control("latency " QUEUE " 1000"));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, queue_value("nqap"));
	EXPECT_EQ(1, queue_value("answered"));
	EXPECT_EQ(0, queue_value("host_irqs"));
}

/* A service that the adapter does not have: a proper reply says so. */
TEST_F(adapter, cca_service_not_available)
{
	struct cca_reply reply;
	size_t len = 16;
	__u8 data[16];

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, cca_send(self->fd, "FQ", &reply, data, &len));
	EXPECT_EQ(0, (int)len);
	EXPECT_EQ(8, reply.cprb.ccp_rtcode);
	EXPECT_EQ(66, reply.cprb.ccp_rscode);
	EXPECT_EQ(0, memcmp(reply.function_code, "FQ", 2));
	/* zcrypt has nothing against the card. */
	EXPECT_STREQ("1", bus_attr(QUEUE, "online"));
}

TEST_F(adapter, ep11_reply)
{
	struct {
		struct ep11_cprb cprb;
		__u8 payload[14];
	} req = {
		.cprb = {
			.cprb_len = sizeof(req.cprb),
			.cprb_ver_id = 4,
			.func_id = { 'T', '4' },
			.target_id = DOM,
			.payload_len = sizeof(req.payload),
		},
		.payload = { 0x30, 12, 0x04, 4, 0, 1, 0, 38, 0x04, 4, 0, 0, 0, DOM },
	};
	struct {
		struct ep11_cprb cprb;
		__u8 payload[236];
	} rep = { 0 };
	static const __u8 expected[] = {
		0x30, 18, 0x04, 4, 0, 1, 0, 38, 0x04, 4, 0, 0, 0, DOM,
		0x04, 4, 0, 0, 0, EP11_NOT_SUPPORTED
	};
	struct ep11_target_dev target = { .ap_id = CARD, .dom_id = DOM };
	struct ep11_urb urb = {
		.targets_num = 1,
		.targets = (void *)&target,
		.req_len = sizeof(req),
		.req = (void *)&req,
		.resp_len = sizeof(rep),
		.resp = (void *)&rep,
	};

	add_card(_metadata, "fa:14p");
	ASSERT_EQ(0, ioctl(self->fd, ZSENDEP11CPRB, &urb));
	EXPECT_EQ(sizeof(rep.cprb) + sizeof(expected), urb.resp_len);
	EXPECT_EQ(4, rep.cprb.cprb_ver_id);
	EXPECT_EQ(0U, rep.cprb.ret_code);
	EXPECT_EQ(sizeof(expected), rep.cprb.payload_len);
	EXPECT_EQ(0, memcmp(rep.payload, expected, sizeof(expected)));
	EXPECT_EQ(1, queue_value("nqap"));
	EXPECT_EQ(1, queue_value("host_irqs"));
}

/* NQAP and DQAP end early at a segment boundary and are repeated. */
TEST_F(adapter, partial_completion)
{
	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_control("segment 64"));
	EXPECT_EQ(0, cca_random(self->fd));
	/* 324 bytes to the card, 532 back */
	EXPECT_LE(6, queue_value("nqap"));
	EXPECT_LE(9, queue_value("dqap"));
	EXPECT_EQ(1, queue_value("answered"));
	EXPECT_EQ(0, ap_counter("exceptions"));
}

/* Never more requests in the card than its queues hold. */
TEST_F(adapter, depth)
{
	int i, status;
	pid_t pid;

	add_card(_metadata, "fa:14c:qd=1");
	ASSERT_EQ(0, ap_control("latency " QUEUE " 600000000"));
	for (i = 0; i < 5; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid)
			_exit(cca_random(self->fd) ? 1 : 0);
	}

	/* Two are in the card, the AP bus keeps the others. */
	ASSERT_TRUE(wait_until(bus_attr_is(QUEUE, "requestq_count", "3")));
	EXPECT_STREQ("2", bus_attr(QUEUE, "pendingq_count"));
	EXPECT_EQ(2, queue_value("qlen"));
	EXPECT_EQ(2, queue_value("nqap"));
	EXPECT_EQ(0, queue_value("answered"));

	ASSERT_EQ(0, ap_control("latency " QUEUE " 1000"));
	for (i = 0; i < 5; i++) {
		ASSERT_LT(0, wait(&status));
		EXPECT_EQ(0, status);
	}
	EXPECT_EQ(5, queue_value("nqap"));
	EXPECT_EQ(5, queue_value("answered"));
	EXPECT_EQ(0, queue_value("qlen"));
}

/*
 * Requests from all CPUs while cards come and go, the bus is scanned and the
 * state is read: none is lost, none is answered twice.
 */
TEST_F(adapter, several_cpus)
{
	enum { SENDERS = 4 };
	int i, j, status, cpus = sysconf(_SC_NPROCESSORS_ONLN), requests = env_repeat(25);
	pid_t hotplug, senders[SENDERS];
	cpu_set_t set;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_control("latency " QUEUE " 100"));

	hotplug = fork();
	ASSERT_GE(hotplug, 0);
	if (!hotplug) {
		for (i = 0;; i++) {
			if (ap_control("card add f9:12a") || ap_queue_value(OTHER, DOM, "qlen") ||
			    (i % 8 == 0 && ap_bus_rescan()) ||
			    ap_control("card del f9"))
				_exit(1);
		}
	}

	for (i = 0; i < SENDERS; i++) {
		senders[i] = fork();
		ASSERT_GE(senders[i], 0);
		if (senders[i])
			continue;
		CPU_ZERO(&set);
		CPU_SET(i % cpus, &set);
		sched_setaffinity(0, sizeof(set), &set);
		for (j = 0; j < requests; j++)
			if (cca_random(self->fd))
				_exit(1);
		_exit(0);
	}

	for (i = 0; i < SENDERS; i++) {
		ASSERT_EQ(senders[i], waitpid(senders[i], &status, 0));
		EXPECT_EQ(0, status);
	}
	/* The child ends only after an error. */
	EXPECT_EQ(0, waitpid(hotplug, &status, WNOHANG));
	kill(hotplug, SIGKILL);
	waitpid(hotplug, &status, 0);

	EXPECT_EQ(SENDERS * requests, queue_value("nqap"));
	EXPECT_EQ(SENDERS * requests, queue_value("answered"));
	EXPECT_EQ(0, queue_value("qlen"));
	EXPECT_EQ(0, queue_value("discarded"));
}

/* The kernel's own user of zcrypt. */
TEST_F(adapter, hwrng)
{
	__u8 first[64], second[64];
	size_t i;
	int fd;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_file_write(RNG_CURRENT, "zcrypt"));
	fd = open("/dev/hwrng", O_RDONLY | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ((ssize_t)sizeof(first), read(fd, first, sizeof(first)));
	/* One request gives a page, of which something may be left from before. */
	for (i = 0; i < 4096 / sizeof(second); i++)
		ASSERT_EQ((ssize_t)sizeof(second), read(fd, second, sizeof(second)));
	close(fd);
	ASSERT_EQ(0, ap_file_write(RNG_CURRENT, "none"));
	EXPECT_NE(0, memcmp(first, second, sizeof(first)));
	/* Another CCA card of the host may have been faster than ours. */
	EXPECT_LT(0, ap_counter("nqap"));
	EXPECT_EQ(ap_counter("nqap"), ap_counter("answered"));
	EXPECT_LT(0, ap_counter("host_irqs"));
}

static void exit_with_signal(int signr)
{
	_exit(signr);
}

/* User space may not execute AP instructions. */
TEST_F(adapter, user_space_gets_sigill)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, ap_control("counters clear"));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* The kernel logs a signal without a handler. */
		signal(SIGILL, exit_with_signal);
		asm volatile("lghi 0,0; .insn rre,0xb2af0000,0,0"
			     : : : "cc", "memory", "0", "1", "2");
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(SIGILL, WEXITSTATUS(status));
	EXPECT_EQ(0, ap_counter("exceptions"));
}

TEST_HARNESS_MAIN
