package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
)

// pageSize is the most things that the server gives at once.
const pageSize = 500

// latest shows a list, the latest first, at most limit of it, and says so where there are
// more; 0 is all. The path has a query.
func (p *program) latest(ctx context.Context, columns []column, path string, limit int) error {
	if limit < 0 {
		return usagef("--limit is how many at most, or 0 for all, got %d", limit)
	}
	path += "&order=desc"
	if limit > 0 {
		path += "&limit=" + strconv.Itoa(min(limit+1, pageSize))
	}
	things, more := p.client.All(ctx, path, 0), false
	err := p.table(columns, func(yield func(json.RawMessage, error) bool) {
		n := 0
		for thing, err := range things {
			if more = err == nil && limit > 0 && n == limit; more || !yield(thing, err) {
				return
			}
			n++
		}
	})
	if more && err == nil {
		_, err = fmt.Fprintf(p.err, "sluice: these are the latest %d, and there are more: --limit says how many are shown, 0 is all\n", limit)
	}
	return err
}
