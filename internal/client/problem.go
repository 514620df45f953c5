package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// Problem is a refusal of the server, in the form of RFC 9457.
type Problem struct { //nolint:errname // RFC 9457 calls it so
	Status    int      `json:"status"`
	Code      string   `json:"code"`
	Title     string   `json:"title"`
	Detail    string   `json:"detail"`
	RequestID string   `json:"request_id"`
	Errors    []Detail `json:"errors"`
	Retryable bool     `json:"retryable"`

	RetryAfter time.Duration `json:"-"` // of the Retry-After header in seconds (RFC 9110, 10.2.3); 0: there is none
}

// Detail is one of several things that are wrong.
type Detail struct {
	Pointer   string `json:"pointer"`
	Parameter string `json:"parameter"`
	Line      int    `json:"line"`
	Detail    string `json:"detail"`
}

// place says where in the request it is.
func (d Detail) place() string {
	if d.Line > 0 {
		return fmt.Sprintf("line %d", d.Line)
	}
	return cmp.Or(d.Pointer, d.Parameter, "request")
}

// Error says what is wrong, where, and how to mend it.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d %s)", cmp.Or(p.Detail, p.Title, http.StatusText(p.Status)), p.Status, cmp.Or(p.Code, "unknown"))
	for _, d := range p.Errors {
		fmt.Fprintf(&b, "\n  %s: %s", d.place(), d.Detail)
	}
	if p.RequestID != "" {
		b.WriteString("\nrequest: " + p.RequestID)
	}
	return b.String()
}

// problemOf reads a refusal; what is no problem document is shown as it is.
func problemOf(resp *http.Response, body []byte) error {
	p := &Problem{}
	if json.Unmarshal(body, p) != nil || p.Code == "" && p.Title == "" {
		var oip struct {
			Error string `json:"error"`
		}
		_ = json.Unmarshal(body, &oip)
		p.Detail = cmp.Or(oip.Error, fault.Clip(strings.TrimSpace(string(body)), 300))
	}
	p.Status = resp.StatusCode
	if n, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 31); err == nil {
		p.RetryAfter = time.Duration(n) * time.Second
	}
	p.RequestID = cmp.Or(p.RequestID, resp.Header.Get("X-Request-Id"))
	return p
}

// StatusOf returns the status of a refusal; 0 for another error.
func StatusOf(err error) int {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Status
	}
	return 0
}

// unreachable is an error of the connection, without the request's address.
func unreachable(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	return fault.Wrap(fault.Unavailable, err, "the server cannot be reached: is it running, and is the address right? (%s)", err)
}
