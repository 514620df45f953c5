package evaluation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/inference/model"
	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// swapped exchanges the two numbers of rows whose first is negative: their class flips, unless
// both are equal.
func swapped(x []float32) ([]float32, error) {
	if x[0] < 0 {
		return []float32{x[1], x[0]}, nil
	}
	return x, nil
}

// picky fails rows whose first number is above 8.
func picky(x []float32) ([]float32, error) {
	if x[0] > 8 {
		return nil, fault.New(fault.Internal, "it breaks").WithCode("run_failed")
	}
	return swapped(x)
}

// predictions draws what was asked: requests of some rows.
func predictions(t *rapid.T, most int) (list [][]float32) {
	for range rapid.IntRange(0, most).Draw(t, "predictions") {
		var x []float32
		for range rapid.IntRange(1, 3).Draw(t, "rows") {
			x = append(x, float32(rapid.IntRange(-9, 9).Draw(t, "a")), float32(rapid.IntRange(-9, 9).Draw(t, "b")))
		}
		list = append(list, x)
	}
	return list
}

// A version that is compared with itself, or with what it has answered, never differs.
func TestItselfNeverDiffers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		list := predictions(rt, 20)
		b := newBed(t, logOf(list...))
		b.models["1"], b.models["2"] = same, swapped
		for _, in := range []Start{{Candidate: "1"}, {Candidate: "2", Baseline: "2"}} {
			id := b.start(t, in).ID
			b.run(id)
			e, rows := b.find(t, id), int64(0)
			for _, x := range list {
				rows += int64(len(x) / 2)
			}
			if r := e.Done.Result; e.Status != Completed || r.Flips != 0 || r.Rows != rows || r.Cases != int64(len(list)) || len(e.Done.Diff.Parts) != 0 || len(b.diff(t, id, 0)) != 0 {
				rt.Fatalf("%+v", e)
			}
			if (e.Done.Result.FlipRate() == nil) != (rows == 0) {
				rt.Fatal("a rate of nothing")
			}
		}
	})
}

// A version that was perturbed flips exactly the rows that it flips, overall and by segments;
// rows that it cannot answer are among them.
func TestPerturbedFlipsWhatItFlips(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		list := predictions(rt, 30)
		b := newBed(t, logOf(list...))
		b.models["2"] = picky
		e := b.start(t, Start{Candidate: "2", Request: Request{By: []string{"arm", "in/x/0", "out/y"}}})
		b.run(e.ID)
		e = b.find(t, e.ID)
		var all Count
		errors, lines := int64(0), 0
		segments := map[string]map[string]*Count{"arm": {}, "in/x/0": {}, "out/y": {}}
		for i, x := range list {
			broken := false
			for row := 0; row < len(x); row += 2 {
				broken = broken || x[row] > 8
			}
			for row := 0; row < len(x); row += 2 {
				a, z := x[row], x[row+1]
				class := "0"
				if z > a {
					class = "1"
				}
				flip := broken || a < 0 && a != z
				for by, value := range map[string]string{"arm": fmt.Sprint("arm", i%2), "in/x/0": fmt.Sprint(a), "out/y": class} {
					c := segments[by][value]
					if c == nil {
						c = new(Count)
						segments[by][value] = c
					}
					c.Rows++
					if flip {
						c.Flips++
					}
				}
				if all.Rows++; flip {
					all.Flips++
					lines++
				}
				if broken {
					errors++
				}
			}
		}
		r := e.Done.Result
		if e.Status != Completed || r.Count != all || r.Errors != errors {
			rt.Fatalf("%+v, expected %+v and %d errors", r, all, errors)
		}
		for _, s := range r.Segments {
			if !reflect.DeepEqual(s.Values, segments[s.By]) {
				got, _ := json.Marshal(s.Values)
				want, _ := json.Marshal(segments[s.By])
				rt.Fatalf("by %s: %s, expected %s", s.By, got, want)
			}
		}
		if text := b.diff(t, e.ID, 0); bytes.Count(text, []byte("\n")) != lines || e.Done.Diff.Rows != int64(lines) {
			rt.Fatalf("%d lines, expected %d: %s", e.Done.Diff.Rows, lines, text)
		}
	})
}

