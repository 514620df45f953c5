package feed

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/platform/fault"
)

// Config holds a hub's limits and what it reports to.
type Config struct {
	MaxSubscriptions int // of all tenants; default 10,000
	MaxPerTenant     int // default 2,500
	// MaxChannels bounds the readers, one for each tenant and kind in use, and
	// with RingBytes the memory of their rings; default 256.
	MaxChannels int
	RingEvents  int // recent events kept of a channel; default 2048
	RingBytes   int // and their bytes, with encodings; default 4 MiB
	// Lookback is how many sequences a new channel reads back, so that consumers
	// who come back after a restart need not read the source each; default RingEvents.
	Lookback int
	// ChunkEvents and ChunkBytes bound what a consumer that is behind holds at a
	// time; default 256 and 256 KiB.
	ChunkEvents, ChunkBytes int
	Spills                  int           // consumers that read the source at once; default 16
	Check                   time.Duration // how often a channel is compared with its source; default 10s
	Linger                  time.Duration // how long a channel without consumers stays; default 30s
	Retry                   time.Duration // between attempts to read a source that fails; default 500ms
	// End has for a kind the types after which nothing follows for one thing of it,
	// such as the terminal states of a job.
	End map[string][]string
	// Known returns NotFound where there is nothing of this kind and id that the caller, whom
	// the context has, may see. Only consumers that begin now are held to it, since they would
	// wait for ever: what happened before may be kept for longer than the thing itself. Other
	// errors refuse nobody. Nil takes any id.
	Known func(ctx context.Context, kind, id string) error

	Now     func() time.Time      // default time.Now
	Log     *slog.Logger          // nil discards
	Metrics prometheus.Registerer // nil registers nowhere
}

func (c Config) resolve() (Config, error) {
	c.MaxSubscriptions = cmp.Or(c.MaxSubscriptions, 10_000)
	c.MaxPerTenant = cmp.Or(c.MaxPerTenant, 2_500)
	c.MaxChannels = cmp.Or(c.MaxChannels, 256)
	c.RingEvents = cmp.Or(c.RingEvents, 2048)
	c.RingBytes = cmp.Or(c.RingBytes, 4<<20)
	c.Lookback = cmp.Or(c.Lookback, c.RingEvents)
	c.ChunkEvents = cmp.Or(c.ChunkEvents, 256)
	c.ChunkBytes = cmp.Or(c.ChunkBytes, 256<<10)
	c.Spills = cmp.Or(c.Spills, 16)
	c.Check = cmp.Or(c.Check, 10*time.Second)
	c.Linger = cmp.Or(c.Linger, 30*time.Second)
	c.Retry = cmp.Or(c.Retry, 500*time.Millisecond)
	for _, n := range []int{
		c.MaxSubscriptions, c.MaxPerTenant, c.MaxChannels, c.RingEvents, c.RingBytes, c.Lookback,
		c.ChunkEvents, c.ChunkBytes, c.Spills, int(c.Check), int(c.Linger), int(c.Retry),
	} {
		if n < 0 {
			return c, fault.New(fault.Invalid, "feed: a limit is negative; leave it out for its default").WithCode("feed_config_invalid")
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
