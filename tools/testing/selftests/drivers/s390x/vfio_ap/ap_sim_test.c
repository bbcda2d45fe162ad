// SPDX-License-Identifier: GPL-2.0
/*
 * The AP simulator (ap_sim/) as the AP bus and zcrypt see it.
 *
 * The tests add a card and a domain of their own, which nobody else on the
 * host uses, and remove them at the end.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
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

#define SIM_DIR		"/sys/kernel/debug/ap_sim/"
#define AP_DIR		"/sys/bus/ap/"
#define KUNIT_DIR	"/sys/kernel/debug/kunit/"
#define PARAM_DIR	"/sys/module/ap_sim/parameters/"
#define RNG_CURRENT	"/sys/class/misc/hw_random/rng_current"
#define TEXT_SIZE	(256 * 1024)

/* The card and the domain of the tests, and a card for other purposes */
#define CARD		0xfa
#define DOM		0xfb
#define OTHER		0xf9
#define QUEUE		"fa.00fb"
#define CCA_CARD	"fa:14c"

/* How long to wait for things which the kernel does in its own time */
#define DEADLINE_MS	(ENV_PATIENCE * 1000)

/* PKCS #11: the function is not supported */
#define EP11_NOT_SUPPORTED 0x54

/*
 * Poll: none of what is waited for here can be waited for in another way.
 * Evaluates to whether the condition came true.
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

/* A file of the simulator, in a static buffer */
static const char *sim_file(const char *name)
{
	static char text[TEXT_SIZE];
	char path[128];

	snprintf(path, sizeof(path), SIM_DIR "%s", name);
	if (ap_file_read(path, text, sizeof(text)) < 0)
		return "";
	return text;
}

/* The value of a key in the line of a queue, or -ENOENT */
static long queue_value_of(const char *apqn, const char *key)
{
	char pattern[32];
	const char *line, *end, *pos;

	line = strstr(sim_file("queues"), apqn);
	if (!line)
		return -ENOENT;
	end = strchrnul(line, '\n');
	snprintf(pattern, sizeof(pattern), " %s=", key);
	pos = strstr(line, pattern);
	if (!pos || pos > end)
		return -ENOENT;
	return strtol(pos + strlen(pattern), NULL,
		      !strcmp(key, "nib") || !strcmp(key, "gisa") ? 16 : 10);
}

