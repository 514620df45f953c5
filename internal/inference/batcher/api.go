// Package batcher collects rows of concurrent requests into runs.
//
// It knows nothing of tensors, models or HTTP: a Task carries any value, and a
// RunFunc runs a batch of them. The policy, "just-in-time" batching, has one
// setting that a user must make: the service-level objective. In short:
//
//   - a task that finds nothing in its way runs at once, in its caller's own
//     goroutine; tasks gather only while runs are in progress (policy.go);
//   - a table of run times by size and concurrency, seeded at warm-up and
//     learned online, says whether larger runs and parallel runs pay (cost.go,
//     tuning.go);
//   - a task that would be late, or would make an accepted one late, is refused
//     on arrival with an honest hint when to retry (admit.go, demand.go);
//   - the earliest deadline goes first; in overload the rows done in time count,
//     late heads are dropped, and runs are never shrunk to save one (pick.go,
//     form.go);
//   - bulk work fills rows and time that online work leaves over; tenants share
//     by run time and not by number of requests, and who asks for less than a fair
//     share goes before who floods (tenant.go), whose runs give way (giveway.go).
//
// Known limits: a run cannot be interrupted but through its context, and a
// forecast knows nothing of the time before Task.Since and after Submit.
package batcher

import (
	"context"
	"time"
)

// Class says who pays for a task's waiting.
type Class uint8

const (
	// Online tasks are answered within their deadline or refused at once.
	Online Class = iota
	// Bulk tasks are never refused for lateness: they wait, and only fill rows
	// that online work leaves over.
	Bulk
)

// RunFunc runs one batch and returns when every task in it has its outcome. A
// returned error is every task's outcome; for a task's own outcome set Err on
// the task. ctx ends when every member has been cancelled, or when the run is to give
// way to another: what has failed by then is run again, once. The batch slice and ctx
// are only valid during the call.
type RunFunc[T any] func(ctx context.Context, batch []*Task[T]) error

// Timing says what one settled task went through.
type Timing struct {
	Queue time.Duration // from Submit to the start of its run
	Run   time.Duration // the run itself
	Rows  int           // rows in the run
}

// Task is one caller's rows. The caller owns it, may pool it, and must leave it
// alone while Submit has it.
type Task[T any] struct {
	Value T
	// Rows is how many rows of a run the task takes; 0 is allowed.
	Rows int
	// Bucket groups tasks that may share a run: those of the same shapes.
	Bucket uint64
	// Deadline is when the answer must be there; the batcher's SLO, counted
	// from Since, is used if that is earlier or Deadline is zero. Bulk tasks
	// have no deadline.
	Deadline time.Time
	// Since is when the caller's time began; zero means with Submit.
	Since time.Time
	Class Class
	// Priority is a level of Explicit.PriorityLevels, 1 being the most urgent;
	// 0 means the default level. It has no effect without explicit levels.
	Priority int
	// Tenant is whose work it is; backlogged tenants share fairly.
	Tenant string
	// Err is the task's own outcome, set by the RunFunc. Submit clears it.
	Err error

	ticket[T] // the batcher's own part
}

// Config configures a Batcher.
type Config struct {
	// MaxRows is the most rows in one run; 1 means no batching. Required.
	MaxRows int
	// SLO is the time within which an online task should be answered. Required.
	SLO time.Duration
	// Executors is the most concurrent runs; 0 means one for each processor.
	Executors int
	// MaxQueue is the most queued online tasks; 0 means 4096. Bulk tasks need
	// no limit: each is a caller that waits in Submit.
	MaxQueue int
	// Cost is what is known of run times, for instance from a warm-up sweep;
	// nil learns from nothing. The batcher goes on learning into it.
	Cost *Cost
	// Explicit holds Triton-style settings; nil means just-in-time.
	Explicit *Explicit
	// Solo says that tasks must never share a run.
	Solo bool
}

// Explicit holds Triton-style dynamic batching settings. Zero values mean "not
// set"; with none set, batching is just-in-time.
type Explicit struct {
	// PreferredSizes are the run sizes, in rows, to dispatch without delay.
	PreferredSizes []int
	// MaxQueueDelay is how long a task may wait for a fuller run while an
	// executor is free.
	MaxQueueDelay time.Duration
	// MaxQueueSize replaces Config.MaxQueue.
	MaxQueueSize int
	// DefaultTimeout bounds the time in the queue, and replaces the SLO as the
	// reason to refuse a task.
	DefaultTimeout time.Duration
	// AllowTimeoutOverride lets a task's own Deadline shorten DefaultTimeout,
	// or set a timeout where there is no default.
	AllowTimeoutOverride bool
	// TimeoutDelay runs a timed-out task after all others instead of refusing it.
	TimeoutDelay bool
	// PriorityLevels is the number of levels; 0 means none.
	PriorityLevels int
	// DefaultPriority is the level of tasks that name none; 0 means the middle.
	DefaultPriority int
	// PreserveOrdering settles tasks in the order of their arrival. It allows
	// one run at a time.
	PreserveOrdering bool
}

// Stats is a snapshot of a batcher, for metrics.
type Stats struct {
	Queued      int // online tasks waiting
	QueuedBulk  int // bulk tasks waiting
	Pending     int // accepted tasks not yet settled, running ones included
	Running     int // runs in progress
	RunningRows int // rows in them

	Runs        uint64 // runs ended
	Interrupted uint64 // of these, told to end before a light tenant's task
	Refused     Refused
}

// Refused counts tasks that ended without a run, by reason. It names the code
// of each one's error.
type Refused struct {
	QueueFull uint64 // "queue_full"
	Late      uint64 // "overloaded": would have missed its deadline
	Expired   uint64 // "timeout": its deadline passed in the queue
	Cancelled uint64 // its context ended in the queue
	Draining  uint64 // "draining"
}
