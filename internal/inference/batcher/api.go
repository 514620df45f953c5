// Package batcher collects rows of concurrent requests into runs.
//
// It knows nothing of tensors, models or HTTP: a Task carries any value, and a
// RunFunc runs a batch of them. The policy, "just-in-time" batching, has one
// setting that a user must make: the service-level objective.
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
// the task. ctx ends when every member has been cancelled.
type RunFunc[T any] func(ctx context.Context, batch []*Task[T]) error

// Timing says what one settled task went through.
type Timing struct {
	Queue time.Duration // from Submit to the start of its run
	Run   time.Duration // the run itself
	Rows  int           // rows in the run
}
