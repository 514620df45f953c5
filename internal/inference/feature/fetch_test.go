package feature_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"sluice/internal/inference/feature"
	"sluice/internal/inference/feature/memfeature"
	"sluice/internal/inference/model"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
)

// moody is a store that fails, or hangs, as told.
type moody struct {
	memfeature.Store
	fail  error
	hangs bool
	reads int
}

func (m *moody) Read(ctx context.Context, tenant string, keys []feature.Key, asOf time.Time) ([]feature.Row, error) {
	m.reads++
	if m.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if m.fail != nil {
		return nil, m.fail
	}
	return m.Store.Read(ctx, tenant, keys, asOf)
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// newFetcher has the view users of acme, with rows of ann at noon and of bob a day before.
func newFetcher(t *testing.T) (*feature.Fetcher, *moody) {
	t.Helper()
	views := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	v, err := feature.NewView("users", "", []feature.Feature{
		{Name: "age", Datatype: "FP32", Default: json.RawMessage("-1"), MaxAge: 48 * time.Hour},
		{Name: "spent", Datatype: "FP32", Shape: tensor.Shape{2}, Default: json.RawMessage("[0, 0.5]")},
		{Name: "bare", Datatype: "FP32"}, {Name: "tag", Datatype: "BYTES", Default: json.RawMessage(`"none"`)},
	}, 0, "rows-1")
	if err == nil {
		err = views.Do(t.Context(), repo.Scope{Tenant: "acme", Actor: "test"}, func(ctx context.Context, tx *repo.Tx) error { return feature.Views.Add(ctx, tx, v) })
	}
	if err != nil {
		t.Fatal(err)
	}
	m := &moody{}
	for _, r := range []feature.Row{
		{Entity: "ann", EventTime: noon, Values: json.RawMessage(`{"age":30,"spent":[1,2],"tag":"é"}`)},
		{Entity: "bob", EventTime: noon.Add(-24 * time.Hour), Values: json.RawMessage(`{"age":40,"spent":null}`)},
	} {
		if err := m.Write(t.Context(), "acme", "rows-1", []feature.Row{r}, noon, 1e6*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	f, err := feature.NewFetcher(m, views, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f, m
}

func want(entities []string, change func(*model.FeatureInput, *model.Port)) feature.Ask {
	in := &model.FeatureInput{Input: "x", View: "users", Features: []string{"age", "spent"}, OnMissing: model.FeatureDefault}
	port := &model.Port{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{-1, 3}}
	if change != nil {
		change(in, port)
	}
	return feature.Ask{Tenant: "acme", AsOf: noon.Add(time.Hour), Timeout: time.Minute, Wants: []feature.Want{{FeatureInput: in, Port: port, Batches: true, Entities: entities}}}
}

func floats(data []byte) (out []float32) {
	for ; len(data) > 0; data = data[4:] {
		out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(data)))
	}
	return out
}

func times(data []byte) (out []int64) {
	for ; len(data) > 0; data = data[8:] {
		out = append(out, int64(binary.LittleEndian.Uint64(data)))
	}
	return out
}

// Rows are made of what was known as of a time, in the order of the entities, and say
// since when it was.
func TestInputsAreWhatWasKnown(t *testing.T) {
	f, m := newFetcher(t)
	at, before := noon.UnixMilli(), noon.Add(-24*time.Hour).UnixMilli()
	for name, c := range map[string]struct {
		ask    feature.Ask
		values []float32
		times  []int64
	}{
		"several": {want([]string{"bob", "nobody", "ann", "bob"}, nil), []float32{40, 0, 0.5, -1, 0, 0.5, 30, 1, 2, 40, 0, 0.5}, []int64{before, 0, 0, 0, at, at, before, 0}},
		"none":    {want([]string{}, nil), nil, nil},
		"before it was written": {func() feature.Ask {
			a := want([]string{"ann", "bob"}, nil)
			a.AsOf = noon.Add(-time.Hour)
			return a
		}(), []float32{-1, 0, 0.5, -1, 0, 0.5}, []int64{0, 0, 0, 0}},
		"the view's age": {func() feature.Ask {
			a := want([]string{"bob"}, nil)
			a.AsOf = noon.Add(25 * time.Hour)
			return a
		}(), []float32{-1, 0, 0.5}, []int64{0, 0}},
		"the model's age": {want([]string{"bob", "ann"}, func(in *model.FeatureInput, _ *model.Port) { in.MaxAge = 2 * time.Hour }), []float32{-1, 0, 0.5, 30, 1, 2}, []int64{0, 0, at, at}},
		"any width":       {want([]string{"ann"}, func(_ *model.FeatureInput, p *model.Port) { p.Shape = tensor.Shape{-1, -1} }), []float32{30, 1, 2}, []int64{at, at}},
	} {
		m.reads = 0
		got, err := f.Fetch(t.Context(), c.ask)
		if err != nil || len(got) != 1 || m.reads != min(len(c.ask.Wants[0].Entities), 1) {
			t.Fatalf("%s: %v, %d reads", name, err, m.reads)
		}
		in := got[0].Input
		if !slices.Equal(floats(in.Data), c.values) || !slices.Equal(times(got[0].Times.Data), c.times) || in.Validate() != nil || !in.Shape.Equal(tensor.Shape{int64(len(c.ask.Wants[0].Entities)), 3}) {
			t.Errorf("%s: %v of %s since %v", name, floats(in.Data), in.Shape, times(got[0].Times.Data))
		}
	}
	texts, err := f.Fetch(t.Context(), want([]string{"ann", "bob"}, func(in *model.FeatureInput, p *model.Port) {
		in.Features, p.Datatype, p.Shape = []string{"tag"}, tensor.Bytes, tensor.Shape{-1, 1}
	}))
	if err != nil || string(texts[0].Input.Data) != string(tensor.AppendBytes(tensor.AppendBytes(nil, "é"), "none")) {
		t.Errorf("%q, %v", texts[0].Input.Data, err)
	}
}

// What cannot be made is refused with why, and what cannot be read as the model has it.
func TestRefusals(t *testing.T) {
	f, m := newFetcher(t)
	change := func(c func(in *model.FeatureInput, p *model.Port)) feature.Ask { return want([]string{"bob"}, c) }
	many := make([]string, feature.MaxRows+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for code, ask := range map[string]feature.Ask{
		"feature_view_missing": change(func(in *model.FeatureInput, _ *model.Port) { in.View = "others" }),
		"features_unfit":       change(func(_ *model.FeatureInput, p *model.Port) { p.Shape = tensor.Shape{-1, 4} }),
		"feature_missing":      change(func(in *model.FeatureInput, _ *model.Port) { in.OnMissing = model.FeatureError }),
		"features_too_many":    want(many, nil),
	} {
		if _, err := f.Fetch(t.Context(), ask); !fault.Is(err, fault.Unprocessable) || fault.CodeOf(err) != code {
			t.Errorf("%s: %v", code, err)
		}
	}
	for name, c := range map[string]func(in *model.FeatureInput, p *model.Port){
		"datatype": func(_ *model.FeatureInput, p *model.Port) { p.Datatype = tensor.Int64 },
		"unknown":  func(in *model.FeatureInput, _ *model.Port) { in.Features = []string{"size"} },
	} {
		if _, err := f.Fetch(t.Context(), change(c)); fault.CodeOf(err) != "features_unfit" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := f.Fetch(t.Context(), change(func(in *model.FeatureInput, p *model.Port) {
		in.Features, p.Shape = []string{"bare"}, tensor.Shape{-1, 1}
	})); fault.CodeOf(err) != "feature_missing" {
		t.Errorf("without a default: %v", err)
	}
	other := change(nil)
	if other.Tenant = "rival"; true {
		if _, err := f.Fetch(t.Context(), other); fault.CodeOf(err) != "feature_view_missing" {
			t.Errorf("another tenant: %v", err)
		}
	}
	for code, set := range map[string]func(){
		"features_unavailable": func() { m.fail = errors.New("away") },
		"features_timeout":     func() { m.hangs = true },
	} {
		set()
		ask := change(nil)
		ask.Timeout = time.Millisecond
		if _, err := f.Fetch(t.Context(), ask); fault.CodeOf(err) != code {
			t.Errorf("%s: %v", code, err)
		}
		ask.Lenient = true
		got, err := f.Fetch(t.Context(), ask)
		if err != nil || !slices.Equal(floats(got[0].Input.Data), []float32{-1, 0, 0.5}) || !slices.Equal(times(got[0].Times.Data), []int64{0, 0}) {
			t.Errorf("%s, with defaults: %v", code, err)
		}
		m.hangs = false
	}
}

// What inputs take is reserved before the store is read, and rows only while they are
// needed; a view that is too wide is refused.
func TestMemoryIsReserved(t *testing.T) {
	f, m := newFetcher(t)
	full := fault.New(fault.Unavailable, "full").WithCode(budget.Code)
	for limit, reads := range map[int64]int{39: 0, feature.MaxValues: 0, 1 << 40: 1} {
		ask, held := want([]string{"ann", "bob"}, nil), int64(0)
		ask.Lenient, m.reads = true, 0
		ask.Reserve = func(n int64) error {
			if held+n > limit {
				return full
			}
			held += n
			return nil
		}
		ask.Return = func(n int64) { held -= n }
		got, err := f.Fetch(t.Context(), ask)
		if m.reads != reads || (err != nil) != (reads == 0) || err != nil && fault.CodeOf(err) != budget.Code {
			t.Errorf("with %d bytes: %d reads, %v", limit, m.reads, err)
		}
		if err == nil && held != int64(len(got[0].Input.Data)+len(got[0].Times.Data)) {
			t.Errorf("%d bytes are held for %d and %d", held, len(got[0].Input.Data), len(got[0].Times.Data))
		}
		if ask = want([]string{"ann"}, func(in *model.FeatureInput, p *model.Port) {
			in.Features, p.Datatype, p.Shape = []string{"tag"}, tensor.Bytes, tensor.Shape{-1, 1}
		}); reads == 1 {
			held = 0
			ask.Reserve = func(n int64) error { held += n; return nil }
			ask.Return = func(n int64) { held -= n }
			if got, err := f.Fetch(t.Context(), ask); err != nil || held < int64(len(got[0].Input.Data)+len(got[0].Times.Data)) || held > 100 {
				t.Errorf("%d bytes are held for texts, %v", held, err)
			}
		}
	}
	wide := slices.Repeat([]string{"spent"}, 20_000)
	if _, err := f.Fetch(t.Context(), want([]string{"ann"}, func(in *model.FeatureInput, p *model.Port) { in.Features, p.Shape = wide, tensor.Shape{-1, -1} })); fault.CodeOf(err) != "features_unfit" {
		t.Errorf("too wide: %v", err)
	}
}

// The time that is allowed is that of reading the views, too; one that was seen is taken
// as it was then.
func TestViewsAreReadInTime(t *testing.T) {
	f, _ := newFetcher(t)
	ask := want([]string{"ann"}, nil)
	ask.Timeout = -1
	if _, err := f.Fetch(t.Context(), ask); fault.CodeOf(err) != "features_timeout" {
		t.Errorf("views that were not read in time: %v", err)
	}
}

// Views and rows that are wrong are refused; a feature keeps its form.
func TestViewsAreChecked(t *testing.T) {
	good := []feature.Feature{{Name: "n", Datatype: "INT64"}}
	for name, bad := range map[string][]feature.Feature{
		"none": {}, "no name": {{Datatype: "FP32"}}, "twice": {good[0], good[0]}, "datatype": {{Name: "n", Datatype: "float"}}, "half": {{Name: "n", Datatype: "FP16"}},
		"shape": {{Name: "n", Datatype: "FP32", Shape: tensor.Shape{0}}}, "large": {{Name: "n", Datatype: "FP32", Shape: tensor.Shape{1 << 40, 1 << 40}}}, "default": {{Name: "n", Datatype: "INT64", Default: json.RawMessage("1.5")}},
		"list": {{Name: "n", Datatype: "INT64", Default: json.RawMessage("[1]")}}, "short": {{Name: "n", Datatype: "INT64", Shape: tensor.Shape{2}, Default: json.RawMessage("[1]")}},
	} {
		if _, err := feature.NewView("v", "", bad, 0, "r"); !fault.Is(err, fault.Unprocessable) || fault.CodeOf(err) != "feature_view_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	v, err := feature.NewView("v", "", good, 0, "r")
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Set("", []feature.Feature{{Name: "n", Datatype: "FP32"}}, 0); fault.CodeOf(err) != "feature_view_invalid" {
		t.Errorf("another datatype: %v", err)
	}
	for name, values := range map[string]string{"unknown": `{"m":1}`, "text": `{"n":"1"}`, "fraction": `{"n":1.5}`, "two": `{"n":1 2}`, "list": `[1]`, "behind": `{"n":1}x`} {
		if err := v.CheckRow(&feature.Row{Entity: "e", EventTime: noon, Values: json.RawMessage(values)}); fault.CodeOf(err) != "feature_row_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, values := range []string{``, `{}`, `{"n":null}`, `{"n": 7 }`} {
		if err := v.CheckRow(&feature.Row{Entity: "e", EventTime: noon, Values: json.RawMessage(values)}); err != nil {
			t.Errorf("%s: %v", values, err)
		}
	}
}
