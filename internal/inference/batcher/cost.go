package batcher

import (
	"encoding/json"
	"math/bits"
	"slices"
	"sync"
	"time"

	"sluice/internal/platform/fault"
)

// Cost is the table of a model's run times: what n rows take while k other
// runs are in progress. It is safe for concurrent use.
type Cost struct {
	mu    sync.Mutex
	sizes []int
	rows  [][]float64
}

// NewCost returns an empty table for runs of up to maxRows rows.
func NewCost(maxRows int) *Cost {
	c := &Cost{}
	for n := 1; n < maxRows; n <<= 1 {
		c.sizes = append(c.sizes, n)
	}
	c.sizes = append(c.sizes, maxRows)
	return c
}

// Seed sets the run time of n rows with k other runs in progress.
func (c *Cost) Seed(n, k int, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.rows) <= k {
		c.rows = append(c.rows, make([]float64, len(c.sizes)))
	}
	i, _ := slices.BinarySearch(c.sizes, n)
	if i < len(c.sizes) {
		c.rows[k][i] = float64(d)
	}
}

// Estimate returns the expected run time of n rows with k other runs in
// progress; 0 means that nothing is known.
func (c *Cost) Estimate(n, k int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.rows) == 0 {
		return 0
	}
	k = min(k, len(c.rows)-1)
	i, _ := slices.BinarySearch(c.sizes, n)
	return time.Duration(c.rows[k][min(i, len(c.sizes)-1)])
}

// Knee returns the smallest run size with at least 90 % of the best known
// rows per second; 0 means that nothing is known.
func (c *Cost) Knee() int {
	return 1 << (bits.Len(uint(len(c.sizes))) - 1)
}

type costJSON struct {
	Sizes []int       `json:"sizes"`
	Rows  [][]float64 `json:"nanoseconds"`
}

// MarshalJSON writes the table, so that a warm-up sweep can be cached.
func (c *Cost) MarshalJSON() ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return json.Marshal(costJSON{c.sizes, c.rows})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Cost) UnmarshalJSON(data []byte) error {
	var j costJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fault.Wrap(fault.Invalid, err, "cost table: not valid JSON")
	}
	c.sizes, c.rows = j.Sizes, j.Rows
	return nil
}
