// SPDX-License-Identifier: GPL-2.0
/*
 * KUnit tests of the AP simulator: executes AP instructions
 *
 * Load it with a card that the AP bus does not know (yet), so that nobody else
 * uses the queue: "card add fe:14c:qd=1" for the default of the parameter.
 */

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/module.h>

#include <asm/airq.h>
#include <asm/ap.h>
#include <asm/chsc.h>
#include <asm/isc.h>
#include <asm/zcrypt.h>

static uint apqn = 0xfefb;
module_param(apqn, uint, 0444);
MODULE_PARM_DESC(apqn, "Queue to use, of a CCA card with qd=1 (default 0xfefb)");

static bool gib;
module_param(gib, bool, 0444);
MODULE_PARM_DESC(gib, "Test GISA alerts too; KVM must not be loaded (default false)");

/* An interruption subclass of adapters that are not there */
#define TEST_ISC	PCI_ISC
#define TEST_GISC	3
#define NR_RANDOM	256
/* Bit fields have no type of their own. */
#define EXPECT_BITS(test, field, value)					\
	KUNIT_EXPECT_EQ(test, (unsigned int)(field), value)
#define ASSERT_BITS(test, field, value)					\
	KUNIT_ASSERT_EQ(test, (unsigned int)(field), value)
#define EXPECT_RC(test, status, rc)					\
	EXPECT_BITS(test, (status).response_code, rc)
#define ASSERT_RC(test, status, rc)					\
	ASSERT_BITS(test, (status).response_code, rc)

/* A reply takes 1 ms, unless told otherwise; other work may slow down the host. */
#define REPLY_TIMEOUT	(300 * HZ)

/* Request for random numbers to a CCA coprocessor; all big-endian */
struct rl_request {
	u8 reserved1;
	u8 type;
	u8 reserved2[14];
	u32 offset[4];
	u8 agent_id[16];
	u8 reserved3[4];
	u8 function_code[4];
	u32 tocard[4];
	u32 fromcard[4];
	struct CPRBX cprb;
	u8 parm[16];
} __packed;

static void fill_request(struct rl_request *req)
{
	memset(req, 0, sizeof(*req));
	req->type = 6;
	req->offset[0] = 0x58;
	memcpy(req->agent_id, "CA", 2);
	memcpy(req->function_code, "RL", 2);
	req->tocard[0] = sizeof(req->cprb) + sizeof(req->parm);
	req->fromcard[0] = 1024;
	req->fromcard[1] = NR_RANDOM;
	req->cprb.cprb_len = sizeof(req->cprb);
	req->cprb.cprb_ver_id = 2;
	req->cprb.domain = AP_QID_QUEUE(apqn);
	memcpy(req->parm, "RL", 2);
}

/* Reset the queue and wait; the number of answers RESET_IN_PROGRESS. */
static int reset_queue(struct kunit *test)
{
	struct ap_queue_status status = ap_rapq(apqn, 0);
	int polls = 0;

	ASSERT_RC(test, status, 0);
	while ((status = ap_tapq(apqn, NULL)).response_code == 0x02)
		polls++;
	ASSERT_RC(test, status, 0);
	ASSERT_BITS(test, status.queue_empty, 1);
	ASSERT_BITS(test, status.irq_enabled, 0);

	return polls;
}

/* Receive a reply into a buffer that is large enough. */
static struct ap_queue_status receive(unsigned long *psmid, void *buf,
				      size_t size, size_t *len)
{
	unsigned long end = jiffies + REPLY_TIMEOUT;
	struct ap_queue_status status;
	unsigned long gr0 = 0;
	size_t rest;

	do {
		status = ap_dqap(apqn, psmid, buf, size, len, &rest, &gr0);
		if (status.response_code != 0x10 || status.queue_empty)
			break;
		usleep_range(100, 200);
	} while (time_before(jiffies, end));

	return status;
}

static int ap_sim_test_init(struct kunit *test)
{
	if (ap_tapq(apqn, NULL).response_code == 0x01)
		kunit_skip(test, "no queue %02x.%04x", AP_QID_CARD(apqn),
			   AP_QID_QUEUE(apqn));
	reset_queue(test);

	return 0;
}

