// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: what the cards answer
 *
 * A CCA coprocessor generates random numbers (which are not random: do not use
 * them for anything but tests). Every other request is answered with a
 * well-formed message which says that the card does not offer the service.
 *
 * There is one request that no real card knows: of type 0x60, to which every
 * card replies with the request itself, so that a guest can tell whether this
 * is the reply to that request. What differs is byte 1, the type, which is 0xe0,
 * and bytes 2 and 3, which are the number of the queue as the card knows it.
 */

#include <linux/build_bug.h>
#include <linux/string.h>
#include <linux/unaligned.h>

#include <asm/zcrypt.h>

#include "ap_sim.h"

#define AP_SIM_TYPE6		0x06	/* request to a coprocessor */
#define AP_SIM_TYPE50		0x50	/* request to an accelerator */
#define AP_SIM_TYPE60		0x60	/* request for an echo */
#define AP_SIM_TYPE82		0x82	/* error reply */
#define AP_SIM_TYPE86		0x86	/* reply of a coprocessor */
#define AP_SIM_TYPE88		0x88	/* error reply of an accelerator */
#define AP_SIM_TYPEE0		0xe0	/* echo */

#define AP_SIM_REPLY_MESSAGE_TYPE	0x20
#define AP_SIM_REPLY_MESSAGE_LENGTH	0x23
#define AP_SIM_REPLY_OPERAND		0x84

/* CCA return and reason code: the service is not available */
#define AP_SIM_CCA_RTCODE		8
#define AP_SIM_CCA_RSCODE		66
/* EP11 (PKCS #11) return value: the function is not supported */
#define AP_SIM_EP11_NOT_SUPPORTED	0x54

#define AP_SIM_MAX_RANDOM		8192

/**
 * struct ap_sim_error_hdr - type 82 and type 88 reply
 * @reserved1: zero
 * @type: 0x82 or 0x88
 * @reserved2: zero
 * @reply_code: what is wrong
 * @reserved3: zero
 */
struct ap_sim_error_hdr {
	u8 reserved1;
	u8 type;
	u8 reserved2[2];
	u8 reply_code;
	u8 reserved3[3];
} __packed;

/**
 * struct ap_sim_type6_hdr - header of a request to a coprocessor
 * @reserved1: zero
 * @type: 0x06
 * @reserved2: zero
 * @offset: offsets of up to four blocks; the first one is the CPRB
 * @agent_id: whom the request is for
 * @rqid: request identification
 * @reserved3: zero
 * @function_code: service, first two bytes of the parameter block
 * @reserved4: zero
 * @tocard: lengths of the blocks
 * @fromcard: room for the blocks of the reply
 */
struct ap_sim_type6_hdr {
	u8 reserved1;
	u8 type;
	u8 reserved2[14];
	u32 offset[4];
	u8 agent_id[16];
	u8 rqid[2];
	u8 reserved3[2];
	u8 function_code[2];
	u8 reserved4[2];
	u32 tocard[4];
	u32 fromcard[4];
} __packed;

/**
 * struct ap_sim_type86_hdr - header of a coprocessor's reply
 * @reserved1: zero
 * @type: 0x86
 * @format: 2
 * @reserved2: zero
 * @reply_code: zero
 * @reserved3: zero
 * @apfs: status, zero
 * @block: length and offset of up to four blocks; the first one is the CPRB
 */
struct ap_sim_type86_hdr {
	u8 reserved1;
	u8 type;
	u8 format;
	u8 reserved2;
	u8 reply_code;
	u8 reserved3[7];
	u32 apfs;
	struct {
		u32 count;
		u32 offset;
	} block[4];
} __packed;

/**
 * struct ap_sim_cca_reply - reply of a CCA coprocessor
 * @hdr: header
 * @cprb: connectivity programming request block
 * @function_code: that of the request
 * @rule_len: length of an empty rule array
 * @vud_len: length of empty verb-unique data
 * @pad: up to a word boundary
 */
struct ap_sim_cca_reply {
	struct ap_sim_type86_hdr hdr;
	struct CPRBX cprb;
	u8 function_code[2];
	u16 rule_len;
	u16 vud_len;
	u8 pad[2];
} __packed;

