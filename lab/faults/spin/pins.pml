// SPDX-License-Identifier: GPL-2.0
/*
 * Pages with notification indicator bytes: who pins them, who unpins them.
 *
 * A row has one pin and is shared by queues. The driver pins without
 * matrix_dev->mdevs_lock, as userspace decides how long it takes to bring a page into
 * memory. Meanwhile userspace may unmap the page or close the device, and the guest
 * may enable the interrupts of other queues. A worker unpins, without the lock, too.
 * The claims are:
 *
 *  - when dma_unmap() returns, no pin of the range is left, and none is under way
 *    (type 1 asks again a few times and then runs into a BUG(); with -DTYPE1_REFUSES,
 *    where it pins nothing in a range that is being unmapped, it asks once);
 *  - each pin is returned once;
 *  - a closed device has no pin, and nothing refers to a removed one;
 *  - nobody waits for ever; and, with -DSTUCK, if a page never comes into memory
 *    (its process does not answer the page fault), no other guest has to wait.
 *
 * The model has one page of one guest, and two queues: of two adapters, each with a row
 * of its own, or with -DSHARED members of the same row. Its processes do as these
 * functions do:
 *
 *  - vfio_ap_ops.c: handle_pqap, vfio_ap_irq_enable, vfio_ap_mdev_dma_unmap,
 *    vfio_ap_mdev_close_device, vfio_ap_mdev_unset_kvm, vfio_ap_mdev_remove
 *  - vfio_ap_irq.c: vfio_ap_irq_row_get, vfio_ap_irq_row_new,
 *    vfio_ap_irq_row_put, vfio_ap_irq_row_unpin, vfio_ap_irq_unpin_work,
 *    vfio_ap_irq_disable, vfio_ap_irq_unmap, vfio_ap_irq_wait_for_pins_locked,
 *    vfio_ap_irq_receive, vfio_ap_irq_forget
 *  - vfio_iommu_type1.c: vfio_dma_do_unmap, vfio_notify_dma_unmap,
 *    vfio_iommu_type1_pin_pages, vfio_iommu_type1_unpin_pages,
 *    vfio_iommu_type1_register_device
 *
 * A scenario is chosen with -DVCPUS=1 or 2, -DSHARED, -DUNMAP, -DCLOSE, -DREMOVE,
 * -DRESUME, -DSECOND and -DNEIGHBOUR; a fault is planted with a -D, see
 * lab/faults/models.py.
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

/* The row of a queue */
#ifdef SHARED
#define ROW(q)	0
#else
#define ROW(q)	q
#endif

#define NOBODY	255
#define PINNERS	3	/* the vCPUs, and the writer of a migration stream */
#define WRITER	2
#define WAITERS	3	/* dma_unmap(), close and, with a fault, the writer */
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
bool gone;			/* the mediated device was removed and freed */
bool hooked = true;		/* kvm->arch.crypto.pqap_hook, and matrix_mdev->kvm */
bool aqic_blocked;			/* matrix_mdev->irq.aqic_blocked */
bool session;			/* the file of RESUMING is not disabled */

/* matrix_mdev->irq.rows */
bool row[2];
bool row_unmapped[2];		/* row->unmapped */
byte users[2];			/* row->users */
bool member[2];			/* q->irq_row is that of the queue */

/* matrix_mdev->irq.unmaps: the page is in a range that is being unmapped */
bool range;

/* matrix_mdev->irq.pins: rows that are being pinned, and rows that are being unpinned */
bool pinning[PINNERS];
bool unmapped[PINNERS];
byte to_unpin;
#define IN_FLIGHT	(pinning[0] || pinning[1] || pinning[WRITER] || to_unpin)

/* matrix_mdev->irq.wait */
bool woken[WAITERS];
#define WAKE	woken[UNMAPPER] = true; woken[CLOSER] = true; woken[WRITER] = true

/* matrix_mdev->irq.unpin */
bool queued;
bool working;

/* The result of type 1 and that of vfio_ap_irq_row_get(), for each caller */
bool pinned[PINNERS];
bool got[PINNERS];

bool stuck;			/* somebody waits for a page that never comes */
bool other_is_done;

/* vfio_unpin_pages() */
inline unpin()
{
	LOCK(iommu_lock);
	atomic { assert(mapped && pins > 0 && device_open); pins-- };
	UNLOCK(iommu_lock)
}

/* vfio_ap_irq_row_unpin(). Until the page is unpinned its row stays listed. */
inline row_unpin()
{
	HELD(mdevs_lock);
#ifdef UNPIN_UNDER_LOCK
	unpin()
#else
	atomic { to_unpin++; queued = true }
#endif
}

