package model

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sluice/internal/platform/fault"
)

// Bounds of the settings.
const (
	maxName     = 255
	maxBatch    = 1 << 16
	maxThreads  = 1024
	maxQueue    = 1 << 24
	maxPriority = 1024
	maxWarmup   = 10_000
	maxElements = 1 << 27 // of one warm-up input
	maxDim      = math.MaxInt32
	maxDuration = 24 * time.Hour
)

// ValidName returns an error unless name can name a model: it becomes a folder
// and a segment of URLs.
func ValidName(name string) error {
	switch {
	case name == "":
		return fault.New(fault.Invalid, "a model name must not be empty")
	case len(name) > maxName:
		return fault.New(fault.Invalid, "model name %.40q... has %d bytes; at most %d are allowed", name, len(name), maxName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fault.New(fault.Invalid, "model name %q must be UTF-8 text without control characters", name)
	case strings.ContainsAny(name, `/\`):
		return fault.New(fault.Invalid, "model name %q must not contain slashes", name)
	case name[0] == '.' || name[0] == '_':
		return fault.New(fault.Invalid, "model name %q must not start with %q", name, name[:1])
	case name == "stats":
		return fault.New(fault.Invalid, "model name \"stats\" is taken: /v2/models/stats is the statistics of all models")
	}
	return nil
}

// validFile returns an error unless name names a file in the same folder.
func validFile(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, `/\`) ||
		strings.ContainsFunc(name, unicode.IsControl) || !filepath.IsLocal(name) {
		return fault.New(fault.Invalid, "must be a file name without folders, got %.80q", name)
	}
	return nil
}

// validLabel returns an error unless label can stand where a version number
// can, without being one.
func validLabel(label string) error {
	switch {
	case label == "" || len(label) > maxName || !utf8.ValidString(label) ||
		strings.ContainsFunc(label, unicode.IsControl) || strings.ContainsAny(label, `/\`):
		return fault.New(fault.Invalid, "label %.80q must be 1 to %d bytes of text without slashes", label, maxName)
	case strings.Trim(label, "0123456789") == "":
		return fault.New(fault.Invalid, "label %.80q must not be a number: it would look like a version", label)
	}
	return nil
}

// check returns an error where settings contradict each other.
func (c Config) check() error {
	bad := func(path, format string, args ...any) error { return failure(c.source(), 0, path, format, args...) }
	for _, group := range []struct {
		name  string
		ports []PortConfig
	}{{"input", c.Inputs}, {"output", c.Outputs}} {
		for i, p := range group.ports {
			if slices.ContainsFunc(group.ports[:i], func(q PortConfig) bool { return q.Name == p.Name }) {
				return bad(group.name, "%q is given twice", p.Name)
			}
		}
	}
	for _, w := range c.Warmup {
		if c.MaxBatchSize != nil && w.BatchSize > *c.MaxBatchSize {
			return bad("warmup", "%q has batch size %d, more than the max_batch_size %d", w.Name, w.BatchSize, *c.MaxBatchSize)
		}
	}
	if err := c.checkFallback(); err != nil {
		return err
	}
	b := c.Batching
	if b == nil {
		return nil
	}
	if c.Sequence != nil {
		return bad("batching", "has no settings beside a sequence, whose steps are batched just in time: leave them out")
	}
	for _, size := range b.PreferredSizes {
		if c.MaxBatchSize != nil && size > *c.MaxBatchSize {
			return bad("batching", "preferred size %d is more than the max_batch_size %d", size, *c.MaxBatchSize)
		}
	}
	switch {
	case b.PriorityLevels > 0 && (b.DefaultPriority < 1 || b.DefaultPriority > b.PriorityLevels):
		return bad("batching", "the default priority must be 1 to the number of priority levels, %d, got %d", b.PriorityLevels, b.DefaultPriority)
	case b.PriorityLevels == 0 && b.DefaultPriority > 0:
		return bad("batching", "a default priority of %d needs priority levels", b.DefaultPriority)
	case b.PreserveOrdering && b.PriorityLevels > 1:
		return bad("batching", "preserve_ordering allows only one priority level, got %d", b.PriorityLevels)
	case b.PreserveOrdering && b.TimeoutDelay && b.DefaultTimeout > 0:
		return bad("batching", "preserve_ordering rules out the timeout action delay")
	}
	return nil
}

func (c Config) source() string {
	if c.Source != "" {
		return c.Source
	}
	return "configuration"
}

// isZero reports whether no setting is made, which is just-in-time batching.
func (b *Batching) isZero() bool {
	return len(b.PreferredSizes) == 0 && b.MaxQueueDelay == 0 && b.MaxQueueSize == 0 && b.DefaultTimeout == 0 &&
		!b.AllowTimeoutOverride && !b.TimeoutDelay && !b.PreserveOrdering && b.PriorityLevels == 0 && b.DefaultPriority == 0
}
