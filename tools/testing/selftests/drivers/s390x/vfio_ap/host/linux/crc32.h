/* SPDX-License-Identifier: GPL-2.0 */
/* What vfio_ap_stream.c needs of the kernel's header, for a user-space build. */
#ifndef SELFTEST_VFIO_AP_CRC32_H
#define SELFTEST_VFIO_AP_CRC32_H

#include <linux/types.h>
#include <stddef.h>

static inline u32 crc32_le(u32 crc, const void *data, size_t len)
{
	const u8 *p = data;
	unsigned int bit;

	while (len--) {
		crc ^= *p++;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return crc;
}

#endif
