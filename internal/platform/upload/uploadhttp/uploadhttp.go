// Package uploadhttp has uploads as a resource of the native API. A client makes
// an upload, appends to it by PATCH at the offset that HEAD tells, and completes
// it with the last piece: draft-ietf-httpbis-resumable-upload, with digests as in
// RFC 9530.
//
// Known limit: an upload is made by a request of its own, without content, which
// the draft calls careful; interim responses are not sent.
package uploadhttp

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/spec"
	"sluice/internal/platform/upload"
	"sluice/internal/platform/web/api"
	"sluice/internal/platform/web/download"
	"sluice/internal/platform/web/problem"
)

// NewUpload is what makes an upload.
type NewUpload struct {
	Name        string `json:"name,omitempty" maxLength:"255" doc:"A name of the client's own, such as the file's."`
	ContentType string `json:"content_type" maxLength:"255" doc:"Of the content, which is held to it."`
	Length      *int64 `json:"length,omitempty" minimum:"0" doc:"Bytes in all, if that is known: other lengths are refused then."`
	SHA256      string `json:"sha256,omitempty" maxLength:"64" doc:"Of the content, in hexadecimal, if that is known: other content is refused then."`
	Mode        string `json:"mode,omitempty" enum:"append,parts" default:"append" doc:"append: content comes by PATCH, in order. parts: each part is put to an address of its own, in any order and several at a time; the length is needed."`
	PartSize    int64  `json:"part_size,omitempty" minimum:"0" doc:"Bytes of each part but the last, with mode parts; the server chooses where it is left out."`
}

// Upload is what is shown of one.
type Upload struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	State       string       `json:"state" enum:"open,complete,failed,expired"`
	Name        string       `json:"name,omitempty"`
	ContentType string       `json:"content_type"`
	Mode        string       `json:"mode" enum:"append,parts"`
	Parts       *UploadParts `json:"parts,omitempty"`
	Offset      int64        `json:"offset" doc:"Bytes that are kept: an append goes on here. With mode parts, none before it is complete."`
	Length      *int64       `json:"length,omitempty"`
	SHA256      string       `json:"sha256,omitempty"`
	Error       *UploadError `json:"error,omitempty"`
	CreatedAt   api.Time     `json:"created_at"`
	CompletedAt *api.Time    `json:"completed_at,omitempty"`
	ExpiresAt   api.Time     `json:"expires_at" doc:"When it, or its content, is no more to be had."`
	URLs        UploadURLs   `json:"urls"`
}

// UploadError is why an upload failed.
type UploadError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// UploadURLs are what can be done with an upload.
type UploadURLs struct {
	Self     string `json:"self"`
	Content  string `json:"content"`
	Parts    string `json:"parts,omitempty" doc:"With mode parts: where their addresses are."`
	Complete string `json:"complete,omitempty" doc:"With mode parts: where it is completed."`
}

// Problems are the failures that only occur here.
func Problems() []problem.Type {
	again := "Begin another upload."
	return []problem.Type{
		{Code: "upload_type_unsupported", Title: "Content of this type is not taken", Fix: "Declare one of the types that detail names."},
		{Code: "upload_too_large", Title: "The upload is too large", Fix: "Upload less, in several uploads, or ask the operator to raise upload.max_size."},
		{Code: "upload_quota", Title: "The tenant has no room for more uploads", Fix: "Delete uploads that are not needed, or wait until they are forgotten."},
		{Code: "upload_busy", Title: "Another request appends to the upload", Fix: "Wait for its end, or as long as Retry-After says; then ask for the offset with HEAD."},
		{Code: "upload_offset_mismatch", Title: "The offset is not the upload's", Fix: "Go on at the Upload-Offset of the answer."},
		{Code: "upload_length_mismatch", Title: "The upload does not have the length that was said", Fix: "Send the rest, and complete it then."},
		{Code: "upload_complete", Title: "The upload is complete", Fix: again},
		{Code: "upload_incomplete", Title: "The upload is not complete", Fix: "Send the rest, with Upload-Complete: ?1."},
		{Code: "upload_failed", Title: "The upload has failed", Fix: again},
		{Code: "upload_expired", Title: "The upload has expired", Fix: again},
		{Code: "upload_checksum", Title: "The content does not have the digest that was said", Fix: again},
		{Code: "upload_type_mismatch", Title: "The content is not of the type that was said", Fix: "Begin another upload, and declare the content's own type."},
		{Code: "upload_too_many_parts", Title: "The upload came in too many pieces", Fix: "Begin it again, with larger pieces."},
		{Code: "upload_wasteful", Title: "Too much of the upload came damaged", Fix: "Begin it again, and compute Content-Digest of what is sent."},
		{Code: "upload_appends", Title: "The tenant appends to too many uploads at a time", Fix: "Append to fewer at a time; retry after Retry-After."},
		{Code: "upload_lost", Title: "What was uploaded is gone", Fix: again},
		{Code: "upload_mode", Title: "The upload is of the other mode", Fix: "Append where mode is append; put parts and complete it where mode is parts."},
		{Code: "upload_parts_invalid", Title: "Content cannot come in such parts", Fix: "Say a length of 1 byte or more, and leave part_size out, or choose one that detail names."},
		{Code: "upload_parts_mismatch", Title: "A part is not what was said", Fix: "Put it again, and complete the upload then."},
		{Code: "upload_address", Title: "The address of a part does not hold", Fix: "Ask for the upload's parts again: their addresses are fresh then."},
		{Code: "digest_invalid", Title: "A digest cannot be understood", Fix: "Send sha-256=: with the digest in base64, and a colon (RFC 9530)."},
	}
}

