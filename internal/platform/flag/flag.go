// Package flag has feature flags: switches that a tenant turns without a
// deployment, for everybody or for a share of units that stays the same.
//
// A flag that is not there, or cannot be read, has the caller's default. Limits:
// flags are on or off, without variants, and are read from the store each time:
// keep them off the hot path, or cache them as a query.
package flag

import (
	"context"
	"errors"
	"hash/fnv"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Key names a flag within its tenant.
type Key string

// Flag is a switch.
type Flag struct {
	aggregate.Root[Key]
	Description string `json:"description"`
	Enabled     bool   `json:"enabled"`
	// Percent is the share of units, 0 to 100, for which an enabled flag is on.
	Percent int `json:"percent"`
}

// Flags keeps them.
var Flags = repo.Kind[Key, Flag]{
	Name: "feature_flags", Root: func(f *Flag) *aggregate.Root[Key] { return &f.Root },
	Columns: []spec.Column[Flag]{spec.BoolField("enabled", func(f *Flag) bool { return f.Enabled })},
}

// Changed says what a flag has become.
type Changed struct {
	Enabled bool `json:"enabled"`
	Percent int  `json:"percent"`
}

// EventType implements aggregate.Event.
func (Changed) EventType() string { return "feature_flag.changed" }

// New returns a flag.
func New(key Key, description string, enabled bool, percent int) (*Flag, error) {
	f := &Flag{Description: description}
	f.ID = key
	return f, f.Set(enabled, percent)
}

// Set turns the flag.
func (f *Flag) Set(enabled bool, percent int) error {
	if percent < 0 || percent > 100 {
		return fault.New(fault.Unprocessable, "percent is %d, expected 0 to 100", percent).WithCode("percent_out_of_range")
	}
	if changed := (Changed{enabled, percent}); changed != (Changed{f.Enabled, f.Percent}) || f.Version == 0 {
		f.Enabled, f.Percent = enabled, percent
		f.Record(changed)
	}
	return nil
}

// On says whether the flag is on for a unit, a user or a request say. The same
// unit has the same answer while the flag does not change, and a unit that is on
// stays so while Percent grows.
func (f *Flag) On(unit string) bool {
	if !f.Enabled {
		return false
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(string(f.ID) + "\x00" + unit)) // never fails
	return int(mix(h.Sum32())%100) < f.Percent
}

// mix spreads the hash's bits, of which FNV leaves the last ones uneven for
// texts that differ at their end (the finalizer of MurmurHash3).
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// On says whether a flag is on for a unit, and otherwise if there is no such flag.
func On(ctx context.Context, from repo.Reading, key Key, unit string, otherwise bool) (bool, error) {
	f, err := Flags.Get(ctx, from, key)
	if errors.Is(err, repo.ErrNotFound) {
		return otherwise, nil
	}
	if err != nil {
		return otherwise, err
	}
	return f.On(unit), nil
}
