package feature

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// Fetcher makes inputs of models of what is known of entities.
type Fetcher struct {
	store   Store
	views   *repo.Store
	now     func() time.Time
	values  *prometheus.CounterVec
	reading prometheus.Histogram

	mu    sync.Mutex
	known map[ref]seen
}

// ref is a tenant's view, and seen what it was when it was last looked at.
type ref struct {
	tenant string
	view   Name
}

type seen struct {
	view *View
	at   time.Time
}

// How long a view is taken to be as it was, and how many are remembered.
const (
	remember = 5 * time.Second
	maxKnown = 4096
)

// NewFetcher returns a fetcher of the rows of a store, whose views are kept in another.
func NewFetcher(store Store, views *repo.Store, metrics prometheus.Registerer) (*Fetcher, error) {
	f := &Fetcher{store: store, views: views, now: time.Now, known: map[ref]seen{},
		values: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sluice_features_total", Help: "Features that inputs of models were made of, by what was there: found, missing, stale (older than max_age), failed (the store could not be read). All but found have their default, or the request is refused.",
		}, []string{"view", "outcome"}),
		reading: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_features_read_seconds", Help: "Time of reading the features of one request.", Buckets: prometheus.ExponentialBucketsRange(50e-6, 10, 16),
		})}
	if metrics != nil {
		if err := errors.Join(metrics.Register(f.values), metrics.Register(f.reading)); err != nil {
			return nil, fault.Wrap(fault.Internal, err, "a metric cannot be registered")
		}
	}
	return f, nil
}

// Ask asks for inputs of one request.
type Ask struct {
	Tenant  string
	AsOf    time.Time // what was known then
	Timeout time.Duration
	Lenient bool // what cannot be read in time has its default
	Wants   []Want
	// Reserve takes bytes of the request's memory before they are set aside, and its error
	// refuses the request; Return gives back what is not needed any more. Both may be nil.
	Reserve func(bytes int64) error
	Return  func(bytes int64)
}

// reserve takes memory, if somebody counts it.
func (a *Ask) reserve(bytes int64) error {
	if a.Reserve == nil {
		return nil
	}
	return a.Reserve(bytes)
}

func (a *Ask) giveBack(bytes int64) {
	if a.Return != nil {
		a.Return(bytes)
	}
}

// Want is an input.
type Want struct {
	*model.FeatureInput
	Port     *model.Port
	Batches  bool     // the first dimension is that of rows
	Entities []string // one for each row
}

// Filled is an input as it was made.
type Filled struct {
	Input tensor.Tensor
	// Times are the event times of its values in Unix milliseconds, an INT64 for each row
	// and feature; 0 where the default was taken.
	Times tensor.Tensor
}

