package access

import "testing"

func BenchmarkCan(b *testing.B) {
	p := Anonymous(testCatalog(b).Everything())
	b.ReportAllocs()
	for b.Loop() {
		if !p.Can(runJobs) {
			b.Fatal("denied")
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	ctx := With(b.Context(), Anonymous(testCatalog(b).Everything()))
	b.ReportAllocs()
	for b.Loop() {
		if err := Check(ctx, runJobs); err != nil {
			b.Fatal(err)
		}
	}
}

func TestReadingThePrincipalAllocatesNothing(t *testing.T) {
	ctx := With(t.Context(), Anonymous(testCatalog(t).Everything()))
	if n := testing.AllocsPerRun(100, func() {
		p, _ := From(ctx)
		if !p.Can(runJobs) || Check(ctx, readJobs) != nil {
			t.Error("denied")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
