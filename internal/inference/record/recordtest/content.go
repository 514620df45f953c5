package recordtest

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"sluice/internal/inference/evidence/drift"
	"sluice/internal/inference/record"
	"sluice/internal/inference/tensor"
)

// content is that of a prediction of two numbers, whose answer is one of them.
func content(x float32) []byte {
	var data []byte
	for _, v := range []float32{x, 1} {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	b := record.AppendTensor(nil, record.Input, &tensor.Tensor{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{1, 2}, Data: data})
	return record.AppendTensor(b, record.Output, &tensor.Tensor{Name: "y", Datatype: tensor.FP32, Shape: tensor.Shape{1}, Data: data[:4]})
}

// What tensors look like is known by arm and minute; they are forgotten at their time,
// and what they looked like later.
func (s Suite) testContent(t *testing.T) {
	store, from, experiment := s.Open(t), base(), uuid.NewString()
	want := map[string]*drift.Sketch{"in/x/0": {}, "in/x/1": {}, "out/y": {}}
	var list []*record.Entry
	for i := range 100 {
		e := made(someone(), from.Add(time.Duration(i)*time.Second), 0)
		e.Choice = record.Choice{Experiment: experiment, Arm: "a", ByRule: i%10 == 1, Shadow: i%10 == 2}
		if e.Content, e.ContentUntil = content(float32(i)), time.Now().Add(time.Hour); i == 7 {
			e.ContentUntil = time.Now().Add(-48 * time.Hour)
		}
		if i%10 != 1 && i%10 != 2 && i >= 60 {
			want["in/x/0"].Add(float64(i))
			want["in/x/1"].Add(1)
			want["out/y"].Add(float64(i))
			for _, s := range want {
				s.End()
			}
		}
		list = append(list, e)
	}
	for range 2 { // again it counts once
		if err := store.Append(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	f := record.Filter{Experiment: experiment, From: from.Add(time.Second)} // of the minute that this lies in nothing counts
	got, err := store.Shapes(t.Context(), f)
	if diff := cmp.Diff(packed(record.Shapes{"a": want}), packed(got)); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for _, f := range []record.Filter{{Experiment: uuid.NewString()}, {Experiment: experiment, From: from.Add(time.Hour)}, {Experiment: experiment, To: from}, {Experiment: experiment, Model: "other"}} {
		if got, err := store.Shapes(t.Context(), f); err != nil || len(got) > 0 {
			t.Errorf("%+v: %v, %v", f, got, err)
		}
	}
	if err := store.Expire(t.Context(), from.Add(-time.Hour), from.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i, kept := range map[int]bool{6: true, 7: false} {
		found, err := store.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: list[i].Tenant}, Limit: 1, Content: true})
		if err != nil || len(found) != 1 || (found[0].Content != nil) != kept || kept && string(found[0].Content) != string(list[i].Content) {
			t.Errorf("entry %d: %+v, %v", i, found, err)
		}
	}
}

// packed are sketches as bytes.
func packed(s record.Shapes) map[string]map[string]string {
	out := map[string]map[string]string{}
	for arm, names := range s {
		out[arm] = map[string]string{}
		for name, one := range names {
			b, _ := one.MarshalBinary()
			out[arm][name] = string(b)
		}
	}
	return out
}

// What is about a subject goes, whichever way it is named, and nothing of others'; how
// many predictions there were and how good they were stays.
func (s Suite) testErasure(t *testing.T) {
	store, tenant := s.Open(t), someone()
	list := batch(tenant, base(), 4)
	for i, e := range list {
		e.ClientRef, e.Content, e.ContentUntil = []string{"them", "them", "other", "by id"}[i], content(1), time.Now().Add(time.Hour)
		e.InputDigest[0] = 1
	}
	list[3].ID, list[3].Attempt = record.ID(uuid.New()), 1
	theirs := made(someone(), base(), 0)
	theirs.ClientRef, theirs.Content, theirs.ContentUntil = "them", content(1), time.Now().Add(time.Hour)
	if err := store.Append(t.Context(), append([]*record.Entry{theirs}, list...)); err != nil {
		t.Fatal(err)
	}
	label := scoreOf(list[0].ID, `"Ms X"`, 1, base())
	if _, err := store.Label(t.Context(), tenant, []record.Label{label}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int64{3, 1} { // by name they are not found any more
		n, err := store.Erase(t.Context(), tenant, record.Subject{IDs: []record.ID{list[3].ID, record.NewID(base())}, ClientRefs: []string{"them", "nobody"}})
		if err != nil || n != want {
			t.Fatalf("%d entries were erased, %v, want %d", n, err, want)
		}
	}
	for who, left := range map[string]int{tenant: 1, theirs.Tenant: 1} {
		found, err := store.Find(t.Context(), record.Query{Filter: record.Filter{Tenant: who}, Limit: 10, Content: true})
		n := 0
		for _, e := range found {
			if e.Content != nil || e.ClientRef != "" || e.InputDigest != (record.Digest{}) {
				n++
			}
		}
		if err != nil || n != left {
			t.Errorf("%s: %+v, %v", who, found, err)
		}
	}
	rollups, err := store.Statistics(t.Context(), record.Filter{Tenant: tenant}, record.Grouping{})
	if err != nil || len(rollups) != 1 || rollups[0].Outcomes[record.Succeeded] != 4 || rollups[0].Scores["right"].N != 1 {
		t.Errorf("%+v, %v", rollups, err)
	}
	label.Value = []byte(`"Ms X"`)
	if got, err := store.Label(t.Context(), tenant, []record.Label{label}, time.Now()); err != nil || got[0] != record.Replaced {
		t.Errorf("the label's value was still there: %v, %v", got, err)
	}
}
