package cqlfeature

import (
	"testing"
	"time"

	"github.com/gocql/gocql"
	"go.uber.org/goleak"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/cql/cqltest"
	"sluice/internal/platform/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMigrationsMayBeRepeated(t *testing.T) { cqltest.Migrations(t, migrations) }

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.Context(), "scylla://u:secret@/k", Config{}); fault.CodeOf(err) != "invalid_store_url" {
		t.Errorf("%v", err)
	}
}

// Statements of one call are sent in no order: of two that have the same key one is sent.
func TestLastOfEach(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	row := func(entity string, after time.Duration, doc string) feature.Row {
		return feature.Row{Entity: entity, EventTime: noon.Add(after), Values: []byte(doc)}
	}
	got := lastOfEach([]feature.Row{row("a", 0, "1"), row("b", 0, "2"), row("a", time.Nanosecond, "3"), row("a", time.Microsecond, "4")})
	all := ""
	for _, r := range got {
		all += r.Entity + string(r.Values) + " "
	}
	if all != "a3 b2 a4 " {
		t.Errorf("%q", all)
	}
}

func TestTimeToLive(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	day := int((24 * time.Hour).Seconds())
	for name, c := range map[string]struct {
		until time.Time
		want  int
	}{
		"over": {now.AddDate(-40, 0, 0), day}, "an hour": {now.Add(time.Hour), day + 3600}, "ten years": {now.AddDate(10, 0, 0), 3653 * day},
		"2038": {time.Date(2038, 1, 19, 0, 0, 0, 0, time.UTC), 0}, "for ever": {time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 0},
	} {
		if got := timeToLive(c.until.UnixMicro(), now); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestLate(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		err  error
		in   time.Duration // until it counts as known
		want bool
	}{
		"in time": {nil, time.Millisecond, false}, "late": {nil, 0, true}, "late, and maybe there": {gocql.ErrTimeoutNoResponse, -time.Second, true},
		"failed early": {gocql.ErrTimeoutNoResponse, time.Millisecond, false}, "never sent": {gocql.ErrNoConnections, -time.Second, false},
	} {
		if got := late(c.err, now.Add(c.in).UnixMicro(), now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
