package cqrs

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"sluice/internal/platform/fault"
)

// Bounds of the cache.
const (
	cacheEntries = 10_000           // answers, and generations
	loadTime     = 30 * time.Second // for an answer that several callers wait for
)

// cache keeps answers under keys that name the generation of every kind that
// the answer depends on. Forgetting is to begin a new generation, so an answer
// that was read before a change and arrives after it is never found again. No
// generation's number is ever used twice: one that was evicted costs misses only.
type cache struct {
	answers     *otter.Cache[string, kept]
	generations *otter.Cache[dependency, int64]
	last        atomic.Int64
}

// dependency is a kind of a tenant's aggregates.
type dependency struct{ tenant, kind string }

// kept is an answer with the end of its time.
type kept struct {
	value any
	until time.Time
}

func newCache() (*cache, error) {
	answers, err := otter.New(&otter.Options[string, kept]{MaximumSize: cacheEntries})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the cache of queries cannot be made")
	}
	generations, err := otter.New(&otter.Options[dependency, int64]{MaximumSize: cacheEntries})
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the cache of queries cannot be made")
	}
	return &cache{answers: answers, generations: generations}, nil
}

func (c *cache) forget(tenant, kind string) {
	c.generations.Set(dependency{tenant, kind}, c.last.Add(1))
}

// key returns the key of an answer as of now.
func (c *cache) key(tenant, query, key string, kinds []string) string {
	var b strings.Builder
	for _, kind := range kinds {
		generation, _ := c.generations.ComputeIfAbsent(dependency{tenant, kind}, func() (int64, bool) { return c.last.Add(1), false })
		b.WriteString(strconv.FormatInt(generation, 36))
		b.WriteByte('.')
	}
	for _, part := range []string{tenant, query, key} {
		b.WriteString(strconv.Itoa(len(part)))
		b.WriteByte(':')
		b.WriteString(part)
	}
	return b.String()
}

// cached returns the answer of a key, from the cache where it is younger than
// ttl. Callers that miss the same answer at the same time wait for one of them.
func cached[R any](ctx context.Context, c *cache, key string, ttl time.Duration, answer func(context.Context) (R, error)) (R, error) {
	if k, ok := c.answers.GetIfPresent(key); ok && !time.Now().Before(k.until) {
		c.answers.Invalidate(key)
	}
	k, err := c.answers.Get(ctx, key, otter.LoaderFunc[string, kept](func(ctx context.Context, _ string) (kept, error) {
		// Others may wait for this answer: it does not end with the first caller.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTime)
		defer cancel()
		value, err := answer(ctx)
		return kept{value, time.Now().Add(ttl)}, err
	}))
	if err != nil {
		return *new(R), err
	}
	return k.value.(R), nil
}