// Whoever dies, and when: what an evaluation comes to is the same, and so are the bytes of
// its differences.
func TestDeathsChangeNothing(t *testing.T) {
	var list [][]float32
	for i := range 3*8 + 5 {
		list = append(list, []float32{float32(i%7 - 3), float32(i % 3)})
	}
	in := Start{Candidate: "2", Request: Request{By: []string{"arm"}}}
	run := func(t testing.TB, deaths func() int) (*Evaluation, []byte) {
		b := newBed(t, logOf(list...))
		b.models["2"] = swapped
		id := b.start(t, in).ID
		for range 200 {
			if b.find(t, id).Final() {
				break
			}
			b.lives(deaths())
			b.run(id)
			b.lives(-1)
			b.pass(time.Minute)
		}
		return b.find(t, id), b.diff(t, id, 0)
	}
	want, text := run(t, func() int { return -1 })
	if want.Status != Completed || want.Done.Chunks != 4 || len(want.Done.Diff.Parts) != 4 || len(text) == 0 || int64(len(text)) != want.Done.Diff.Bytes {
		t.Fatalf("%+v", want)
	}
	rapid.Check(t, func(rt *rapid.T) {
		got, again := run(t, func() int { return rapid.IntRange(3, 9).Draw(rt, "writes") })
		if got.Status != Completed || !bytes.Equal(text, again) || got.Done.Diff.SHA256 != want.Done.Diff.SHA256 {
			rt.Fatalf("%+v", got)
		}
		a, b := mustJSON(got.Done.Result), mustJSON(want.Done.Result)
		if a != b {
			rt.Fatalf("%s\n%s", a, b)
		}
	})
}

func mustJSON(v any) string { text, _ := json.Marshal(v); return string(text) }

// A poisonous case ends the evaluation once as many workers as are allowed have died of it.
func TestPoisonEnds(t *testing.T) {
	b := newBed(t, logOf([]float32{1, 2}))
	b.models["2"] = same
	id := b.start(t, Start{Candidate: "2"}).ID
	for range maxTries {
		b.lives(1) // it takes the evaluation, and dies
		b.run(id)
		b.lives(-1)
		b.pass(time.Minute)
	}
	b.run(id)
	if e := b.find(t, id); e.Status != Failed || e.Failure.Code != "attempts_exhausted" {
		t.Errorf("%+v", e)
	}
}

