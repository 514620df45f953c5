package schedule

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
)

func at(t testing.TB, text string) time.Time {
	t.Helper()
	x, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return x.UTC()
}

// Clocks that are changed neither lose a time nor have it twice.
func TestChangedClocks(t *testing.T) {
	for _, tt := range []struct {
		cron, zone, from string
		want             []string
	}{
		{"30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", []string{"2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"}},
		{"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", []string{"2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"}},
		{"0,30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", []string{"2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"}},
		{"0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", []string{"2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z"}},
		{"0 * * * *", "Europe/Berlin", "2026-10-25T01:30:00Z", []string{"2026-10-25T02:00:00Z"}},
		{"0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", []string{"2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"}},
		{"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z", []string{"2026-10-03T15:30:00Z", "2026-10-04T15:15:00Z"}},
		{"0 12 * * *", "Pacific/Apia", "2011-12-29T00:00:00Z", []string{"2011-12-29T22:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T22:00:00Z"}}, // a day that never was
		{"0 6 13 * 5", "", "2026-02-01T00:00:00Z", []string{"2026-02-06T06:00:00Z", "2026-02-13T06:00:00Z", "2026-02-20T06:00:00Z"}},
		{"@monthly", "UTC", "2026-01-31T00:00:00Z", []string{"2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"}},
		{"0 0 29 2 *", "UTC", "2026-01-31T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
	} {
		table, err := Parse(tt.cron, tt.zone)
		if err != nil {
			t.Fatal(tt.cron, err)
		}
		now := at(t, tt.from)
		for _, want := range tt.want {
			if now = table.Next(now); !now.Equal(at(t, want)) {
				t.Errorf("%s in %s: %s, wants %s", tt.cron, tt.zone, now.Format(time.RFC3339), want)
				break
			}
			if last := table.Last(now.Add(time.Second)); !last.Equal(now) {
				t.Errorf("%s in %s: the last time until %s is %s", tt.cron, tt.zone, now, last)
			}
		}
	}
}

// Between two times there is none, whichever way one looks, and the clocks show each.
func TestNextAndLast(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		zone := rapid.SampledFrom([]string{"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Sao_Paulo"}).Draw(rt, "zone")
		cron := rapid.SampledFrom([]string{"* * * * *", "*/15 * * * *", "0 */3 * * *", "59 1,2,3 * * *", "30 2 * 3,4,10,11 0", "0 0 1 * *"}).Draw(rt, "cron")
		table, err := Parse(cron, zone)
		if err != nil {
			rt.Fatal(err)
		}
		now := time.Unix(rapid.Int64Range(1_500_000_000, 1_900_000_000).Draw(rt, "now"), 0).UTC()
		last, next := table.Last(now), table.Next(now)
		if last.After(now) || !next.After(now) || !table.Next(last).Equal(next) || !table.Last(next).Equal(next) || !table.Last(next.Add(-time.Second)).Equal(last) {
			rt.Fatalf("at %s: last %s, next %s, and the next of the last %s", now, last, next, table.Next(last))
		}
	})
}

func TestExpressionsThatMakeNoSense(t *testing.T) {
	for _, bad := range []string{"", "* * * *", "* * * * * *", "61 * * * *", "@every 1h", "TZ=UTC 0 0 * * *", "CRON_TZ= 0 0 * * *", "0 0 30 2 *", "0 0 * * MON#9", "\x00", "@reboot"} {
		if _, err := Parse(bad, ""); fault.CodeOf(err) != "cron_invalid" || !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, zone := range []string{"Local", "Mars", "../etc/passwd"} {
		if _, err := Parse("@daily", zone); fault.CodeOf(err) != "time_zone_unknown" {
			t.Errorf("%q: %v", zone, err)
		}
	}
}

// Whatever is given for an expression, it has times or is refused.
func FuzzParse(f *testing.F) {
	f.Add("0 6 * * 1-5", "Europe/Berlin")
	f.Add("@daily", "")
	f.Add("*/5 1-3,7 L * ?", "UTC")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, cron, zone string) {
		table, err := Parse(cron, zone)
		if err != nil {
			return
		}
		if next := table.Next(now); !next.IsZero() && !next.After(now) {
			t.Error(next)
		}
		if last := table.Last(now); last.After(now) {
			t.Error(last)
		}
	})
}
