package idempotency

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func req(key, body string) Request {
	return Request{Key: Key{"t", "p", "POST /x", key}, Fingerprint: FingerprintOf("POST", "/x", []byte(body))}
}

// do begins an operation, has the handler answer, and finishes.
func do(t testing.TB, o *Once, r Request, handler func(ctx context.Context, w http.ResponseWriter)) (*httptest.ResponseRecorder, error) {
	t.Helper()
	rec := httptest.NewRecorder()
	rec.Header().Set("X-Request-Id", "r")
	a, answer, err := o.Begin(context.Background(), rec, r)
	switch {
	case err != nil:
		return rec, err
	case answer != nil:
		return rec, answer.Replay(rec)
	}
	handler(a.Context(context.Background()), a.Writer())
	if err := a.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	return rec, nil
}

func answering(status int, body string) func(context.Context, http.ResponseWriter) {
	return func(_ context.Context, w http.ResponseWriter) {
		w.Header().Set("Location", "/x/1")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func TestWhatIsKept(t *testing.T) {
	for status, want := range map[int]string{
		200: "kept", 201: "kept", 204: "kept", 404: "kept", 409: "kept", 410: "kept", 412: "kept",
		400: "free", 401: "free", 403: "free", 413: "free", 415: "free", 422: "free", 428: "free",
		408: "again", 425: "again", 429: "again", web.StatusClientClosed: "again", 500: "again", 503: "again", 504: "again",
	} {
		o := New(NewMemory(time.Now), Config{})
		body := "body"
		if status == 204 {
			body = ""
		}
		first, err := do(t, o, req("k", "1"), answering(status, body))
		if err != nil || first.Code != status || first.Body.String() != body || first.Header().Get("Location") == "" {
			t.Errorf("%d: first %d %q, %v", status, first.Code, first.Body, err)
		}
		second, err := do(t, o, req("k", "1"), answering(299, "second"))
		if got := second.Header().Get("Idempotent-Replayed") == "true"; err != nil || got != (want == "kept") || got && second.Code != status {
			t.Errorf("%d: second %d %v, %v", status, second.Code, second.Header(), err)
		}
		_, err = do(t, New(o.store, Config{}), req("k", "other"), answering(299, ""))
		if fault.CodeOf(err) != "idempotency_key_reused" {
			t.Errorf("%d: another request: %v", status, err)
		}
	}
}

// A rejected request frees its key even for another body; a failed one does not.
func TestKeysOfRejectedRequestsAreFree(t *testing.T) {
	o := New(NewMemory(time.Now), Config{})
	if _, err := do(t, o, req("k", "1"), answering(422, "")); err != nil {
		t.Fatal(err)
	}
	if got, err := do(t, o, req("k", "2"), answering(500, "")); err != nil || got.Code != 500 {
		t.Errorf("%d, %v", got.Code, err)
	}
	if _, err := do(t, o, req("k", "3"), answering(200, "")); fault.CodeOf(err) != "idempotency_key_reused" {
		t.Errorf("%v", err)
	}
}

func TestHeadersOfTheExchangeAreNotKept(t *testing.T) {
	store := NewMemory(time.Now)
	_, err := do(t, New(store, Config{}), req("k", ""), func(_ context.Context, w http.ResponseWriter) {
		h := w.Header()
		h.Set("X-Request-Id", "other")
		h.Set("Set-Cookie", "session=secret")
		h.Set("Date", "now")
		h.Set("ETag", `"1"`)
		w.WriteHeader(201)
	})
	if err != nil {
		t.Fatal(err)
	}
	r, _, _ := store.Reserve(t.Context(), req("k", "").Key, Claim{})
	if diff := cmp.Diff(http.Header{"Etag": {`"1"`}}, r.Answer.Header); diff != "" {
		t.Error(diff)
	}
}

func TestSecretAnswersAreNotKept(t *testing.T) {
	store := NewMemory(time.Now)
	o, r := New(store, Config{}), req("k", "")
	r.Secret = true
	if first, err := do(t, o, r, answering(201, "s3cret")); err != nil || first.Body.String() != "s3cret" {
		t.Errorf("first %v, %v", first, err)
	}
	kept, _, _ := store.Reserve(t.Context(), r.Key, Claim{})
	if diff := cmp.Diff(&Answer{Status: 201, Secret: true}, kept.Answer); diff != "" {
		t.Error(diff)
	}
	if _, err := do(t, o, r, answering(201, "again")); fault.CodeOf(err) != "answer_not_kept" || !fault.Is(err, fault.Conflict) {
		t.Errorf("again: %v", err)
	}
}

// An answer that is too large goes out whole; its repetition is done again under
// the same id.
func TestLargeAnswersAreMadeAgain(t *testing.T) {
	o := New(NewMemory(time.Now), Config{MaxAnswer: 10})
	var ids []string
	for range 2 {
		rec, err := do(t, o, req("k", ""), func(ctx context.Context, w http.ResponseWriter) {
			ids = append(ids, web.OperationID(ctx))
			w.WriteHeader(201)
			for range 5 {
				_, _ = w.Write([]byte("12345"))
			}
		})
		if err != nil || rec.Code != 201 || rec.Body.Len() != 25 {
			t.Errorf("%d with %d bytes, %v", rec.Code, rec.Body.Len(), err)
		}
	}
	if len(ids) != 2 || ids[0] != ids[1] || ids[0] == "" {
		t.Errorf("operations %q", ids)
	}
}

// A process that dies leaves its lease: repetitions wait for its end, then one
// does the operation again under its id. What the dead one would still have said
// is not heard.
func TestCrashedOperationsAreDoneAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory(time.Now)
		o := New(store, Config{Lease: time.Minute})
		dead, _, err := o.Begin(t.Context(), httptest.NewRecorder(), req("k", ""))
		if err != nil {
			t.Fatal(err)
		}
		id := web.OperationID(dead.Context(t.Context()))
		_, _, err = o.Begin(t.Context(), httptest.NewRecorder(), req("k", ""))
		if f := fault.Of(err); f.Code != "idempotency_in_flight" || f.RetryAfter <= 0 {
			t.Errorf("in flight: %v", err)
		}
		time.Sleep(time.Minute)
		second, _, err := o.Begin(t.Context(), httptest.NewRecorder(), req("k", ""))
		if err != nil {
			t.Fatal(err)
		}
		if again := web.OperationID(second.Context(t.Context())); again != id {
			t.Errorf("the operation %s became %s", id, again)
		}
		dead.Abandon(t.Context()) // a zombie: must not end the second's lease
		if _, _, err := o.Begin(t.Context(), httptest.NewRecorder(), req("k", "")); fault.CodeOf(err) != "idempotency_in_flight" {
			t.Errorf("after the zombie: %v", err)
		}
		second.Writer().WriteHeader(201)
		if err := second.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rec, err := do(t, o, req("k", ""), answering(500, "")); err != nil || rec.Code != 201 {
			t.Errorf("at last: %d, %v", rec.Code, err)
		}
		time.Sleep(24 * time.Hour)
		if rec, err := do(t, o, req("k", "another"), answering(202, "")); err != nil || rec.Code != 202 {
			t.Errorf("a day later: %d, %v", rec.Code, err)
		}
	})
}