/* vfio_ap_irq_row_put() */
inline row_put(k)
{
	HELD(mdevs_lock);
	atomic { assert(row[k] && users[k] > 0); users[k]-- };
	if
	:: !users[k] ->
		/* kvm_s390_gisc_unregister() */
		assert(hooked);
		row[k] = false;
		row_unpin()
	:: else
	fi
}

/* A queue gives up its registration. */
inline leave(q)
{
	if
	:: member[q] ->
		member[q] = false;
#ifdef EACH_QUEUE_UNPINS
		row_unpin();
#endif
		row_put(ROW(q))
	:: else
	fi
}

/* vfio_ap_irq_forget() */
inline forget()
{
	leave(0);
	leave(1)
}

/* vfio_ap_irq_unpin_work() */
active proctype worker()
{
end:	do
	:: queued ->
		atomic { queued = false; working = true };
		LOCK(mdevs_lock);
		assert(!gone);
		do
		:: to_unpin > 0 ->
			UNLOCK(mdevs_lock);
			unpin();
			LOCK(mdevs_lock);
			assert(!gone);
			atomic { to_unpin--; WAKE }
		:: else -> break
		od;
		UNLOCK(mdevs_lock);
		working = false
	od
}

/* vfio_ap_irq_row_new() */
inline row_pin(p, k)
{
	atomic { pinning[p] = true; unmapped[p] = false; pinned[p] = false };
#ifndef PIN_UNDER_LOCK
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
#ifndef PIN_UNDER_LOCK
	LOCK(mdevs_lock);
#endif
	/* A task that closes the device waits for the pin. */
	assert(device_open);
	/* list_del() and wake_up_all() */
	atomic { pinning[p] = false; WAKE };
	if
	:: !pinned[p] -> got[p] = false
	:: pinned[p] && (unmapped[p] || row[k]) -> row_unpin(); got[p] = row[k]
	:: else ->
		/* kvm_s390_gisc_register() */
		assert(hooked);
		atomic { row[k] = true; row_unmapped[k] = false }
	fi
}

/* vfio_ap_irq_row_get(): enter and leave with matrix_dev->mdevs_lock */
inline row_get(p, k)
{
	HELD(mdevs_lock);
	got[p] = true;
	if
	:: row[k]
	:: !row[k] ->
#ifdef ALLOC_DROPS_LOCK
		/* The memory of the row; the row is not listed yet. */
		UNLOCK(mdevs_lock);
		LOCK(mdevs_lock);
		assert(!gone);
#endif
		if
#ifndef UNMAP_TAKES_NEW_PINS
		:: range -> got[p] = false
		:: !range -> row_pin(p, k)
#else
		:: true -> row_pin(p, k)
#endif
		fi
	fi;
	if
	:: got[p] && row_unmapped[k] -> got[p] = false
	:: got[p] && !row_unmapped[k] -> atomic { assert(row[k]); users[k]++ }
	:: else
	fi
}

