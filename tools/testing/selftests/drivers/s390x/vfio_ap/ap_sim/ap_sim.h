/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ap_sim: AP (crypto card) hardware in software
 *
 * Executes the AP instructions PQAP, NQAP and DQAP, which raise an operation
 * exception on a machine without crypto cards (QEMU without KVM, for example),
 * so that the unmodified AP bus, zcrypt and vfio_ap modules find cards there.
 *
 * The simulator knows the AP architecture only. It must not include anything
 * of the drivers that it is there to test.
 */

#ifndef AP_SIM_H
#define AP_SIM_H

#include <linux/bitmap.h>
#include <linux/hrtimer.h>
#include <linux/ktime.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>

#include <asm/ap.h>

struct seq_file;

#define AP_SIM_MAX_CARDS	256
#define AP_SIM_MAX_DOMAINS	256
/* A queue holds qd + 1 messages, qd has 5 bits. */
#define AP_SIM_MAX_DEPTH	32
/* Bytes of a request which the simulated card looks at. */
#define AP_SIM_REQ_HEAD		512
/* Bytes of a reply in front of generated random data. */
#define AP_SIM_REPLY_HEAD	384
/* TAPQ gives the message length limit in units of this many bytes. */
#define AP_SIM_ML_UNIT		4096
/* Message length limit of a card whose TAPQ information has ml <= 3. */
#define AP_SIM_ML_DEFAULT	(12 * 1024)
/* &ap_sim_force.count: answer until told otherwise. */
#define AP_SIM_FORCE_ALWAYS	U32_MAX

/* Response codes of the AP queue status word. */
enum ap_sim_rc {
	AP_SIM_RC_NORMAL		= 0x00,
	AP_SIM_RC_Q_NOT_AVAIL		= 0x01,
	AP_SIM_RC_RESET_IN_PROGRESS	= 0x02,
	AP_SIM_RC_DECONFIGURED		= 0x03,
	AP_SIM_RC_CHECKSTOPPED		= 0x04,
	AP_SIM_RC_BUSY			= 0x05,
	AP_SIM_RC_INVALID_ADDRESS	= 0x06,
	AP_SIM_RC_OTHERWISE_CHANGED	= 0x07,
	AP_SIM_RC_INVALID_GISA		= 0x08,
	AP_SIM_RC_Q_FULL		= 0x10,
	AP_SIM_RC_NO_REPLY		= 0x10,
	AP_SIM_RC_NO_FIRST_PART		= 0x13,
	AP_SIM_RC_MESSAGE_TOO_BIG	= 0x15,
};

/* Operation codes. */
#define AP_SIM_OP_NQAP		0xb2ad
#define AP_SIM_OP_DQAP		0xb2ae
#define AP_SIM_OP_PQAP		0xb2af

/* Function codes of PQAP. */
#define AP_SIM_FC_TAPQ		0
#define AP_SIM_FC_RAPQ		1
#define AP_SIM_FC_ZAPQ		2
#define AP_SIM_FC_AQIC		3
#define AP_SIM_FC_QCI		4
#define AP_SIM_FC_QACT		5

/* Bits of general register 0. */
#define AP_SIM_GR0_FC_SHIFT	24		/* PQAP: function code */
#define AP_SIM_GR0_FC_MASK	0xff
#define AP_SIM_GR0_TBIT		0x00800000UL	/* TAPQ: facilities wanted */
#define AP_SIM_GR0_FIRST	0x80000000UL	/* DQAP: from the first byte on */
#define AP_SIM_GR0_LAST		0x40000000UL	/* NQAP: last part of a message */
#define AP_SIM_GR0_CONT		0x20000000UL	/* set between parts, by us */

/* Bits of the facility word of TAPQ. */
#define AP_SIM_FAC_APSC		0x80000000U
#define AP_SIM_FAC_MEX4K	0x40000000U
#define AP_SIM_FAC_CRT4K	0x20000000U
#define AP_SIM_FAC_CCA		0x10000000U
#define AP_SIM_FAC_ACCEL	0x08000000U
#define AP_SIM_FAC_EP11		0x04000000U
#define AP_SIM_FAC_APXA		0x02000000U

/* What is counted; below AP_SIM_NR_QINSN also what can be made to fail. */
enum ap_sim_count {
	AP_SIM_TAPQ,
	AP_SIM_RAPQ,
	AP_SIM_ZAPQ,
	AP_SIM_AQIC,
	AP_SIM_QACT,
	AP_SIM_NQAP,
	AP_SIM_DQAP,
	AP_SIM_NR_QINSN,
	/* counted per queue too */
	AP_SIM_REPLIES = AP_SIM_NR_QINSN,
	AP_SIM_DISCARDED,
	AP_SIM_HOST_IRQS,
	AP_SIM_GUEST_IRQS,
	AP_SIM_IRQ_OFF,
	AP_SIM_IRQ_OFF_BUSY,
	AP_SIM_SWALLOWED,
	AP_SIM_NR_QCOUNTS,
	/* counted for the machine only */
	AP_SIM_QCI = AP_SIM_NR_QCOUNTS,
	AP_SIM_GIB_ALERTS,
	AP_SIM_EXCEPTIONS,
	AP_SIM_UNKNOWN,
	AP_SIM_NR_COUNTS
};