type broken struct{ Store }

func (broken) Reserve(context.Context, Key, Claim) (Reservation, bool, error) {
	return Reservation{}, false, fault.New(fault.Unavailable, "the store is down")
}

type forgetful struct{ Store }

func (forgetful) Complete(context.Context, Key, int, Answer) error { return errors.New("lost") }

func TestBrokenStores(t *testing.T) {
	if _, err := do(t, New(broken{}, Config{}), req("k", ""), answering(200, "")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a reservation nothing may be done: %v", err)
	}
	// The operation is done: its client gets the answer.
	if rec, err := do(t, New(forgetful{NewMemory(time.Now)}, Config{}), req("k", ""), answering(201, "x")); err != nil || rec.Code != 201 {
		t.Errorf("%d, %v", rec.Code, err)
	}
}

func TestOneOfManyIsDone(t *testing.T) {
	o := New(NewMemory(time.Now), Config{})
	var mu sync.Mutex
	done := 0
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			_, err := do(t, o, req("k", ""), func(context.Context, http.ResponseWriter) {
				mu.Lock()
				done++
				mu.Unlock()
			})
			if err != nil && fault.CodeOf(err) != "idempotency_in_flight" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if done == 0 {
		t.Error("none was done")
	}
}

// Law: over any attempts, failures, crashes and time, an operation that was
// answered is answered so again and is not done again within a day; all attempts
// have one id.
func TestOnceLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Unix(0, 0)
		o := New(NewMemory(func() time.Time { return now }), Config{Lease: time.Minute, Keep: 24 * time.Hour})
		id, answer := "", ""
		for i := range rapid.IntRange(1, 15).Draw(rt, "steps") {
			rec := httptest.NewRecorder()
			a, replay, err := o.Begin(context.Background(), rec, req("k", "same"))
			switch {
			case replay != nil:
				_ = replay.Replay(rec)
				if answer == "" || rec.Body.String() != answer {
					rt.Fatalf("replayed %q after %q", rec.Body, answer)
				}
			case a != nil:
				if answer != "" {
					rt.Fatal("done again")
				}
				if this := web.OperationID(a.Context(context.Background())); id == "" {
					id = this
				} else if this != id {
					rt.Fatalf("the operation %s became %s", id, this)
				}
				switch rapid.SampledFrom([]string{"succeed", "fail", "panic", "crash"}).Draw(rt, "what happens") {
				case "succeed":
					answer = "answer " + strconv.Itoa(i)
					_, _ = a.Writer().Write([]byte(answer))
					_ = a.Finish(context.Background())
				case "fail":
					a.Writer().WriteHeader(503)
					_ = a.Finish(context.Background())
				case "panic":
					a.Abandon(context.Background())
				}
			case fault.CodeOf(err) != "idempotency_in_flight":
				rt.Fatal(err)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(rt, "seconds")) * time.Second)
		}
	})
}

