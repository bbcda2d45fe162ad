// SPDX-License-Identifier: GPL-2.0
/*
 * States, sessions, their files, and the switch that holds migration off.
 *
 * Claimed is:
 *
 *  - while the attribute migratable reads 0, no session is open;
 *  - PRE_COPY->STOP_COPY succeeds, whatever the host does;
 *  - once the destination has accepted a stream, RESUMING->STOP succeeds;
 *  - a file reaches the device only while its own session is open, and never after
 *    the device was closed;
 *  - locks are taken in the order of Documentation/arch/s390/vfio-ap-locking.rst;
 *  - nobody waits for ever; and, with -DSTUCK, whoever never gets out of the access
 *    to user memory of a read() or write() stops nobody else: not the end of the
 *    session, not the administrator, no other guest.
 *
 * Functions are called as in vfio_ap_migration.c (vfio_ap_migration_set_state and what
 * it calls, vfio_ap_migration_reset, _config_changed, _read, _write, _load),
 * vfio_ap_migratable.c (vfio_ap_migratable_set, _check_locked, migratable_show) and
 * vfio_ap_ops.c (vfio_ap_mdev_ioctl_reset, vfio_ap_mdev_close_device). A section under
 * migf->lock is one step. The P2P states, which change nothing, are left out.
 *
 * A scenario is chosen with -DRESET, -DADMIN, -DBUS, -DREQUESTS=n and -DACCESSES=n; a
 * fault is put in with a -D, see lab/model.py.
 */

#ifndef REQUESTS
#define REQUESTS	3	/* of SET_STATE */
#endif
#ifndef ACCESSES
#define ACCESSES	2	/* processes that read or write once each */
#endif

#define FILES		3
#define NO_FILE		3
#define FREE		255

/* Locks, in their order */
#define MIG		0	/* matrix_mdev->mig.mutex */
#define GUESTS		1	/* matrix_dev->guests_lock */
#define KVM		2	/* kvm->lock */
#define MDEVS		3	/* matrix_dev->mdevs_lock */

byte holder[4] = FREE;
byte io_mutex[FILES] = FREE;

mtype = { RUNNING, PRE_COPY, STOP, STOP_COPY, RESUMING };

/* The device */
mtype state = RUNNING;
byte mig_file = NO_FILE;
bool migratable = true;
bool closed;
bool receiving;			/* a page is being pinned for who writes */

/* Its files; those that userspace has got are the first @issued */
byte issued;
bool writes[FILES];
bool to_device[FILES];		/* migf->matrix_mdev */
bool disabled[FILES] = true;
bool failed[FILES];		/* migf->error */
bool accepted[FILES];		/* migf->registered */
bool opened[FILES];		/* a session has begun with it */

byte ioctls;			/* requests under way, for which the device stays open */
byte to_do;			/* who has not come to an end, who reads or writes aside */
bool stuck;

/* Whoever takes a lock holds none that comes later. */
#define LOCK(n)								\
	assert(!(held >> n));						\
	atomic { holder[n] == FREE -> holder[n] = _pid; held = held | (1 << n) }
#define UNLOCK(n)							\
	atomic { assert(holder[n] == _pid); holder[n] = FREE; held = held & ~(1 << n) }
#define HELD(n)	assert(held & (1 << n))

/* get_update_locks_for_mdev() */
inline update_lock()
{
	LOCK(GUESTS);
	LOCK(KVM);
	LOCK(MDEVS)
}

inline update_unlock()
{
	UNLOCK(MDEVS);
	UNLOCK(KVM);
	UNLOCK(GUESTS)
}

/* vfio_ap_migration_end_locked() */
inline end_session()
{
	HELD(MDEVS);
	if
	:: mig_file != NO_FILE ->
#ifdef DISABLE_WAITS
		io_mutex[mig_file] == FREE;
#endif
		atomic {
#ifndef FILE_OUTLIVES_SESSION
			to_device[mig_file] = false;
			disabled[mig_file] = true;
#endif
			mig_file = NO_FILE
		}
	:: else
	fi
}

/* vfio_ap_migration_begin(): the arcs that open a session */
inline begin(f, new)
{
	update_lock();
	atomic {
		if
		:: !migratable -> ret = false
		:: else ->
			to_device[f] = true;
			mig_file = f;
			disabled[f] = false;
			opened[f] = true;
			state = new;
			ret = true
		fi
	};
	update_unlock()
}

