package main

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// The kinds of what clients work on, as the store calls them, and where the API
// has them.
const (
	flags    = "feature_flags"
	tenants  = "tenants"
	webhooks = "webhook_endpoints"
)

var paths = map[string]string{flags: "/v1/feature-flags", tenants: "/v1/tenants", webhooks: "/v1/webhook-endpoints"}

// thing is what a client knows of one aggregate: what it has last been told, or
// has concluded from that.
type thing struct {
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Version int64  `json:"version"`
	Deleted bool   `json:"deleted"`
	Fields  fields `json:"fields"`
	// Shared things are changed by all clients at once: only the number of their
	// changes is known.
	Shared bool `json:"shared"`
}

// fields are the contents that are compared; those of other kinds stay zero.
type fields struct {
	Description string `json:"description,omitempty"`
	Enabled     bool   `json:"enabled,omitempty"`
	Percent     int    `json:"percent,omitempty"`
	Name        string `json:"name,omitempty"`
	Suspended   bool   `json:"suspended,omitempty"`
	URL         string `json:"url,omitempty"`
	Disabled    bool   `json:"disabled,omitempty"`
}

// view is what the API shows of any of the kinds.
type view struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
	fields
}

func readView(a *answer) (view, error) {
	var v view
	if err := json.Unmarshal(a.Body, &v); err != nil {
		return v, fmt.Errorf("the answer cannot be read: %w", err)
	}
	if want := strconv.Quote(strconv.FormatInt(v.Version, 10)); a.ETag != "" && a.ETag != want {
		return v, fmt.Errorf("the ETag is %s, the version %d", a.ETag, v.Version)
	}
	return v, nil
}

func (t *thing) path() string { return paths[t.Kind] + "/" + t.ID }
func (t *thing) etag() string { return strconv.Quote(strconv.FormatInt(t.Version, 10)) }

// creation is what is sent to make the thing.
func (t *thing) creation() map[string]any {
	switch t.Kind {
	case flags:
		return map[string]any{"key": t.ID, "description": t.Fields.Description, "enabled": t.Fields.Enabled, "percent": t.Fields.Percent}
	case tenants:
		return map[string]any{"id": t.ID, "name": t.Fields.Name}
	default:
		// Nothing of the kind happens here: nothing is to be delivered.
		return map[string]any{"url": t.Fields.URL, "events": []string{"batch.completed"}}
	}
}

// change turns the thing into another, and returns what is sent for it. Every
// change changes something, and records an event.
func (t *thing) change(n int) map[string]any {
	f := &t.Fields
	switch t.Kind {
	case flags:
		f.Percent, f.Description = (f.Percent+1+n%99)%101, fmt.Sprintf("change %d", n)
		return map[string]any{"percent": f.Percent, "description": f.Description}
	case tenants:
		f.Suspended, f.Name = !f.Suspended, fmt.Sprintf("Tenant %d", n)
		return map[string]any{"suspended": f.Suspended, "name": f.Name}
	default:
		f.Disabled = !f.Disabled
		return map[string]any{"disabled": f.Disabled}
	}
}

// operation is what a client wanted, and what came of it: the history.
type operation struct {
	Client  int    `json:"client"`
	Action  string `json:"action"` // create, change, delete, restore
	Kind    string `json:"kind"`
	ID      string `json:"id"`
	Key     string `json:"key,omitempty"`
	Version int64  `json:"version"` // after it; 0 where it is not known
	InDoubt bool   `json:"in_doubt,omitempty"`
	Answer  string `json:"answer"`
}

// route is the operation's method and path in the router's form, which keys
// belong to.
func (o *operation) route() string {
	if o.Action == "create" {
		return "POST " + paths[o.Kind]
	}
	return "PATCH " + paths[o.Kind] + "/{id}"
}
