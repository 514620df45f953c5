package featurehttp

import (
	"strings"
	"testing"

	"sluice/internal/inference/feature"
	"sluice/internal/platform/fault"
)

// Both forms say the same; what is wrong is refused with its place.
func TestParse(t *testing.T) {
	const a, b = `{"entity":"a","event_time":"2026-01-02T03:04:05.123456789Z","values":{"n":1}}`, `{"entity":"b","event_time":"2026-01-02T05:04:05+02:00"}`
	for _, c := range []struct {
		body  string
		lined bool
	}{{`{"rows":[` + a + "," + b + "]}", false}, {"\n" + a + "\r\n\n" + b, true}} {
		rows, places, err := parse([]byte(c.body), c.lined)
		if err != nil || len(rows) != 2 || len(places) != 2 {
			t.Fatalf("%s: %v, %v", c.body, rows, err)
		}
		if r := rows[0]; r.Entity != "a" || r.EventTime.Nanosecond() != 123000000 || string(r.Values) != `{"n":1}` {
			t.Errorf("%+v", r)
		}
		if r := rows[1]; r.Entity != "b" || r.EventTime.Hour() != 3 || r.Values != nil {
			t.Errorf("%+v", r)
		}
	}
	for body, at := range map[string]string{
		a + "\n{": "line 2", a + "\n\n[]": "line 3", a + a: "line 1", `{"entity":"a"}`: "line 1", `{"entity":1,"event_time":"2026-01-02T03:04:05Z"}`: "line 1",
		`{"entity":"a","event_time":"yesterday"}`: "line 1", `{"entity":"a","event_time":"2026-01-02T03:04:05Z","value":1}`: "line 1",
	} {
		if _, _, err := parse([]byte(body), true); !fault.Is(err, fault.Unprocessable) || !strings.HasPrefix(fault.Of(err).Message, at+": ") {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, _, err := parse([]byte(strings.Repeat(a+"\n", feature.MaxRows+1)), true); fault.CodeOf(err) != "feature_rows_too_many" {
		t.Errorf("too many: %v", err)
	}
}

// FuzzParse reads what anybody may send.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"rows":[{"entity":"a","event_time":"2026-01-02T03:04:05Z","values":{"n":1}}]}`), false)
	f.Add([]byte("{}\n[1]"), true)
	f.Fuzz(func(t *testing.T, body []byte, lined bool) {
		rows, places, err := parse(body, lined)
		if err == nil && len(rows) != len(places) || err != nil && !fault.Is(err, fault.Unprocessable) {
			t.Errorf("%d rows, %d places, %v", len(rows), len(places), err)
		}
	})
}