// What cannot be compared is skipped, and said why; what was masked is asked of both versions
// or of none.
func TestSkips(t *testing.T) {
	list := logOf([]float32{1, 2}, []float32{1, 2}, []float32{1, 2}, []float32{1, 2}, []float32{1, 2}, []float32{1, 2}, []float32{-1, 2})
	list[0].Content = nil
	in, out := floats("x", []float32{1, 2}), floats("y", []float32{1, 2})
	list[1].Content = record.AppendTensor(nil, record.Output, &out)
	list[2].Content = record.AppendTensor(nil, record.Input, &in)
	list[3].Content[0] |= 1 << 1 // a policy has altered inputs
	list[4].Content[len(list[4].Content)-1]++
	list[4].Content = list[4].Content[:len(list[4].Content)-1]
	list[5].Shadow = true
	b := newBed(t, list)
	b.models["1"], b.models["2"] = same, swapped
	for name, c := range map[string]struct {
		in   Start
		want Result
	}{
		"logged":  {Start{Candidate: "2"}, Result{Cases: 6, Count: Count{Rows: 1, Flips: 1}, Skipped: map[Skip]int64{NoContent: 1, NoInputs: 1, NoOutputs: 1, Masked: 1, Unavailable: 1}}},
		"version": {Start{Candidate: "2", Baseline: "1"}, Result{Cases: 6, Count: Count{Rows: 3, Flips: 1, Altered: 1}, Skipped: map[Skip]int64{NoContent: 1, NoInputs: 1, Unavailable: 1}}},
	} {
		id := b.start(t, c.in).ID
		b.run(id)
		r := b.find(t, id).Done.Result
		if r.Cases != c.want.Cases || r.Count != c.want.Count || !reflect.DeepEqual(r.Skipped, c.want.Skipped) {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestLimits(t *testing.T) {
	b := newBed(t, logOf([]float32{1, 2, 3, 4}, []float32{1, 2}, []float32{1, 2}))
	b.models["2"] = same
	for rows, want := range map[int64]struct {
		rows int64
		cut  bool
	}{1: {2, true}, 2: {2, true}, 3: {3, true}, 4: {4, false}, 9: {4, false}} {
		id := b.start(t, Start{Candidate: "2", Request: Request{MaxRows: rows}}).ID
		b.run(id)
		if r := b.find(t, id).Done.Result; r.Rows != want.rows || r.Cut != want.cut {
			t.Errorf("at most %d: %d rows, cut %t", rows, r.Rows, r.Cut)
		}
	}
	exactly := newBed(t, logOf(slices.Repeat([][]float32{{1, 2}}, 8)...)) // a chunk
	exactly.models["2"] = same
	whole := exactly.start(t, Start{Candidate: "2", Request: Request{MaxRows: 8}}).ID
	exactly.run(whole)
	if e := exactly.find(t, whole); e.Status != Completed || e.Done.Result.Rows != 8 || e.Done.Result.Cut {
		t.Errorf("all there is was asked: %+v", e.Done.Result)
	}
	id := b.start(t, Start{Candidate: "2", Request: Request{MaxTime: time.Second}}).ID
	b.lives(1) // it is taken, and its worker dies
	b.run(id)
	b.lives(-1)
	b.pass(time.Hour)
	b.run(id)
	if e := b.find(t, id); e.Status != Failed || e.Failure.Code != "evaluation_timeout" {
		t.Errorf("%+v", e)
	}
}

func TestBadRequests(t *testing.T) {
	b := newBed(t, nil)
	b.models["1"] = same
	logged := &Logged{From: begin, To: begin.Add(time.Hour), Sample: 1}
	for name, c := range map[string]struct {
		ctx  context.Context
		in   Start
		code string
	}{
		"nobody":           {as(t.Context(), Read), Start{Candidate: "1"}, "permission_missing"},
		"no content":       {as(t.Context(), Read, Write), Start{Candidate: "1", Request: Request{Logged: logged}}, "permission_denied"},
		"no version":       {b.ctx, Start{Candidate: "7", Request: Request{Logged: logged}}, "version_not_found"},
		"nothing":          {b.ctx, Start{Candidate: "1", Baseline: "1"}, "evaluation_invalid"},
		"turned":           {b.ctx, Start{Candidate: "1", Request: Request{Logged: &Logged{From: begin.Add(time.Hour), To: begin, Sample: 1}}}, "evaluation_invalid"},
		"no sample":        {b.ctx, Start{Candidate: "1", Request: Request{Logged: &Logged{From: begin, To: begin.Add(time.Hour)}}}, "evaluation_invalid"},
		"unknown segments": {b.ctx, Start{Candidate: "1", Request: Request{Logged: logged, By: []string{"country"}}}, "evaluation_invalid"},
		"unknown tensor":   {b.ctx, Start{Candidate: "1", Request: Request{Logged: logged, By: []string{"in/z"}}}, "evaluation_invalid"},
		"too many rows":    {b.ctx, Start{Candidate: "1", Request: Request{Logged: logged, MaxRows: 1 << 40}}, "evaluation_invalid"},
	} {
		c.in.Model = "m"
		if _, err := b.Start(c.ctx, c.in); fault.CodeOf(err) != c.code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Where a version is another than was chosen, or there is no room, nothing is compared.
func TestUnwanted(t *testing.T) {
	b := newBed(t, logOf([]float32{1, 2}))
	b.models["2"] = same
	e := b.start(t, Start{Candidate: "2"})
	_, err := b.update(t.Context(), repo.Scope{Tenant: "acme"}, e.ID, func(e *Evaluation, _ time.Time) error { e.Request.Candidate.Digest = "other"; return nil })
	if b.run(e.ID); err != nil || b.find(t, e.ID).Failure.Code != codeChanged {
		t.Errorf("%v, %+v", err, b.find(t, e.ID))
	}
	if _, _, err := b.Differences(b.ctx, e.ID); fault.CodeOf(err) != "evaluation_no_diff" {
		t.Error(err)
	}
	e = b.start(t, Start{Candidate: "2"})
	if e, err = b.Cancel(b.ctx, e.ID); err != nil || e.Status != Cancelled {
		t.Fatal(err)
	}
	if b.run(e.ID); b.find(t, e.ID).Done.Chunks != 0 {
		t.Error("it runs though it was cancelled")
	}
	if err := b.Delete(b.ctx, e.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Find(b.ctx, e.ID); !errors.Is(err, repo.ErrNotFound) {
		t.Error(err)
	}
	for range 10 {
		b.start(t, Start{Candidate: "2"})
	}
	in := Start{Model: "m", Candidate: "2", Request: Request{Logged: &Logged{From: begin, To: begin.Add(time.Hour), Sample: 1}}}
	if _, err := b.Start(b.ctx, in); fault.CodeOf(err) != "evaluation_quota" {
		t.Error(err)
	}
	page, err := b.List(b.ctx, List{Status: Queued, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	in.ID = page.Items[0].ID
	if _, err := b.Start(b.ctx, in); !errors.Is(err, repo.ErrExists) {
		t.Errorf("one that is there needs no room: %v", err)
	}
}

// Lines say what differs, and how; a download can begin anywhere.
func TestLines(t *testing.T) {
	b := newBed(t, logOf([]float32{1, 2, -1, 2}, []float32{9, 1}))
	b.models["2"] = picky
	e := b.start(t, Start{Candidate: "2", Request: Request{By: []string{"out/y"}}})
	b.run(e.ID)
	text := string(b.diff(t, e.ID, 0))
	lines := strings.Split(strings.TrimSpace(text), "\n")
	want := []string{
		`{"name":"pred_00000000000000010000000000000000","row":1,"at":"2026-01-01T00:00:00Z","segments":{"out/y":"1"},"output":"y","distance":0,"baseline":{"y":[-1,2]},"candidate":{"y":[2,-1]}}`,
		`{"name":"pred_00000000000000020000000000000000","row":0,"at":"2026-01-01T00:00:00.001Z","segments":{"out/y":"0"},"distance":0,"error":{"code":"run_failed","message":"it breaks"},"baseline":{"y":[9,1]}}`,
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("%s", text)
	}
	for _, at := range []int{0, 1, len(text) - 1, len(text)} {
		if got := string(b.diff(t, e.ID, int64(at))); got != text[at:] {
			t.Errorf("from %d: %q", at, got)
		}
	}
	if got := b.find(t, e.ID).Done.Diff.Outputs; !slices.Equal(got, []string{"y"}) {
		t.Errorf("the lines have the outputs %q", got)
	}
	r := b.find(t, e.ID).Done.Result
	if w, among := r.WorstSegment(); w != nil || among != 0 {
		t.Errorf("of three rows one segment is said to be worst: %+v", w)
	}
	if r.LatencyRatio() != 0.5 && (r.LatencyRatio() < 0.49 || r.LatencyRatio() > 0.51) {
		t.Errorf("the candidate takes %g times as long", r.LatencyRatio())
	}
	if len(r.Report.Worst) != 1 || !strings.HasSuffix(r.Report.Worst[0].Champion, "/1") {
		t.Errorf("%+v", r.Report.Worst)
	}
}

// What features were made into is what is asked with again; since when they were true is no
// input.
func TestFeaturesAreAskedWithAsLogged(t *testing.T) {
	log := logOf([]float32{1, 2})
	since := tensor.Tensor{Name: "x", Datatype: tensor.Int64, Shape: tensor.Shape{1, 1}, Data: make([]byte, 8)}
	log[0].Content = record.AppendTensor(log[0].Content, record.Feature, &since)
	port := func(name string, d tensor.Datatype) []model.Port {
		return []model.Port{{Name: name, Datatype: d, Shape: tensor.Shape{-1, 2}}}
	}
	r := &Request{Logged: &Logged{Sample: 1}}
	c := newLogged(log, "acme", r, &Served{Inputs: port("user", tensor.Bytes), Logged: port("x", tensor.FP32)})
	if got := c.caseOf(&log[0]); got.Skip != "" || len(got.Inputs) != 1 || got.Inputs[0].Name != "x" || got.Inputs[0].Datatype != tensor.FP32 || len(got.Outputs) != 1 {
		t.Errorf("%+v", got)
	}
}