static long queue_value(const char *key)
{
	return queue_value_of(QUEUE, key);
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

static void remove_from_simulator(void)
{
	ap_sim_control("card del %02x", CARD);
	ap_sim_control("card del %02x", OTHER);
	ap_sim_control("card del fe");
	ap_sim_control("domain del %02x", DOM);
}

FIXTURE(ap_sim) {
	int fd;			/* zcrypt device node */
	char rng[64];		/* hwrng in use before */
	char reset_polls[16];	/* of the simulator, before */
	char segment[16];
};

FIXTURE_SETUP(ap_sim)
{
	self->fd = -1;
	if (geteuid())
		SKIP(return, "not run as root");
	if (access(SIM_DIR "control", W_OK))
		SKIP(return, "no AP simulator: ap_sim.ko is not loaded or no debugfs");
	if (access(AP_DIR "scans", W_OK))
		SKIP(return, "no AP bus: ap.ko is not loaded");
	if (access("/dev/z90crypt", R_OK | W_OK))
		SKIP(return, "no /dev/z90crypt: zcrypt.ko is not loaded");

	remove_from_simulator();
	ASSERT_TRUE(rescan_until(all_gone()));
	self->fd = open("/dev/z90crypt", O_RDWR | O_CLOEXEC);
	ASSERT_GE(self->fd, 0);
	if (ap_file_read(RNG_CURRENT, self->rng, sizeof(self->rng)) < 0)
		self->rng[0] = '\0';
	ASSERT_LT(0, ap_file_read(PARAM_DIR "reset_polls", self->reset_polls,
				  sizeof(self->reset_polls)));
	ASSERT_LT(0, ap_file_read(PARAM_DIR "segment", self->segment,
				  sizeof(self->segment)));
	ASSERT_EQ(0, ap_sim_control("domain add %02x", DOM));
}

FIXTURE_TEARDOWN(ap_sim)
{
	if (self->fd < 0)
		return;
	close(self->fd);
	ap_sim_control("rc * rapq 0");
	ap_sim_control("reset_polls %s", self->reset_polls);
	ap_sim_control("segment %s", self->segment);
	remove_from_simulator();
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
	ASSERT_EQ(0, ap_sim_control("card add %s", spec));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	ap_file_write(RNG_CURRENT, "none");
	ASSERT_TRUE(wait_until(queue_is_up(true))) {
		TH_LOG("reset: %s", bus_attr(QUEUE, "reset"));
		TH_LOG("interrupt: %s", bus_attr(QUEUE, "interrupt"));
	}
	ASSERT_TRUE(wait_until(queue_value("qlen") == 0));
	ASSERT_EQ(0, ap_file_write(SIM_DIR "counters", "0"));
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

TEST_F(ap_sim, topology)
{
	static const char card[] =
		"card fa at=13 fac=6a120000 nd=20 ml=5 qd=4 config=1 checkstop=0\n";

	ASSERT_EQ(0, ap_sim_control("card add fa:13a:qd=4:nd=20:ml=5:fac=0x6a120000"));
	EXPECT_NE(NULL, strstr(sim_file("topology"), card));
	EXPECT_EQ(5, queue_value("depth"));
	EXPECT_EQ(-EEXIST, ap_sim_control("card add fa:14c"));
	EXPECT_EQ(-EEXIST, ap_sim_control("domain add fb"));

	EXPECT_EQ(0, ap_sim_control("cdomain add fc"));
	EXPECT_EQ(-EEXIST, ap_sim_control("cdomain add fc"));
	EXPECT_NE(NULL, strstr(sim_file("topology"), ",fc\n"));
	EXPECT_EQ(0, ap_sim_control("cdomain del fc"));
	EXPECT_EQ(-ENOENT, ap_sim_control("cdomain del fc"));

	EXPECT_EQ(0, ap_sim_control("card del fa"));
	EXPECT_EQ(-ENOENT, ap_sim_control("card del fa"));
	EXPECT_EQ(NULL, strstr(sim_file("topology"), "card fa "));
	EXPECT_EQ(-ENOENT, queue_value("depth"));
}

TEST_F(ap_sim, control_errors)
{
	static const struct {
		const char *line;
		int error;
	} bad[] = {
		{ "nonsense", -EINVAL },
		{ "card", -EINVAL },
		{ "card add", -EINVAL },
		{ "card add fa", -EINVAL },
		{ "card add zz:14c", -EINVAL },
		{ "card add 100:14c", -ERANGE },
		{ "card add fa:14x", -EINVAL },
		{ "card add fa:c", -EINVAL },
		{ "card add fa:256c", -ERANGE },
		{ "card add fa:14c:qd=32", -ERANGE },
		{ "card add fa:14c:ml=16", -ERANGE },
		{ "card add fa:14c:qd", -EINVAL },
		{ "card add fa:14c:color=1", -EINVAL },
		{ "card add fa:14c now", -EINVAL },
		{ "card del f9", -ENOENT },
		{ "card move fa", -EINVAL },
		{ "domain add 100", -ERANGE },
		{ "domain add", -EINVAL },
		{ "domain del fc", -ENOENT },
		{ "cdomain del fc", -ENOENT },
		{ "config f9 off", -ENOENT },
		{ "config fa maybe", -EINVAL },
		{ "checkstop f9 on", -ENOENT },
		{ "rc", -EINVAL },
		{ "rc fa.00fb tapq", -EINVAL },
		{ "rc fa.00fb qci 1", -EINVAL },
		{ "rc fa.00fb tapq 100", -ERANGE },
		{ "rc fa.00fb tapq 1 x", -EINVAL },
		{ "rc fa.00fc tapq 1", -ENOENT },
		{ "rc fa tapq 1", -EINVAL },
		{ "latency fa.00fc 1", -ENOENT },
		{ "latency fa.00fb slow", -EINVAL },
		{ "notify", -EINVAL },
		{ "notify fa", -EINVAL },
		{ "notify fa.00fc", -ENOENT },
		{ "notify fa.00fb now", -EINVAL },
		{ "swallow", -EINVAL },
		{ "swallow fa on", -EINVAL },
		{ "swallow fa.00fb maybe", -EINVAL },
		{ "swallow fa.00fc on", -ENOENT },
		{ "reset_polls x", -EINVAL },
		{ "segment 100", -EINVAL },
		{ "a b c d e f g", -EINVAL },
	};
	char *topology, *queues;
	size_t i;

	ASSERT_EQ(0, ap_sim_control("card add " CCA_CARD));
	topology = strdup(sim_file("topology"));
	ASSERT_NE(NULL, topology);

	for (i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		EXPECT_EQ(bad[i].error, ap_sim_control("%s", bad[i].line)) {
			TH_LOG("command: %s", bad[i].line);
		}
	}
	EXPECT_STREQ(topology, sim_file("topology"));

	/* An empty line is no command, several commands may be in one write. */
	EXPECT_EQ(0, ap_sim_control("\n\nlatency fa.00fb 17\nconfig fa off"));
	EXPECT_EQ(17, queue_value("latency"));
	EXPECT_NE(NULL, strstr(sim_file("topology"), " config=0 "));

	/* The first bad command ends the write. */
	queues = strdup(sim_file("queues"));
	ASSERT_NE(NULL, queues);
	EXPECT_EQ(-EINVAL, ap_sim_control("bad\nlatency fa.00fb 18"));
	EXPECT_EQ(17, queue_value("latency"));
	free(queues);
	free(topology);
}

TEST_F(ap_sim, counters)
{
	ASSERT_EQ(0, ap_sim_control("card add " CCA_CARD));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	EXPECT_LT(0, ap_sim_counter("tapq"));
	EXPECT_LT(0, ap_sim_counter("qci"));
	EXPECT_LT(0, ap_sim_counter("rapq"));
	EXPECT_LT(0, queue_value("tapq"));
	EXPECT_LT(0, queue_value("rapq"));
	/* The AP bus does nothing that the simulator does not know. */
	EXPECT_EQ(0, ap_sim_counter("exceptions"));
	EXPECT_EQ(0, ap_sim_counter("unknown"));
	EXPECT_EQ(-ENOENT, ap_sim_counter("lpar"));

	ASSERT_TRUE(wait_until(queue_is_up(true)));
	ASSERT_EQ(0, ap_file_write(SIM_DIR "counters", "0"));
	EXPECT_EQ(0, queue_value("rapq"));
	EXPECT_EQ(0, queue_value("aqic"));
}

TEST_F(ap_sim, card_appears_and_goes)
{
	ASSERT_EQ(0, ap_sim_control("card add fa:13c:ml=5:qd=2"));
	ASSERT_TRUE(rescan_until(bus_has("cardfa")));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	EXPECT_STREQ("13", bus_attr("cardfa", "hwtype"));
	EXPECT_STREQ("13", bus_attr("cardfa", "raw_hwtype"));
	EXPECT_STREQ("3", bus_attr("cardfa", "depth"));
	EXPECT_STREQ("0x92000000", bus_attr("cardfa", "ap_functions"));
	EXPECT_STREQ("20480", bus_attr("cardfa", "max_msg_size"));

	ASSERT_EQ(0, ap_sim_control("card del fa"));
	ASSERT_TRUE(rescan_until(!bus_has("cardfa")));
	EXPECT_FALSE(bus_has(QUEUE));
}

TEST_F(ap_sim, domain_appears_and_goes)
{
	ASSERT_EQ(0, ap_sim_control("card add " CCA_CARD));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	ASSERT_EQ(0, ap_sim_control("domain del fb"));
	ASSERT_TRUE(rescan_until(!bus_has(QUEUE)));
	ASSERT_EQ(0, ap_sim_control("domain add fb"));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
}

/* A type newer than the AP bus knows: it asks for the compatible one (QACT). */
TEST_F(ap_sim, compatible_type)
{
	ASSERT_EQ(0, ap_sim_control("card add fa:15p"));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));
	EXPECT_LT(0, ap_sim_counter("qact"));
	EXPECT_STREQ("15", bus_attr("cardfa", "raw_hwtype"));
	EXPECT_STREQ("14", bus_attr("cardfa", "hwtype"));
}