static void tapq_test(struct kunit *test)
{
	struct ap_queue_status status;
	struct ap_tapq_hwinfo info;

	status = ap_test_queue(apqn, 1, &info);
	EXPECT_RC(test, status, 0);
	EXPECT_BITS(test, info.at, 14);
	EXPECT_BITS(test, info.cca, 1);
	EXPECT_BITS(test, info.ep11, 0);
	EXPECT_BITS(test, info.qd, 1);
	EXPECT_BITS(test, info.bs, 0);

	/* Without the T bit there are no facilities. */
	status = ap_test_queue(apqn, 0, &info);
	EXPECT_RC(test, status, 0);
	EXPECT_BITS(test, info.fac, 0);
	EXPECT_BITS(test, info.at, 14);
	EXPECT_BITS(test, info.qd, 1);
}

static void unknown_queue_test(struct kunit *test)
{
	/* The simulated machine has not all 256 domains. */
	struct ap_config_info config __aligned(8);
	union ap_qact_ap_info qact = { .val = 0 };
	union ap_qirq_ctrl ctrl = { .ir = 1 };
	struct ap_tapq_hwinfo info;
	size_t len, rest;
	unsigned long psmid;
	ap_qid_t qid;
	u8 buf[8];
	int dom;

	KUNIT_ASSERT_EQ(test, ap_qci(&config), 0);
	for (dom = 0; dom < 256; dom++)
		if (!(config.aqm[dom / 32] & 0x80000000U >> dom % 32))
			break;
	KUNIT_ASSERT_LT(test, dom, 256);
	qid = AP_MKQID(AP_QID_CARD(apqn), dom);

	EXPECT_RC(test, ap_test_queue(qid, 1, &info), 0x01);
	KUNIT_EXPECT_EQ(test, info.value, 0);
	EXPECT_RC(test, ap_rapq(qid, 0), 0x01);
	EXPECT_RC(test, ap_zapq(qid, 0), 0x01);
	EXPECT_RC(test, ap_aqic(qid, ctrl, 0), 0x01);
	EXPECT_RC(test, ap_qact(qid, 0, &qact), 0x01);
	EXPECT_RC(test, ap_nqap(qid, 1, buf, 8), 0x01);
	EXPECT_RC(test, ap_dqap(qid, &psmid, buf, sizeof(buf), &len, &rest, NULL), 0x01);
}

static void qci_test(struct kunit *test)
{
	unsigned int card = AP_QID_CARD(apqn), dom = AP_QID_QUEUE(apqn);
	struct ap_config_info config __aligned(8);

	memset(&config, 0xff, sizeof(config));
	KUNIT_ASSERT_EQ(test, ap_qci(&config), 0);
	EXPECT_BITS(test, config.apsc, 1);
	EXPECT_BITS(test, config.apxa, 1);
	EXPECT_BITS(test, config.qact, 1);
	EXPECT_BITS(test, config.apsb, 0);
	KUNIT_EXPECT_EQ(test, config.na, 255);
	KUNIT_EXPECT_EQ(test, config.nd, 255);
	KUNIT_EXPECT_TRUE(test, config.apm[card / 32] & 0x80000000U >> card % 32);
	KUNIT_EXPECT_TRUE(test, config.aqm[dom / 32] & 0x80000000U >> dom % 32);
}

static void qact_test(struct kunit *test)
{
	union ap_qact_ap_info info = { .mode = 4, .cat = 12 };

	EXPECT_RC(test, ap_qact(apqn, 0, &info), 0);
	EXPECT_BITS(test, info.cat, 12);
	info = (union ap_qact_ap_info) { .mode = 4, .cat = 20 };
	EXPECT_RC(test, ap_qact(apqn, 0, &info), 0);
	EXPECT_BITS(test, info.cat, 14);
	/* another mode than that of the card */
	info = (union ap_qact_ap_info) { .mode = 1, .cat = 12 };
	EXPECT_RC(test, ap_qact(apqn, 0, &info), 0);
	EXPECT_BITS(test, info.cat, 0);
}

