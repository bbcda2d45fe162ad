/* SPDX-License-Identifier: GPL-2.0 */
/* Whole streams for tests of the vfio-ap migration; the driver writes them in parts. */

/* Bytes of a stream with @n adapters and without interrupts */
#define VFIO_AP_STREAM_BYTES(n)						\
	(VFIO_AP_STREAM_INITIAL_BYTES(n) + VFIO_AP_STREAM_END_BYTES)

/* Bytes of the longest of these streams */
#define VFIO_AP_STREAM_BUF_BYTES VFIO_AP_STREAM_BYTES(VFIO_AP_STREAM_MAX_ADAPTERS)

/**
 * vfio_ap_stream_encode - write a whole stream without interrupts
 * @image: a complete image
 * @buf: where to write; VFIO_AP_STREAM_BYTES(@image->nr)
 *
 * Return: the number of bytes written.
 */
static size_t vfio_ap_stream_encode(const struct vfio_ap_stream_image *image,
				    u8 *buf)
{
	u8 *p = buf + vfio_ap_stream_encode_initial(image, buf);

	return vfio_ap_stream_put_record(p, VFIO_AP_STREAM_END, 0) - buf;
}
