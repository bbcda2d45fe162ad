// SPDX-License-Identifier: GPL-2.0
/*
 * Pages with notification indicator bytes: who pins them, who takes them away.
 *
 * The page is pinned without matrix_dev->mdevs_lock, as userspace decides how long
 * it takes to bring it into memory. Meanwhile the page may be unmapped, the device
 * closed, and other queues be told to interrupt. Claimed is:
 *
 *  - when dma_unmap() returns, no pin of the range is left, and none is on its way
 *    (type 1 asks again a few times and then runs into a BUG(); with -DTYPE1_REFUSES,
 *    where nothing is pinned in a range that is being unmapped, it asks once);
 *  - no pin is left of a device that was closed, and nobody looks at it again;
 *  - nobody waits for ever; and, with -DSTUCK, should a page never come into memory
 *    (it is filled by a process that does not answer), no other guest has to wait.
 *
 * All is about one page of one guest, with two queues. Functions are called as in
 * vfio_ap_ops.c (handle_pqap, vfio_ap_irq_enable, vfio_ap_irq_disable, vfio_ap_pin_nib,
 * vfio_ap_mdev_dma_unmap, vfio_ap_wait_for_pins, vfio_ap_mdev_close_device,
 * vfio_ap_mdev_unset_kvm), vfio_ap_irq.c (vfio_ap_irq_receive, vfio_ap_irq_hold) and
 * vfio_iommu_type1.c (vfio_dma_do_unmap, vfio_notify_dma_unmap,
 * vfio_iommu_type1_pin_pages, vfio_iommu_type1_unpin_pages,
 * vfio_iommu_type1_register_device).
 *
 * The claims do not hold for the driver in all that it does: it unpins under
 * matrix_dev->mdevs_lock, which is among the faults of lab/model.py, marked as the
 * driver's own. What is here is how it would have to change.
 *
 * A scenario is chosen with -DVCPUS=1 or 2, -DUNMAP, -DCLOSE, -DREMOVE, -DRESUME,
 * -DSECOND and -DNEIGHBOUR; a fault is put in with a -D, see lab/model.py.
 */

#ifndef VCPUS
#define VCPUS	2
#endif
/* How often a vCPU executes PQAP(AQIC) */
#ifndef ROUNDS
#define ROUNDS	2
#endif

/* One is enough for the vCPU that gets stuck. */
#ifdef STUCK
#define ROUNDS_OF(n)	(n -> ROUNDS : 1)
#else
#define ROUNDS_OF(n)	ROUNDS
#endif

#define NOBODY	255
#define PINNERS	3	/* the vCPUs, and the writer of a migration stream */
#define WRITER	2
#define WAITERS	2	/* dma_unmap() and close */
#define UNMAPPER	0
#define CLOSER	1

/* Locks, by their holder */
byte guests_lock = NOBODY;	/* matrix_dev->guests_lock */
byte kvm_lock = NOBODY;		/* kvm->lock */
byte mdevs_lock = NOBODY;	/* matrix_dev->mdevs_lock */
byte iommu_lock = NOBODY;	/* iommu->lock of type 1 */
byte list_lock = NOBODY;	/* iommu->device_list_lock */
byte hook_readers;		/* kvm->arch.crypto.pqap_hook_rwsem */
bool hook_writer;
bool hook_wanted;		/* a writer that waits keeps new readers out */

#define LOCK(l)		atomic { l == NOBODY -> l = _pid }
#define UNLOCK(l)	atomic { assert(l == _pid); l = NOBODY }
#define HELD(l)		assert(l == _pid)

/* type 1 */
bool mapped = true;		/* there is a vfio_dma with the page */
byte pins;			/* vpfn->ref_count of the page */
bool unmapping;			/* -DTYPE1_REFUSES: to pin it fails already */

/* The device */
bool device_open = true;	/* close_device() has not returned */
bool hooked = true;		/* kvm->arch.crypto.pqap_hook, and matrix_mdev->kvm */
bool quiet;			/* matrix_mdev->irq.quiet */
bool session;			/* the file of RESUMING is not disabled */
bool registered[2];		/* q->saved_isc is valid: the queue has a pin */

/* matrix_mdev->nib_pins and nib_wait */
bool pinning[PINNERS];
bool unmapped[PINNERS];		/* pin->unmapped */
bool woken[WAITERS];

byte to_drop;			/* pins that the worker has to drop */
#define IN_FLIGHT	(pinning[0] || pinning[1] || pinning[WRITER] || to_drop)

/* The result of vfio_ap_pin_nib(), for each of who calls it */
bool pinned[PINNERS];

bool stuck;			/* somebody waits for a page that never comes */
bool other_is_done;

/* vfio_unpin_pages() */
inline unpin()
{
	LOCK(iommu_lock);
	atomic { assert(mapped && pins > 0 && device_open); pins-- };
	UNLOCK(iommu_lock)
}

/*
 * What has to be unpinned under matrix_dev->mdevs_lock is left to a worker, as
 * iommu->lock may be held by who waits for userspace. Until it was done it counts
 * as a pin on its way.
 */
