# SPDX-License-Identifier: GPL-2.0
# The devices of an emulated host. QEMU is configured --without-default-devices.
CONFIG_S390_CCW_VIRTIO=y
CONFIG_VIRTIO_9P=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
