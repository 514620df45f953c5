package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/typo"
)

// maxDetails is the most things that one answer says are wrong.
const maxDetails = 100

// details turns what huma found wrong into details of a fault. The values that
// were wrong are left out: they may be secrets.
func (r *route) details(ctx huma.Context, errs []error) []fault.Detail {
	var out []fault.Detail
	for _, err := range errs[:min(len(errs), maxDetails)] {
		if d, ok := errors.AsType[*huma.ErrorDetail](err); ok {
			out = append(out, r.detail(ctx, d))
		} else if err != nil {
			f := fault.Of(err)
			out = append(out, fault.Detail{Code: fault.CodeOf(err), Message: f.Text()})
		}
	}
	return out
}

func (r *route) detail(ctx huma.Context, d *huma.ErrorDetail) fault.Detail {
	where, steps := split(d.Location)
	if body, ok := d.Value.(string); ok && d.Location == "body" {
		if malformed, ok := syntax(body); ok {
			return malformed
		}
		return fault.Detail{Code: "invalid_value", Message: "a value in the body is of the wrong form"}
	}
	out := fault.Detail{Code: "invalid_value", Message: d.Message}
	if where == "body" {
		out.Pointer = pointer(steps)
	} else {
		out.Pointer = d.Location
	}
	var known []string
	switch {
	case d.Message == validation.MsgUnexpectedProperty:
		out.Code, out.Message = "unknown_field", "there is no such field"
		known = r.fields(ctx, steps)
	case d.Message == "unknown query parameter":
		out.Code, out.Message = "unknown_parameter", "there is no such parameter"
		known = parameters(ctx)
	case strings.HasPrefix(d.Message, "required ") && strings.HasSuffix(d.Message, "parameter is missing"):
		out.Code = "missing_parameter"
	case strings.HasPrefix(d.Message, "expected required property"):
		out.Code = "missing_field"
	}
	if len(steps) > 0 {
		if name := typo.Nearest(steps[len(steps)-1], known); name != "" {
			out.Message += fmt.Sprintf(": did you mean %q?", name)
		}
	}
	return out
}

// split reads a location of huma's: "body.items[3].name" is in the body, at
// items, 3, name. A field's name with a dot in it cannot be told from two.
func split(location string) (where string, steps []string) {
	where, rest, _ := strings.Cut(location, ".")
	if at := strings.IndexByte(where, '['); at >= 0 { // the body is a list
		where, rest = location[:at], location[at:]
	}
	return where, strings.FieldsFunc(rest, func(c rune) bool { return c == '.' || c == '[' || c == ']' })
}

// pointer is a JSON pointer (RFC 6901) to a place.
func pointer(steps []string) string {
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	var b strings.Builder
	for _, step := range steps {
		b.WriteByte('/')
		b.WriteString(escape.Replace(step))
	}
	return b.String()
}

// syntax finds where a body stops being JSON.
func syntax(body string) (fault.Detail, bool) {
	var value json.RawMessage
	err := json.Unmarshal([]byte(body), &value)
	bad, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return fault.Detail{}, false
	}
	before := body[:min(max(0, int(bad.Offset)), len(body))]
	line := 1 + strings.Count(before, "\n")
	column := len(before) - strings.LastIndexByte(before, '\n') - 1
	return fault.Detail{Line: line, Code: "malformed_json", Message: fmt.Sprintf("line %d, byte %d: %s", line, column, bad.Error())}, true
}

// fields returns the names of the fields beside the one at the end of steps.
func (r *route) fields(ctx huma.Context, steps []string) []string {
	if r == nil || ctx == nil || ctx.Operation().RequestBody == nil || len(steps) == 0 {
		return nil
	}
	media := ctx.Operation().RequestBody.Content["application/json"]
	if media == nil {
		return nil
	}
	registry := r.api.huma.OpenAPI().Components.Schemas
	s := media.Schema
	for _, step := range steps[:len(steps)-1] {
		if s = resolve(registry, s); s == nil {
			return nil
		}
		if _, err := strconv.Atoi(step); err == nil && s.Items != nil {
			s = s.Items
		} else {
			s = s.Properties[step]
		}
	}
	if s = resolve(registry, s); s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.Properties))
}

func resolve(registry huma.Registry, s *huma.Schema) *huma.Schema {
	if s != nil && s.Ref != "" {
		return registry.SchemaFromRef(s.Ref)
	}
	return s
}

func parameters(ctx huma.Context) []string {
	if ctx == nil {
		return nil
	}
	var names []string
	for _, p := range ctx.Operation().Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	return names
}