static void reset_test(struct kunit *test)
{
	union ap_qirq_ctrl ctrl = { .ir = 1 };
	unsigned long psmid;
	size_t len, rest;
	int polls, i;
	u8 buf[8];

	polls = reset_queue(test);
	KUNIT_ASSERT_GT(test, polls, 0);
	/* A reset takes the same time again, and ZAPQ as much as RAPQ. */
	EXPECT_RC(test, ap_zapq(apqn, 0), 0);
	for (i = 0; i < polls; i++) {
		switch (i % 5) {
		case 0:
			EXPECT_RC(test, ap_rapq(apqn, 0), 0x02);
			break;
		case 1:
			EXPECT_RC(test, ap_nqap(apqn, 1, buf, 8), 0x02);
			break;
		case 2:
			EXPECT_RC(test, ap_dqap(apqn, &psmid, buf, 8, &len, &rest, NULL), 0x02);
			break;
		case 3:
			EXPECT_RC(test, ap_aqic(apqn, ctrl, 0), 0x02);
			break;
		default:
			EXPECT_RC(test, ap_tapq(apqn, NULL), 0x02);
		}
	}
	EXPECT_RC(test, ap_tapq(apqn, NULL), 0);
}

/* PQAP(AQIC) takes effect some time after it was accepted. */
static void await_interrupts(struct kunit *test, bool on)
{
	int i;

	for (i = 0; i < 256 && ap_tapq(apqn, NULL).irq_enabled != on; i++)
		;
	EXPECT_BITS(test, ap_tapq(apqn, NULL).irq_enabled, on);
}

static void aqic_test(struct kunit *test)
{
	union ap_qirq_ctrl ctrl = { .ir = 1, .isc = TEST_ISC };
	phys_addr_t nib;

	nib = virt_to_phys(kunit_kzalloc(test, 1, GFP_KERNEL));
	/* There is no memory at the end of the address space. */
	EXPECT_RC(test, ap_aqic(apqn, ctrl, -4096UL), 0x06);

	EXPECT_RC(test, ap_aqic(apqn, ctrl, nib), 0);
	EXPECT_RC(test, ap_aqic(apqn, ctrl, nib), 0x07);
	await_interrupts(test, true);

	ctrl.ir = 0;
	EXPECT_RC(test, ap_aqic(apqn, ctrl, 0), 0);
	EXPECT_RC(test, ap_aqic(apqn, ctrl, 0), 0x07);
	await_interrupts(test, false);

	/* A reset disables interrupts that are being enabled, too. */
	ctrl.ir = 1;
	EXPECT_RC(test, ap_aqic(apqn, ctrl, nib), 0);
	reset_queue(test);
}

static void full_queue_test(struct kunit *test)
{
	struct ap_queue_status status[4];
	unsigned long psmid, flags;
	struct rl_request *req;
	size_t len, rest;
	u8 *buf;

	req = kunit_kzalloc(test, sizeof(*req), GFP_KERNEL);
	buf = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, req);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	fill_request(req);

	/* No timer of the simulator interrupts this. */
	local_irq_save(flags);
	status[0] = ap_nqap(apqn, 0x100000001UL, req, sizeof(*req));
	status[1] = ap_nqap(apqn, 0x200000002UL, req, sizeof(*req));
	status[2] = ap_nqap(apqn, 0x300000003UL, req, sizeof(*req));
	status[3] = ap_dqap(apqn, &psmid, buf, PAGE_SIZE, &len, &rest, NULL);
	local_irq_restore(flags);

	EXPECT_RC(test, status[0], 0);
	EXPECT_BITS(test, status[0].queue_empty, 0);
	EXPECT_BITS(test, status[0].queue_full, 0);
	EXPECT_RC(test, status[1], 0);
	EXPECT_BITS(test, status[1].queue_full, 1);
	EXPECT_RC(test, status[2], 0x10);
	EXPECT_BITS(test, status[2].queue_full, 1);
	/* full, but no reply yet */
	EXPECT_RC(test, status[3], 0x10);
	EXPECT_BITS(test, status[3].queue_empty, 0);
	EXPECT_BITS(test, status[3].replies_waiting, 0);

	status[0] = receive(&psmid, buf, PAGE_SIZE, &len);
	EXPECT_RC(test, status[0], 0);
	KUNIT_EXPECT_EQ(test, psmid, 0x100000001UL);
	EXPECT_BITS(test, status[0].queue_empty, 0);
	status[1] = receive(&psmid, buf, PAGE_SIZE, &len);
	EXPECT_RC(test, status[1], 0);
	KUNIT_EXPECT_EQ(test, psmid, 0x200000002UL);
	EXPECT_BITS(test, status[1].queue_empty, 1);
	/* The refused one is not in the queue. */
	status[2] = receive(&psmid, buf, PAGE_SIZE, &len);
	EXPECT_RC(test, status[2], 0x10);
	EXPECT_BITS(test, status[2].queue_empty, 1);
}

