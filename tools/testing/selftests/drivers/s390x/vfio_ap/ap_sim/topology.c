// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: cards and domains
 */

#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ap_sim.h"

/* Changed under ap_sim_mutex and ap_sim_lock, so read under either. */
struct ap_sim_card *ap_sim_cards[AP_SIM_MAX_CARDS];
DECLARE_BITMAP(ap_sim_domains, AP_SIM_MAX_DOMAINS);
DECLARE_BITMAP(ap_sim_cdomains, AP_SIM_MAX_DOMAINS);

/**
 * ap_sim_queue_find() - find a queue
 * @apid: adapter number
 * @domain: domain number
 *
 * Context: under ap_sim_mutex or ap_sim_lock.
 *
 * Return: the queue, or NULL if the APQN is not in the configuration
 */
struct ap_sim_queue *ap_sim_queue_find(u8 apid, u8 domain)
{
	struct ap_sim_card *card = ap_sim_cards[apid];

	return card ? card->queue[domain] : NULL;
}

static void ap_sim_card_free(struct ap_sim_card *card)
{
	int domain;

	for (domain = 0; domain < AP_SIM_MAX_DOMAINS; domain++)
		ap_sim_queue_free(card->queue[domain]);
	kfree(card);
}

/**
 * ap_sim_card_add() - add a card with a queue for each usage domain
 * @spec: its description
 *
 * Return: 0, -EEXIST if the adapter number is taken, or -ENOMEM
 */
int ap_sim_card_add(const struct ap_sim_spec *spec)
{
	struct ap_sim_card *card;
	unsigned long domain;

	guard(mutex)(&ap_sim_mutex);

	if (ap_sim_cards[spec->apid])
		return -EEXIST;

	card = kzalloc_obj(*card);
	if (!card)
		return -ENOMEM;
	card->spec = *spec;

	for_each_set_bit(domain, ap_sim_domains, AP_SIM_MAX_DOMAINS) {
		card->queue[domain] = ap_sim_queue_alloc(card, domain);
		if (!card->queue[domain]) {
			ap_sim_card_free(card);
			return -ENOMEM;
		}
	}

	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
		ap_sim_cards[spec->apid] = card;

	return 0;
}

/**
 * ap_sim_card_del() - remove a card, its queues and all requests in them
 * @apid: adapter number
 *
 * Return: 0, or -ENOENT if there is no such card
 */
int ap_sim_card_del(u8 apid)
{
	struct ap_sim_card *card;

	guard(mutex)(&ap_sim_mutex);

	card = ap_sim_cards[apid];
	if (!card)
		return -ENOENT;

	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
		ap_sim_cards[apid] = NULL;
	ap_sim_card_free(card);

	return 0;
}

static void ap_sim_domain_remove_queues(u8 domain)
{
	struct ap_sim_queue *q;
	int apid;

	for (apid = 0; apid < AP_SIM_MAX_CARDS; apid++) {
		q = ap_sim_queue_find(apid, domain);
		if (!q)
			continue;
		scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
			ap_sim_cards[apid]->queue[domain] = NULL;
		ap_sim_queue_free(q);
	}
}

/**
 * ap_sim_domain_add() - add a usage domain to all cards
 * @domain: its number
 *
 * Return: 0, -EEXIST if it is there already, or -ENOMEM
 */
int ap_sim_domain_add(u8 domain)
{
	struct ap_sim_queue *q;
	int apid;

	guard(mutex)(&ap_sim_mutex);

	if (test_bit(domain, ap_sim_domains))
		return -EEXIST;

	for (apid = 0; apid < AP_SIM_MAX_CARDS; apid++) {
		if (!ap_sim_cards[apid])
			continue;
		q = ap_sim_queue_alloc(ap_sim_cards[apid], domain);
		if (!q) {
			ap_sim_domain_remove_queues(domain);
			return -ENOMEM;
		}
		scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
			ap_sim_cards[apid]->queue[domain] = q;
	}

	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
		__set_bit(domain, ap_sim_domains);

	return 0;
}

/**
 * ap_sim_domain_del() - remove a usage domain from all cards
 * @domain: its number
 *
 * Return: 0, or -ENOENT if it is not configured
 */
int ap_sim_domain_del(u8 domain)
{
	guard(mutex)(&ap_sim_mutex);

	if (!test_bit(domain, ap_sim_domains))
		return -ENOENT;

	scoped_guard(raw_spinlock_irqsave, &ap_sim_lock)
		__clear_bit(domain, ap_sim_domains);
	ap_sim_domain_remove_queues(domain);

	return 0;
}

/**
 * ap_sim_cdomain_add() - add a control domain
 * @domain: its number
 *
 * Return: 0, or -EEXIST if it is there already
 */
int ap_sim_cdomain_add(u8 domain)
{
	guard(mutex)(&ap_sim_mutex);
	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	return __test_and_set_bit(domain, ap_sim_cdomains) ? -EEXIST : 0;
}

/**
 * ap_sim_cdomain_del() - remove a control domain
 * @domain: its number
 *
 * Return: 0, or -ENOENT if it is not configured
 */
int ap_sim_cdomain_del(u8 domain)
{
	guard(mutex)(&ap_sim_mutex);
	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	return __test_and_clear_bit(domain, ap_sim_cdomains) ? 0 : -ENOENT;
}