inline join(q)
{
	atomic { assert(row[ROW(q)]); users[ROW(q)]++; member[q] = true }
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

/* handle_pqap() of a vCPU; each has a queue of its own */
proctype vcpu(byte me)
{
	byte round;

	do
	:: round < ROUNDS_OF(me) ->
		round++;
		down_read_hook();
		LOCK(mdevs_lock);
		if
		:: !hooked || aqic_blocked		/* busy, or no device has the guest */
		:: hooked && !aqic_blocked ->		/* vfio_ap_irq_disable() */
			leave(me)
		:: hooked && !aqic_blocked ->		/* vfio_ap_irq_enable() */
			row_get(me, ROW(me));
			/* vfio_ap_aqic_queue() again */
			if
			:: !got[me]
#ifndef AQIC_BLOCK_IS_CHECKED_ONCE
			:: got[me] && aqic_blocked -> row_put(ROW(me))
			:: got[me] && !aqic_blocked ->
#else
			:: got[me] ->
#endif
				/* Nothing is executed for a device that stops. */
				assert(!aqic_blocked);
				/* The older registration, then the new one */
				leave(me);
				join(me);
				row_put(ROW(me))
			fi
		fi;
		UNLOCK(mdevs_lock);
		hook_readers--
	:: else -> break
	od
}

/* wait_event_cmd() until no row is listed */
inline wait_for_pins(w)
{
	do
	:: woken[w] = false;
		assert(!gone);
		if
		:: IN_FLIGHT ->
			UNLOCK(mdevs_lock);
			woken[w];
			LOCK(mdevs_lock)
		:: else -> break
		fi
	od
}

/* vfio_ap_irq_mark_unmapped() */
inline mark_range()
{
	atomic {
#ifndef UNMAP_WITHOUT_MARK
		unmapped[0] = unmapped[0] || pinning[0];
		unmapped[1] = unmapped[1] || pinning[1];
		unmapped[WRITER] = unmapped[WRITER] || pinning[WRITER];
#endif
		row_unmapped[0] = row_unmapped[0] || row[0];
		row_unmapped[1] = row_unmapped[1] || row[1]
	}
}

/* The bounded wait, for one queue: it confirms that its interrupts are off, or not. */
inline look(q)
{
	if
	:: member[q] && row_unmapped[ROW(q)] -> leave(q)
	:: true
	fi;
	/* vfio_ap_irq_for_each() */
	UNLOCK(mdevs_lock);
	LOCK(mdevs_lock)
}

/* A queue that has not confirmed leaves its row, too; its page stays allocated. */
inline give_up(q)
{
	if
	:: member[q] && row_unmapped[ROW(q)] -> leave(q)
	:: else
	fi;
	UNLOCK(mdevs_lock);
	LOCK(mdevs_lock)
}

/* vfio_ap_irq_unmap() */
inline dma_unmap()
{
	LOCK(mdevs_lock);
	range = true;
	mark_range();
	if
	:: row[0] || row[1] ->
		look(0);
		look(1);
		give_up(0);
		give_up(1)
	:: else
	fi;
#ifndef UNMAP_WITHOUT_WAIT
	wait_for_pins(UNMAPPER);
#endif
	assert(!row[0] && !row[1] && !IN_FLIGHT && pins == 0);
	range = false;
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

/* vfio_ap_mdev_close_device(), then vfio_ap_mdev_remove() */
proctype closer()
{
	/* vfio_ap_migration_reset() */
	LOCK(mdevs_lock);
	session = false;
	aqic_blocked = true;
#ifndef HOLD_WITHOUT_WAIT
	wait_for_pins(CLOSER);
#endif
#ifdef CLOSE_UNBLOCKS_AQIC
	aqic_blocked = false;
#endif
	UNLOCK(mdevs_lock);

	/* vfio_ap_mdev_unset_kvm() */
	LOCK(guests_lock);
	LOCK(kvm_lock);
	down_write_hook();
	LOCK(mdevs_lock);
	forget();			/* vfio_ap_mdev_reset_queues() */
	hooked = false;
	UNLOCK(mdevs_lock);
	hook_writer = false;
	UNLOCK(kvm_lock);
	UNLOCK(guests_lock);

#ifndef CLOSE_WITHOUT_WAIT
	LOCK(mdevs_lock);
	wait_for_pins(CLOSER);
	UNLOCK(mdevs_lock);
#endif
	atomic {
		device_open = false;
		assert(pins == 0 && !row[0] && !row[1] && !IN_FLIGHT)
	};
	/* vfio_iommu_type1_unregister_device() */
	LOCK(list_lock);
	LOCK(iommu_lock);
	UNLOCK(iommu_lock);
	UNLOCK(list_lock);

	/* vfio_ap_mdev_remove() and vfio_ap_mdev_release_dev() */
#ifndef REMOVE_LEAVES_WORK
	!queued && !working;
#endif
	gone = true
}

/* Registers the queues of a row that was received. */
inline adopt(q, k)
{
	if
	:: ROW(q) == k && member[q] -> failed = true
	:: ROW(q) == k && !member[q] -> join(q)
	:: else
	fi
}

/* vfio_ap_irq_receive(): write() of the end of a stream with two rows */
proctype writer()
{
	byte next;
	bool failed;

	LOCK(mdevs_lock);
	do
	:: session && next < 2 && !failed ->
		row_get(WRITER, next);
		if
		:: !got[WRITER] -> failed = true
		:: got[WRITER] && !session -> failed = true; row_put(next)
		:: got[WRITER] && session ->
			adopt(0, next);
			adopt(1, next);
			row_put(next)
		fi;
		next++
	:: else -> break
	od;
	if
	:: failed ->
		/* A task that ends the session waits for the pin, and then for the lock. */
		assert(device_open);
		forget();
#ifdef WRITER_WAITS
		wait_for_pins(WRITER)
#endif
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
	leave(1);
	UNLOCK(mdevs_lock);
	UNLOCK(kvm_lock);
	UNLOCK(guests_lock)
}

/* Another device is opened with the same KVM: vfio_ap_mdev_set_kvm() refuses */
proctype second()
{
	LOCK(guests_lock);
	if
#ifndef SECOND_WAITS_FOR_HOOK
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
		aqic_blocked = true;
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
