// Package repotest is the contract of repo.Driver as tests, and as benchmarks:
// every driver passes the same suite, and is measured by the same units of work.
//
//	func TestContract(t *testing.T) {
//		repotest.Suite{Open: open, Reopen: reopen, Second: second}.Run(t)
//	}
//
// What a driver may leave out, its Features say, and the suite asks for no more;
// it refuses no driver for answering fewer queries than memrepo, only for
// answering one wrongly. Tests share one store, and keep apart by tenants of
// their own.
//
// Limits: that what is durable survives a crash, or a loss of power, is for the
// driver's own tests; the suite only closes and opens it again.
package repotest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"sluice/internal/platform/repo"
)

// Suite says how to get at the driver under test.
type Suite struct {
	// Open returns a driver on a store of its own that is empty and was not
	// migrated. The suite closes it, maybe twice.
	Open func(t testing.TB) repo.Driver
	// Reopen opens the store of a driver again, which the suite has closed. It is
	// needed where the driver is Durable.
	Reopen func(t testing.TB, closed repo.Driver) repo.Driver
	// Second opens the store of a driver, which stays open, once more, as another
	// process would. It may be nil where one process owns a store.
	Second func(t testing.TB, first repo.Driver) repo.Driver
}

// Run tests a driver that is not durable and has one owner.
func Run(t *testing.T, open func(t testing.TB) repo.Driver) {
	t.Helper()
	Suite{Open: open}.Run(t)
}

// Run tests the driver.
func (s Suite) Run(t *testing.T) {
	f := s.fixture(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"Property1RoundTrip", testRoundTrip},
		{"Property4SoftDelete", testSoftDelete},
		{"Erase", testErase},
		{"Expiry", testExpiry},
		{"AddMany", testAddMany},
		{"History", testHistory},
		{"Commit", testCommit},
		{"Tenants", testTenants},
		{"Rules", testRules},
		{"Orders", testOrders},
		{"Summaries", testSummaries},
		{"Property5Pages", testPages},
		{"Cursors", testCursors},
		{"Property17SameAsMemory", testSameAsMemory},
		{"Property18AllOrNothing", testAllOrNothing},
		{"Property22HalvesNever", testHalvesNever},
		{"NoLostUpdates", testNoLostUpdates},
		{"Require", testRequire},
		{"Inbox", testInbox},
		{"Outbox", testOutbox},
		{"OutboxOrder", testOutboxOrder},
		{"OutboxChanged", testOutboxChanged},
		{"Cancelled", testCancelled},
	} {
		t.Run(part.name, func(t *testing.T) { part.test(t, f) })
	}
	t.Run("Migrate", func(t *testing.T) { testMigrate(t, s) })
	t.Run("Close", func(t *testing.T) { testClose(t, s) })
	if f.features.Durable {
		t.Run("Reopen", func(t *testing.T) { testReopen(t, s) })
	}
}

// fixture is an open driver with what tests need around it.
type fixture struct {
	driver   repo.Driver
	store    *repo.Store
	clock    *clock
	features repo.Features
}

func (s Suite) fixture(t testing.TB) *fixture {
	t.Helper()
	return fixtureOf(t, s.Open(t))
}

func fixtureOf(t testing.TB, d repo.Driver) *fixture {
	t.Helper()
	t.Cleanup(func() { d.Close() })
	if err := d.Migrate(t.Context(), schemas()); err != nil {
		t.Fatalf("Migrate: %v", err)
	}
	c := newClock()
	return &fixture{d, repo.New(d, repo.Config{Now: c.Now}), c, d.Features()}
}

// clock stands still until it is told to move.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := new(clock)
	c.at.Store(time.Now().UnixMicro())
	return c
}

// Now returns the clock's time.
func (c *clock) Now() time.Time { return time.UnixMicro(c.at.Load()).UTC() }

func (c *clock) advance(d time.Duration) { c.at.Add(d.Microseconds()) }

// scope returns the scope of a tenant that nothing else uses.
func scope() repo.Scope {
	return repo.Scope{Tenant: "ten_" + uuid.NewString(), Actor: "usr_1", Request: "req_1", Correlation: "cor_1", Causation: "evt_0",
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
}

// patience is how long a store may take to show what was committed where it
// does not do so at once.
const patience = 20 * time.Second

// agree fails the test unless check finds nothing wrong: at once where the
// driver's queries are prompt, otherwise before patience ends.
func (f *fixture) agree(t rapid.TB, check func() (wrong string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		wrong := check()
		switch {
		case wrong == "":
			return
		case f.features.PromptQueries || time.Now().After(deadline):
			t.Fatal(wrong)
		}
		wait(20 * time.Millisecond)
	}
}

func wait(d time.Duration) { <-time.After(d) }

// together runs f n times at once and returns what each returned.
func together(n int, f func(i int) error) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errs
}

// must fails the test where err is not nil.
func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs a unit of work that has to succeed.
func (f *fixture) do(t rapid.TB, s repo.Scope, fn func(ctx context.Context, tx *repo.Tx) error) {
	t.Helper()
	if err := f.store.Do(context.Background(), s, fn); err != nil {
		t.Fatalf("the unit of work failed: %v", err)
	}
}

func ids(n int) []thingID {
	out := make([]thingID, n)
	for i := range out {
		out[i] = thingID(fmt.Sprintf("thing_%03d", i))
	}
	return out
}