/* vfio_ap_migration_finish_precopy() */
inline complete()
{
	update_lock();
	assert(mig_file != NO_FILE && migratable);
#ifdef STOP_COPY_FAILS
	ret = !failed[mig_file];
#endif
	assert(ret);
	state = STOP_COPY;
	update_unlock()
}

/* vfio_ap_migration_finish_resume() */
inline finish_resume()
{
	update_lock();
	if
	:: !accepted[mig_file] -> ret = false
	:: accepted[mig_file] ->
		assert(!failed[mig_file]);
		end_session();
		state = STOP;
		ret = true
	fi;
	update_unlock()
}

/* The other arcs of vfio_ap_migration_arc() */
inline leave(new)
{
	LOCK(MDEVS);
	end_session();
	state = new;
	UNLOCK(MDEVS);
	ret = true
}

/* vfio_ap_migration_arc(), with vfio_mig_get_next_state() */
inline walk(f, new)
{
	ret = true;
	do
	:: state == new || !ret -> break
	:: state != new && ret ->
		if
		:: state == RUNNING && new == PRE_COPY -> begin(f, PRE_COPY)
		:: state == RUNNING && new != PRE_COPY -> leave(STOP)
		:: state == PRE_COPY && new == STOP_COPY -> complete()
		:: state == PRE_COPY && new != STOP_COPY -> leave(RUNNING)
		:: state == STOP && new == STOP_COPY -> begin(f, STOP_COPY)
		:: state == STOP && new == RESUMING -> begin(f, RESUMING)
		:: state == STOP && new != STOP_COPY && new != RESUMING -> leave(RUNNING)
		:: state == STOP_COPY -> leave(STOP)
		:: state == RESUMING -> finish_resume()
		fi
	od
}

/* vfio_ap_migration_set_state() */
proctype user()
{
	byte held, request, f;
	mtype new, old;
	bool ret, opens;

	do
	:: request < REQUESTS && issued < FILES ->
		request++;
		if
		:: new = RUNNING
		:: new = STOP
		:: new = PRE_COPY
		:: new = STOP_COPY
		:: new = RESUMING
		fi;
#ifdef GUESTS_LOCK_FIRST
		LOCK(GUESTS);
#endif
		LOCK(MIG);
		old = state;
		opens = new != state && new != RUNNING && new != STOP &&
			!(state == PRE_COPY && new == STOP_COPY);
		f = issued;
		if
		:: !(old == STOP_COPY && new == PRE_COPY) ->
			walk(f, new);
			if
			:: ret && opens ->
				/* Userspace gets the file. */
				atomic { writes[f] = (new == RESUMING); issued++ }
			:: else
			fi
		:: else
		fi;
#ifdef GUESTS_LOCK_FIRST
		UNLOCK(GUESTS);
#endif
		UNLOCK(MIG)
	:: else -> break
	od;
	atomic { ioctls--; to_do-- }
}

/* vfio_ap_migration_reset() */
inline migration_reset()
{
	LOCK(MDEVS);
	end_session();
#ifndef RESET_DOES_NOT_WAIT
	/* vfio_ap_irq_wait_for_pins_locked() */
	do
	:: receiving ->
		UNLOCK(MDEVS);
		!receiving;
		LOCK(MDEVS)
	:: else -> break
	od;
#endif
	state = RUNNING;
	UNLOCK(MDEVS)
}

/* VFIO_DEVICE_RESET */
proctype reset()
{
	byte held;

#ifndef RESET_WITHOUT_MUTEX
	LOCK(MIG);
#endif
	migration_reset();
#ifndef RESET_WITHOUT_MUTEX
	UNLOCK(MIG);
#endif
	atomic { ioctls--; to_do-- }
}

/* vfio_ap_mdev_close_device(), when there are no more requests */
proctype closer()
{
	byte held;

	ioctls == 0;
	LOCK(MIG);
	migration_reset();
	/* vfio_ap_mdev_unset_kvm(); pqap_hook_rwsem is in pins.pml */
	LOCK(GUESTS);
	LOCK(KVM);
	LOCK(MDEVS);
	closed = true;
	UNLOCK(MDEVS);
	UNLOCK(KVM);
	UNLOCK(GUESTS);
	UNLOCK(MIG);
	to_do--
}