type idIn struct {
	ID string `path:"id" maxLength:"64"`
}

type appendIn struct {
	ID     string `path:"id" maxLength:"64"`
	Offset int64  `header:"Upload-Offset" required:"true" minimum:"0" doc:"Where the content goes on: the upload's own offset."`
	Last   string `header:"Upload-Complete" required:"true" enum:"?0,?1" doc:"Whether the upload is complete with it."`
	Digest string `header:"Content-Digest" maxLength:"1024" doc:"SHA-256 of the content (RFC 9530): all of it is kept then, or nothing."`
}

type listIn struct {
	api.PageQuery
	api.OrderQuery
	State string `query:"state" enum:"open,complete,failed,expired"`
}

type listOut struct{ Body api.Page[Upload] }

type out struct {
	Status   int
	Location string `header:"Location"`
	Offset   int64  `header:"Upload-Offset"`
	Complete string `header:"Upload-Complete"`
	Length   string `header:"Upload-Length"`
	Limit    string `header:"Upload-Limit"`
	Digest   string `header:"Repr-Digest"`
	Body     Upload
}

// edge serves uploads.
type edge struct {
	service *upload.Service
	prefix  string
}

// Register adds the operations on uploads to the API.
func Register(a *api.API, s *upload.Service) {
	e := &edge{s, a.Prefix()}
	op := func(id, method, path, summary string, permission access.Permission) api.Operation {
		return api.Operation{ID: id, Method: method, Path: path, Summary: summary, Tags: []string{"uploads"}, Permission: permission}
	}
	create := op("create-upload", http.MethodPost, "/uploads", "Begin an upload", upload.Write)
	create.Description = "Content is appended by PATCH, in as many requests as it takes; or, with mode parts, put in parts. Taken are " + strings.Join(upload.Types(), ", ") + "."
	create.Status, create.Idempotency = http.StatusCreated, api.KeyOptional
	api.Register(a, create, e.create)
	api.Register(a, op("get-upload", http.MethodGet, "/uploads/{id}", "Read an upload", upload.Read), e.get)
	api.Register(a, op("list-uploads", http.MethodGet, "/uploads", "List uploads", upload.Read), e.list)
	api.Register(a, op("delete-upload", http.MethodDelete, "/uploads/{id}", "Delete an upload and its content", upload.Write),
		func(ctx context.Context, in *idIn) (*struct{}, error) {
			return nil, s.Delete(ctx, upload.ID(in.ID))
		})
	appending := op("append-to-upload", http.MethodPatch, "/uploads/{id}", "Append to an upload", upload.Write)
	appending.Description = "As draft-ietf-httpbis-resumable-upload has it. Where the request breaks off, what has arrived is kept: ask for the offset, and go on there."
	appending.Consumes, appending.MaxBody, appending.Stream = []string{"application/partial-upload"}, s.Limits().MaxAppend, true
	api.RegisterRaw(a, appending, e.append)
	e.registerParts(a, op)
	content := op("get-upload-content", http.MethodGet, "/uploads/{id}/content", "Download an upload's content", upload.Read)
	content.Produces, content.Stream = upload.Types(), true
	api.RegisterRaw(a, content, e.content)
}

func (e *edge) view(u *upload.Upload) Upload {
	self := e.prefix + "/uploads/" + string(u.ID)
	v := Upload{ID: string(u.ID), Object: "upload", State: string(u.Now(e.service.Now())), Name: u.Name, ContentType: u.ContentType, Offset: u.Offset, SHA256: u.SHA256,
		CreatedAt: api.Time{Time: u.CreatedAt}, ExpiresAt: api.Time{Time: u.Ends}, Mode: appended, URLs: UploadURLs{Self: self, Content: self + "/content"}}
	if u.PartSize > 0 {
		v.Mode, v.Parts, v.URLs.Parts, v.URLs.Complete = parts, &UploadParts{u.PartSize, u.Slots()}, self+"/parts", self+"/complete"
	}
	if u.State == upload.Expired {
		v.ExpiresAt = api.Time{Time: u.UpdatedAt}
	}
	if u.Length >= 0 {
		v.Length = &u.Length
	}
	if f := u.Failure; f != nil {
		v.Error = &UploadError{f.Code, f.Message}
	}
	if !u.CompletedAt.IsZero() {
		v.CompletedAt = &api.Time{Time: u.CompletedAt}
	}
	return v
}

