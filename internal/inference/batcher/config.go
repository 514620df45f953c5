package batcher

import (
	"slices"
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/spare"
)

const defaultMaxQueue = 4096

// settle fills defaults and normalises, or names the field that is wrong.
func (c Config) settle() (Config, error) {
	var x Explicit
	if c.Explicit != nil {
		x = *c.Explicit
		x.PreferredSizes = slices.Clone(x.PreferredSizes)
		slices.Sort(x.PreferredSizes)
	}
	c.Explicit = &x
	if err := c.validate(); err != nil {
		return c, err
	}
	if c.Executors == 0 {
		c.Executors = spare.Cores()
	}
	if x.PreserveOrdering {
		c.Executors = 1
	}
	if x.MaxQueueSize > 0 {
		c.MaxQueue = x.MaxQueueSize
	}
	if c.MaxQueue == 0 {
		c.MaxQueue = defaultMaxQueue
	}
	if c.Cost == nil {
		c.Cost = NewCost(c.MaxRows, c.Executors)
	}
	if x.PriorityLevels > 0 && x.DefaultPriority == 0 {
		x.DefaultPriority = (x.PriorityLevels + 1) / 2
	}
	return c, nil
}

func (c *Config) validate() error {
	x := c.Explicit
	switch {
	case c.MaxRows < 1:
		return fault.New(fault.Invalid, "batcher: MaxRows is %d, expected at least 1", c.MaxRows)
	case c.SLO <= 0:
		return fault.New(fault.Invalid, "batcher: SLO is %v, expected a positive duration", c.SLO)
	case c.Executors < 0:
		return fault.New(fault.Invalid, "batcher: Executors is %d, expected 0 or more", c.Executors)
	case c.MaxQueue < 0 || x.MaxQueueSize < 0:
		return fault.New(fault.Invalid, "batcher: the queue size must not be negative")
	case x.MaxQueueDelay < 0 || x.DefaultTimeout < 0:
		return fault.New(fault.Invalid, "batcher: MaxQueueDelay and DefaultTimeout must not be negative")
	case x.PriorityLevels < 0 || x.DefaultPriority < 0 || x.DefaultPriority > x.PriorityLevels:
		return fault.New(fault.Invalid, "batcher: DefaultPriority is %d, expected one of %d levels", x.DefaultPriority, x.PriorityLevels)
	}
	for _, n := range x.PreferredSizes {
		if n < 1 || n > c.MaxRows {
			return fault.New(fault.Invalid, "batcher: preferred size %d, expected 1 to %d", n, c.MaxRows)
		}
	}
	return nil
}

// windowed says that settings, not costs, decide when and how much to run.
func (x *Explicit) windowed() bool { return len(x.PreferredSizes) > 0 || x.MaxQueueDelay > 0 }

// timeouts says that settings, and not the SLO, decide when a task is too late.
func (x *Explicit) timeouts() bool {
	return x.DefaultTimeout > 0 || x.AllowTimeoutOverride || x.TimeoutDelay
}

// level returns the level of a task that asks for the given priority, 0 being
// the most urgent.
func (x *Explicit) level(priority int) int {
	if x.PriorityLevels == 0 {
		return 0
	}
	if priority < 1 || priority > x.PriorityLevels {
		priority = x.DefaultPriority
	}
	return min(priority, maxLevels) - 1
}

// maxLevels is how many priority levels are told apart.
const maxLevels = 100

// due returns when a task must be answered, in its caller's time; never if
// nothing limits it.
func (c *Config) due(arrived time.Duration, own time.Duration) time.Duration {
	x := c.Explicit
	switch {
	case !x.timeouts():
		return min(own, arrived+c.SLO)
	case x.DefaultTimeout == 0 && x.AllowTimeoutOverride:
		return own
	case x.DefaultTimeout == 0:
		return never
	case x.AllowTimeoutOverride:
		return min(own, arrived+x.DefaultTimeout)
	}
	return arrived + x.DefaultTimeout
}
