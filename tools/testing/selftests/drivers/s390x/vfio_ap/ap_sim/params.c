// SPDX-License-Identifier: GPL-2.0
/*
 * AP simulator: what users write, as module parameters or into debugfs
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/ctype.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "ap_sim.h"

static char *cards = "05:14c,06:14p";
module_param(cards, charp, 0444);
MODULE_PARM_DESC(cards,
		 "Cards APID:TYPE{c|p|a}[:fac=|:qd=|:ml=|:nd=]... (default 05:14c,06:14p)");

static char *domains = "04,06";
module_param(domains, charp, 0444);
MODULE_PARM_DESC(domains, "Usage domains, hexadecimal (default 04,06)");

static char *cdomains;
module_param(cdomains, charp, 0444);
MODULE_PARM_DESC(cdomains, "Control domains, hexadecimal (default as domains)");

static const char * const ap_sim_names[AP_SIM_NR_COUNTS] = {
	[AP_SIM_TAPQ]		= "tapq",
	[AP_SIM_RAPQ]		= "rapq",
	[AP_SIM_ZAPQ]		= "zapq",
	[AP_SIM_AQIC]		= "aqic",
	[AP_SIM_QACT]		= "qact",
	[AP_SIM_NQAP]		= "nqap",
	[AP_SIM_DQAP]		= "dqap",
	[AP_SIM_QCI]		= "qci",
	[AP_SIM_REPLIES]	= "answered",
	[AP_SIM_DISCARDED]	= "discarded",
	[AP_SIM_HOST_IRQS]	= "host_irqs",
	[AP_SIM_GUEST_IRQS]	= "guest_irqs",
	[AP_SIM_IRQ_OFF]	= "irq_off",
	[AP_SIM_IRQ_OFF_BUSY]	= "irq_off_busy",
	[AP_SIM_SWALLOWED]	= "swallowed",
	[AP_SIM_GIB_ALERTS]	= "gib_alerts",
	[AP_SIM_EXCEPTIONS]	= "exceptions",
	[AP_SIM_UNKNOWN]	= "unknown",
};

/**
 * ap_sim_count_name() - name of a counter
 * @nr: the counter
 *
 * Return: the name
 */
const char *ap_sim_count_name(enum ap_sim_count nr)
{
	return ap_sim_names[nr];
}

/**
 * ap_sim_parse_insn() - find the instruction of a name
 * @str: name of a PQAP function, nqap or dqap
 *
 * Return: the &enum ap_sim_count below AP_SIM_NR_QINSN, or -EINVAL
 */
int ap_sim_parse_insn(const char *str)
{
	return match_string(ap_sim_names, AP_SIM_NR_QINSN, str);
}

/**
 * ap_sim_parse_apqn() - read an APQN such as 05.0004
 * @str: the string
 * @apid: receives the adapter number
 * @domain: receives the domain number
 *
 * Return: 0, or -EINVAL
 */
int ap_sim_parse_apqn(const char *str, u8 *apid, u8 *domain)
{
	char buf[8];
	char *dot;

	if (strscpy(buf, str) < 0)
		return -EINVAL;
	dot = strchr(buf, '.');
	if (!dot)
		return -EINVAL;
	*dot++ = '\0';
	if (kstrtou8(buf, 16, apid) || kstrtou8(dot, 16, domain))
		return -EINVAL;

	return 0;
}

/* TYPE{c|p|a}: AP type in decimal digits, then the mode */
static int ap_sim_parse_type(char *str, struct ap_sim_spec *spec)
{
	size_t len = strlen(str);
	char mode;
	int rc;

	if (len < 2)
		return -EINVAL;
	mode = str[len - 1];
	str[len - 1] = '\0';
	rc = kstrtou8(str, 10, &spec->at);
	if (rc)
		return rc;

	/* As cards of these modes present themselves. */
	switch (mode) {
	case 'c':
		spec->fac = AP_SIM_FAC_APSC | AP_SIM_FAC_CCA | AP_SIM_FAC_APXA;
		return 0;
	case 'p':
		spec->fac = AP_SIM_FAC_APSC | AP_SIM_FAC_EP11 | AP_SIM_FAC_APXA;
		return 0;
	case 'a':
		spec->fac = AP_SIM_FAC_MEX4K | AP_SIM_FAC_CRT4K |
			    AP_SIM_FAC_ACCEL | AP_SIM_FAC_APXA;
		return 0;
	default:
		return -EINVAL;
	}
}

