/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Meaning of the fuzzer's bytes: cuts of the stream into chunks, differences of
 * the local image, how to make a large stream of a small one, and the stream.
 *
 *	u8 chunks, then that many chunk sizes, used in turn; none: all at once
 *	u8 edits, then that many edits of 4 bytes each, see struct edit
 *	u8 expand: enum expand
 *	the stream
 */
#ifndef LAB_FUZZ_INPUT_H
#define LAB_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

#define MAX_CHUNKS	15
#define MAX_EDITS	7
#define EDIT_BYTES	4

/*
 * Limits of the format lie at 64 KiB and 4 MiB. Streams that long are made, not
 * found: records of unknown, optional types between the header and the rest.
 */
enum expand {
	EXPAND_NONE	= 0,
	EXPAND_64K	= 0xf0,	/* optional payloads of 64 KiB, as many as may be */
	EXPAND_68K	= 0xf1,	/* one more */
	EXPAND_4M	= 0xff,	/* empty optional records of 4 MiB */
};

struct input {
	unsigned int nr_chunks;
	const uint8_t *chunks;
	unsigned int nr_edits;
	const uint8_t *edits;
	unsigned int expand;
	const uint8_t *stream;
	size_t len;
};

/* Returns 0, or -1 if there are not enough bytes. */
static inline int input_parse(struct input *in, const uint8_t *data, size_t size)
{
	size_t at = 0;

	if (size < 3)
		return -1;
	in->nr_chunks = data[at++] % (MAX_CHUNKS + 1);
	in->chunks = data + at;
	at += in->nr_chunks;
	if (size < at + 2)
		return -1;
	in->nr_edits = data[at++] % (MAX_EDITS + 1);
	in->edits = data + at;
	at += in->nr_edits * EDIT_BYTES;
	if (size < at + 1)
		return -1;
	in->expand = data[at++];
	in->stream = data + at;
	in->len = size - at;
	return 0;
}

/* Where the END record begins if it is where it belongs, otherwise 0. */
size_t input_end(const uint8_t *stream, size_t len);

#endif
