/* SPDX-License-Identifier: GPL-2.0 */
/* Whole streams for tests of the vfio-ap migration; the driver writes them in parts. */

/* Bytes of the longest of these streams */
#define VFIO_AP_STREAM_BUF_BYTES VFIO_AP_STREAM_BYTES(VFIO_AP_STREAM_MAX_ADAPTERS)

/**
 * vfio_ap_stream_encode - write a whole stream with one pair, without interrupts
 * @image: a complete image
 * @buf: where to write
 * @size: bytes of @buf
 *
 * Return: the bytes written, VFIO_AP_STREAM_BYTES(@image->nr), or 0 if that is
 * more than @size.
 */
static size_t vfio_ap_stream_encode(const struct vfio_ap_stream_image *image,
				    u8 *buf, size_t size)
{
	size_t len = VFIO_AP_STREAM_BYTES(image->nr);
	size_t before = len - VFIO_AP_STREAM_END_BYTES;

	if (size < len)
		return 0;

	vfio_ap_stream_encode_header(buf);
	vfio_ap_stream_encode_pair(image, buf + VFIO_AP_STREAM_HEADER_BYTES);
	vfio_ap_stream_encode_end(VFIO_AP_STREAM_PAIR_RECORDS,
				  vfio_ap_stream_crc(VFIO_AP_STREAM_CRC_INIT,
						     buf, before),
				  buf + before);

	return len;
}