static void message_size_test(struct kunit *test)
{
	size_t len, max = 12 * 1024;
	unsigned long psmid;
	u8 *buf;

	buf = kunit_kzalloc(test, 2 * max, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	EXPECT_RC(test, ap_nqap(apqn, 1, buf, max + 1), 0x15);
	EXPECT_BITS(test, ap_tapq(apqn, NULL).queue_empty, 1);

	/* The longest message is accepted; it makes no sense to the card. */
	EXPECT_RC(test, ap_nqap(apqn, 2, buf, max), 0);
	EXPECT_RC(test, receive(&psmid, buf, max, &len), 0);
	KUNIT_EXPECT_EQ(test, psmid, 2);
	KUNIT_EXPECT_EQ(test, len, 8);
	KUNIT_EXPECT_EQ(test, buf[1], 0x82);
	KUNIT_EXPECT_EQ(test, buf[4], 0x20);
}

/* What every card replies to, with what makes the request known again */
static void echo_test(struct kunit *test)
{
	size_t i, len, size = 24;
	unsigned long psmid;
	u8 *req, *buf;

	req = kunit_kzalloc(test, size, GFP_KERNEL);
	buf = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, req);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	for (i = 0; i < size; i++)
		req[i] = i;
	req[1] = 0x60;
	ASSERT_RC(test, ap_nqap(apqn, 0x123456789abcUL, req, size), 0);
	EXPECT_RC(test, receive(&psmid, buf, PAGE_SIZE, &len), 0);
	KUNIT_EXPECT_EQ(test, psmid, 0x123456789abcUL);
	KUNIT_EXPECT_EQ(test, len, size);
	KUNIT_EXPECT_EQ(test, buf[1], 0xe0);
	KUNIT_EXPECT_EQ(test, buf[2], AP_QID_CARD(apqn));
	KUNIT_EXPECT_EQ(test, buf[3], AP_QID_QUEUE(apqn));
	KUNIT_EXPECT_EQ(test, memcmp(buf + 4, req + 4, size - 4), 0);
}

/* A reply larger than the buffer is received in parts and can be begun anew. */
static void truncated_reply_test(struct kunit *test)
{
	size_t len, rest, total = 0, part = 100;
	struct ap_queue_status status;
	struct rl_request *req;
	unsigned long psmid = 0;
	unsigned long gr0 = 0;
	u8 *buf;

	req = kunit_kzalloc(test, sizeof(*req), GFP_KERNEL);
	buf = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, req);
	KUNIT_ASSERT_NOT_NULL(test, buf);
	fill_request(req);
	ASSERT_RC(test, ap_nqap(apqn, 0x123456789abcUL, req, sizeof(*req)), 0);

	status = receive(&psmid, buf, part, &len);
	ASSERT_RC(test, status, 0xff);
	KUNIT_EXPECT_EQ(test, len, part);
	KUNIT_EXPECT_EQ(test, buf[1], 0x86);

	/* From the beginning once more. */
	status = ap_dqap(apqn, &psmid, buf + PAGE_SIZE / 2, part, &len, &rest,
			 &gr0);
	ASSERT_RC(test, status, 0xff);
	KUNIT_ASSERT_NE(test, gr0, 0);
	KUNIT_EXPECT_EQ(test, len, part);
	KUNIT_EXPECT_EQ(test, memcmp(buf, buf + PAGE_SIZE / 2, part), 0);
	total = len;
	KUNIT_EXPECT_GT(test, rest, NR_RANDOM);
	EXPECT_BITS(test, ap_tapq(apqn, NULL).queue_empty, 0);

	while (status.response_code == 0xff && total < PAGE_SIZE) {
		size_t left = rest;

		status = ap_dqap(apqn, &psmid, buf + total, part, &len, &rest,
				 &gr0);
		total += len;
		KUNIT_ASSERT_EQ(test, rest, left - len);
	}
	EXPECT_RC(test, status, 0);
	EXPECT_BITS(test, status.queue_empty, 1);
	KUNIT_EXPECT_EQ(test, gr0, 0);
	KUNIT_EXPECT_EQ(test, rest, 0);
	KUNIT_EXPECT_EQ(test, psmid, 0x123456789abcUL);
	/* offset and length of the random data */
	KUNIT_EXPECT_EQ(test, *(u32 *)(buf + 24), NR_RANDOM);
	KUNIT_EXPECT_EQ(test, *(u32 *)(buf + 28) + NR_RANDOM, total);
}

