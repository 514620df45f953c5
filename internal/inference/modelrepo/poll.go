package modelrepo

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"
)

// Poll looks at the repository at every interval (> 0) until ctx ends and calls
// report with the whole listing, sorted by name, each time that a model
// appeared, changed or went, and with the error each time that it could not be
// listed. The first report is what the repository held at the start.
//
// A change counts once two looks in a row saw the same, so that an upload in
// progress or a folder that is just being swapped is not taken for the new
// state: until then the listing has the model as it was reported last.
func (r *Repo) Poll(ctx context.Context, every time.Duration, report func([]Entry, error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var w watch
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		seen, err := r.Scan(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			report(nil, err)
			continue
		}
		if listing, changed := w.settle(seen); changed {
			report(listing, nil)
		}
	}
}

// watch tells settled changes from passing ones.
type watch struct {
	before   map[string]string // fingerprints of the look before, by name
	reported map[string]Entry
}

// settle takes what one look saw. It returns the listing to report and whether
// it differs from the one before.
func (w *watch) settle(seen []Entry) (listing []Entry, changed bool) {
	now, next := map[string]string{}, map[string]Entry{}
	for _, e := range seen {
		now[e.Name] = e.Fingerprint
	}
	for _, e := range seen {
		if w.before[e.Name] == e.Fingerprint {
			next[e.Name] = e
		} else if old, ok := w.reported[e.Name]; ok {
			next[e.Name] = old
		}
	}
	for name, old := range w.reported {
		_, here := now[name]
		_, wasHere := w.before[name]
		if !here && wasHere { // gone only this once
			next[name] = old
		}
	}
	changed = len(next) != len(w.reported)
	for name, e := range next {
		changed = changed || w.reported[name].Fingerprint != e.Fingerprint
	}
	w.before, w.reported = now, next
	return sorted(next), changed
}

func sorted(entries map[string]Entry) []Entry {
	return slices.SortedFunc(maps.Values(entries), func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
}