TEST_F(ap_sim, deconfigure)
{
	add_card(_metadata, CCA_CARD);

	ASSERT_EQ(0, ap_sim_control("config fa off"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "config", "0")));
	EXPECT_TRUE(rescan_until(bus_attr_is(QUEUE, "config", "0")));
	EXPECT_EQ(-ENODEV, cca_random(self->fd));
	EXPECT_EQ(0, queue_value("irq"));

	ASSERT_EQ(0, ap_sim_control("config fa on"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "config", "1")));
	ASSERT_TRUE(wait_until(queue_is_up(true)));
	EXPECT_EQ(0, cca_random(self->fd));
}

TEST_F(ap_sim, checkstop)
{
	add_card(_metadata, CCA_CARD);

	ASSERT_EQ(0, ap_sim_control("checkstop fa on"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "chkstop", "1")));
	EXPECT_TRUE(rescan_until(bus_attr_is(QUEUE, "chkstop", "1")));
	EXPECT_EQ(-ENODEV, cca_random(self->fd));

	ASSERT_EQ(0, ap_sim_control("checkstop fa off"));
	ASSERT_TRUE(rescan_until(bus_attr_is("cardfa", "chkstop", "0")));
	ASSERT_TRUE(wait_until(queue_is_up(true)));
	EXPECT_EQ(0, cca_random(self->fd));
}