inline drop_pin()
{
	HELD(mdevs_lock);
#ifdef UNPIN_UNDER_THE_LOCK
	unpin()
#else
	to_drop++
#endif
}

inline forget(q)
{
	if
	:: registered[q] -> registered[q] = false; drop_pin()
	:: else
	fi
}

#define WAKE	woken[UNMAPPER] = true; woken[CLOSER] = true

active proctype worker()
{
end:	do
	:: to_drop > 0 ->
		unpin();
		LOCK(mdevs_lock);
		atomic { to_drop--; WAKE };
		UNLOCK(mdevs_lock)
	od
}

/* vfio_ap_pin_nib(): enter and leave with matrix_dev->mdevs_lock */
inline pin_nib(p)
{
	HELD(mdevs_lock);
	atomic { pinning[p] = true; unmapped[p] = false; pinned[p] = false };
#ifndef PIN_UNDER_THE_LOCK
	UNLOCK(mdevs_lock);
#endif
	/* vfio_iommu_type1_pin_pages() */
	LOCK(iommu_lock);
	if
	:: mapped && !unmapping ->
#ifdef STUCK
		if
		:: p == 0 -> stuck = true; false
		:: true
		fi;
#endif
		atomic { pins++; pinned[p] = true }
	:: else
	fi;
	UNLOCK(iommu_lock);
#ifndef PIN_UNDER_THE_LOCK
	LOCK(mdevs_lock);
#endif
	/* Whoever closes the device waits for us. */
	assert(device_open);
	if
	:: pinned[p] && unmapped[p] -> pinned[p] = false; drop_pin()
	:: else
	fi;
	/* list_del() and wake_up_all() */
	atomic { pinning[p] = false; WAKE }
}

inline down_read_hook()
{
	atomic { !hook_writer && !hook_wanted -> hook_readers++ }
}

inline down_write_hook()
{
	hook_wanted = true;
	atomic { hook_readers == 0 && !hook_writer -> hook_writer = true; hook_wanted = false }
}

/* handle_pqap() of a vCPU; each has a queue, for what that matters */
proctype vcpu(byte me)
{
	byte round;

	do
	:: round < ROUNDS_OF(me) ->
		round++;
		down_read_hook();
		LOCK(mdevs_lock);
		if
		:: !hooked || quiet		/* busy, or nobody is there */
		:: hooked && !quiet ->		/* vfio_ap_irq_disable() */
			forget(me)
		:: hooked && !quiet ->		/* vfio_ap_irq_enable() */
			pin_nib(me);
			/* vfio_ap_aqic_queue() again */
			if
			:: !pinned[me]
#ifndef QUIET_IS_ASKED_ONCE
			:: pinned[me] && quiet -> drop_pin()
			:: pinned[me] && !quiet ->
#else
			:: pinned[me] ->
#endif
				/* Nothing is executed for a device that stops. */
				assert(!quiet);
				/* The new registration, then what the old one had */
				if
				:: registered[me] -> drop_pin()
				:: else -> registered[me] = true
				fi
			fi
		fi;
		UNLOCK(mdevs_lock);
		hook_readers--
	:: else -> break
	od
}

inline drop_range()
{
	forget(0);
	forget(1)
}



/* vfio_ap_nib_pin_in_range(): pins that will be dropped by who makes them */
inline mark_range()
{
#ifndef UNMAP_WITHOUT_MARK
	atomic {
		unmapped[0] = unmapped[0] || pinning[0];
		unmapped[1] = unmapped[1] || pinning[1];
		unmapped[WRITER] = unmapped[WRITER] || pinning[WRITER]
	}
#else
	skip
#endif
}

/* vfio_ap_mdev_dma_unmap() */
inline dma_unmap()
{
	LOCK(mdevs_lock);
	drop_range();
#ifndef UNMAP_WITHOUT_WAIT
	do
	:: woken[UNMAPPER] = false;
#ifndef UNMAP_LOOKS_ONCE
		/* What was registered while the lock was dropped */
		drop_range();
#endif
		mark_range();
		if
		:: IN_FLIGHT ->
			UNLOCK(mdevs_lock);
			woken[UNMAPPER];
			LOCK(mdevs_lock)
		:: else -> break
		fi
	od;
#endif
	assert(!registered[0] && !registered[1] && !IN_FLIGHT && pins == 0);
	UNLOCK(mdevs_lock)
}

/* vfio_dma_do_unmap(), and a new mapping at the same address */
proctype unmapper()
{
#ifdef TYPE1_REFUSES
	bool asked;
#endif
	LOCK(iommu_lock);
	do
	:: pins > 0 ->			/* vfio_notify_dma_unmap() */
#ifdef TYPE1_REFUSES
		/* Nobody pins anew, so it need not ask again. */
		assert(!asked);
		asked = true;
		unmapping = true;
#endif
#ifdef TYPE1_OLD_ORDER
		LOCK(list_lock);
		UNLOCK(iommu_lock);
#else
		UNLOCK(iommu_lock);
		LOCK(list_lock);
#endif
		if
		:: device_open -> dma_unmap()
		:: else
		fi;
		UNLOCK(list_lock);
		LOCK(iommu_lock)
	:: else -> break
	od;
	mapped = false;			/* vfio_remove_dma() */
	unmapping = false;
	UNLOCK(iommu_lock);

	LOCK(iommu_lock);
	mapped = true;
	UNLOCK(iommu_lock)
}

