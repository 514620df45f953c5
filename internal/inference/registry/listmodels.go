package registry

import (
	"context"
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/inference/model"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// FindModel asks for a model that has versions here, by its name.
type FindModel struct {
	cqrs.Returns[*Model]
	Name string
}

// ListModels asks for a page of the models that have versions here, by name. The zero value
// of each rule is satisfied by all.
type ListModels struct {
	cqrs.Returns[spec.Page[Model]]
	Prefix   string            // of the name
	Search   string            // a part of the name, whatever its case
	Stage    Stage             // of the latest version
	Label    [2]string         // key and value, of the latest version
	From, To time.Time         // when the first version was registered; To is left out
	Also     func(*Model) bool // what else has to hold
	Limit    int
	After    string
}

// QueryName implements cqrs.Query.
func (FindModel) QueryName() string { return "models.read" }

// QueryName implements cqrs.Query.
func (ListModels) QueryName() string { return "models.list" }

// maxExamined is how many models are looked at for one page: one of fewer than its limit
// goes on behind them.
const maxExamined = 2000

func findModel(ctx context.Context, from repo.Reading, q FindModel) (*Model, error) {
	m, err := Models.Get(ctx, from, ledgerID(q.Name))
	return &m, err
}

func listModels(ctx context.Context, from repo.Reading, q ListModels) (page spec.Page[Model], err error) {
	after, err := q.after()
	if err != nil {
		return page, err
	}
	limit := spec.Query[Model]{Limit: q.Limit}.PageLimit()
	read := limit
	if q.narrow() {
		read = max(limit, 200)
	}
	for examined := 0; ; {
		found, err := Models.Find(ctx, from, spec.Query[Model]{Where: spec.And(nameField.StartsWith(q.Prefix), nameField.Gt(after)), Order: nameField.Asc(), Limit: read})
		if err != nil {
			return page, err
		}
		for i := range found.Items {
			m := &found.Items[i]
			examined++
			if after = m.Name; q.selects(m) {
				page.Items = append(page.Items, *m)
			}
			if more := found.Next != "" || i < len(found.Items)-1; more && (len(page.Items) == limit || examined == maxExamined) {
				page.Next = base64.RawURLEncoding.EncodeToString([]byte(after))
				return page, nil
			}
		}
		if found.Next == "" {
			return page, nil
		}
	}
}

// after reads the cursor: the name that the page before has ended with. Names never change,
// so what comes and goes meanwhile neither repeats nor hides another.
func (q *ListModels) after() (string, error) {
	name, err := base64.RawURLEncoding.DecodeString(q.After)
	if err != nil || !utf8.Valid(name) || q.After != "" && model.ValidName(string(name)) != nil {
		return "", fault.New(fault.Invalid, "the cursor does not belong to this query: use next_cursor as it was given, with the same filter").WithCode("invalid_cursor")
	}
	return string(name), nil
}

// narrow says whether more than the order of names is asked for.
func (q *ListModels) narrow() bool {
	return q.Search != "" || q.Stage != "" || q.Label[0] != "" || !q.From.IsZero() || !q.To.IsZero() || q.Also != nil
}

func (q *ListModels) selects(m *Model) bool {
	label, labelled := m.Latest.Labels[q.Label[0]]
	return strings.Contains(strings.ToLower(m.Name), strings.ToLower(q.Search)) &&
		(q.Stage == "" || m.Latest.Stage == q.Stage) &&
		(q.Label[0] == "" || labelled && label == q.Label[1]) &&
		!m.Since.Before(q.From) && (q.To.IsZero() || m.Since.Before(q.To)) &&
		(q.Also == nil || q.Also(m))
}
