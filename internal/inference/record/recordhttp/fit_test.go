package recordhttp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/record"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
)

// A score that the experiment does not take is refused when it is sent, with the range; of
// lines the others are taken, and the experiment is asked for once. Where that cannot be
// known, nothing is taken, and it is sent again.
func TestScoresOutOfRange(t *testing.T) {
	store, asked, away := newStore(t), 0, error(nil)
	h := handler{store: store, ranges: func(_ context.Context, experiment, label string) ([][2]float64, error) {
		asked++
		if experiment != "exp_1" || label != "stars" {
			return nil, away
		}
		return [][2]float64{{1, 5}, {10, 11}, {1, 5}}, away
	}}
	ctx := access.With(t.Context(), &access.Principal{Tenant: "acme"})
	at := time.Now().UTC().Truncate(time.Millisecond)
	var entries []*record.Entry
	for _, experiment := range []string{"exp_1", ""} {
		e := &record.Entry{ID: record.NewID(at), At: at, Tenant: "acme", Model: "m", Version: "1", Rows: 1, ClientRef: "in " + experiment}
		e.Experiment = experiment
		entries = append(entries, e)
	}
	if err := store.Append(ctx, entries); err != nil {
		t.Fatal(err)
	}
	line := func(ref, name string, label any) string {
		return fmt.Sprintf(`{"client_ref":%q,"label_name":%q,"label":%v}`, "in "+ref, name, label)
	}
	_, err := h.one(ctx, "acme", []byte(line("exp_1", "stars", 5.5)), at)
	if fault.CodeOf(err) != "score_out_of_range" || !fault.Is(err, fault.Unprocessable) || !strings.Contains(err.Error(), `exp_1, which the prediction is of, takes scores of "stars" from 1 to 5 or from 10 to 11: send`) {
		t.Errorf("a single one: %v", err)
	}
	asked = 0
	report, err := h.lines(ctx, "acme", []byte(strings.Join([]string{
		line("exp_1", "stars", 1), line("exp_1", "stars", 0.5), "", line("exp_1", "stars", 10.5), line("exp_1", "stars", "true"), line("exp_1", "stars", `"a text"`), line("exp_1", "stars", -3), line("exp_1", "other", 99), line("", "stars", 99),
	}, "\n")), at)
	if err != nil || report.Lines != 8 || report.Rejected != 2 || report.Errors[0].Line != 2 || report.Errors[1].Line != 7 || report.Errors[1].Code != "score_out_of_range" || asked != 2 {
		t.Errorf("%+v, %v; asked %d times", report, err, asked)
	}
	report, err = h.lines(ctx, "acme", []byte(line("exp_1", "stars", 0)+"\n{\n"+line("none", "stars", 1)), at)
	if err != nil || len(report.Errors) != 3 || report.Errors[0].Line != 1 || report.Errors[1].Line != 2 || report.Errors[2].Line != 3 {
		t.Errorf("errors are by line: %+v, %v", report, err)
	}
	away = fault.New(fault.Unavailable, "the store is away")
	if _, err := h.lines(ctx, "acme", []byte(line("exp_1", "new", 1)), at); !errors.Is(err, away) {
		t.Errorf("lines while nothing is known: %v", err)
	}
	if _, err := h.one(ctx, "acme", []byte(line("exp_1", "new", 1)), at); !errors.Is(err, away) {
		t.Errorf("one while nothing is known: %v", err)
	}
	away = nil
	if got, err := h.one(ctx, "acme", []byte(line("exp_1", "new", 1)), at); err != nil || got.Result != "added" {
		t.Errorf("%+v, %v", got, err)
	}
}
