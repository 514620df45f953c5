package feature

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/aggregate"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

// Name names a view within its tenant.
type Name string

// View says what is known of a kind of entities.
type View struct {
	aggregate.Root[Name]
	Description string        `json:"description"`
	Features    []Feature     `json:"features"`
	Keep        time.Duration `json:"keep"`
	// Rows names the view's rows in a Store: a view that is made again has none of those
	// before.
	Rows string `json:"rows"`
}

// Feature is one of the values of a row.
type Feature struct {
	Name     string       `json:"name"`
	Datatype string       `json:"datatype"` // as the Open Inference Protocol spells it
	Shape    tensor.Shape `json:"shape"`    // empty for one value
	// Default stands for what is missing; nil for none.
	Default json.RawMessage `json:"default,omitempty"`
	// MaxAge is how long after its event time a value counts; 0 is for ever.
	MaxAge time.Duration `json:"max_age,omitempty"`
}

var viewName = spec.TextField("name", func(v *View) string { return string(v.ID) })

// Known returns a view, also one that is deleted but has its rows yet, or repo.ErrNotFound.
func Known(ctx context.Context, from repo.Reading, name Name) (View, error) {
	page, err := Views.Find(ctx, from, spec.Query[View]{Where: viewName.Eq(string(name)), Deleted: spec.WithDeleted})
	if err == nil && len(page.Items) == 0 {
		err = repo.ErrNotFound
	}
	if err != nil {
		return View{}, err
	}
	return page.Items[0], nil
}

// Views keeps them.
var Views = repo.Kind[Name, View]{
	Name: "feature_views", Root: func(v *View) *aggregate.Root[Name] { return &v.Root },
	Columns: []spec.Column[View]{viewName},
}

// Changed says that a view is another one.
type Changed struct {
	Features []string `json:"features"`
}

// EventType implements aggregate.Event.
func (Changed) EventType() string { return "feature_view.changed" }

// Bounds and defaults of views.
const (
	maxFeatures = 256
	maxElements = 4096 // of a feature
	usualKeep   = 90 * 24 * time.Hour
	maxKeep     = 10 * 365 * 24 * time.Hour
)

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// NewView returns a view whose rows have a name. Keep may be zero for the default.
func NewView(name Name, description string, features []Feature, keep time.Duration, rows string) (*View, error) {
	v := &View{Rows: rows}
	v.ID = name
	if !nameForm.MatchString(string(name)) {
		return nil, invalid("name is %.70q, expected 1 to 64 letters, digits, points, hyphens and underscores", string(name))
	}
	return v, v.Set(description, features, keep)
}

// Set changes the view. A feature that it had has to keep its datatype and shape: rows
// have them.
func (v *View) Set(description string, features []Feature, keep time.Duration) error {
	if keep == 0 {
		keep = usualKeep
	}
	switch {
	case len(features) == 0 || len(features) > maxFeatures:
		return invalid("a view has 1 to %d features, this one has %d", maxFeatures, len(features))
	case keep < time.Minute || keep > maxKeep:
		return invalid("keep is %s, expected 1m to %s", keep, maxKeep)
	}
	names := []string{}
	for i := range features {
		f := &features[i]
		if err := f.check(); err != nil {
			return err
		}
		if slices.Contains(names, f.Name) {
			return invalid("the feature %q is there twice", f.Name)
		}
		names = append(names, f.Name)
		if old := v.Feature(f.Name); old != nil && (old.Datatype != f.Datatype || !old.Shape.Equal(f.Shape)) {
			return invalid("the feature %q has the datatype %s and the shape %s, which rows have: give another one a name of its own", f.Name, old.Datatype, old.Shape)
		}
	}
	v.Description, v.Features, v.Keep = description, features, keep
	v.Record(Changed{names})
	return nil
}

func invalid(format string, args ...any) error {
	return fault.New(fault.Unprocessable, format, args...).WithCode("feature_view_invalid")
}

func (f *Feature) check() error {
	if !nameForm.MatchString(f.Name) {
		return invalid("the name of a feature is %.70q, expected 1 to 64 letters, digits, points, hyphens and underscores", f.Name)
	}
	d, err := tensor.Parse(f.Datatype)
	switch {
	case err != nil:
		return invalid("the feature %q: %s", f.Name, fault.Of(err).Message)
	case d == tensor.FP16 || d == tensor.BF16:
		return invalid("the feature %q is of %s, which JSON does not have: use FP32", f.Name, d)
	case f.MaxAge < 0 || f.MaxAge > maxKeep:
		return invalid("the feature %q has the max_age %s, expected 0s to %s", f.Name, f.MaxAge, maxKeep)
	}
	if n, err := f.Shape.Elements(); err != nil || n < 1 || n > maxElements || len(f.Shape) > tensor.MaxDims {
		return invalid("the feature %q has the shape %s, expected 1 to %d elements", f.Name, f.Shape, maxElements)
	}
	if f.Default != nil {
		if _, err := f.decode(nil, f.Default); err != nil {
			return invalid("the default of the feature %q: %s", f.Name, fault.Of(err).Message)
		}
	}
	return nil
}

// Feature returns the feature of a name, nil where there is none.
func (v *View) Feature(name string) *Feature {
	if i := slices.IndexFunc(v.Features, func(f Feature) bool { return f.Name == name }); i >= 0 {
		return &v.Features[i]
	}
	return nil
}

// decode appends the wire form of a value, which is JSON.
func (f *Feature) decode(dst []byte, value json.RawMessage) ([]byte, error) {
	d, err := tensor.Parse(f.Datatype)
	if err != nil {
		return dst, err
	}
	text := strings.TrimSpace(string(value))
	shape := f.Shape
	if len(shape) == 0 {
		if strings.HasPrefix(text, "[") {
			return dst, wrong("expected one value, got a list")
		}
		text, shape = "["+text+"]", tensor.Shape{1}
	}
	out, n, err := tensorjson.Decode(dst, d, shape, []byte(text))
	if err == nil && strings.TrimSpace(text[n:]) != "" {
		err = wrong("something is left behind the value")
	}
	if err != nil {
		return dst, wrong("expected %s of shape %s: %s", f.Datatype, f.Shape, fault.Of(err).Message)
	}
	return out, nil
}

// CheckRow says what is wrong with a row of the view.
func (v *View) CheckRow(r *Row) error {
	if err := CheckRow(r); err != nil {
		return err
	}
	if !utf8.ValidString(r.Entity) {
		return wrong("entity is no UTF-8 text")
	}
	values, err := valuesOf(r)
	if err != nil {
		return err
	}
	for name, value := range values {
		f := v.Feature(name)
		if f == nil {
			return wrong("the view %q has no feature %.70q", v.ID, name)
		}
		if isNull(value) {
			continue
		}
		if _, err := f.decode(nil, value); err != nil {
			return wrong("%s: %s", name, fault.Of(err).Message)
		}
	}
	return nil
}

// valuesOf returns the values of a row by the names of features.
func valuesOf(r *Row) (map[string]json.RawMessage, error) {
	if len(r.Values) == 0 {
		return nil, nil
	}
	var values map[string]json.RawMessage
	if err := json.Unmarshal(r.Values, &values); err != nil {
		return nil, wrong("values is no object of values by the names of features")
	}
	return values, nil
}

// Known returns the values of a row as JSON has them, without those that are missing.
func (r *Row) Known() (map[string]any, error) {
	known, err := valuesOf(r)
	out := map[string]any{}
	for name, value := range known {
		if !isNull(value) {
			out[name] = value
		}
	}
	return out, err
}

func isNull(value json.RawMessage) bool { return len(value) == 0 || string(value) == "null" }
