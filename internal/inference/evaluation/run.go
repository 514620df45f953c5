package evaluation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/hex"
	"errors"
	"hash"
	"maps"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/usage"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/pause"
	"sluice/internal/platform/repo"
)

// Question is what a version is asked.
type Question struct {
	Tenant, Model string
	Version       Version
	Inputs        []tensor.Tensor
}

// Answer is what a version has answered, in memory of its own.
type Answer struct {
	Outputs []tensor.Tensor
	Took    time.Duration // the run that it was part of
	Used    usage.Amount
}

// Models are those of this process.
type Models interface {
	// Find returns the version of a number or an alias.
	Find(model, version string) (*Served, error)
	// Ask has a version answer, as work that waits for spare rows of online requests' runs,
	// and that no log takes note of. A version that has another digest is
	// fault.Unprocessable.
	Ask(ctx context.Context, q Question) (Answer, error)
}

// run is one attempt at an evaluation.
type run struct {
	service *Service
	scope   repo.Scope
	id      ID
	attempt int
	request Request
	started time.Time

	done   Checkpoint // what was committed, and of a chunk what comes to it
	folder string
	used   map[string]usage.Amount // by version, not committed yet
}

const (
	chunkCases = 512
	chunkBytes = 8 << 20 // of tensors
	growth     = 64      // chunks after which the next have twice as many cases
	maxGrowth  = 4       // times
	maxParts   = 4096
	together   = 16 // cases that are asked at a time: the batcher makes runs of them
)

// do goes through all cases that are left.
func (r *run) do(ctx context.Context) error {
	cases, err := r.service.cases(ctx, r.scope.Tenant, &r.request)
	if err != nil {
		return err
	}
	if err := r.done.Result.begin(&r.request); err != nil {
		return errors.Join(err, cases.Close())
	}
	r.folder = strings.Join([]string{r.scope.Tenant, Folder, string(r.id)}, "/")
	return errors.Join(r.all(ctx, cases), cases.Close())
}

// all goes through cases, until they end or something fails.
func (r *run) all(ctx context.Context, cases Cases) error {
	for {
		if r.service.store.Now().Sub(r.started) > r.request.MaxTime {
			return fault.New(fault.Unprocessable, "the evaluation took longer than %s: ask for fewer rows, or allow more time", r.request.MaxTime).WithCode("evaluation_timeout")
		}
		end, err := r.chunk(ctx, cases)
		if err != nil || end {
			return err
		}
	}
}

// chunk goes through the next cases, and commits what they come to. It says whether these
// were the last.
func (r *run) chunk(ctx context.Context, cases Cases) (end bool, err error) {
	most := r.service.chunk << min(r.done.Chunks/growth, maxGrowth)
	page, next, err := cases.Read(ctx, r.done.Cursor, most, chunkBytes)
	if err != nil {
		return false, err
	}
	all := len(page)
	page = r.within(page)
	answers, err := r.ask(ctx, page)
	if err != nil {
		return false, err
	}
	var lines bytes.Buffer
	before := r.done.Diff.Rows
	for i := range answers {
		if err := r.done.Result.add(&answers[i], &lines, &r.done.Diff); err != nil {
			return false, err
		}
	}
	if err := r.write(ctx, lines.Bytes(), r.done.Diff.Rows-before); err != nil {
		return false, err
	}
	r.done.Cursor, r.done.Chunks = next, r.done.Chunks+1
	r.done.Result.Cut = len(page) < all
	end = next == "" || r.done.Result.Cut
	return end, r.commit(ctx, end)
}

// within returns the cases that max_rows leaves room for: up to the first that would be asked
// and is too much, if there is one.
func (r *run) within(page []Case) []Case {
	room := r.request.MaxRows - r.done.Result.Rows
	for i := range page {
		if page[i].Skip != "" {
			continue
		}
		if room <= 0 {
			return page[:i]
		}
		room -= page[i].Rows
	}
	return page
}