/* A request under way is lost with the configuration of its card. */
TEST_F(ap_sim, deconfigure_with_request)
{
	int status;
	pid_t pid;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 600000000"));

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(cca_random(self->fd) == -ENODEV ? 0 : 1);

	ASSERT_TRUE(wait_until(queue_value("qlen") == 1));
	ASSERT_EQ(0, ap_sim_control("config fa off"));
	EXPECT_EQ(0, queue_value("qlen"));
	EXPECT_EQ(1, queue_value("discarded"));
	EXPECT_TRUE(rescan_until(waitpid(pid, &status, WNOHANG) == pid));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(ap_sim, response_code_on_demand)
{
	add_card(_metadata, CCA_CARD);

	/* Message too big, once: the request fails, the next one does not. */
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " nqap 15 1"));
	EXPECT_EQ(-EINVAL, cca_random(self->fd));
	EXPECT_EQ(0, cca_random(self->fd));
	EXPECT_EQ(2, queue_value("nqap"));
	EXPECT_EQ(1, queue_value("answered"));

	/* Without a count until cleared; the AP bus gives up on the queue. */
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " tapq 1"));
	ASSERT_TRUE(rescan_until(!bus_has(QUEUE)));
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " tapq 0"));
	ASSERT_TRUE(rescan_until(bus_has(QUEUE)));

	/* Any queue: a reset fails, the AP bus repeats it at its next scan. */
	ASSERT_TRUE(wait_until(queue_is_up(true)));
	ASSERT_EQ(0, ap_file_write(SIM_DIR "counters", "0"));
	ASSERT_EQ(0, ap_sim_control("rc * rapq 5"));
	ASSERT_EQ(0, ap_file_write(AP_DIR "devices/" QUEUE "/reset", "1"));
	EXPECT_EQ(-ENODEV, cca_random(self->fd));
	ASSERT_EQ(0, ap_sim_control("rc * rapq 0"));
	EXPECT_LE(1, queue_value("rapq"));
	ASSERT_TRUE(rescan_until(queue_is_up(true)));
	EXPECT_EQ(0, cca_random(self->fd));
}

/* The AP bus takes an interrupt without a reply for what it is */
TEST_F(ap_sim, interrupt_on_demand)
{
	add_card(_metadata, CCA_CARD);
	EXPECT_EQ(1, queue_value("irq"));
	EXPECT_EQ(0, queue_value("host_irqs"));
	EXPECT_EQ(0, ap_sim_control("notify " QUEUE));
	EXPECT_EQ(1, queue_value("host_irqs"));
	EXPECT_EQ(0, queue_value("replies"));
	EXPECT_EQ(0, cca_random(self->fd));
	EXPECT_EQ(2, queue_value("host_irqs"));
}

/* The AP bus believes that a queue is there in spite of an asynchronous error. */
TEST_F(ap_sim, asynchronous_error)
{
	add_card(_metadata, CCA_CARD);

	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " tapq 9 async"));
	ASSERT_EQ(0, ap_bus_rescan());
	EXPECT_TRUE(bus_has(QUEUE));
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " tapq 9"));
	EXPECT_TRUE(rescan_until(!bus_has(QUEUE)));
}

TEST_F(ap_sim, reset_takes_its_time)
{
	long tapq, polls = 10;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_sim_control("reset_polls %ld", polls));
	/* The reset does not end before the test has looked at it */
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " tapq 2"));
	ASSERT_EQ(0, ap_file_write(AP_DIR "devices/" QUEUE "/reset", "1"));
	EXPECT_LT(0, queue_value("reset"));
	EXPECT_EQ(1, queue_value("irq"));
	EXPECT_STREQ("Reset in progress.", bus_attr(QUEUE, "reset"));
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " tapq 0"));
	ASSERT_TRUE(wait_until(queue_is_up(true)));

	/* One answer for each poll, and one more that the reset is done. */
	tapq = queue_value("tapq");
	EXPECT_LT(polls, tapq);
	EXPECT_EQ(1, queue_value("rapq"));
	EXPECT_EQ(0, queue_value("reset"));
	EXPECT_EQ(0, cca_random(self->fd));
}