/**
 * struct ap_sim_ep11_reply - reply of an EP11 coprocessor
 * @hdr: header
 * @cprb: connectivity programming request block
 * @payload: ASN.1 sequence of function, domain and return value
 */
struct ap_sim_ep11_reply {
	struct ap_sim_type86_hdr hdr;
	struct ep11_cprb cprb;
	u8 payload[20];
} __packed;

static_assert(sizeof(struct ap_sim_type6_hdr) == 0x58);
static_assert(sizeof(struct ap_sim_type86_hdr) == 48);
static_assert(sizeof(struct ap_sim_type6_hdr) + sizeof(struct CPRBX) <=
	      AP_SIM_REQ_HEAD);
static_assert(sizeof(struct ap_sim_type6_hdr) + sizeof(struct ep11_cprb) + 8 <=
	      AP_SIM_REQ_HEAD);
static_assert(sizeof(struct ap_sim_cca_reply) <= AP_SIM_REPLY_HEAD);
static_assert(sizeof(struct ap_sim_ep11_reply) <= AP_SIM_REPLY_HEAD);

/* splitmix64: any part of the stream without computing what is in front */
static u64 ap_sim_mix(u64 x)
{
	x += 0x9e3779b97f4a7c15UL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9UL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebUL;

	return x ^ (x >> 31);
}

/**
 * ap_sim_reply_bytes() - get a part of a reply
 * @reply: the reply
 * @pos: first byte to get
 * @dst: where to
 * @len: number of bytes, which the reply has from @pos on
 */
void ap_sim_reply_bytes(const struct ap_sim_reply *reply, u32 pos, u8 *dst,
			u32 len)
{
	u32 i, random;

	for (i = 0; i < len; i++, pos++) {
		if (pos < reply->head_len) {
			dst[i] = reply->head[pos];
			continue;
		}
		random = pos - reply->head_len;
		dst[i] = ap_sim_mix(reply->seed + random / 8) >> random % 8 * 8;
	}
}

static void ap_sim_reply_error(struct ap_sim_reply *reply, u8 type, u8 code)
{
	struct ap_sim_error_hdr *err = (void *)reply->head;

	memset(err, 0, sizeof(*err));
	err->type = type;
	err->reply_code = code;
	reply->head_len = sizeof(*err);
	reply->len = sizeof(*err);
}

static void ap_sim_reply_echo(const struct ap_sim_queue *q, const u8 *req,
			      u32 req_len, struct ap_sim_reply *reply)
{
	reply->len = min_t(u32, req_len, AP_SIM_REPLY_HEAD);
	reply->head_len = reply->len;
	memcpy(reply->head, req, reply->len);
	reply->head[1] = AP_SIM_TYPEE0;
	reply->head[2] = q->card->spec.apid;
	reply->head[3] = q->domain;
}

static void ap_sim_type86(struct ap_sim_type86_hdr *hdr, u32 count)
{
	hdr->type = AP_SIM_TYPE86;
	hdr->format = 2;
	hdr->block[0].count = count;
	hdr->block[0].offset = sizeof(*hdr);
}

static void ap_sim_reply_cca(const struct ap_sim_type6_hdr *req,
			     struct ap_sim_reply *reply)
{
	struct ap_sim_cca_reply *rep = (void *)reply->head;
	u32 random;

	memset(rep, 0, sizeof(*rep));
	memcpy(&rep->cprb, req + 1, sizeof(rep->cprb));
	memcpy(rep->function_code, req->function_code,
	       sizeof(rep->function_code));
	rep->rule_len = sizeof(rep->rule_len);
	rep->vud_len = sizeof(rep->vud_len);
	rep->cprb.cprb_ver_id = 2;
	rep->cprb.ccp_rtcode = 0;
	rep->cprb.ccp_rscode = 0;
	rep->cprb.rpld_parml = sizeof(*rep) -
			       offsetof(struct ap_sim_cca_reply, function_code);
	rep->cprb.rpld_datal = 0;
	ap_sim_type86(&rep->hdr, sizeof(*rep) - sizeof(rep->hdr));
	reply->head_len = sizeof(*rep);
	reply->len = sizeof(*rep);

	if (memcmp(req->function_code, "RL", 2)) {
		rep->cprb.ccp_rtcode = AP_SIM_CCA_RTCODE;
		rep->cprb.ccp_rscode = AP_SIM_CCA_RSCODE;
		return;
	}