/* vfio_ap_wait_for_pins() */
inline wait_for_pins()
{
#ifndef CLOSE_WITHOUT_WAIT
	do
	:: woken[CLOSER] = false;
		if
		:: IN_FLIGHT ->
			UNLOCK(mdevs_lock);
			woken[CLOSER];
			LOCK(mdevs_lock)
		:: else -> break
		fi
	od
#else
	skip
#endif
}

/* vfio_ap_mdev_close_device() */
proctype closer()
{
	/* vfio_ap_migration_reset() */
	LOCK(mdevs_lock);
	session = false;
	quiet = true;			/* vfio_ap_irq_hold() */
	wait_for_pins();
#ifdef CLOSE_LIFTS_QUIET
	quiet = false;
#endif
	UNLOCK(mdevs_lock);

	/* vfio_ap_mdev_unset_kvm() */
	LOCK(guests_lock);
	LOCK(kvm_lock);
	down_write_hook();
	LOCK(mdevs_lock);
	hooked = false;
	quiet = false;
	forget(0);			/* vfio_ap_mdev_reset_queues() */
	forget(1);
	UNLOCK(mdevs_lock);
	hook_writer = false;
	UNLOCK(kvm_lock);
	UNLOCK(guests_lock);

#ifndef UNPIN_UNDER_THE_LOCK
	LOCK(mdevs_lock);
	wait_for_pins();
	UNLOCK(mdevs_lock);
#endif
	atomic {
		device_open = false;
		assert(pins == 0 && !registered[0] && !registered[1]);
		assert(!pinning[0] && !pinning[1] && !pinning[WRITER])
	};
	/* vfio_iommu_type1_unregister_device() */
	LOCK(list_lock);
	LOCK(iommu_lock);
	UNLOCK(iommu_lock);
	UNLOCK(list_lock)
}

/* vfio_ap_irq_receive(): write() of the end of a stream with two rows */
proctype writer()
{
	byte row;
	bool failed;

	LOCK(mdevs_lock);
	do
	:: session && row < 2 && !failed ->
		pin_nib(WRITER);
		if
		:: !pinned[WRITER] -> failed = true
		:: pinned[WRITER] && !session -> failed = true; drop_pin()
		:: pinned[WRITER] && session -> registered[row] = true
		fi;
		row++
	:: else -> break
	od;
	if
	:: failed && device_open ->	/* vfio_ap_irq_forget() */
		forget(0);
		forget(1)
	:: else
	fi;
	UNLOCK(mdevs_lock)
}

/* The host takes a card away: vfio_ap_mdev_remove_queue() */
proctype remover()
{
	LOCK(guests_lock);
	LOCK(kvm_lock);
	LOCK(mdevs_lock);
	forget(1);
	UNLOCK(mdevs_lock);
	UNLOCK(kvm_lock);
	UNLOCK(guests_lock)
}

/* Another device is opened with the same KVM: vfio_ap_mdev_set_kvm() refuses */
proctype second()
{
	LOCK(guests_lock);
	if
#ifndef SECOND_WAITS_FOR_THE_HOOK
	/* Who writes it holds guests_lock, so that is enough to look at it. */
	:: hooked
	:: !hooked ->
#else
	:: true ->
#endif
		LOCK(kvm_lock);
		down_write_hook();
		hook_writer = false;
		UNLOCK(kvm_lock)
	fi;
	UNLOCK(guests_lock)
}

/* Another device of the container: vfio_iommu_type1_register_device(), or its opposite */
proctype neighbour()
{
#ifdef TYPE1_OLD_ORDER
	LOCK(iommu_lock);
	LOCK(list_lock);
	UNLOCK(list_lock);
	UNLOCK(iommu_lock)
#else
	LOCK(list_lock);
	LOCK(iommu_lock);
	UNLOCK(iommu_lock);
	UNLOCK(list_lock)
#endif
}

/* Another guest: a vCPU of it, and a change of its state */
proctype other()
{
	LOCK(mdevs_lock);
	UNLOCK(mdevs_lock);
	LOCK(guests_lock);
	LOCK(mdevs_lock);
	UNLOCK(mdevs_lock);
	UNLOCK(guests_lock);
	other_is_done = true
}

/* When nobody can do anything any more, the other guest has had its way. */
proctype watch()
{
	timeout -> assert(other_is_done)
}

init
{
	atomic {
#ifdef RESUME
		session = true;
		quiet = true;
		run writer();
#endif
		run vcpu(0);
#if VCPUS > 1
		run vcpu(1);
#endif
#ifdef UNMAP
		run unmapper();
#endif
#ifdef CLOSE
		run closer();
#endif
#ifdef REMOVE
		run remover();
#endif
#ifdef SECOND
		run second();
#endif
#ifdef NEIGHBOUR
		run neighbour();
#endif
#ifdef STUCK
		run other();
		run watch()
#endif
	}
}
