// SPDX-License-Identifier: GPL-2.0
/*
 * Let ioctls of a running VFIO user fail, as if the driver refused them.
 *
 *	vfio-inject PID REQUEST=ERRNO...
 *
 * REQUEST is a device state ("STOP_COPY": VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE
 * asks for it) or "RESET" (VFIO_DEVICE_RESET). Each REQUEST=ERRNO fails one
 * ioctl, which does not reach the driver. The program traces all threads of
 * the process, prints "ready", one line per fault, and ends after the last
 * one; the process then goes on untraced.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/ptrace.h>
#include <linux/vfio.h>

#define RESET		0xffff
#define MAX_FAULTS	8
#define MAX_THREADS	64
#define SYSCALL_STOP	(SIGTRAP | 0x80)

static const char *const states[] = {
	[VFIO_DEVICE_STATE_ERROR] = "ERROR",
	[VFIO_DEVICE_STATE_STOP] = "STOP",
	[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

static struct fault {
	const char *text;
	unsigned int request;
	int error;
	bool done;
} faults[MAX_FAULTS];
static int nr_faults;

/* A traced thread, and the fault of the ioctl that it is in */
static struct thread {
	pid_t tid;
	bool started;
	struct fault *fault;
} threads[MAX_THREADS];
static int nr_threads;

static void die(const char *what)
{
	fprintf(stderr, "vfio-inject: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long trace(int request, pid_t tid, unsigned long addr, void *data)
{
	return syscall(SYS_ptrace, request, tid, addr, data);
}

static struct thread *find_thread(pid_t tid)
{
	int i;

	for (i = 0; i < nr_threads; i++)
		if (threads[i].tid == tid)
			return &threads[i];
	if (nr_threads == MAX_THREADS) {
		errno = E2BIG;
		die("threads");
	}
	threads[nr_threads].tid = tid;
	return &threads[nr_threads++];
}

/* Returns true if a thread was found that was not traced yet. */
static bool seize_threads(pid_t pid)
{
	struct dirent *entry;
	bool found = false;
	char path[32];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		die(path);
	while ((entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);

		if (!tid)
			continue;
		/* EPERM: traced already; ESRCH: the thread ended */
		if (trace(PTRACE_SEIZE, tid, 0,
			  (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE))) {
			if (errno != EPERM && errno != ESRCH)
				die("PTRACE_SEIZE");
			continue;
		}
		find_thread(tid);
		if (trace(PTRACE_INTERRUPT, tid, 0, NULL))
			die("PTRACE_INTERRUPT");
		found = true;
	}
	closedir(dir);
	return found;
}

/* The device state that an ioctl asks for, RESET, or VFIO_DEVICE_STATE_ERROR. */
static unsigned int request_of(pid_t tid, const struct ptrace_syscall_info *info)
{
	union {
		struct {
			struct vfio_device_feature feature;
			struct vfio_device_feature_mig_state state;
		};
		unsigned long words[2];
	} arg;
	unsigned long addr = info->entry.args[2];
	unsigned int i;

	if (info->entry.nr != SYS_ioctl)
		return VFIO_DEVICE_STATE_ERROR;
	if (info->entry.args[1] == VFIO_DEVICE_RESET)
		return RESET;
	if (info->entry.args[1] != VFIO_DEVICE_FEATURE)
		return VFIO_DEVICE_STATE_ERROR;
	for (i = 0; i < 2; i++)
		if (trace(PTRACE_PEEKDATA, tid, addr + i * sizeof(long), &arg.words[i]))
			die("PTRACE_PEEKDATA");
	if (arg.feature.flags != (VFIO_DEVICE_FEATURE_SET |
				  VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE))
		return VFIO_DEVICE_STATE_ERROR;
	return arg.state.device_state;
}

static void handle_syscall(struct thread *thread)
{
	struct ptrace_syscall_info info = {};
	unsigned int request;
	int i;

	if (trace(PTRACE_GET_SYSCALL_INFO, thread->tid, sizeof(info), &info) < 0)
		return;		/* the thread was killed */

	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		request = request_of(thread->tid, &info);
		for (i = 0; i < nr_faults && !thread->fault; i++)
			if (!faults[i].done && faults[i].request == request)
				thread->fault = &faults[i];
		if (!thread->fault)
			return;
		thread->fault->done = true;
		/* No system call has this number, so the kernel does nothing. */
		info.entry.nr = -1;
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && thread->fault) {
		info.exit.rval = -thread->fault->error;
		info.exit.is_error = 1;
		printf("injected %s\n", thread->fault->text);
		thread->fault = NULL;
	} else {
		return;
	}
	info.flags = 0;
	info.reserved = 0;
	if (trace(PTRACE_SET_SYSCALL_INFO, thread->tid, sizeof(info), &info))
		die("PTRACE_SET_SYSCALL_INFO");
}

/* A thread has stopped for the first time; its next system call is seen. */
static void start(struct thread *thread)
{
	static int nr_started;
	static bool ready;

	if (thread->started)
		return;
	thread->started = true;
	if (++nr_started < nr_threads || ready)
		return;
	ready = true;
	printf("ready\n");
}

static bool pending(void)
{
	int i;

	for (i = 0; i < nr_faults; i++)
		if (!faults[i].done)
			return true;
	for (i = 0; i < nr_threads; i++)
		if (threads[i].fault)
			return true;
	return false;
}

static void parse(char *text)
{
	struct fault *fault = &faults[nr_faults];
	char *equals = strchr(text, '=');
	unsigned int i;

	errno = EINVAL;
	if (!equals || nr_faults == MAX_FAULTS)
		die(text);
	fault->text = text;
	fault->error = atoi(equals + 1);
	if (!strncmp(text, "RESET=", 6))
		fault->request = RESET;
	for (i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strlen(states[i]) == (size_t)(equals - text) &&
		    !strncmp(text, states[i], equals - text))
			fault->request = i;
	if (!fault->request || fault->error <= 0)
		die(text);
	nr_faults++;
}

int main(int argc, char **argv)
{
	pid_t pid, tid;
	int status, i;

	if (argc < 3) {
		fprintf(stderr, "usage: vfio-inject PID REQUEST=ERRNO...\n");
		return 2;
	}
	for (i = 2; i < argc; i++)
		parse(argv[i]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	pid = atoi(argv[1]);
	while (seize_threads(pid))
		;

	/* The end of this program ends the tracing. */
	while (pending()) {
		int signal = 0, stop;

		tid = waitpid(-1, &status, __WALL);
		if (tid < 0)
			die("the process ended before all faults were injected");
		if (!WIFSTOPPED(status))
			continue;
		stop = WSTOPSIG(status);
		if (stop == SYSCALL_STOP)
			handle_syscall(find_thread(tid));
		else if (!(status >> 16))
			signal = stop;
		else if (status >> 16 == PTRACE_EVENT_STOP)
			start(find_thread(tid));
		trace(PTRACE_SYSCALL, tid, 0, (void *)(unsigned long)signal);
	}
	return 0;
}
