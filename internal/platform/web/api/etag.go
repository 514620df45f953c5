package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/web"
	"sluice/internal/platform/web/encode"
	"sluice/internal/platform/web/problem"
)

// ETag returns the strong entity tag of a thing's version (RFC 9110, 8.8.3). An
// operation that reads puts it into the output's header ETag; If-None-Match is
// then answered by 304 without further ado.
func ETag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// IfMatch is part of the inputs of operations that change a thing: embed it.
type IfMatch struct {
	IfMatch string `header:"If-Match" doc:"The ETag of the version that the change is meant for, or * for any: a change of somebody else is not lost unseen."`
}

// Check returns nil if the request is meant for the version, and else
// precondition_failed (412), or precondition_required (428) where it does not say.
func (m IfMatch) Check(version int64) error {
	if m.IfMatch == "" {
		return fault.New(fault.Invalid, "this change needs If-Match: send the ETag that you have read, or * for any version").WithCode(web.CodePreconditionRequired)
	}
	tags, anything, err := parseTags(m.IfMatch)
	if err != nil {
		return err
	}
	if anything {
		return nil
	}
	for _, t := range tags {
		if !t.weak && encode.Plain(t.value) == ETag(version) { // strong comparison
			return nil
		}
	}
	return fault.New(fault.PreconditionFailed, "the thing has version %s, not the one in If-Match: read it again", ETag(version))
}

// Version returns the one version that If-Match names. Without one, anything is
// true for *, and else it is an error, as Check has it.
func (m IfMatch) Version() (version int64, anything bool, err error) {
	if m.IfMatch == "" {
		return 0, false, m.Check(0)
	}
	tags, anything, err := parseTags(m.IfMatch)
	if err != nil || anything {
		return 0, anything, err
	}
	if len(tags) == 1 && !tags[0].weak {
		if v, err := strconv.ParseInt(strings.Trim(encode.Plain(tags[0].value), `"`), 10, 64); err == nil {
			return v, false, nil
		}
	}
	return 0, false, fault.New(fault.PreconditionFailed, "If-Match names no version of this thing: send the ETag that you have read")
}

// tag is an entity tag.
type tag struct {
	weak  bool
	value string // with its quotation marks
}

// parseTags reads a list of entity tags, or * (RFC 9110, 13.1.1).
func parseTags(text string) (tags []tag, anything bool, err error) {
	text = strings.Trim(text, " \t")
	if text == "*" {
		return nil, true, nil
	}
	for text != "" {
		var t tag
		text, t.weak = strings.CutPrefix(text, "W/")
		end := strings.IndexByte(strings.TrimPrefix(text, `"`), '"')
		if !strings.HasPrefix(text, `"`) || end < 0 {
			return nil, false, fault.New(fault.Invalid, `the list of entity tags is malformed: expected tags in quotation marks, such as "7", between commas`).WithCode(problem.CodeETagInvalid)
		}
		t.value, text = text[:end+2], strings.TrimLeft(text[end+2:], " \t")
		tags = append(tags, t)
		if text != "" && text[0] != ',' {
			return nil, false, fault.New(fault.Invalid, "the list of entity tags is malformed: expected a comma after %.80q", t.value).WithCode(problem.CodeETagInvalid)
		}
		text = strings.TrimLeft(text, ", \t")
	}
	return tags, false, nil
}

// revalidate runs just before the header is written: where the client has the
// answer already, it becomes 304 (RFC 9110, 13.1.2).
func revalidate(c echo.Context) {
	r, res := c.Request(), c.Response()
	etag, wanted := res.Header().Get("ETag"), r.Header["If-None-Match"]
	if res.Status != http.StatusOK || etag == "" || len(wanted) == 0 || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return
	}
	tags, anything, err := parseTags(strings.Join(wanted, ","))
	if err != nil {
		return // a condition that cannot be read is none
	}
	for _, t := range tags { // weak comparison
		if encode.Plain(t.value) == strings.TrimPrefix(etag, "W/") {
			anything = true
			if !t.weak {
				res.Header().Set("ETag", t.value) // of the coding that the client has
			}
		}
	}
	if anything {
		res.Status = http.StatusNotModified
		res.Header().Del("Content-Type")
		res.Header().Del("Content-Length")
		res.Writer = bodiless{res.Writer}
	}
}

// bodiless drops the body of an answer that must not have one.
type bodiless struct{ http.ResponseWriter }

// Write drops p.
func (bodiless) Write(p []byte) (int, error) { return len(p), nil }

// Unwrap returns the writer behind it.
func (b bodiless) Unwrap() http.ResponseWriter { return b.ResponseWriter }
