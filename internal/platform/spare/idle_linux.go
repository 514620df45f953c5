//go:build cgo

package spare

/*
#cgo LDFLAGS: -pthread
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { max_lanes = 256, normal = 0, idle = 5 }; // the policies SCHED_NORMAL and SCHED_IDLE

// How often each lane is looked at, 5 ms, and what it is to have had of the processors in that time.
static const long look = 5000000, share = 250000;

struct attributes { // struct sched_attr of the kernel, version 0
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

struct lane {
	pid_t thread;     // 0: there is none
	int32_t nice;     // while it is lifted
	uint64_t runtime; // likewise
	int64_t used;     // of the processors, when it was looked at last
	int starved;      // looks in a row
	int lifted;
	atomic_int leaving;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // guards all below; no thread in the idle class ever holds it
static pthread_cond_t some = PTHREAD_COND_INITIALIZER;
static struct lane lanes[max_lanes];
static int count;
static int64_t lifts;
static atomic_int watcher; // the watch's thread

static int put(const struct lane *l, int policy) {
	struct attributes a = {.size = sizeof a, .policy = policy};
	if (policy == normal) {
		a.nice = l->nice;
		a.runtime = l->runtime;
	}
	return (int)syscall(SYS_sched_setattr, l->thread, &a, 0);
}

// used returns the time that a thread of this process has had: clock_getcpuclockid(3) of its number.
static int64_t used(pid_t thread) {
	struct timespec t = {0};
	clock_gettime((clockid_t)((~(unsigned)thread << 3) | 6), &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// runnable says whether a thread would run if it could; where that is not known it would. See proc_pid_stat(5).
static int runnable(pid_t thread) {
	char path[64], text[512];
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0) return 1;
	ssize_t n = read(file, text, sizeof text - 1);
	close(file);
	if (n <= 0) return 1;
	text[n] = 0;
	const char *name = strrchr(text, ')');
	return name == NULL || name[1] == 0 || name[2] == 'R';
}

static void look_at(struct lane *l) {
	int64_t now = used(l->thread), had = now - l->used;
	l->used = now;
	l->starved = had < share && runnable(l->thread) ? l->starved + 1 : 0;
	int lift = l->starved > 1 || (l->lifted && l->starved > 0); // at the first look it may have been runnable for a moment only
	if (lift == l->lifted || put(l, lift ? normal : idle) != 0) return;
	if (l->leaving) put(l, normal); // leave may have set it before the line above did
	l->lifted = lift;
	lifts += lift;
}

static void *watch(void *unused) {
	watcher = (int)syscall(SYS_gettid);
	const struct timespec pause = {.tv_nsec = look};
	for (;;) {
		pthread_mutex_lock(&mutex);
		while (count == 0) pthread_cond_wait(&some, &mutex);
		for (int i = 0; i < max_lanes; i++) {
			if (lanes[i].thread != 0) look_at(&lanes[i]);
		}
		pthread_mutex_unlock(&mutex);
		nanosleep(&pause, NULL);
	}
	return unused;
}

// begin starts a thread, which takes no signals: they are for Go's threads.
static int begin(pthread_t *thread, void *(*f)(void *), void *with) {
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int failed = pthread_create(thread, NULL, f, with);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return failed == 0;
}

// start starts the watch, with the priority of the thread that calls it.
static int start(void) {
	pthread_t thread;
	return begin(&thread, watch, NULL) && pthread_detach(thread) == 0;
}

static void *come_back(void *nice) {
	struct lane l = {.nice = *(int32_t *)nice};
	return put(&l, normal) == 0 && put(&l, idle) == 0 && put(&l, normal) == 0 ? nice : NULL;
}

// returns says whether threads of that niceness come back from the idle class. A thread of its own
// tries, which calls nothing of Go: it ends even where it does not come back.
static int returns(int32_t nice) {
	pthread_t thread;
	void *did = NULL;
	return begin(&thread, come_back, &nice) && pthread_join(thread, &did) == 0 && did != NULL;
}

// enter lists the calling thread, with the niceness and runtime that it is to have while it is lifted.
// The next look puts it into the idle class. It returns its place on the list, or -1 where that is full.
static int enter(int32_t nice, uint64_t runtime) {
	struct lane l = {.thread = (pid_t)syscall(SYS_gettid), .nice = nice, .runtime = runtime, .lifted = 1};
	int at = 0;
	l.used = used(l.thread);
	pthread_mutex_lock(&mutex);
	while (at < max_lanes && lanes[at].thread != 0) at++;
	if (at < max_lanes) {
		lanes[at] = l;
		count++;
		pthread_cond_signal(&some);
	} else {
		at = -1;
	}
	pthread_mutex_unlock(&mutex);
	return at;
}

// leave takes the calling thread out of the idle class, so that it may hold mutex, and then off the list.
static void leave(int at) {
	struct lane *l = &lanes[at];
	l->leaving = 1;
	put(l, normal);
	pthread_mutex_lock(&mutex);
	l->thread = 0;
	count--;
	pthread_mutex_unlock(&mutex);
}

static int64_t lifted(void) {
	pthread_mutex_lock(&mutex);
	int64_t n = lifts;
	pthread_mutex_unlock(&mutex);
	return n;
}

static int watching(void) { return watcher; }

static int listed(void) {
	pthread_mutex_lock(&mutex);
	int n = count;
	pthread_mutex_unlock(&mutex);
	return n;
}
*/
import "C"

import (
	"sync"

	"golang.org/x/sys/unix"
)

// enterIdle puts the calling thread into the class SCHED_IDLE, see sched(7), until leave is called. Its goroutine
// must be locked to it, and lower must have lowered it. Any other thread that wakes takes the processor from it at
// once, and a processor that has only such threads is as good as free to others.
//
// Such a thread gets next to nothing while others take all processors, and may hold what they need. So a thread of
// common priority, which needs nothing of Go's runtime, looks at all of them every 5 ms, and lifts those out of the
// class that wanted to run and could not, until they have run.
//
// Where threads may not be lifted (without CAP_SYS_NICE, and with less than 10 as RLIMIT_NICE), it does nothing.
func enterIdle() (leave func()) {
	a, err := unix.SchedGetAttr(0, 0)
	if err != nil || !watched() {
		return func() {}
	}
	at := C.enter(C.int32_t(a.Nice), C.uint64_t(a.Runtime))
	if at < 0 {
		return func() {}
	}
	return func() { C.leave(at) }
}

// watched says whether threads may be taken out of the idle class. The first call starts the thread that does so, with
// the caller's priority, which must not be lowered.
var watched = sync.OnceValue(func() bool { return returns() && C.start() != 0 })

// returns says whether threads come back from the class that have the niceness of lanes.
func returns() bool {
	a, err := unix.SchedGetAttr(0, 0)
	return err == nil && C.returns(C.int32_t(min(a.Nice+niceness, 19))) != 0
}

// lifts is how often a thread was lifted, and idlers how many threads are listed, in the class or lifted.
func lifts() int64 { return int64(C.lifted()) }
func idlers() int  { return int(C.listed()) }

// watcher is the number of the thread that looks at them, 0 before it runs.
func watcher() int { return int(C.watching()) }