/**
 * struct ap_sim_spec - one card as a user describes it
 * @apid: adapter number
 * @at: AP type
 * @fac: facility word of TAPQ, class included
 * @nd: number of the highest domain of the card
 * @ml: message length limit in units of AP_SIM_ML_UNIT bytes
 * @qd: queue depth minus 1
 */
struct ap_sim_spec {
	u8 apid;
	u8 at;
	u32 fac;
	u8 nd;
	u8 ml;
	u8 qd;
};

/**
 * struct ap_sim_force - a response code on demand
 * @count: number of answers still to give; 0: none, AP_SIM_FORCE_ALWAYS: no end
 * @code: response code to give
 * @async: set the A bit of the status word too
 */
struct ap_sim_force {
	u32 count;
	u8 code;
	bool async;
};

/**
 * struct ap_sim_aqic - interruption control of a queue
 * @nib: absolute address of the notification indicator byte
 * @gisa: absolute address of the guest interruption state area, 0: host
 * @on: interrupts are enabled
 * @isc: interruption subclass of the host
 * @gisc: interruption subclass of the guest
 */
struct ap_sim_aqic {
	u64 nib;
	u32 gisa;
	bool on;
	u8 isc;
	u8 gisc;
};

/**
 * struct ap_sim_reply - a request in the card, then its reply
 * @psmid: program-supplied message identifier
 * @due: when the reply becomes available
 * @seed: key of the random data that follows @head
 * @len: length of the reply in bytes
 * @head_len: bytes of @head in use, not more than @len
 * @head: the reply's first bytes; what comes after them is generated
 */
struct ap_sim_reply {
	u64 psmid;
	ktime_t due;
	u64 seed;
	u32 len;
	u16 head_len;
	u8 head[AP_SIM_REPLY_HEAD];
};

/**
 * struct ap_sim_queue - one AP queue
 * @card: the card it belongs to
 * @domain: its domain
 * @latency_us: time from a request to its reply, in microseconds
 * @reset: number of RESET_IN_PROGRESS answers still to give
 * @aqic: interruption control; it works until a new one, or a reset, takes effect
 * @next: what PQAP(AQIC) asked for last, valid while @settle is not 0
 * @settle: number of status words before @next takes effect
 * @swallow: answer a request for interrupts as if they were on now
 * @off_count: messages in the queue when interrupts were last switched off
 * @force: response codes on demand, by instruction
 * @counts: what happened to this queue
 * @timer: fires when the next reply is due
 * @part_len: bytes of a request that has arrived in part, 0: none
 * @part: the first bytes of that request
 * @first: slot of the oldest message
 * @count: messages in the queue
 * @ready: how many of these, the oldest ones, are replies
 * @taken: bytes of the oldest reply that were received already
 * @depth: number of slots
 * @slot: ring of messages
 *
 * Protected by ap_sim_lock, @card, @domain and @depth are constant.
 */
struct ap_sim_queue {
	struct ap_sim_card *card;
	u8 domain;
	u32 latency_us;
	u32 reset;
	struct ap_sim_aqic aqic;
	struct ap_sim_aqic next;
	u8 settle;
	bool swallow;
	unsigned int off_count;
	struct ap_sim_force force[AP_SIM_NR_QINSN];
	u64 counts[AP_SIM_NR_QCOUNTS];
	struct hrtimer timer;
	u32 part_len;
	u8 part[AP_SIM_REQ_HEAD];
	unsigned int first;
	unsigned int count;
	unsigned int ready;
	u32 taken;
	unsigned int depth;
	struct ap_sim_reply slot[] __counted_by(depth);
};

/**
 * struct ap_sim_card - one AP card
 * @spec: what a user asked for
 * @decfg: the card is deconfigured
 * @chkstop: the card is checkstopped
 * @queue: its queues by domain, NULL where the domain is not configured
 *
 * Changed under ap_sim_mutex and ap_sim_lock, so read under either.
 */
struct ap_sim_card {
	struct ap_sim_spec spec;
	bool decfg;
	bool chkstop;
	struct ap_sim_queue *queue[AP_SIM_MAX_DOMAINS];
};

/**
 * struct ap_sim_cpu - the processor that executes an AP instruction
 * @gprs: its 16 general registers
 * @cc: condition code, valid after the instruction was executed
 * @masks: adapters and domains that exist for it, NULL: all that there are
 * @read: copy @len bytes at logical address @addr to @dst; 0 or -EFAULT
 * @write: copy @len bytes at @src to logical address @addr; 0 or -EFAULT
 *
 * The callbacks are invoked with ap_sim_lock held, so they must not fault.
 */
