package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
)

// pageSize is the most things that the server gives at once.
const pageSize = 500

// latest shows a list as q filters it, the latest first, at most limit things of it, and says so
// where there are more; 0 is all.
func (p *program) latest(ctx context.Context, columns []column, list string, q url.Values, limit int) error {
	if limit < 0 {
		return usagef("--limit is how many at most, or 0 for all, got %d", limit)
	}
	q.Set("order", "desc")
	if limit > 0 {
		q.Set("limit", strconv.Itoa(min(limit, pageSize-1)+1)) // one more tells that there is more
	}
	things, more := p.client.All(ctx, list+"?"+q.Encode(), 0), false
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

// query is those parameters of a request that have a value.
func query(parameters map[string]string) url.Values {
	q := url.Values{}
	for name, value := range parameters {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q
}
