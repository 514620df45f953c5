// Package exporthttp has exports as a resource of the native API.
package exporthttp

import (
	"context"
	"net/http"
	"strconv"

	"sluice/internal/batch/encode"
	"sluice/internal/batch/export"
	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/download"
	"sluice/internal/platform/web/problem"
)

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	again := "Export again."
	return append(scheduleProblems(), []problem.Type{
		{Code: "dataset_unknown", Title: "There is no such dataset", Fix: "GET /v1/export-datasets lists those that there are."},
		{Code: "column_unknown", Title: "The dataset has no such column", Fix: "Use the columns that detail names."},
		{Code: "table_invalid", Title: "The columns make no table", Fix: "Name each column once."},
		{Code: "filter_invalid", Title: "A filter cannot be understood", Fix: "Give column, op (eq, ne, lt, le, gt, ge, is_null, not_null) and a value of the column's type."},
		{Code: "sort_invalid", Title: "The rows cannot be sorted so", Fix: "Sort by columns that are exported, each once, at most 8."},
		{Code: "sort_too_large", Title: "There are too many rows to be sorted", Fix: "Choose less by from, to, filters or columns, or leave sort out."},
		{Code: "sort_disk", Title: "The files that sorting takes cannot be written", Fix: again},
		{Code: "preview_unsorted", Title: "There are too many rows to be sorted for a preview", Fix: "Choose less by from, to or filters, or leave sort out."},
		{Code: "range_invalid", Title: "The times make no range", Fix: "from has to be before to, and as_of not in the future."},
		{Code: "time_zone_unknown", Title: "There is no such time zone", Fix: "Use a name of the IANA database, such as Europe/Berlin."},
		{Code: "format_unknown", Title: "There is no such format", Fix: "Use csv, jsonl, parquet or xlsx."},
		{Code: "option_invalid", Title: "An option does not fit", Fix: "Change what detail says, or leave it out."},
		{Code: "export_quota", Title: "The tenant has as many exports as it may", Fix: "Wait for one to end, or delete some that are not needed."},
		{Code: "export_incomplete", Title: "The export is not complete", Fix: "Wait until its status is completed, or for the event export.completed."},
		{Code: "export_failed", Title: "The export has failed", Fix: "Mend what its error says, and export again."},
		{Code: "export_cancelled", Title: "The export was cancelled", Fix: again},
		{Code: "export_expired", Title: "The export has expired", Fix: again},
		{Code: "export_has_parts", Title: "The export has several files", Fix: "Download each, with ?part=1 and so on; the manifest lists them."},
		{Code: "part_not_found", Title: "The export has no such file", Fix: "The manifest lists those that it has."},
		{Code: "export_short", Title: "The store has more than was read", Fix: again},
		{Code: "text_too_long", Title: "A text is longer than a cell can hold", Fix: "Leave the column out, or choose CSV, JSONL or Parquet."},
		{Code: "time_out_of_range", Title: "A time is outside the years 0000 to 9999", Fix: "Leave the column out, or choose Parquet."},
	}...)
}

type idIn struct {
	ID string `path:"id" maxLength:"64"`
}

type contentIn struct {
	ID       string `path:"id" maxLength:"64"`
	Part     int    `query:"part" minimum:"0" maximum:"1000000" doc:"Which file, from 1; may be left out where there is only one."`
	Redirect bool   `query:"redirect" doc:"Answers with a redirect to a short-lived address of the object store, where it has such."`
}

type listIn struct {
	api.PageQuery
	api.OrderQuery
	Status string `query:"status" enum:"queued,running,completed,failed,cancelled,expired"`
}

type listOut struct{ Body api.Page[Export] }

type out struct {
	Status     int
	Location   string `header:"Location"`
	RetryAfter string `header:"Retry-After"`
	Body       Export
}

type previewOut struct{ Body Preview }

type datasetsOut struct{ Body api.Page[Dataset] }

// edge serves exports.
type edge struct {
	service *export.Service
	prefix  string
}

// Register adds the operations on exports to the API.
func Register(a *api.API, s *export.Service) {
	e := &edge{s, a.Prefix()}
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"exports"}, Permission: permission}
	}
	create := op("create-export", http.MethodPost, "/exports", "Export a dataset", export.Write)
	create.Description = "The files are written in the background. An export is complete once all that the store counts was read; one that is short fails."
	create.Status, create.Idempotency = http.StatusAccepted, api.KeyOptional
	api.Register(a, create, e.create)
	api.Register(a, op("preview-export", http.MethodPost, "/exports/preview", "See the first rows of what an export would have", export.Write), e.preview)
	api.Register(a, op("list-export-datasets", http.MethodGet, "/export-datasets", "List what can be exported", export.Read), e.datasets)
	api.Register(a, op("get-export", http.MethodGet, "/exports/{id}", "Read an export", export.Read), e.get)
	api.Register(a, op("list-exports", http.MethodGet, "/exports", "List exports", export.Read), e.list)
	api.Register(a, op("cancel-export", http.MethodPost, "/exports/{id}/cancel", "Cancel an export", export.Write), e.cancel)
	api.Register(a, op("delete-export", http.MethodDelete, "/exports/{id}", "Delete an export and its files", export.Write),
		func(ctx context.Context, in *idIn) (*struct{}, error) { return nil, s.Delete(ctx, export.ID(in.ID)) })
	content := op("get-export-content", http.MethodGet, "/exports/{id}/content", "Download a file of an export", export.Read)
	content.Description = "Whole or in ranges, with Repr-Digest. The audit log has every download."
	content.Stream = true
	for _, f := range []encode.Options{{Format: encode.CSV}, {Format: encode.JSONL}, {Format: encode.Parquet}, {Format: encode.XLSX},
		{Format: encode.CSV, Compression: encode.Gzip}, {Format: encode.CSV, Compression: encode.Zstd}} {
		content.Produces = append(content.Produces, f.MediaType())
	}
	api.RegisterRaw(a, content, e.content)
	manifest := op("get-export-manifest", http.MethodGet, "/exports/{id}/manifest", "Download the manifest of an export", export.Read)
	api.Register(a, manifest, e.manifest)
}