/* vfio_ap_migratable_set() */
inline migratable_set(value)
{
#if !defined(MIGRATABLE_WITHOUT_MUTEX) && !defined(MIGRATABLE_WITHOUT_LOCKS)
	LOCK(MIG);
#endif
#ifndef MIGRATABLE_WITHOUT_LOCKS
	LOCK(MDEVS);
#endif
	if
#ifndef MIGRATABLE_IS_NOT_HELD
	:: value != migratable && mig_file != NO_FILE	/* -EBUSY */
	:: value != migratable && mig_file == NO_FILE -> migratable = value
	:: value == migratable
#else
	:: migratable = value
#endif
	fi;
#ifndef MIGRATABLE_WITHOUT_LOCKS
	UNLOCK(MDEVS);
#endif
#if !defined(MIGRATABLE_WITHOUT_MUTEX) && !defined(MIGRATABLE_WITHOUT_LOCKS)
	UNLOCK(MIG)
#else
	skip
#endif
}

/* The administrator; what the attribute reads is true then. */
proctype admin()
{
	byte held;

	migratable_set(false);
	LOCK(MDEVS);			/* migratable_show() */
	assert(migratable || mig_file == NO_FILE);
	UNLOCK(MDEVS);
	migratable_set(true);
	to_do--
}

/* The host changes the configuration: vfio_ap_migration_config_changed() */
proctype bus()
{
	byte held;

#ifdef BUS_TAKES_MUTEX
	LOCK(GUESTS);
	LOCK(MIG);
	UNLOCK(MIG);
	UNLOCK(GUESTS);
#endif
	update_lock();
	atomic {
		if
#ifndef HOTPLUG_FAILS
		:: mig_file != NO_FILE && !accepted[mig_file] -> failed[mig_file] = true
#else
		:: mig_file != NO_FILE -> failed[mig_file] = true
#endif
		:: else
		fi
	};
	update_unlock();
	to_do--
}

/* vfio_ap_migration_file_status() */
#define GOOD(f)	(!disabled[f] && !failed[f])

/* An access to user memory, which need not come to an end */
inline user_memory()
{
#ifdef STUCK
	if
	:: !stuck -> stuck = true; false
	:: true
	fi
#else
	skip
#endif
}

#define TOUCH(f)							\
	assert(to_device[f] && mig_file == f && state == RESUMING && !closed)

/* vfio_ap_migration_load() and, at the end, vfio_ap_irq_receive() */
inline load(f)
{
#ifndef COPY_UNDER_LOCK
	user_memory();
#endif
	LOCK(MDEVS);
#ifdef COPY_UNDER_LOCK
	user_memory();
#endif
	if
#ifndef STATUS_IS_ASKED_EARLY
	:: !GOOD(f)
	:: GOOD(f) ->
#else
	:: true ->
#endif
		TOUCH(f);
		if
		:: true
		:: true ->
			/* vfio_ap_irq_row_new() drops the lock; see pins.pml. */
			receiving = true;
			UNLOCK(MDEVS);
			LOCK(MDEVS);
			receiving = false;
			/* The device is open, even if the session has ended. */
			assert(!closed);
#ifndef STATUS_IS_CHECKED_ONCE
			if
			:: GOOD(f) -> TOUCH(f); accepted[f] = true
			:: else
			fi
#else
			TOUCH(f);
			accepted[f] = true
#endif
		fi
	fi;
	UNLOCK(MDEVS)
}

/* vfio_ap_migration_read(), vfio_ap_migration_write(), of a file old or new */
proctype access()
{
	byte held, f;

	if
	:: issued > 0 -> f = 0
	:: issued > 1 -> f = 1
	:: issued > 2 -> f = 2
	:: ioctls == 0 && issued == 0 -> goto out
	fi;
	assert(!held);
	atomic { io_mutex[f] == FREE -> io_mutex[f] = _pid };
	if
	:: !GOOD(f)
	:: GOOD(f) && writes[f] -> load(f)
	:: GOOD(f) && !writes[f] -> user_memory()
	fi;
	io_mutex[f] = FREE;
out:	skip
}

/* Another guest */
proctype other()
{
	byte held;

	update_lock();
	update_unlock();
	to_do--
}

/* At the end of all that can happen, everybody is done. */
proctype watch()
{
	timeout -> assert(to_do == 0)
}

init
{
	byte i;

	atomic {
		ioctls = 1;
		to_do = 2;
		run user();
		run closer();
#ifdef RESET
		ioctls++;
		to_do++;
		run reset();
#endif
#ifdef ADMIN
		to_do++;
		run admin();
#endif
#ifdef BUS
		to_do++;
		run bus();
#endif
		do
		:: i < ACCESSES -> run access(); i++
		:: else -> break
		od;
#ifdef STUCK
		to_do++;
		run other();
#endif
		run watch()
	}
}
