package uploadhttp

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/access"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/upload"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/api"
)

// The modes of uploads.
const (
	appended = "append"
	parts    = "parts"
)

// UploadParts are the parts that an upload is made of.
type UploadParts struct {
	Size  int64 `json:"size" doc:"Bytes of each but the last."`
	Count int   `json:"count"`
}

// UploadPart is a part of an upload, and where it is put.
type UploadPart struct {
	Number    int      `json:"number"`
	Offset    int64    `json:"offset" doc:"Where it begins in the content."`
	Length    int64    `json:"length" doc:"Bytes, which the request has to say as its Content-Length."`
	Kept      bool     `json:"kept" doc:"Whether it has come. Put again, it is replaced."`
	URL       string   `json:"url" format:"uri-reference" doc:"Where it is put (HTTP PUT), without a credential: of the object store, or relative to this server's address."`
	ExpiresAt api.Time `json:"expires_at" doc:"When the address ends: list the parts again for another."`
}

// UploadCompletion is what completes an upload of parts.
type UploadCompletion struct {
	SHA256 string          `json:"sha256,omitempty" maxLength:"64" doc:"Of the whole content, in hexadecimal: other content is refused."`
	Parts  []CompletedPart `json:"parts,omitempty" maxItems:"10000" doc:"The ETags that were told when the parts were put: a part that has another is refused."`
}

// CompletedPart is a part as it was put.
type CompletedPart struct {
	Number int    `json:"number" minimum:"1" maximum:"10000"`
	ETag   string `json:"etag" maxLength:"255"`
}

type partsIn struct {
	ID string `path:"id" maxLength:"64"`
	api.PageQuery
}

type partsOut struct{ Body api.Page[UploadPart] }

type putIn struct {
	ID        string `path:"id" maxLength:"64"`
	Number    int    `path:"number" minimum:"1" maximum:"10000"`
	Tenant    string `query:"tenant" maxLength:"64"`
	Expires   int64  `query:"expires" doc:"Seconds since 1970."`
	Signature string `query:"signature" maxLength:"64"`
}

type completeIn struct {
	ID   string `path:"id" maxLength:"64"`
	Body UploadCompletion
}

// registerParts adds the operations on uploads in parts.
func (e *edge) registerParts(a *api.API, op func(id, method, path, summary string, permission access.Permission) api.Operation) {
	list := op("list-upload-parts", http.MethodGet, "/uploads/{id}/parts", "List the parts of an upload, with their addresses", upload.Write)
	list.Description = "Whoever has an address can put that part until it expires, without a credential: it belongs in no log."
	api.Register(a, list, e.parts)
	put := op("put-upload-part", http.MethodPut, "/uploads/{id}/parts/{number}", "Put a part of an upload", web.Public)
	put.Description = "At the address that the list of parts has, where that is of this server. Whatever Content-Type says, the content is a part. The answer's ETag can be named when the upload is completed."
	put.Consumes, put.MaxBody, put.Stream = []string{api.AnyType}, e.service.Limits().MaxAppend, true
	api.RegisterRaw(a, put, e.put)
	complete := op("complete-upload", http.MethodPost, "/uploads/{id}/complete", "Complete an upload of parts", upload.Write)
	complete.Description = "The content is read once and hashed, which takes as long as it is large. An upload that is complete is answered as it is."
	complete.Timeout, complete.MaxBody = time.Hour, 2<<20
	api.Register(a, complete, e.complete)
}

func (e *edge) parts(ctx context.Context, in *partsIn) (*partsOut, error) {
	after := 0
	if in.Cursor != "" {
		n, err := strconv.Atoi(in.Cursor)
		if err != nil || n < 0 {
			return nil, fault.New(fault.Invalid, "the cursor %q is none of this list: send the next_cursor of a page, or none", fault.Clip(in.Cursor, 40)).WithCode("invalid_cursor")
		}
		after = n
	}
	u, slots, err := e.service.Slots(ctx, upload.ID(in.ID), after, in.Limit)
	if err != nil {
		return nil, err
	}
	views, next := make([]UploadPart, len(slots)), ""
	for i, s := range slots {
		views[i] = UploadPart{s.Number, s.Offset, s.Size, s.Kept, e.address(&s), api.Time{Time: s.Expires}}
	}
	if last := after + len(slots); last < u.Slots() {
		next = strconv.Itoa(last)
	}
	return &partsOut{api.NewPage(views, next)}, nil
}

// address is where a part is put.
func (e *edge) address(s *upload.Slot) string {
	t := s.Ticket
	if t == nil {
		return s.URL
	}
	query := url.Values{"tenant": {t.Tenant}, "expires": {strconv.FormatInt(t.Expires.Unix(), 10)}, "signature": {t.Signature}}
	return e.prefix + "/uploads/" + string(t.ID) + "/parts/" + strconv.Itoa(t.Number) + "?" + query.Encode()
}

func (e *edge) put(ctx context.Context, w http.ResponseWriter, r *http.Request, in *putIn) error {
	length := r.ContentLength
	if r.Header.Get("Content-Encoding") != "" {
		length = -1 // of the content itself nothing is known
	}
	p, err := e.service.Put(ctx, upload.Ticket{Tenant: in.Tenant, ID: upload.ID(in.ID), Number: in.Number, Expires: time.Unix(in.Expires, 0), Signature: in.Signature}, length, r.Body)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", `"`+p.ETag+`"`)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (e *edge) complete(ctx context.Context, in *completeIn) (*out, error) {
	c := upload.Completion{SHA256: strings.ToLower(in.Body.SHA256), ETags: make(map[int]string, len(in.Body.Parts))}
	for _, p := range in.Body.Parts {
		c.ETags[p.Number] = strings.Trim(p.ETag, `"`)
	}
	u, err := e.service.Complete(ctx, upload.ID(in.ID), c)
	if err != nil {
		return nil, err
	}
	o := e.answer(u)
	o.Status = http.StatusOK
	return o, nil
}