/* What the handler of the adapter interrupt has seen */
struct test_irq {
	struct airq_struct airq;
	struct completion done;
	struct tpi_info tpi_info;
	u8 lsi;
};

static void test_irq_handler(struct airq_struct *airq, struct tpi_info *tpi_info)
{
	struct test_irq *irq = container_of(airq, struct test_irq, airq);

	irq->tpi_info = *tpi_info;
	irq->lsi = *airq->lsi_ptr;
	complete(&irq->done);
}

static void test_irq_register(struct kunit *test, struct test_irq *irq)
{
	init_completion(&irq->done);
	irq->airq.handler = test_irq_handler;
	irq->airq.isc = TEST_ISC;
	KUNIT_ASSERT_EQ(test, register_adapter_interrupt(&irq->airq), 0);
}

static void submit(struct kunit *test)
{
	struct rl_request *req;

	req = kunit_kzalloc(test, sizeof(*req), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, req);
	fill_request(req);
	EXPECT_RC(test, ap_nqap(apqn, 1, req, sizeof(*req)), 0);
}

static void host_interrupt_test(struct kunit *test)
{
	union ap_qirq_ctrl ctrl = { .ir = 1, .isc = TEST_ISC };
	struct ap_queue_status status;
	struct test_irq *irq;

	irq = kunit_kzalloc(test, sizeof(*irq), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, irq);
	test_irq_register(test, irq);

	status = ap_aqic(apqn, ctrl, virt_to_phys(irq->airq.lsi_ptr));
	EXPECT_RC(test, status, 0);
	await_interrupts(test, true);
	submit(test);
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&irq->done,
							  REPLY_TIMEOUT), 0);
	KUNIT_EXPECT_EQ(test, irq->lsi, 1);
	EXPECT_BITS(test, irq->tpi_info.adapter_IO, 1);
	EXPECT_BITS(test, irq->tpi_info.isc, TEST_ISC);
	EXPECT_BITS(test, ap_tapq(apqn, NULL).replies_waiting, 1);

	reset_queue(test);
	unregister_adapter_interrupt(&irq->airq);
}

/* Send a request and wait until the notification byte of a guest is set. */
static void submit_and_wait(struct kunit *test, u8 *nib)
{
	unsigned long end = jiffies + REPLY_TIMEOUT;

	submit(test);
	while (!READ_ONCE(*nib) && time_before(jiffies, end))
		usleep_range(100, 200);
	KUNIT_EXPECT_EQ(test, READ_ONCE(*nib), 1);
}

static struct kvm_s390_gisa *alloc_gisa(struct kunit *test)
{
	struct kvm_s390_gisa *gisa;

	gisa = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL | GFP_DMA);
	KUNIT_ASSERT_NOT_NULL(test, gisa);
	gisa->next_alert = virt_to_phys(gisa);

	return gisa;
}

static void guest_aqic(struct kunit *test, struct kvm_s390_gisa *gisa, u8 *nib)
{
	union ap_qirq_ctrl ctrl = {
		.ir = 1,
		.isc = TEST_ISC,
		.gisc = TEST_GISC,
		.gisa = virt_to_phys(gisa) >> 4,
	};

	ASSERT_RC(test, ap_aqic(apqn, ctrl, virt_to_phys(nib)), 0);
	await_interrupts(test, true);
}

