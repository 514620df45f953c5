package repo_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/spec"
)

type noteID string

type note struct {
	aggregate.Root[noteID]
	Text string `json:"text"`
}

type written struct{}

// EventType implements aggregate.Event.
func (written) EventType() string { return "note.written" }

var (
	text  = spec.TextField("text", func(n *note) string { return n.Text })
	notes = repo.Kind[noteID, note]{Name: "notes", Root: func(n *note) *aggregate.Root[noteID] { return &n.Root }, Columns: []spec.Column[note]{text}, Keep: true}
	who   = repo.Scope{Tenant: "ten_1", Actor: "usr_1"}
)

func newNote(id noteID) *note {
	n := &note{Root: aggregate.Root[noteID]{ID: id}, Text: "text"}
	n.Record(written{})
	return n
}

// contested is a driver on which others always come first.
type contested struct {
	repo.Driver
	left int // how often still
}

// Commit fails until nobody contends any more.
func (c *contested) Commit(ctx context.Context, s *repo.Changeset) error {
	if c.left--; c.left >= 0 {
		return fmt.Errorf("wrapped: %w", repo.ErrConflict)
	}
	return c.Driver.Commit(ctx, s)
}

// A unit of work that meets conflicts runs again, makes the same ids, and is
// told to be done once.
func TestConflictsRepeat(t *testing.T) {
	store := repo.New(&contested{memrepo.New(memrepo.Config{}), 5}, repo.Config{})
	var made []noteID
	after := 0
	scope := who
	scope.Operation = uuid.Must(uuid.NewV7())
	a := newNote("")
	err := store.Do(t.Context(), scope, func(ctx context.Context, tx *repo.Tx) error {
		tx.AfterCommit(func() { after++ })
		a.ID = repo.NewID[noteID](tx, "note")
		made = append(made, a.ID)
		return notes.Add(ctx, tx, a)
	})
	if err != nil || after != 1 || len(made) != 6 || len(slices.Compact(slices.Clone(made))) != 1 {
		t.Errorf("%v, told %d times, the ids are %v", err, after, made)
	}
	if a.Version != 1 || a.Sequence != 1 {
		t.Errorf("six runs left %+v", a)
	}
}

func TestConflictsEnd(t *testing.T) {
	store := repo.New(&contested{memrepo.New(memrepo.Config{}), 1000}, repo.Config{Attempts: 3})
	runs := 0
	err := store.Do(t.Context(), who, func(ctx context.Context, tx *repo.Tx) error {
		runs++
		return notes.Add(ctx, tx, newNote("a"))
	})
	if !errors.Is(err, repo.ErrConflict) || runs != 3 {
		t.Errorf("%v after %d runs, expected a conflict after 3", err, runs)
	}
}

// The events of what was erased and of what takes its place could not be told
// apart within one unit of work.
func TestAddAfterErase(t *testing.T) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	add := func(ctx context.Context, tx *repo.Tx) error { return notes.Add(ctx, tx, newNote("a")) }
	if err := store.Do(t.Context(), who, add); err != nil {
		t.Fatal(err)
	}
	err := store.Do(t.Context(), who, func(ctx context.Context, tx *repo.Tx) error {
		if err := notes.Erase(ctx, tx, "a"); err != nil {
			return err
		}
		return add(ctx, tx)
	})
	if !fault.Is(err, fault.Conflict) || fault.CodeOf(err) != "erased_here" {
		t.Errorf("got %v", err)
	}
	if ok, err := notes.Exists(t.Context(), store.Read(who), "a"); !ok || err != nil {
		t.Errorf("what failed has erased it: %v", err)
	}
}

// What is made and erased in one unit of work leaves nothing but its events.
func TestEraseOfWhatIsNew(t *testing.T) {
	d := memrepo.New(memrepo.Config{})
	store := repo.New(d, repo.Config{})
	err := store.Do(t.Context(), who, func(ctx context.Context, tx *repo.Tx) error {
		if err := notes.Add(ctx, tx, newNote("a")); err != nil {
			return err
		}
		return notes.Erase(ctx, tx, "a")
	})
	if err != nil {
		t.Fatal(err)
	}
	if h, err := notes.History(t.Context(), store.Read(who), "a", 0, 10); err != nil || len(h) != 0 {
		t.Errorf("it has the history %v, %v", h, err)
	}
	if m, err := d.Pending(t.Context(), 0, 10); err != nil || len(m) != 1 {
		t.Errorf("it has the messages %v, %v", m, err)
	}
}

func TestMeasuresThatCannotBe(t *testing.T) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	for m, code := range map[spec.Measure]string{{Function: spec.Max}: "unknown_field", {Function: spec.Max, Field: "none"}: "unknown_field", {Function: spec.Sum, Field: "text"}: "not_a_number"} {
		_, err := notes.Summarise(t.Context(), store.Read(who), spec.Summary[note]{Measures: []spec.Measure{m}})
		if !fault.Is(err, fault.Invalid) || fault.CodeOf(err) != code {
			t.Errorf("%+v: %v, expected code %s", m, err, code)
		}
	}
}

