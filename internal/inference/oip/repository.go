package oip

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/serve"
	"sluice/internal/platform/budget"
	"sluice/internal/platform/fault"
)

// indexEntry is one row of the repository index.
type indexEntry struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	State   serve.State `json:"state,omitempty"`
	Reason  string      `json:"reason,omitempty"`
}

// index lists every model version, or with {"ready":true} the ready ones.
func (a *rest) index(c echo.Context) error {
	account := a.config.Memory.Account()
	defer account.Release()
	var request struct {
		Ready bool `json:"ready"`
	}
	if err := a.readControl(c, &account, &request, `{"ready": true or false}`); err != nil {
		return err
	}
	list := []indexEntry{}
	for _, e := range a.models.Index() {
		if !request.Ready || e.State == serve.Ready {
			list = append(list, indexEntry(e))
		}
	}
	return writeJSON(c, list)
}

// load loads or reloads a model and answers once it serves.
func (a *rest) load(c echo.Context) error {
	account := a.config.Memory.Account()
	defer account.Release()
	var request struct {
		Parameters map[string]json.RawMessage `json:"parameters"`
	}
	if err := a.readControl(c, &account, &request, `{"parameters": {"config": "…", "file:1/model.onnx": "…"}}`); err != nil {
		return err
	}
	opts, err := loadOptions(request.Parameters)
	if err != nil {
		return err
	}
	name, _ := target(c)
	if err := a.models.Load(c.Request().Context(), name, opts); err != nil {
		return unlessGone(c, err)
	}
	return writeJSON(c, struct{}{})
}

func loadOptions(parameters map[string]json.RawMessage) (opts serve.LoadOptions, err error) {
	for key, raw := range parameters {
		var value string
		if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &value) != nil {
			return opts, fault.New(fault.Invalid, "load parameter '%.100s' must be a string", key)
		}
		path, isFile := strings.CutPrefix(key, "file:")
		switch {
		case key == "config":
			opts.ConfigJSON = value
		case isFile:
			if opts.Files == nil {
				opts.Files = make(map[string][]byte)
			}
			if opts.Files[path], err = base64.StdEncoding.DecodeString(value); err != nil {
				return opts, fault.New(fault.Invalid, "load parameter '%.100s' is not base64: %s", key, err)
			}
		default:
			return opts, fault.New(fault.Invalid, "unknown load parameter '%.100s': expected 'config' or 'file:<version>/<name>'", key)
		}
	}
	return opts, nil
}

// unload takes a model out of service. The parameter unload_dependents has no
// effect: models here do not depend on each other.
func (a *rest) unload(c echo.Context) error {
	account := a.config.Memory.Account()
	defer account.Release()
	var request struct {
		Parameters struct {
			UnloadDependents bool `json:"unload_dependents"`
		} `json:"parameters"`
	}
	if err := a.readControl(c, &account, &request, `{"parameters": {"unload_dependents": true or false}}`); err != nil {
		return err
	}
	name, _ := target(c)
	if err := a.models.Unload(c.Request().Context(), name); err != nil {
		return unlessGone(c, err)
	}
	return writeJSON(c, struct{}{})
}

// unlessGone returns err, but where the client has gone: that is then why the
// work ended, whatever the part that was cut short says of it.
func unlessGone(c echo.Context, err error) error {
	if errors.Is(c.Request().Context().Err(), context.Canceled) {
		return fault.Wrap(fault.Canceled, err, "the client went away before the model had changed")
	}
	return err
}

// copies is how often a control request's data exists beside its body: as raw
// JSON, as its text, and as the bytes that this stands for.
const copies = 3

// readControl reads the JSON body of a control request; an empty one is {}. What
// comes of it counts in the account.
func (a *rest) readControl(c echo.Context, account *budget.Account, into any, form string) error {
	body, err := a.readBody(c, account)
	if err != nil {
		return err
	}
	defer body.Release()
	if err := account.Acquire(copies * int64(len(body.B))); err != nil {
		return err
	}
	if len(body.B) == 0 {
		return nil
	}
	if err := json.Unmarshal(body.B, into); err != nil {
		return fault.New(fault.Invalid, "the request body must be empty or JSON of the form %s: %s", form, err)
	}
	return nil
}