static int ap_sim_parse_key(char *str, struct ap_sim_spec *spec)
{
	char *key = strsep(&str, "=");

	if (!str)
		return -EINVAL;
	if (!strcmp(key, "fac"))
		return kstrtou32(str, 0, &spec->fac);
	if (!strcmp(key, "nd"))
		return kstrtou8(str, 0, &spec->nd);
	if (!strcmp(key, "ml"))
		return kstrtou8(str, 0, &spec->ml) ?: spec->ml > 15 ? -ERANGE : 0;
	if (!strcmp(key, "qd"))
		return kstrtou8(str, 0, &spec->qd) ?:
			spec->qd >= AP_SIM_MAX_DEPTH ? -ERANGE : 0;

	return -EINVAL;
}

/**
 * ap_sim_parse_card() - read the description of a card
 * @str: APID:TYPE{c|p|a}[:key=value]..., destroyed
 * @spec: receives the description
 *
 * APID is hexadecimal, TYPE decimal (10 to 14: CEX4 to CEX8), the mode one of
 * c (CCA coprocessor), p (EP11 coprocessor), a (accelerator). The key fac
 * replaces the facility word that follows from the mode; qd, ml and nd are
 * the fields of that name in the TAPQ information.
 *
 * Return: 0, -EINVAL for anything malformed, -ERANGE for a number too large
 */
int ap_sim_parse_card(char *str, struct ap_sim_spec *spec)
{
	char *word;
	int rc;

	*spec = (struct ap_sim_spec) { .nd = 84, .ml = 3, .qd = 7 };

	word = strsep(&str, ":");
	if (!str)
		return -EINVAL;
	rc = kstrtou8(word, 16, &spec->apid);
	if (!rc)
		rc = ap_sim_parse_type(strsep(&str, ":"), spec);
	while (!rc && str)
		rc = ap_sim_parse_key(strsep(&str, ":"), spec);

	return rc;
}

/**
 * ap_sim_parse_cards() - add the cards of the module parameter
 *
 * Return: 0, or the error of the first card that cannot be added
 */
int __init ap_sim_parse_cards(void)
{
	struct ap_sim_spec spec;
	char *copy, *pos, *word;
	int rc = 0;

	copy = kstrdup(cards, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;

	pos = strim(copy);
	while (!rc && pos && *pos) {
		word = strsep(&pos, ",");
		rc = ap_sim_parse_card(word, &spec);
		if (!rc)
			rc = ap_sim_card_add(&spec);
		if (rc)
			pr_err("cards: error %d at \"%s\"\n", rc,
			       cards + (word - copy));
	}

	kfree(copy);
	return rc;
}

static int __init ap_sim_parse_list(const char *name, const char *list,
				    int (*add)(u8 domain))
{
	char *copy, *pos, *word;
	int rc = 0;
	u8 domain;

	copy = kstrdup(list, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;

	pos = strim(copy);
	while (!rc && pos && *pos) {
		word = strsep(&pos, ",");
		rc = kstrtou8(word, 16, &domain);
		if (!rc)
			rc = add(domain);
		if (rc)
			pr_err("%s: error %d at \"%s\"\n", name, rc, word);
	}

	kfree(copy);
	return rc;
}

/**
 * ap_sim_parse_domains() - add the domains of the module parameters
 *
 * Return: 0, or the error of the first domain that cannot be added
 */
int __init ap_sim_parse_domains(void)
{
	int rc;

	rc = ap_sim_parse_list("domains", domains, ap_sim_domain_add);
	if (!rc)
		rc = ap_sim_parse_list("cdomains", cdomains ?: domains,
				       ap_sim_cdomain_add);

	return rc;
}