/*
 * A reply is fetched because an interrupt told of it: while it takes its time
 * nobody asks, and interrupts are counted on both sides.
 */
TEST_F(ap_sim, zcrypt_by_interrupt)
{
	long apb, begin;

	add_card(_metadata, CCA_CARD);
	EXPECT_EQ(1, queue_value("irq"));
	EXPECT_EQ(6, queue_value("isc"));	/* the AP bus's */
	EXPECT_EQ(0, queue_value("gisa"));
	EXPECT_LT(0, queue_value("nib"));
	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 300000"));

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
	 * AP bus is woken up for something else meanwhile. Who polls needs more.
	 */
	EXPECT_GE(5, queue_value("dqap"));
}

/* The counterpart: what the AP bus does for a queue without interrupts. */
TEST_F(ap_sim, zcrypt_by_polling)
{
	int status;
	pid_t pid;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_sim_control("rc " QUEUE " aqic 5"));
	ASSERT_EQ(0, ap_file_write(AP_DIR "devices/" QUEUE "/reset", "1"));
	ASSERT_TRUE(wait_until(queue_is_up(false)));
	EXPECT_EQ(0, queue_value("irq"));
	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 600000000"));
	ASSERT_EQ(0, ap_file_write(SIM_DIR "counters", "0"));

	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		_exit(cca_random(self->fd) ? 1 : 0);
	EXPECT_TRUE(wait_until(queue_value("dqap") > 5));
	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 1000"));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(1, queue_value("nqap"));
	EXPECT_EQ(1, queue_value("answered"));
	EXPECT_EQ(0, queue_value("host_irqs"));
}

/* A service that the simulated card does not have: a proper reply says so. */
TEST_F(ap_sim, cca_service_not_available)
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

TEST_F(ap_sim, ep11_reply)
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
TEST_F(ap_sim, partial_completion)
{
	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_sim_control("segment 64"));
	EXPECT_EQ(0, cca_random(self->fd));
	/* 324 bytes to the card, 532 back */
	EXPECT_LE(6, queue_value("nqap"));
	EXPECT_LE(9, queue_value("dqap"));
	EXPECT_EQ(1, queue_value("answered"));
	EXPECT_EQ(0, ap_sim_counter("exceptions"));
}

