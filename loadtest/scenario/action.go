package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sluice/internal/client"
	"sluice/internal/platform/pause"
)

// act carries out an action once it is due, and returns when it is done.
func (r *run) act(ctx context.Context, a Action, begin time.Time) error {
	at := begin.Add(r.s.begins(r.s.phase(a.Phase)) + a.After)
	if !pause.For(ctx, time.Until(at)) {
		return ctx.Err()
	}
	r.log("%s begins", a.Do)
	var err error
	switch a.Do {
	case "restart":
		err = r.world.restart(ctx)
	case "promote":
		err = r.world.promote(ctx, a.Model)
	case "reload":
		err = r.world.post(ctx, "/v2/repository/models/"+a.Model+"/load", map[string]any{}, nil)
	case "batch":
		err = r.world.batch(ctx, a.Model, a.Rows)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", a.Do, err)
	}
	r.log("%s is done after %.1f s", a.Do, time.Since(at).Seconds())
	return nil
}

// restart stops the nodes one after the other, as an operator does, and starts
// each again before it stops the next.
func (w *world) restart(ctx context.Context) error {
	for i, n := range w.nodes {
		if err := n.server.Load().Stop(); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if err := n.start(ctx); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if !pause.For(ctx, 300*time.Millisecond) { // the balancer's health check has to see it
			return ctx.Err()
		}
	}
	return nil
}

// promote points the alias champion, which answers requests without a version, to
// each version of a model in turn, and ends with the greatest.
func (w *world) promote(ctx context.Context, model string) error {
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	path, header := "/v1/models/"+model+"/aliases/champion", http.Header{"If-None-Match": {"*"}}
	for _, version := range []string{"1", "2", "1", "2"} {
		a, err := c.Call(ctx, client.Request{Method: http.MethodPut, Path: path, Header: header, Body: map[string]any{"version": version}})
		if err != nil {
			return err
		}
		header = http.Header{"If-Match": {a.Header.Get("ETag")}}
		if !pause.For(ctx, 500*time.Millisecond) { // until every node follows
			return ctx.Err()
		}
	}
	return nil
}

// batch runs a batch of so many rows and waits for its end. It fails unless every
// row succeeds.
func (w *world) batch(ctx context.Context, model string, rows int) error {
	path := filepath.Join(w.settings.Folder, "rows.jsonl")
	if err := w.rows(ctx, model, rows, path); err != nil {
		return err
	}
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	c, err := w.client()
	if err != nil {
		return err
	}
	defer c.Close()
	upload, err := c.Upload(ctx, &client.File{Name: "rows.jsonl", Type: "application/x-ndjson", Content: file, Size: info.Size()}, func(int64) {})
	if err != nil {
		return err
	}
	var made struct{ ID string }
	if err := w.post(ctx, "/v1/batches", map[string]any{"model": model, "format": "jsonl", "input": map[string]any{"upload_id": upload.ID}}, &made); err != nil {
		return err
	}
	for {
		var batch struct {
			Status string
			Error  json.RawMessage
			Counts struct{ Total, Succeeded int } `json:"row_counts"`
		}
		if err := c.Get(ctx, "/v1/batches/"+made.ID, &batch); err != nil {
			return err
		}
		switch batch.Status {
		case "completed":
			if batch.Counts.Succeeded != rows {
				return fmt.Errorf("%d of %d rows succeeded", batch.Counts.Succeeded, rows)
			}
			return nil
		case "failed", "cancelled", "expired":
			return fmt.Errorf("the batch %s: %s", batch.Status, batch.Error)
		}
		if !pause.For(ctx, 200*time.Millisecond) {
			return errors.Join(fmt.Errorf("the batch is %s, %d of %d rows", batch.Status, batch.Counts.Succeeded, rows), ctx.Err())
		}
	}
}

// rows writes a file with rows for a model whose inputs are FP32.
func (w *world) rows(ctx context.Context, model string, rows int, path string) error {
	ports, err := w.ports(ctx, model)
	if err != nil {
		return err
	}
	out := []byte{}
	for i := range rows {
		out = append(out, '{')
		for p, port := range ports {
			if p > 0 {
				out = append(out, ',')
			}
			out = append(strconv.AppendQuote(out, port.Name), ':', '[')
			elements := int64(1)
			for _, d := range port.Shape[1:] {
				elements *= max(d, 1)
			}
			for e := range elements {
				if e > 0 {
					out = append(out, ',')
				}
				out = strconv.AppendInt(out, (int64(i)+e)%10, 10)
			}
			out = append(out, ']')
		}
		out = append(out, '}', '\n')
	}
	return os.WriteFile(path, out, 0o600)
}
