package api

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice/internal/inference/job"
	"sluice/internal/inference/oip"
	"sluice/internal/platform/cqrs"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/download"
)

type idIn struct {
	ID string `path:"id" maxLength:"64"`
}

type getIn struct {
	ID   string `path:"id" maxLength:"64"`
	Wait int    `query:"wait" minimum:"0" maximum:"60" doc:"Waits up to so many seconds for the end."`
}

type listIn struct {
	api.PageQuery
	api.OrderQuery
	Status    string `query:"status" enum:"queued,running,cancelling,succeeded,failed,cancelled,expired"`
	Model     string `query:"model" maxLength:"255"`
	ClientRef string `query:"client_ref" maxLength:"255"`
	Priority  string `query:"priority" enum:"high,normal,low"`
	Dead      bool   `query:"dead_letter" doc:"Only those that failed for want of attempts or of a worker, and can be replayed."`
}

type listOut struct{ Body api.Page[Prediction] }

func (a *API) get(ctx context.Context, prefix string, in *getIn) (*out, error) {
	p, err := a.find(ctx, job.ID(in.ID))
	if err == nil && in.Wait > 0 {
		p, err = a.await(ctx, p.ID, time.Duration(in.Wait)*time.Second, func() (*job.Prediction, error) { return a.find(ctx, p.ID) })
	}
	if err != nil {
		return nil, err
	}
	o, err := a.answer(ctx, prefix, p)
	if err == nil && !p.Status.Final() {
		o.RetryAfter = "1"
	}
	return o, err
}

func (a *API) cancel(ctx context.Context, prefix string, in *idIn) (*out, error) {
	p, err := cqrs.Send(ctx, a.bus, job.Cancel{ID: job.ID(in.ID)})
	return a.changed(ctx, prefix, p, err)
}

func (a *API) replay(ctx context.Context, prefix string, in *idIn) (*out, error) {
	p, err := cqrs.Send(ctx, a.bus, job.Revive{ID: job.ID(in.ID)})
	return a.changed(ctx, prefix, p, err)
}

// changed answers with what a command has made of a prediction: with 202 where
// its end is still to come.
func (a *API) changed(ctx context.Context, prefix string, p *job.Prediction, err error) (*out, error) {
	if err != nil {
		return nil, err
	}
	o, err := a.answer(ctx, prefix, p)
	if err == nil && !p.Status.Final() {
		o.Status, o.RetryAfter = http.StatusAccepted, "1"
	}
	return o, err
}

func (a *API) list(ctx context.Context, prefix string, in *listIn) (*listOut, error) {
	ask := job.List{Status: job.Status(in.Status), Model: in.Model, ClientRef: in.ClientRef, Priority: job.Priority(in.Priority), Dead: in.Dead,
		Query: spec.Query[job.Prediction]{Order: spec.Order[job.Prediction]{Descending: in.Descending()}, Limit: in.Limit, After: in.Cursor}}
	page, err := cqrs.Ask(ctx, a.bus, ask)
	for range settlings {
		if err != nil || !a.settleAll(ctx, page.Items) {
			break
		}
		page, err = cqrs.Ask(ctx, a.bus, ask) // which may have others in their place
	}
	if err != nil {
		return nil, err
	}
	views := make([]Prediction, len(page.Items))
	for i := range page.Items {
		views[i] = a.summary(prefix, &page.Items[i])
	}
	return &listOut{api.NewPage(views, page.Next)}, nil
}

// output sends a prediction's output, however large it is, in the form that was
// asked for.
func (a *API) output(ctx context.Context, w http.ResponseWriter, r *http.Request, in *idIn) error {
	p, err := a.find(ctx, job.ID(in.ID))
	if err != nil {
		return err
	}
	if p.Status != job.Succeeded {
		return fault.New(fault.Conflict, "the prediction has no output: it is %s", p.Status).WithCode("no_output")
	}
	return download.Serve(w, r, a.content(w.Header(), p))
}

// content is what a prediction answered. The header says how it is to be read.
func (a *API) content(h http.Header, p *job.Prediction) download.Content {
	c := download.Content{Size: p.Output.Bytes, Type: "application/json", SHA256: p.Output.SHA256,
		Open: func(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
			return a.payloads.Open(ctx, p.Output, offset, length)
		}}
	if p.Output.Text != nil {
		c.Type = "application/octet-stream"
		h.Set(oip.HeaderLength, strconv.Itoa(*p.Output.Text))
	}
	return c
}

// accepted finds the prediction that an earlier attempt at the operation submitted.
func (a *API) accepted(ctx context.Context) (*job.Prediction, error) {
	if web.OperationID(ctx) == "" {
		return nil, repo.ErrNotFound // it has no key, and so no earlier attempt
	}
	return cqrs.Ask(ctx, a.bus, job.Follow{ID: newID(ctx)})
}

// Another process may commit the end of a prediction, so that is read again after
// firstLook, and then less and less often, down to once in lastLook: many may wait.
const (
	firstLook = 250 * time.Millisecond
	lastLook  = 2 * time.Second
)

// await returns what find finds once that has ended, or as it is after wait.
func (a *API) await(ctx context.Context, id job.ID, wait time.Duration, find func() (*job.Prediction, error)) (*job.Prediction, error) {
	changed, leave := a.waiting.join(id)
	defer leave()
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	var late <-chan time.Time
	look := time.NewTimer(firstLook)
	defer look.Stop()
	for pause := firstLook; ; {
		now, err := a.settled(ctx, find)
		if err != nil || now.Status.Final() {
			return now, err
		}
		if late == nil && !now.Deadline.IsZero() {
			deadline := time.NewTimer(now.Deadline.Sub(a.store.Now()))
			defer deadline.Stop()
			late = deadline.C
		}
		select {
		case <-changed:
		case <-late:
		case <-look.C:
			pause = min(2*pause, lastLook)
			look.Reset(pause)
		case <-timeout.C:
			return now, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// waiting wakes those who wait for predictions that this process changes.
type waiting struct {
	mu sync.Mutex
	by map[string][]chan struct{} // id -> who waits
}

func newWaiting() *waiting { return &waiting{by: map[string][]chan struct{}{}} }

func (w *waiting) join(id job.ID) (changed <-chan struct{}, leave func()) {
	c := make(chan struct{}, 1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[string(id)] = append(w.by[string(id)], c)
	return c, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		rest := slices.DeleteFunc(w.by[string(id)], func(o chan struct{}) bool { return o == c })
		if len(rest) == 0 {
			delete(w.by, string(id))
			return
		}
		w.by[string(id)] = rest
	}
}

// committed wakes those who wait for what a changeset has changed.
func (w *waiting) committed(c *repo.Changeset) {
	for i := range c.Puts {
		if c.Puts[i].Kind != job.Predictions.Name {
			continue
		}
		w.mu.Lock()
		for _, waiter := range w.by[c.Puts[i].ID] {
			select {
			case waiter <- struct{}{}:
			default:
			}
		}
		w.mu.Unlock()
	}
}