func TestFingerprintsDiffer(t *testing.T) {
	seen := map[Fingerprint]string{}
	for _, parts := range [][3]string{{"POST", "/a", "x"}, {"PUT", "/a", "x"}, {"POST", "/ax", ""}, {"POST", "/a", "y"}, {"POST", "/a?b", "x"}, {"POST/a", "", "x"}} {
		f := FingerprintOf(parts[0], parts[1], []byte(parts[2]))
		if other, ok := seen[f]; ok {
			t.Errorf("%q has the fingerprint of %q", parts, other)
		}
		seen[f] = strings.Join(parts[:], " ")
	}
}

type watching struct {
	Store
	completing func()
}

func (w watching) Complete(ctx context.Context, key Key, attempt int, a Answer) error {
	w.completing()
	return w.Store.Complete(ctx, key, attempt, a)
}

// No client has an answer that its repetition would not get.
func TestAnswersAreKeptBeforeTheyAreSent(t *testing.T) {
	rec, sent := httptest.NewRecorder(), -1
	o := New(watching{NewMemory(time.Now), func() { sent = rec.Body.Len() }}, Config{})
	a, _, err := o.Begin(t.Context(), rec, req("k", ""))
	if err != nil {
		t.Fatal(err)
	}
	_, _ = a.Writer().Write([]byte("answer"))
	if err := a.Finish(t.Context()); err != nil || sent != 0 || rec.Body.String() != "answer" {
		t.Errorf("when it was kept, %d bytes were sent; %q, %v", sent, rec.Body, err)
	}
}

// deaf cannot be told of outcomes while it is full.
type deaf struct {
	*Memory
	full bool
}

func (d *deaf) Complete(ctx context.Context, key Key, attempt int, a Answer) error {
	if d.full {
		return fault.New(fault.Unavailable, "full")
	}
	return d.Memory.Complete(ctx, key, attempt, a)
}

func (d *deaf) Release(ctx context.Context, key Key, attempt int, forget bool) error {
	if d.full {
		return fault.New(fault.Unavailable, "full")
	}
	return d.Memory.Release(ctx, key, attempt, forget)
}

// A store that could not be told how an attempt ended is told at the next one:
// nobody waits for its lease.
func TestOutcomeThatTheStoreDidNotLearn(t *testing.T) {
	store := &deaf{NewMemory(time.Now), true}
	o := New(store, Config{})
	if got, err := do(t, o, req("k", ""), answering(503, "full")); err != nil || got.Code != 503 {
		t.Fatalf("%d, %v", got.Code, err)
	}
	if _, err := do(t, o, req("k", ""), answering(201, "made")); err == nil {
		t.Error("the store is still full, and takes an attempt")
	}
	if _, err := do(t, New(store, Config{}), req("k", ""), answering(201, "made")); fault.CodeOf(err) != "idempotency_in_flight" {
		t.Errorf("another process does not know that the attempt has ended: %v", err)
	}
	store.full = false
	for range 2 {
		if got, err := do(t, o, req("k", ""), answering(201, "made")); err != nil || got.Code != 201 || got.Body.String() != "made" {
			t.Errorf("%d %s, %v", got.Code, got.Body, err)
		}
	}
}