/* Never more requests in the card than its queues hold. */
TEST_F(ap_sim, depth)
{
	int i, status;
	pid_t pid;

	add_card(_metadata, "fa:14c:qd=1");
	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 600000000"));
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

	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 1000"));
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
TEST_F(ap_sim, several_cpus)
{
	enum { SENDERS = 4 };
	int i, j, status, cpus = sysconf(_SC_NPROCESSORS_ONLN), requests = env_repeat(25);
	pid_t hotplug, senders[SENDERS];
	cpu_set_t set;

	add_card(_metadata, CCA_CARD);
	ASSERT_EQ(0, ap_sim_control("latency " QUEUE " 100"));

	hotplug = fork();
	ASSERT_GE(hotplug, 0);
	if (!hotplug) {
		for (i = 0;; i++) {
			if (ap_sim_control("card add f9:12a") ||
			    queue_value_of("f9.00fb", "qlen") ||
			    (i % 8 == 0 && ap_bus_rescan()) ||
			    ap_sim_control("card del f9"))
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
	/* It runs for ever unless something went wrong. */
	EXPECT_EQ(0, waitpid(hotplug, &status, WNOHANG));
	kill(hotplug, SIGKILL);
	waitpid(hotplug, &status, 0);

	EXPECT_EQ(SENDERS * requests, queue_value("nqap"));
	EXPECT_EQ(SENDERS * requests, queue_value("answered"));
	EXPECT_EQ(0, queue_value("qlen"));
	EXPECT_EQ(0, queue_value("discarded"));
}

/* The kernel's own user of zcrypt. */
TEST_F(ap_sim, hwrng)
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
	EXPECT_LT(0, ap_sim_counter("nqap"));
	EXPECT_EQ(ap_sim_counter("nqap"), ap_sim_counter("answered"));
	EXPECT_LT(0, ap_sim_counter("host_irqs"));
}

/* Load a module that was built with the tests; 0 or a negative errno */
static int load_module(const char *name, const char *params)
{
	char path[PATH_MAX];
	ssize_t len;
	int fd, ret;

	len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (len < 0)
		return -errno;
	path[len] = '\0';
	len = strrchr(path, '/') + 1 - path;
	snprintf(path + len, sizeof(path) - len, "ap_sim/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(path + len, sizeof(path) - len, "%s.ko", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return -errno;
	ret = syscall(__NR_finit_module, fd, params, 0) ? -errno : 0;
	close(fd);
	return ret;
}

static bool has_kunit(void)
{
	return !access(KUNIT_DIR, F_OK) ||
	       (!system("modprobe kunit") && !access(KUNIT_DIR, F_OK));
}

/* What a KUnit suite has told, in a static buffer; 0 or a negative errno of its module */
static int run_kunit(const char *module, const char *params, const char *suite,
		     const char **results)
{
	static char text[16384];
	char path[PATH_MAX];
	int ret;

	text[0] = '\0';
	*results = text;
	ret = load_module(module, params);
	if (ret)
		return ret;
	/* Not run yet if the kernel does not run tests at load. */
	snprintf(path, sizeof(path), KUNIT_DIR "%s/results", suite);
	ap_file_read(path, text, sizeof(text));
	if (!strstr(text, ": pass:")) {
		snprintf(path, sizeof(path), KUNIT_DIR "%s/run", suite);
		ret = ap_file_write(path, "1");
		snprintf(path, sizeof(path), KUNIT_DIR "%s/results", suite);
		ap_file_read(path, text, sizeof(text));
	}
	if (syscall(__NR_delete_module, module, O_NONBLOCK))
		ret = -errno;
	return ret;
}

/* The numbers at the end of the results */
static bool kunit_totals(const char *results, const char *suite, int *pass, int *fail, int *skip)
{
	char totals[64];
	const char *line;

	snprintf(totals, sizeof(totals), "# %s: pass:", suite);
	line = strstr(results, totals);
	return line && sscanf(line + strlen(totals), "%d fail:%d skip:%d", pass, fail, skip) == 3;
}

/*
 * The instructions one by one (ap_sim/ap_sim_kunit.c), on a card which the AP
 * bus has no time to find.
 */
TEST_F(ap_sim, instructions)
{
	/* The test of GISA alerts takes the place of KVM. */
	bool kvm = !access("/sys/module/kvm", F_OK);
	int pass, fail, skip;
	char config_time[16];
	const char *results;

	if (!has_kunit())
		SKIP(return, "no KUnit: kunit.ko is not there or has no debugfs");

	ASSERT_LT(0, ap_file_read(AP_DIR "config_time", config_time,
				  sizeof(config_time)));
	ASSERT_EQ(0, ap_file_write(AP_DIR "config_time", "120"));
	ASSERT_EQ(0, ap_bus_rescan());
	ASSERT_EQ(0, ap_sim_control("card add fe:14c:qd=1"));
	EXPECT_EQ(0, run_kunit("ap_sim_kunit", kvm ? "gib=0" : "gib=1", "ap_sim", &results));
	EXPECT_EQ(0, ap_sim_control("card del fe"));
	EXPECT_EQ(0, ap_file_write(AP_DIR "config_time", config_time));

	ASSERT_TRUE(kunit_totals(results, "ap_sim", &pass, &fail, &skip));
	EXPECT_LE(11, pass);
	EXPECT_EQ(0, fail) {
		TH_LOG("%s", results);
	}
	EXPECT_EQ(kvm ? 1 : 0, skip);
}

/* Modules that execute AP instructions keep the simulator. */
TEST_F(ap_sim, unload_refused)
{
	EXPECT_EQ(-1, syscall(__NR_delete_module, "ap_sim", O_NONBLOCK));
	EXPECT_EQ(EWOULDBLOCK, errno);
}

static void exit_with_signal(int signr)
{
	_exit(signr);
}

/* User space may not execute AP instructions, simulated or not. */
TEST_F(ap_sim, user_space_gets_sigill)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, ap_file_write(SIM_DIR "counters", "0"));
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		/* The kernel would log a signal that nobody handles. */
		signal(SIGILL, exit_with_signal);
		asm volatile("lghi 0,0; .insn rre,0xb2af0000,0,0"
			     : : : "cc", "memory", "0", "1", "2");
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(SIGILL, WEXITSTATUS(status));
	EXPECT_EQ(0, ap_sim_counter("exceptions"));
}

TEST_HARNESS_MAIN