struct ap_sim_cpu {
	unsigned long *gprs;
	int cc;
	const struct ap_config_info *masks;
	int (*read)(struct ap_sim_cpu *cpu, void *dst, unsigned long addr,
		    size_t len);
	int (*write)(struct ap_sim_cpu *cpu, unsigned long addr,
		     const void *src, size_t len);
};

/* main.c */
extern raw_spinlock_t ap_sim_lock;
extern struct mutex ap_sim_mutex;
extern u64 ap_sim_counts[AP_SIM_NR_COUNTS];
extern u32 ap_sim_latency_us;
extern u32 ap_sim_reset_polls;
extern u32 ap_sim_aqic_polls;
extern u32 ap_sim_segment;

/* params.c */
int ap_sim_parse_card(char *str, struct ap_sim_spec *spec);
int ap_sim_parse_cards(void);
int ap_sim_parse_domains(void);
int ap_sim_parse_apqn(const char *str, u8 *apid, u8 *domain);
int ap_sim_parse_insn(const char *str);
const char *ap_sim_count_name(enum ap_sim_count nr);

/* topology.c */
extern struct ap_sim_card *ap_sim_cards[AP_SIM_MAX_CARDS];
extern unsigned long ap_sim_domains[BITS_TO_LONGS(AP_SIM_MAX_DOMAINS)];
extern unsigned long ap_sim_cdomains[BITS_TO_LONGS(AP_SIM_MAX_DOMAINS)];
struct ap_sim_queue *ap_sim_queue_find(u8 apid, u8 domain);
int ap_sim_card_add(const struct ap_sim_spec *spec);
int ap_sim_card_del(u8 apid);
int ap_sim_domain_add(u8 domain);
int ap_sim_domain_del(u8 domain);
int ap_sim_cdomain_add(u8 domain);
int ap_sim_cdomain_del(u8 domain);
int ap_sim_card_config(u8 apid, bool on);
int ap_sim_card_checkstop(u8 apid, bool on);
void ap_sim_topology_clear(void);
void ap_sim_counts_clear(void);
void ap_sim_qci(struct ap_config_info *info);
u64 ap_sim_tapq_info(const struct ap_sim_card *card, bool tbit);
void ap_sim_topology_show(struct seq_file *m);

/* queue.c */
extern struct ap_sim_force ap_sim_force_all[AP_SIM_NR_QINSN];
extern bool ap_sim_swallow_all;
struct ap_sim_queue *ap_sim_queue_alloc(struct ap_sim_card *card, u8 domain);
void ap_sim_queue_free(struct ap_sim_queue *q);
void ap_sim_queue_flush(struct ap_sim_queue *q);
void ap_sim_queue_count(struct ap_sim_queue *q, enum ap_sim_count nr, u64 n);
u32 ap_sim_max_message(const struct ap_sim_queue *q);
struct ap_queue_status ap_sim_queue_status(struct ap_sim_queue *q, u8 rc);
bool ap_sim_queue_refuses(struct ap_sim_queue *q, enum ap_sim_count insn,
			  struct ap_queue_status *status);
struct ap_queue_status ap_sim_queue_reset(struct ap_sim_queue *q);
struct ap_queue_status ap_sim_queue_aqic(struct ap_sim_queue *q,
					 union ap_qirq_ctrl ctrl, u64 nib);
void ap_sim_queue_set_latency(struct ap_sim_queue *q, u32 usec);
void ap_sim_queue_submit(struct ap_sim_queue *q, u64 psmid);
struct ap_sim_reply *ap_sim_queue_oldest(struct ap_sim_queue *q);
void ap_sim_queue_remove_oldest(struct ap_sim_queue *q);
void ap_sim_queue_show(struct seq_file *m, struct ap_sim_queue *q);

/* reply.c */
void ap_sim_reply_build(const struct ap_sim_queue *q, const u8 *req,
			u32 req_len, struct ap_sim_reply *reply);
void ap_sim_reply_bytes(const struct ap_sim_reply *reply, u32 pos, u8 *dst,
			u32 len);

/* insn.c */
bool ap_sim_is_ap(u32 insn);
int ap_sim_execute(struct ap_sim_cpu *cpu, u32 insn);
int ap_sim_insn_init(void);
void ap_sim_insn_exit(void);

/* irq.c */
bool ap_sim_absolute_ok(u64 addr, size_t len);
void ap_sim_irq_notify(struct ap_sim_queue *q);
void ap_sim_irq_set_gib(u32 origin);
void ap_sim_irq_exit(void);

/* kvm.c */
int ap_sim_kvm_init(void);
void ap_sim_kvm_exit(void);

/* sie.c */
int ap_sim_sie_init(void);
void ap_sim_sie_exit(void);

/* debugfs.c */
void ap_sim_debugfs_init(void);
void ap_sim_debugfs_exit(void);

#endif /* AP_SIM_H */