// ask has the versions answer cases, some at a time.
func (r *run) ask(ctx context.Context, page []Case) ([]answered, error) {
	out := make([]answered, len(page))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(together)
	used := make([][2]usage.Amount, len(page))
	for i := range page {
		if out[i].Case = page[i]; page[i].Skip != "" {
			continue
		}
		group.Go(func() error { return r.askOne(ctx, &out[i], &used[i]) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for i := range used {
		r.count(r.request.Candidate, used[i][0])
		if b := r.request.Baseline; b != nil {
			r.count(*b, used[i][1])
		}
	}
	return out, nil
}

func (r *run) count(v Version, a usage.Amount) {
	if r.used == nil {
		r.used = map[string]usage.Amount{}
	}
	sum := r.used[v.Number]
	sum.Add(a)
	r.used[v.Number] = sum
}

// askOne has the versions answer a case. It returns why that cannot be said now.
func (r *run) askOne(ctx context.Context, a *answered, used *[2]usage.Amount) error {
	a.baseline, a.before = a.Outputs, a.Took
	if b := r.request.Baseline; b != nil {
		was, err := r.patiently(ctx, *b, a.Inputs)
		if err != nil {
			if again(ctx, err) {
				return err
			}
			a.Skip = NoBaseline
			return nil
		}
		a.baseline, a.before, used[1] = was.Outputs, was.Took, was.Used
	}
	is, err := r.patiently(ctx, r.request.Candidate, a.Inputs)
	if err != nil && again(ctx, err) {
		return err
	}
	a.answer, a.took, a.failed, used[0] = is.Outputs, is.Took, err, is.Used
	return nil
}

// again says whether an error tells nothing of a version.
func again(ctx context.Context, err error) bool {
	return ctx.Err() != nil || fault.Of(err).Kind.Retryable() || fault.CodeOf(err) == codeChanged
}

// codeChanged is the code of a version that is another by now, which ends the evaluation.
const codeChanged = "evaluation_version_changed"

// patience is for how long a version is asked again that has no room.
const patience = 30 * time.Second

// patiently asks a version, again where it is busy.
func (r *run) patiently(ctx context.Context, v Version, inputs []tensor.Tensor) (Answer, error) {
	waited := time.Duration(0)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		a, err := r.service.models.Ask(ctx, Question{r.scope.Tenant, r.request.Model, v, inputs})
		if err == nil || !fault.Of(err).Kind.Retryable() || waited >= patience || !pause.For(ctx, wait) {
			return a, err
		}
		waited += wait
	}
}

// write keeps lines as an object of a name that is used once. What is never committed the
// sweep of orphans removes.
func (r *run) write(ctx context.Context, lines []byte, rows int64) error {
	if len(lines) == 0 {
		return nil
	}
	d := &r.done.Diff
	if len(d.Parts) >= maxParts {
		return fault.New(fault.Unprocessable, "the differences have more than %d parts: ask for fewer rows", maxParts).WithCode("evaluation_diff_too_large")
	}
	sum, err := d.digest()
	if err != nil {
		return err
	}
	_, _ = sum.Write(lines) // never fails
	if d.Sum, err = sum.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	own := sha256.Sum256(lines)
	p := Part{Object: r.folder + "/" + repo.RandomName(), Rows: rows, Bytes: int64(len(lines)), SHA256: hex.EncodeToString(own[:])}
	if _, err = r.service.bucket.Put(ctx, p.Object, bytes.NewReader(lines), blob.PutOptions{PartOptions: blob.PartOptions{Size: p.Bytes, SHA256: p.SHA256}}); err != nil {
		return err
	}
	d.Parts = append(d.Parts, p)
	d.Bytes += p.Bytes
	return nil
}

// digest returns the digest of what was written so far.
func (d *Diff) digest() (hash.Hash, error) {
	sum := sha256.New()
	if len(d.Sum) == 0 {
		return sum, nil
	}
	err := sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(d.Sum)
	if err != nil {
		err = fault.Wrap(fault.Internal, err, "what is known of the differences' digest cannot be read")
	}
	return sum, err
}

// commit has the store know what was come to.
func (r *run) commit(ctx context.Context, end bool) error {
	if end {
		sum, err := r.done.Diff.digest()
		if err != nil {
			return err
		}
		r.done.Diff.SHA256 = hex.EncodeToString(sum.Sum(nil))
	}
	s := r.service
	err := s.store.Do(ctx, r.scope, func(ctx context.Context, tx *repo.Tx) error {
		e, err := Evaluations.Update(ctx, tx, r.id, func(e *Evaluation) error { return e.Advance(r.attempt, r.done, end, tx.Now(), s.cfg.Keep) })
		if err != nil {
			return err
		}
		return r.meter(tx, &e, end)
	})
	if err == nil {
		r.used = nil
	}
	return err
}

// meter has what was used counted, with the commit, and the evaluation itself with its end.
func (r *run) meter(tx *repo.Tx, e *Evaluation, end bool) error {
	used := maps.Clone(r.used) // the commit may be tried again
	if end {
		if used == nil {
			used = map[string]usage.Amount{}
		}
		one := used[e.Request.Candidate.Number]
		one.Requests, one.Succeeded = 1, 1
		used[e.Request.Candidate.Number] = one
	}
	for version, used := range used {
		entry := usage.Entry{What: usage.What{Model: e.Request.Model, Version: version, Mode: usage.Evaluation}, Amount: used}
		if err := usage.Publish(tx, repo.Key{Kind: Evaluations.Name, ID: string(e.ID)}, entry); err != nil {
			return err
		}
	}
	return nil
}