/* Nobody asked for an alert: only the guest's own memory changes. */
static void guest_interrupt_test(struct kunit *test)
{
	struct kvm_s390_gisa *gisa = alloc_gisa(test);
	u8 *nib = kunit_kzalloc(test, 1, GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, nib);
	guest_aqic(test, gisa, nib);
	submit_and_wait(test, nib);
	KUNIT_EXPECT_EQ(test, READ_ONCE(gisa->ipm), 0x80 >> TEST_GISC);
	KUNIT_EXPECT_EQ(test, gisa->iam, 0);
	KUNIT_EXPECT_EQ(test, gisa->next_alert, virt_to_phys(gisa));
	reset_queue(test);
}

static void guest_alert_test(struct kunit *test)
{
	struct kvm_s390_gisa *gisa = alloc_gisa(test);
	u8 *nib = kunit_kzalloc(test, 1, GFP_KERNEL);
	u32 origin = virt_to_phys(gisa);
	struct kvm_s390_gib *block;
	struct test_irq *irq;

	if (!gib)
		kunit_skip(test, "not asked for, KVM may be loaded");

	block = kunit_kzalloc(test, PAGE_SIZE, GFP_KERNEL | GFP_DMA);
	irq = kunit_kzalloc(test, sizeof(*irq), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, nib);
	KUNIT_ASSERT_NOT_NULL(test, block);
	KUNIT_ASSERT_NOT_NULL(test, irq);
	test_irq_register(test, irq);
	/* This kind of adapter interrupt has no indicator. */
	*irq->airq.lsi_ptr = 0xff;
	block->nisc = TEST_ISC;
	KUNIT_EXPECT_EQ(test, chsc_sgib(virt_to_phys(block)), 0);

	/* The list is empty: the host is interrupted. */
	gisa->iam = 0x80 >> TEST_GISC;
	guest_aqic(test, gisa, nib);
	submit_and_wait(test, nib);
	KUNIT_EXPECT_NE(test, wait_for_completion_timeout(&irq->done,
							  REPLY_TIMEOUT), 0);
	KUNIT_EXPECT_EQ(test, gisa->ipm, 0x80 >> TEST_GISC);
	KUNIT_EXPECT_EQ(test, gisa->iam, 0);
	KUNIT_EXPECT_EQ(test, gisa->next_alert, 0);
	KUNIT_EXPECT_EQ(test, block->alert_list_origin, origin);

	/* It is on the list already: no further interrupt. */
	reset_queue(test);
	*nib = 0;
	guest_aqic(test, gisa, nib);
	submit_and_wait(test, nib);
	KUNIT_EXPECT_EQ(test, block->alert_list_origin, origin);
	KUNIT_EXPECT_EQ(test, gisa->next_alert, 0);

	/* The host works on the list: enlisted without interrupt. */
	reset_queue(test);
	*nib = 0;
	gisa->iam = 0x80 >> TEST_GISC;
	gisa->next_alert = origin;
	block->alert_list_origin = 1;
	guest_aqic(test, gisa, nib);
	submit_and_wait(test, nib);
	KUNIT_EXPECT_EQ(test, block->alert_list_origin, origin);
	KUNIT_EXPECT_EQ(test, gisa->next_alert, 1);

	reset_queue(test);
	KUNIT_EXPECT_EQ(test, chsc_sgib(0), 0);
	/* Waits for handlers: none but the first must have run. */
	unregister_adapter_interrupt(&irq->airq);
	KUNIT_EXPECT_FALSE(test, try_wait_for_completion(&irq->done));
}

static struct kunit_case ap_sim_test_cases[] = {
	KUNIT_CASE(tapq_test),
	KUNIT_CASE(unknown_queue_test),
	KUNIT_CASE(qci_test),
	KUNIT_CASE(qact_test),
	KUNIT_CASE(reset_test),
	KUNIT_CASE(aqic_test),
	KUNIT_CASE(full_queue_test),
	KUNIT_CASE(message_size_test),
	KUNIT_CASE(echo_test),
	KUNIT_CASE(truncated_reply_test),
	KUNIT_CASE(host_interrupt_test),
	KUNIT_CASE(guest_interrupt_test),
	KUNIT_CASE(guest_alert_test),
	{}
};

static struct kunit_suite ap_sim_test_suite = {
	.name = "ap_sim",
	.init = ap_sim_test_init,
	.test_cases = ap_sim_test_cases,
};

kunit_test_suite(ap_sim_test_suite);

MODULE_DESCRIPTION("KUnit tests of the AP simulator");
MODULE_LICENSE("GPL");