static void ap_sim_card_flush(struct ap_sim_card *card)
{
	int domain;

	for (domain = 0; domain < AP_SIM_MAX_DOMAINS; domain++)
		if (card->queue[domain])
			ap_sim_queue_flush(card->queue[domain]);
}

/**
 * ap_sim_card_config() - configure or deconfigure a card
 * @apid: adapter number
 * @on: true: configure
 *
 * A card that goes to standby forgets requests and interruption control.
 *
 * Return: 0, or -ENOENT if there is no such card
 */
int ap_sim_card_config(u8 apid, bool on)
{
	struct ap_sim_card *card;

	guard(mutex)(&ap_sim_mutex);
	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	card = ap_sim_cards[apid];
	if (!card)
		return -ENOENT;
	card->decfg = !on;
	if (!on)
		ap_sim_card_flush(card);

	return 0;
}

/**
 * ap_sim_card_checkstop() - put a card into or out of the checkstop state
 * @apid: adapter number
 * @on: true: checkstopped
 *
 * Return: 0, or -ENOENT if there is no such card
 */
int ap_sim_card_checkstop(u8 apid, bool on)
{
	struct ap_sim_card *card;

	guard(mutex)(&ap_sim_mutex);
	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	card = ap_sim_cards[apid];
	if (!card)
		return -ENOENT;
	card->chkstop = on;
	if (on)
		ap_sim_card_flush(card);

	return 0;
}

/**
 * ap_sim_topology_clear() - remove all cards
 */
void ap_sim_topology_clear(void)
{
	int apid;

	for (apid = 0; apid < AP_SIM_MAX_CARDS; apid++)
		ap_sim_card_del(apid);
}

/**
 * ap_sim_counts_clear() - reset all counters
 */
void ap_sim_counts_clear(void)
{
	struct ap_sim_queue *q;
	int i, j;

	guard(raw_spinlock_irqsave)(&ap_sim_lock);

	memset(ap_sim_counts, 0, sizeof(ap_sim_counts));
	for (i = 0; i < AP_SIM_MAX_CARDS; i++)
		for (j = 0; j < AP_SIM_MAX_DOMAINS; j++) {
			q = ap_sim_queue_find(i, j);
			if (q)
				memset(q->counts, 0, sizeof(q->counts));
		}
}

static void ap_sim_set_mask_bit(unsigned int *mask, unsigned int nr)
{
	mask[nr / 32] |= 0x80000000U >> (nr % 32);
}

/**
 * ap_sim_qci() - the AP configuration as PQAP(QCI) tells it
 * @info: receives the configuration
 *
 * Context: under ap_sim_lock.
 */
void ap_sim_qci(struct ap_config_info *info)
{
	unsigned long domain;
	int apid;

	memset(info, 0, sizeof(*info));
	info->apsc = 1;
	info->apxa = 1;
	info->qact = 1;
	info->na = AP_SIM_MAX_CARDS - 1;
	info->nd = AP_SIM_MAX_DOMAINS - 1;

	for (apid = 0; apid < AP_SIM_MAX_CARDS; apid++)
		if (ap_sim_cards[apid])
			ap_sim_set_mask_bit(info->apm, apid);
	for_each_set_bit(domain, ap_sim_domains, AP_SIM_MAX_DOMAINS)
		ap_sim_set_mask_bit(info->aqm, domain);
	for_each_set_bit(domain, ap_sim_cdomains, AP_SIM_MAX_DOMAINS)
		ap_sim_set_mask_bit(info->adm, domain);
}

/**
 * ap_sim_tapq_info() - what TAPQ tells about a card in general register 2
 * @card: the card
 * @tbit: facilities are wanted
 *
 * Return: the register's value
 */
u64 ap_sim_tapq_info(const struct ap_sim_card *card, bool tbit)
{
	struct ap_tapq_hwinfo info = { .value = 0 };

	if (tbit) {
		info.fac = card->spec.fac;
		info.nd = card->spec.nd;
		info.ml = card->spec.ml;
	}
	info.at = card->spec.at;
	info.qd = card->spec.qd;

	return info.value;
}

static void ap_sim_show_domains(struct seq_file *m, const char *name,
				const unsigned long *mask)
{
	unsigned long domain;
	char sep = ' ';

	seq_puts(m, name);
	for_each_set_bit(domain, mask, AP_SIM_MAX_DOMAINS) {
		seq_printf(m, "%c%02lx", sep, domain);
		sep = ',';
	}
	seq_putc(m, '\n');
}

/**
 * ap_sim_topology_show() - list cards and domains
 * @m: where to
 */
void ap_sim_topology_show(struct seq_file *m)
{
	const struct ap_sim_card *card;
	int apid;

	guard(mutex)(&ap_sim_mutex);

	for (apid = 0; apid < AP_SIM_MAX_CARDS; apid++) {
		card = ap_sim_cards[apid];
		if (!card)
			continue;
		seq_printf(m,
			   "card %02x at=%u fac=%08x nd=%u ml=%u qd=%u config=%d checkstop=%d\n",
			   apid, card->spec.at, card->spec.fac, card->spec.nd,
			   card->spec.ml, card->spec.qd, !card->decfg,
			   card->chkstop);
	}
	ap_sim_show_domains(m, "domains", ap_sim_domains);
	ap_sim_show_domains(m, "cdomains", ap_sim_cdomains);
}