// What is told of a commit may begin units of work of its own, also where these
// meet the conflicts that the first one met.
func TestAfterCommitMayGoOn(t *testing.T) {
	d := &contested{memrepo.New(memrepo.Config{}), 1}
	store := repo.New(d, repo.Config{})
	if err := store.Do(t.Context(), who, func(ctx context.Context, tx *repo.Tx) error { return notes.Add(ctx, tx, newNote("a")) }); err != nil {
		t.Fatal(err)
	}
	rename := func(ctx context.Context, tx *repo.Tx) error {
		_, err := notes.Update(ctx, tx, "a", func(n *note) error { n.Text += "."; return nil })
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var after error
	d.left = 1
	err := store.Do(ctx, who, func(ctx context.Context, tx *repo.Tx) error {
		tx.AfterCommit(func() {
			d.left = 1
			after = store.Do(ctx, who, rename)
		})
		return rename(ctx, tx)
	})
	if err != nil || after != nil {
		t.Errorf("%v, and after it %v", err, after)
	}
}

// silent commits, and does not say so.
type silent struct {
	repo.Driver
	commits int
}

func (s *silent) Commit(ctx context.Context, c *repo.Changeset) error {
	s.commits++
	if err := s.Driver.Commit(ctx, c); err != nil {
		return err
	}
	return repo.ErrOutcomeUnknown
}

// Of what may have been added nobody is told that somebody else did it.
func TestAddManyOfUnknownOutcome(t *testing.T) {
	d := &silent{Driver: memrepo.New(memrepo.Config{})}
	outcomes := notes.AddMany(t.Context(), repo.New(d, repo.Config{}), who, []*note{newNote("a"), newNote("b")})
	for _, r := range outcomes {
		if !errors.Is(r.Err(), repo.ErrOutcomeUnknown) {
			t.Errorf("got %v", r.Err())
		}
	}
	if len(outcomes) != 2 || d.commits != 1 {
		t.Errorf("%d outcomes of %d commits", len(outcomes), d.commits)
	}
}

// What no relay could encode would stop all that comes after it.
func TestMessagesAreJSON(t *testing.T) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	for _, data := range []string{"", "{", "text"} {
		err := store.Do(t.Context(), who, func(_ context.Context, tx *repo.Tx) error {
			return tx.Publish(repo.Message{Stream: "s", Type: "t", Data: []byte(data)})
		})
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// Whatever a client sends as a cursor, it is answered or refused.
func FuzzCursor(f *testing.F) {
	store := repo.New(memrepo.New(memrepo.Config{}), repo.Config{})
	for _, r := range notes.AddMany(f.Context(), store, who, []*note{newNote("a"), newNote("b"), newNote("c")}) {
		if r.Err() != nil {
			f.Fatal(r.Err())
		}
	}
	page, err := notes.Find(f.Context(), store.Read(who), spec.Query[note]{Order: text.Asc(), Limit: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page.Next)
	f.Add("garbage")
	f.Add(base64.RawURLEncoding.EncodeToString([]byte(`{"q":1,"i":"a","f":1e400}`)))
	f.Fuzz(func(t *testing.T, cursor string) {
		_, err := notes.Find(t.Context(), store.Read(who), spec.Query[note]{Order: text.Asc(), After: cursor})
		if err != nil && fault.CodeOf(err) != "invalid_cursor" {
			t.Errorf("%q: %v", cursor, err)
		}
	})
}

// passing ends at once.
type passing struct {
	aggregate.Root[noteID]
	Until time.Time
}

var passings = repo.Kind[noteID, passing]{Name: "passings", Root: func(p *passing) *aggregate.Root[noteID] { return &p.Root },
	Expires: func(p *passing) time.Time { return p.Until }}

// reads counts what is read by key.
type reads struct {
	repo.Driver
	n int
}

// Get implements repo.Driver.
func (r *reads) Get(ctx context.Context, key repo.Key) (repo.Record, error) {
	r.n++
	return r.Driver.Get(ctx, key)
}

// What is new is not looked for; what takes the place of one that has expired is, and
// of one that has not it is refused.
func TestAddsAreHopeful(t *testing.T) {
	d := &reads{Driver: memrepo.New(memrepo.Config{})}
	if err := d.Migrate(t.Context(), []*repo.Schema{passings.Schema()}); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	store := repo.New(d, repo.Config{Now: func() time.Time { return now }})
	add := func() (int, error) {
		d.n = 0
		p := &passing{Root: aggregate.Root[noteID]{ID: "a"}, Until: now.Add(time.Minute)}
		p.Record(written{})
		err := store.Do(t.Context(), who, func(ctx context.Context, tx *repo.Tx) error { return passings.Add(ctx, tx, p) })
		return d.n, err
	}
	if n, err := add(); n != 0 || err != nil {
		t.Errorf("new: %d reads, %v", n, err)
	}
	if n, err := add(); n != 1 || !errors.Is(err, repo.ErrExists) {
		t.Errorf("there: %d reads, %v", n, err)
	}
	now = now.Add(time.Hour)
	if n, err := add(); n != 1 || err != nil {
		t.Errorf("expired: %d reads, %v", n, err)
	}
	p, err := passings.Get(t.Context(), store.Read(who), "a")
	if err != nil || p.Sequence != 2 || p.Root.Version != 2 {
		t.Errorf("got %+v, %v: its events do not go on", p, err)
	}
}