// answer shows an upload, with the headers of the draft.
func (e *edge) answer(u *upload.Upload) *out {
	o := &out{Offset: u.Offset, Complete: "?0", Limit: e.limit(u), Body: e.view(u)}
	if u.Length >= 0 {
		o.Length = strconv.FormatInt(u.Length, 10)
	}
	if u.State == upload.Complete {
		o.Complete, o.Digest = "?1", download.Digest(u.SHA256)
	}
	return o
}

func (e *edge) limit(u *upload.Upload) string {
	l := e.service.Limits()
	age := max(0, int64(u.Ends.Sub(e.service.Now())/time.Second))
	return "max-size=" + strconv.FormatInt(l.MaxSize, 10) + ", max-append-size=" + strconv.FormatInt(l.MaxAppend, 10) + ", max-age=" + strconv.FormatInt(age, 10)
}

func (e *edge) create(ctx context.Context, in *struct{ Body NewUpload }) (*out, error) {
	c := upload.Create{Name: in.Body.Name, ContentType: in.Body.ContentType, Length: -1, SHA256: strings.ToLower(in.Body.SHA256)}
	c.Parts, c.PartSize = in.Body.Mode == parts, in.Body.PartSize
	if in.Body.Length != nil {
		c.Length = *in.Body.Length
	}
	u, err := e.service.Create(ctx, c)
	if err != nil {
		return nil, err
	}
	o := e.answer(u)
	o.Status, o.Location = http.StatusCreated, o.Body.URLs.Self
	return o, nil
}

func (e *edge) get(ctx context.Context, in *idIn) (*out, error) {
	u, err := e.service.Find(ctx, upload.ID(in.ID))
	if err != nil {
		return nil, err
	}
	o := e.answer(u)
	o.Status = http.StatusOK
	return o, nil
}

func (e *edge) list(ctx context.Context, in *listIn) (*listOut, error) {
	query := spec.Query[upload.Upload]{Order: spec.Order[upload.Upload]{Descending: in.Descending()}, Limit: in.Limit, After: in.Cursor}
	page, err := e.service.List(ctx, upload.List{State: upload.State(in.State), Query: query})
	if err != nil {
		return nil, err
	}
	views := make([]Upload, len(page.Items))
	for i := range page.Items {
		views[i] = e.view(&page.Items[i])
	}
	return &listOut{api.NewPage(views, page.Next)}, nil
}

func (e *edge) append(ctx context.Context, w http.ResponseWriter, r *http.Request, in *appendIn) error {
	sum, err := contentDigest(in.Digest)
	if err != nil {
		return err
	}
	length := r.ContentLength
	if r.Header.Get("Content-Encoding") != "" {
		length = -1 // of the content itself nothing is known
	}
	u, err := e.service.Append(ctx, upload.ID(in.ID), upload.Append{Offset: in.Offset, Length: length, Last: in.Last == "?1", SHA256: sum, Body: r.Body})
	h := w.Header()
	if u != nil && u.ID != "" {
		o := e.answer(u)
		h.Set("Upload-Offset", strconv.FormatInt(o.Offset, 10))
		h.Set("Upload-Complete", o.Complete)
		h.Set("Upload-Limit", o.Limit)
		if o.Digest != "" {
			h.Set("Repr-Digest", o.Digest)
		}
	}
	if err != nil {
		return err
	}
	if u.State != upload.Complete {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	h.Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(e.view(u))
}

func (e *edge) content(ctx context.Context, w http.ResponseWriter, r *http.Request, in *idIn) error {
	u, open, err := e.service.Content(ctx, upload.ID(in.ID))
	if err != nil {
		return err
	}
	name := u.Name
	if name == "" {
		name = string(u.ID)
	}
	return download.Serve(w, r, download.Content{Size: u.Length, Type: u.ContentType, SHA256: u.SHA256, FileName: name, Open: open})
}

// contentDigest returns the SHA-256 of a Content-Digest (RFC 9530, 2), in
// hexadecimal; empty where there is none.
func contentDigest(text string) (string, error) {
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if !strings.EqualFold(name, "sha-256") {
			continue // others may be given beside it
		}
		raw, err := base64.StdEncoding.DecodeString(strings.Trim(value, ":"))
		if err != nil || len(raw) != 32 || len(value) < 2 || value[0] != ':' || value[len(value)-1] != ':' {
			return "", fault.New(fault.Invalid, "Content-Digest is %q, expected sha-256=: with the digest in base64, and a colon", fault.Clip(text, 100)).WithCode("digest_invalid")
		}
		return hex.EncodeToString(raw), nil
	}
	return "", nil
}
