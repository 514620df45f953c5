package job

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice/internal/inference/usage"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Whatever ends predictions, how often they are tried, and whatever the queue
// loses: what is counted is what has ended.
func TestUsageIsWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.retain = time.Hour
		flaky := slowly(5, 6, 15, func(kind int, _ []byte) (Answer, error) {
			switch kind {
			case 0:
				return Answer{}, fault.New(fault.Unavailable, "busy")
			case 1:
				return Answer{}, fault.New(fault.Invalid, "wrong")
			}
			return Answer{Output: Message{Body: []byte(`1`)}, Version: "2", Used: Used{Rows: 3, ComputeUS: 50, InputBytes: 7, OutputBytes: 11}}, nil
		})
		var ids []ID
		for round := range 4 {
			stop := b.start(3, flaky)
			for i := range 20 {
				deadline := time.Time{}
				if i%5 == 0 {
					deadline = time.Now().Add(10 * time.Second)
				}
				ids = append(ids, b.submit("1", deadline))
			}
			time.Sleep(5 * time.Second)
			for i := range 4 {
				b.cancel(ids[len(ids)-1-3*i])
			}
			time.Sleep(10 * time.Second)
			stop()
			if round%2 == 0 {
				b.newQueue()
			}
		}
		stop := b.start(3, flaky)
		time.Sleep(30 * time.Minute)
		stop()
		want, ends := usage.Amount{}, map[Status]int{}
		for _, id := range ids {
			p := b.find(id)
			want.Add(used(&p).Amount)
			ends[p.Status]++
		}
		if fmt.Sprint(len(ends)) != "4" || want.Requests != int64(len(ids)) || want.Rows < 3*want.Succeeded {
			t.Errorf("ended as %v, %+v: does the test try all ends?", ends, want)
		}
		got := usage.Amount{}
		for total, err := range usage.Totals.All(t.Context(), b.store.Read(repo.Scope{Tenant: tenant}), spec.Query[usage.Total]{}) {
			if err != nil {
				t.Fatal(err)
			}
			got.Add(total.Used.Amount)
		}
		if got != want {
			t.Errorf("counted %+v, ended %+v", got, want)
		}
	})
}