func (e *edge) answer(status int, x *export.Export) *out {
	o := &out{Status: status, Body: e.view(x, e.service.Now())}
	if !x.Final() {
		o.Location, o.RetryAfter = o.Body.URLs.Self, "2"
	}
	return o
}

func (e *edge) create(ctx context.Context, in *struct{ Body NewExport }) (*out, error) {
	x, err := e.service.Create(ctx, export.Create{Name: in.Body.Name, Request: in.Body.request()})
	if err != nil {
		return nil, err
	}
	return e.answer(http.StatusAccepted, x), nil
}

func (e *edge) get(ctx context.Context, in *idIn) (*out, error) {
	x, err := e.service.Find(ctx, export.ID(in.ID))
	if err != nil {
		return nil, err
	}
	return e.answer(http.StatusOK, x), nil
}

func (e *edge) cancel(ctx context.Context, in *idIn) (*out, error) {
	x, err := e.service.Cancel(ctx, export.ID(in.ID))
	if err != nil {
		return nil, err
	}
	return e.answer(http.StatusOK, x), nil
}

func (e *edge) list(ctx context.Context, in *listIn) (*listOut, error) {
	query := spec.Query[export.Export]{Order: spec.Order[export.Export]{Descending: in.Descending()}, Limit: in.Limit, After: in.Cursor}
	page, err := e.service.List(ctx, export.List{Status: export.Status(in.Status), Query: query})
	if err != nil {
		return nil, err
	}
	views := make([]Export, len(page.Items))
	for i := range page.Items {
		views[i] = e.view(&page.Items[i], e.service.Now())
	}
	return &listOut{api.NewPage(views, page.Next)}, nil
}

func (e *edge) datasets(context.Context, *struct{}) (*datasetsOut, error) {
	var views []Dataset
	for _, d := range e.service.Datasets() {
		views = append(views, Dataset{d.Name, "dataset", d.About, string(d.Permission), d.Time, columnsOf(d.Schema)})
	}
	return &datasetsOut{api.NewPage(views, "")}, nil
}

func (e *edge) preview(ctx context.Context, in *struct{ Body NewExport }) (*previewOut, error) {
	sample, err := e.service.Preview(ctx, in.Body.request())
	if err != nil {
		return nil, err
	}
	rows, err := rowsOf(sample.Rows)
	return &previewOut{Preview{"export_preview", columnsOf(sample.Rows.Schema()), rows, sample.More}}, err
}

func (e *edge) content(ctx context.Context, w http.ResponseWriter, r *http.Request, in *contentIn) error {
	x, p, open, err := e.service.Content(ctx, export.ID(in.ID), in.Part)
	if err != nil {
		return err
	}
	w.Header().Set("Row-Count", strconv.FormatInt(p.Rows, 10))
	if in.Redirect {
		address, err := e.service.Presign(ctx, p)
		if err == nil {
			w.Header().Set("Repr-Digest", download.Digest(p.SHA256))
			w.Header().Set("Cache-Control", "no-store")
			http.Redirect(w, r, address, http.StatusFound)
			return nil
		}
		if !fault.Is(err, fault.Unsupported) {
			return err
		}
	}
	options := encode.Options{Format: x.Request.Format, Compression: x.Request.Options.Compression}
	return download.Serve(w, r, download.Content{Size: p.Bytes, Type: options.MediaType(), SHA256: p.SHA256, FileName: p.Name, Open: open})
}

type manifestOut struct {
	Disposition string `header:"Content-Disposition"`
	Body        Manifest
}

func (e *edge) manifest(ctx context.Context, in *idIn) (*manifestOut, error) {
	x, err := e.service.Find(ctx, export.ID(in.ID))
	if err == nil {
		err = x.Usable(e.service.Now())
	}
	if err != nil {
		return nil, err
	}
	m := Manifest{Export: string(x.ID), Request: e.view(x, e.service.Now()).Request, Scanned: x.Progress.Scanned, Rows: x.Progress.Rows}
	for _, p := range x.Parts {
		m.Parts = append(m.Parts, ManifestPart{p.Name, p.Rows, p.Bytes, p.SHA256})
	}
	return &manifestOut{`attachment; filename="manifest.json"`, m}, nil
}

func partURL(content string, i, parts int) string {
	if parts == 1 {
		return content
	}
	return content + "?part=" + strconv.Itoa(i+1)
}
