# SPDX-License-Identifier: GPL-2.0
# The devices of a guest in an emulated host. QEMU is configured --without-default-devices.
CONFIG_S390_CCW_VIRTIO=y
CONFIG_IOMMUFD=y
CONFIG_VFIO_AP=y
# container.c and iommufd.c call functions of pci.c.
CONFIG_VFIO_PCI=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SERIAL=y
