package scyllarepo

import (
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/internal/platform/cql/cqltest"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func key(id string) repo.Key { return repo.Key{Tenant: "t", Kind: "rows", ID: id} }

// A changeset becomes statements of one partition, each with a condition where
// something may forbid it.
func TestStatements(t *testing.T) {
	put := func(id string, expect int64) repo.Put {
		return repo.Put{Record: repo.Record{Key: key(id), Version: expect + 1, CreatedAt: noon}, Expect: expect}
	}
	erase := put("a", 3)
	erase.Erase = true
	event := repo.Message{ID: "evt_1", Key: key("a"), Sequence: 4, Keep: true}
	mark := repo.Mark{Consumer: "c", Message: "m", ExpiresAt: noon.Add(time.Hour)}
	for what, c := range map[string]struct {
		changes repo.Changeset
		parts   string // what is written; "many" for a refusal
		ifs     int
	}{
		"new, with an event":     {repo.Changeset{Puts: []repo.Put{put("a", 0)}, Messages: []repo.Message{event}}, "state out hist done", 1},
		"an update":              {repo.Changeset{Puts: []repo.Put{put("a", 1)}}, "state done", 1},
		"with a mark":            {repo.Changeset{Puts: []repo.Put{put("a", 1)}, Marks: []repo.Mark{mark}}, "state mark done", 2},
		"erased, with an event":  {repo.Changeset{Puts: []repo.Put{erase}, Messages: []repo.Message{event}}, "state state hist out hist done", 1},
		"a mark alone":           {repo.Changeset{Marks: []repo.Mark{mark}, Messages: []repo.Message{{ID: "evt_2", Key: key("x")}}}, "mark out done", 1},
		"messages alone":         {repo.Changeset{Messages: []repo.Message{{ID: "evt_2", Key: key("x")}, {ID: "evt_3", Key: key("y")}}}, "out out", 0},
		"a check with a message": {repo.Changeset{Checks: []repo.Check{{Key: key("a")}, {Key: key("a")}}, Messages: []repo.Message{{ID: "evt_2"}}}, "state out done", 1},

		"two puts":                   {repo.Changeset{Puts: []repo.Put{put("a", 0), put("b", 0)}}, "many", 0},
		"a put and a check":          {repo.Changeset{Puts: []repo.Put{put("a", 0)}, Checks: []repo.Check{{Key: key("b")}}}, "many", 0},
		"two marks alone":            {repo.Changeset{Marks: []repo.Mark{mark, {Consumer: "d"}}}, "many", 0},
		"an event kept elsewhere":    {repo.Changeset{Puts: []repo.Put{put("b", 0)}, Messages: []repo.Message{event}}, "many", 0},
		"checks of several versions": {repo.Changeset{Checks: []repo.Check{{Key: key("a")}, {Key: key("a"), Version: 1}}, Marks: []repo.Mark{mark}}, "many", 0},
	} {
		w, err := arrange(&c.changes, noon)
		if c.parts == "many" {
			if !fault.Is(err, fault.Unsupported) || fault.CodeOf(err) != "one_aggregate_only" {
				t.Errorf("%s: %v, expected code one_aggregate_only", what, err)
			}
			continue
		}
		all, err := w.statements()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		var parts []string
		ifs := 0
		part := regexp.MustCompile(`'(state|out|hist|mark|done)'`)
		for _, s := range all {
			parts = append(parts, part.FindStringSubmatch(s.text)[1])
			ifs += strings.Count(s.text, " IF ")
			if n := strings.Count(s.text, "?"); n != len(s.args) {
				t.Errorf("%s: %d values for %d places in %s", what, len(s.args), n, s.text)
			}
		}
		if got := strings.Join(parts, " "); got != c.parts || ifs != c.ifs || w.conditional() != (ifs > 0) {
			t.Errorf("%s: wrote %s with %d conditions, expected %s with %d", what, got, ifs, c.parts, c.ifs)
		}
	}
}

// Messages of an aggregate sort as they were committed, also where it was erased
// and made again.
func TestOutboxSortsByCommit(t *testing.T) {
	made, now := &state{}, noon
	var refs []string
	for life := range 3 {
		for version := range 20 {
			made = &state{stamp: made.nextStamp(now), found: version < 19} // the last one erases
			refs = append(refs, outRef(made.stamp, noon, 0, fmt.Sprint("z", 3-life)), outRef(made.stamp, noon, 1, "a"),
				outRef(made.nextStamp(noon)-1, noon, 0, "a"), outRef(made.nextStamp(noon)-1, noon.Add(time.Second), 0, "a"))
		}
	}
	for i := 1; i < len(refs); i++ {
		if refs[i-1] >= refs[i] {
			t.Errorf("%s does not come before %s", refs[i-1], refs[i])
		}
	}
}

// A put for a version beats removals that know only older ones, and loses to
// those that know a later one: over all versions, erasure and the next life.
func TestStampsGrow(t *testing.T) {
	now := noon.Add(20 * time.Minute)
	s := &state{}
	last := s.removal(now)
	for i := range 50 {
		next := &state{stamp: s.nextStamp(now), found: i%10 != 9} // every tenth erases
		if next.stamp <= last {
			t.Fatalf("step %d: stamp %d does not beat the removal with %d", i, next.stamp, last)
		}
		if last = next.removal(now); last <= next.stamp {
			t.Fatalf("step %d: the removal with %d does not beat %d", i, last, next.stamp)
		}
		s = next
	}
	forgotten := &state{}
	if later := now.Add(25 * time.Hour); forgotten.nextStamp(later) <= last {
		t.Error("what is made again after its stamp was forgotten does not beat its removal")
	}
}

func TestMessagesComeBackByteByByte(t *testing.T) {
	m := repo.Message{ID: "evt_1", Key: key("a"), Time: noon, Data: []byte("{ \"a\" : \"<ü>\" }"), Keep: true}
	head, data, err := encodeMessage(m)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMessage(head, data, true)
	if err != nil || string(got.Data) != string(m.Data) || got.Key != m.Key || !got.Keep || !got.Time.Equal(m.Time) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := decodeMessage([]byte("{"), nil, false); !fault.Is(err, fault.Internal) {
		t.Errorf("half a message: %v", err)
	}
}

func TestMigrationsMayBeRepeated(t *testing.T) { cqltest.Migrations(t, migrations) }

// Values are bound, never pasted, and nothing makes a server look at rows that
// were not asked for.
func TestStatementsAreSafe(t *testing.T) {
	forbidden := regexp.MustCompile(`(?i)ALLOW FILTERING|MATERIALIZED|CREATE INDEX|[a-z_]+ counter,`)
	sources := os.DirFS(".")
	for _, pattern := range []string{"*.go", "migrations/*.cql"} {
		names, err := fs.Glob(sources, pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			text, err := fs.ReadFile(sources, name)
			if err != nil {
				t.Fatal(err)
			}
			if found := forbidden.Find(text); found != nil && !strings.HasSuffix(name, "_test.go") {
				t.Errorf("%s has %q", name, found)
			}
		}
	}
}

func TestWithoutAndHash(t *testing.T) {
	s := &state{Record: repo.Record{Key: key("a"), ExpiresAt: noon}, found: true, fields: map[string][]byte{"n": encode(spec.IntValue(1))}}
	old := s.entries()
	if len(old) != 3 {
		t.Fatalf("%+v", old)
	}
	s.fields = map[string][]byte{"n": encode(spec.IntValue(2))}
	if more, less := without(s.entries(), old), without(old, s.entries()); len(more) != 1 || len(less) != 1 || more[0].field != "n" {
		t.Errorf("%+v %+v", more, less)
	}
	used := map[int]int{}
	for i := range 8000 {
		used[bucketOf(fmt.Sprintf("thing_%032x", i))]++
	}
	for b := range buckets {
		if used[b] < 800 || used[b] > 1200 {
			t.Errorf("bucket %d has %d of 8000", b, used[b])
		}
	}
}