	random = min_t(u32, req->fromcard[1], AP_SIM_MAX_RANDOM);
	rep->cprb.rpld_datal = random;
	rep->hdr.block[1].count = random;
	rep->hdr.block[1].offset = sizeof(*rep);
	reply->len += random;
}

static void ap_sim_reply_ep11(const struct ap_sim_type6_hdr *req, u8 domain,
			      struct ap_sim_reply *reply)
{
	const struct ep11_cprb *cprb = (const void *)(req + 1);
	struct ap_sim_ep11_reply *rep = (void *)reply->head;
	const u8 *payload = (const u8 *)(cprb + 1);
	u8 *pos = rep->payload;
	u32 function = 0;

	/* a sequence that begins with the function */
	if (cprb->payload_len >= 8 && payload[0] == 0x30 &&
	    payload[2] == 0x04 && payload[3] == 4)
		function = get_unaligned_be32(payload + 4);

	memset(rep, 0, sizeof(*rep));
	rep->cprb = *cprb;
	rep->cprb.cprb_ver_id = 4;
	rep->cprb.ret_code = 0;
	rep->cprb.payload_len = sizeof(rep->payload);

	*pos++ = 0x30;
	*pos++ = sizeof(rep->payload) - 2;
	*pos++ = 0x04;
	*pos++ = 4;
	put_unaligned_be32(function, pos);
	pos += 4;
	*pos++ = 0x04;
	*pos++ = 4;
	put_unaligned_be32(domain, pos);
	pos += 4;
	*pos++ = 0x04;
	*pos++ = 4;
	put_unaligned_be32(AP_SIM_EP11_NOT_SUPPORTED, pos);

	ap_sim_type86(&rep->hdr, sizeof(*rep) - sizeof(rep->hdr));
	reply->head_len = sizeof(*rep);
	reply->len = sizeof(*rep);
}

/**
 * ap_sim_reply_build() - answer a request
 * @q: the queue that it went to
 * @req: the request, of which only the first AP_SIM_REQ_HEAD bytes are there
 * @req_len: length of the request
 * @reply: receives the reply
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_reply_build(const struct ap_sim_queue *q, const u8 *req,
			u32 req_len, struct ap_sim_reply *reply)
{
	const struct ap_sim_type6_hdr *hdr = (const void *)req;
	static u64 nr_replies;
	u32 min_len;

	reply->seed = ap_sim_mix(ap_sim_mix(nr_replies++) ^ ktime_get_ns());

	if (req_len < sizeof(struct ap_sim_error_hdr)) {
		ap_sim_reply_error(reply, AP_SIM_TYPE82,
				   AP_SIM_REPLY_MESSAGE_LENGTH);
		return;
	}

	if (hdr->type == AP_SIM_TYPE60) {
		ap_sim_reply_echo(q, req, req_len, reply);
		return;
	}

	if ((q->card->spec.fac & AP_SIM_FAC_ACCEL) &&
	    hdr->type == AP_SIM_TYPE50) {
		ap_sim_reply_error(reply, AP_SIM_TYPE88, AP_SIM_REPLY_OPERAND);
		return;
	}

	if (!(q->card->spec.fac & (AP_SIM_FAC_CCA | AP_SIM_FAC_EP11)) ||
	    hdr->type != AP_SIM_TYPE6) {
		ap_sim_reply_error(reply, AP_SIM_TYPE82,
				   AP_SIM_REPLY_MESSAGE_TYPE);
		return;
	}

	if (q->card->spec.fac & AP_SIM_FAC_CCA)
		min_len = sizeof(*hdr) + sizeof(struct CPRBX);
	else
		min_len = sizeof(*hdr) + sizeof(struct ep11_cprb);
	if (req_len < min_len || hdr->offset[0] != sizeof(*hdr)) {
		ap_sim_reply_error(reply, AP_SIM_TYPE82,
				   AP_SIM_REPLY_MESSAGE_LENGTH);
		return;
	}

	if (q->card->spec.fac & AP_SIM_FAC_CCA)
		ap_sim_reply_cca(hdr, reply);
	else
		ap_sim_reply_ep11(hdr, q->domain, reply);
}