// Fetch makes the inputs, of rows that are read at once. What the request, the view or the
// configuration has wrong is fault.Unprocessable; fault.Unavailable says that the store
// cannot be read, and fault.DeadlineExceeded that it took too long, with the views. What
// the inputs take stays reserved, and is the caller's to give back.
func (f *Fetcher) Fetch(ctx context.Context, a Ask) ([]Filled, error) {
	limited, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	views := make([]*View, len(a.Wants))
	size := int64(0)
	var keys []Key
	index := map[Key]int{}
	for i, w := range a.Wants {
		var err error
		if views[i], err = f.view(limited, ref{a.Tenant, Name(w.View)}); err != nil {
			return nil, late(ctx, limited, a.Timeout, err)
		}
		features, width, err := chosen(&w, views[i])
		if err != nil {
			return nil, err
		}
		size += int64(len(w.Entities)) * (width*int64(w.Port.Datatype.Size()) + int64(len(features))*8)
		for _, e := range w.Entities {
			k := Key{views[i].Rows, e}
			if _, there := index[k]; !there {
				index[k] = len(keys)
				keys = append(keys, k)
			}
		}
	}
	if len(keys) > MaxRows {
		return nil, fault.New(fault.Unprocessable, "the request is about %d entities, at most %d are possible: send fewer rows", len(keys), MaxRows).WithCode("features_too_many")
	}
	if err := a.reserve(size); err != nil {
		return nil, err
	}
	rows, held, err := f.read(ctx, limited, &a, keys)
	defer func() { a.giveBack(held) }()
	if err != nil && (!a.Lenient || ctx.Err() != nil || fault.CodeOf(err) == budget.Code) {
		return nil, err
	}
	r := reading{ask: &a, f: f, asOf: a.AsOf, rows: rows, failed: err != nil, index: index, values: make([]map[string]json.RawMessage, len(keys))}
	out := make([]Filled, len(a.Wants))
	for i := range a.Wants {
		if out[i], err = r.fill(&a.Wants[i], views[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pageRows is how many rows are read at once: what they may have is reserved before.
const pageRows = 128

// read reads rows, for as long as is allowed, and says how much is reserved for them.
func (f *Fetcher) read(ctx, limited context.Context, a *Ask, keys []Key) (rows []Row, held int64, err error) {
	begin := time.Now()
	defer func() { f.reading.Observe(time.Since(begin).Seconds()) }()
	rows = make([]Row, 0, len(keys))
	for page := range slices.Chunk(keys, pageRows) {
		most := int64(len(page)) * MaxValues
		if err := a.reserve(most); err != nil {
			return nil, held, err
		}
		held += most
		got, err := f.store.Read(limited, a.Tenant, page, a.AsOf)
		if err != nil {
			err = fault.Wrap(fault.Unavailable, err, "the features cannot be read now").WithCode("features_unavailable").WithRetryAfter(time.Second)
			return nil, held, late(ctx, limited, a.Timeout, err)
		}
		for i := range got {
			most -= int64(len(got[i].Values))
		}
		a.giveBack(most)
		held, rows = held-most, append(rows, got...)
	}
	return rows, held, nil
}

// late says that an error is there because the time was over.
func late(ctx, limited context.Context, timeout time.Duration, err error) error {
	switch {
	case ctx.Err() != nil:
		return fault.Of(ctx.Err())
	case limited.Err() != nil:
		return fault.New(fault.DeadlineExceeded, "the features could not be read within %s", timeout).WithCode("features_timeout").WithRetryAfter(time.Second)
	}
	return err
}

// view returns a tenant's view as it was a moment ago.
func (f *Fetcher) view(ctx context.Context, r ref) (*View, error) {
	now := f.now()
	f.mu.Lock()
	s, known := f.known[r]
	f.mu.Unlock()
	if known && now.Sub(s.at) < remember {
		return s.view, nil
	}
	v, err := Views.Get(ctx, f.views.Read(repo.Scope{Tenant: r.tenant, Actor: "system"}), r.view)
	switch {
	case errors.Is(err, repo.ErrNotFound):
		return nil, fault.New(fault.Unprocessable, "the model takes features of the view %q, which this tenant does not have: make it, or send the input", r.view).WithCode("feature_view_missing")
	case err != nil && known: // the rows may be there all the same
		return s.view, nil
	case err != nil:
		return nil, fault.Wrap(fault.Unavailable, err, "the feature view %q cannot be read now", r.view).WithCode("features_unavailable").WithRetryAfter(time.Second)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for other := range f.known {
		if len(f.known) < maxKnown {
			break
		}
		delete(f.known, other) // any: the others are there yet where views cannot be read
	}
	f.known[r] = seen{&v, now}
	return &v, nil
}

// reading is what was read for a request.
type reading struct {
	f      *Fetcher
	ask    *Ask
	asOf   time.Time
	rows   []Row
	failed bool
	index  map[Key]int
	values []map[string]json.RawMessage // of rows, once they were looked at
}

// fill makes an input.
func (r *reading) fill(w *Want, v *View) (Filled, error) {
	features, width, err := chosen(w, v)
	if err != nil {
		return Filled{}, err
	}
	n := int64(len(w.Entities))
	shape, err := shaped(w, width)
	if err != nil {
		return Filled{}, err
	}
	out := Filled{Input: tensor.Tensor{Name: w.Port.Name, Datatype: w.Port.Datatype, Shape: shape},
		Times: tensor.Tensor{Name: w.Port.Name, Datatype: tensor.Int64, Shape: tensor.Shape{n, int64(len(features))}}}
	for at, e := range w.Entities {
		row, values := r.row(Key{v.Rows, e})
		for _, f := range features {
			value, outcome := r.choose(w, f, row, values)
			r.f.values.WithLabelValues(w.View, outcome).Inc()
			event := int64(0)
			if outcome == "found" {
				event = row.EventTime.UnixMilli()
			} else if value == nil || w.OnMissing == model.FeatureError && outcome != "failed" {
				return out, fault.New(fault.Unprocessable, "the feature %s of the view %s is %s for row %d of input '%s'", f.Name, w.View, outcome, at, w.Port.Name).WithCode("feature_missing")
			}
			if w.Port.Datatype.Size() == 0 { // of texts only the value says how long it is
				if err := r.ask.reserve(int64(len(value)) + 4*elements(f)); err != nil {
					return out, err
				}
			}
			if out.Input.Data, err = f.decode(out.Input.Data, value); err != nil {
				return out, fault.Wrap(fault.Internal, err, "a value of the feature %s of the view %s cannot be read", f.Name, w.View)
			}
			out.Times.Data = binary.LittleEndian.AppendUint64(out.Times.Data, uint64(event))
		}
	}
	return out, nil
}

// row returns what was read of an entity.
func (r *reading) row(k Key) (*Row, map[string]json.RawMessage) {
	if r.failed {
		return &Row{}, nil
	}
	i := r.index[k]
	if r.values[i] == nil {
		if r.values[i], _ = valuesOf(&r.rows[i]); r.values[i] == nil { // it was checked when it was written
			r.values[i] = map[string]json.RawMessage{}
		}
	}
	return &r.rows[i], r.values[i]
}

// choose returns the value of a feature, or its default, which may be nil, and why.
func (r *reading) choose(w *Want, f *Feature, row *Row, values map[string]json.RawMessage) (json.RawMessage, string) {
	limit := w.MaxAge
	if limit == 0 {
		limit = f.MaxAge
	}
	value := values[f.Name]
	switch {
	case r.failed:
		return f.Default, "failed"
	case isNull(value):
		return f.Default, "missing"
	case limit > 0 && r.asOf.Sub(row.EventTime) > limit:
		return f.Default, "stale"
	}
	return value, "found"
}

// chosen returns the features of an input, and how many elements they have together.
func chosen(w *Want, v *View) ([]*Feature, int64, error) {
	var features []*Feature
	width := int64(0)
	for _, name := range w.Features {
		f := v.Feature(name)
		if f == nil {
			return nil, 0, unfit("the view %q has no feature %q, which input '%s' is made of", v.ID, name, w.Port.Name)
		}
		if f.Datatype != w.Port.Datatype.String() {
			return nil, 0, unfit("the feature %s of the view %s is of %s, and input '%s' takes %s", name, v.ID, f.Datatype, w.Port.Name, w.Port.Datatype)
		}
		features, width = append(features, f), width+elements(f)
	}
	if width > maxWidth {
		return nil, 0, unfit("the features of input '%s' have %d elements together, at most %d are possible", w.Port.Name, width, maxWidth)
	}
	return features, width, nil
}

// maxWidth is how many elements an input has of one entity.
const maxWidth = 32 << 10

func elements(f *Feature) int64 {
	n, _ := f.Shape.Elements() // it was checked
	return n
}

// shaped returns the shape of an input whose rows have so many elements.
func shaped(w *Want, width int64) (tensor.Shape, error) {
	shape := append(tensor.Shape(nil), w.Port.Shape...)
	row, rest, open := shape, int64(1), -1
	if w.Batches {
		shape[0], row = int64(len(w.Entities)), shape[1:]
	}
	for i, d := range row {
		if d >= 0 {
			rest *= d
		} else if open < 0 {
			open = i
		} else {
			rest = 0
		}
	}
	if open >= 0 && rest > 0 {
		row[open] = width / rest
		rest *= row[open]
	}
	if rest != width {
		return nil, unfit("the features of input '%s' have %d elements together, and it takes rows of shape %s", w.Port.Name, width, w.Port.Shape)
	}
	return shape, nil
}

func unfit(format string, args ...any) error {
	return fault.New(fault.Unprocessable, format, args...).WithCode("features_unfit")
}
