package telemetry

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"

	"sluice/internal/platform/identity/secret"
)

// redactor keeps secrets and personal data out of the log, as a second layer
// behind types that hide themselves (package secret): the values of attributes
// with telling names, and what looks like a secret within texts.
//
// Known limits: a secret under a harmless name that looks like nothing in
// particular is not recognised, nor one that is encoded, such as in base64.
type redactor struct {
	slog.Handler
	denied bool // within a group with a telling name
}

// Handle passes on the record, or a clean copy of it.
func (h redactor) Handle(ctx context.Context, r slog.Record) error {
	dirty := h.denied || suspicious(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		dirty = dirty || doubtful(a)
		return !dirty
	})
	if !dirty {
		return h.Handler.Handle(ctx, r)
	}
	out := slog.NewRecord(r.Time, r.Level, Redact(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(h.clean(a))
		return true
	})
	return h.Handler.Handle(ctx, out)
}

// WithAttrs cleans the attributes once for all lines.
func (h redactor) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = h.clean(a)
	}
	return redactor{h.Handler.WithAttrs(clean), h.denied}
}

// WithGroup remembers whether the group's name tells of secrets.
func (h redactor) WithGroup(name string) slog.Handler {
	return redactor{h.Handler.WithGroup(name), h.denied || telling(name)}
}

// doubtful says whether clean could change the attribute.
func doubtful(a slog.Attr) bool {
	if telling(a.Key) {
		return true
	}
	switch a.Value.Kind() {
	case slog.KindString:
		return suspicious(a.Value.String())
	case slog.KindAny, slog.KindGroup, slog.KindLogValuer:
		return true
	}
	return false
}

func (h redactor) clean(a slog.Attr) slog.Attr {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		inner := redactor{denied: h.denied || telling(a.Key)}
		parts := a.Value.Group()
		clean := make([]slog.Attr, len(parts))
		for i, p := range parts {
			clean[i] = inner.clean(p)
		}
		a.Value = slog.GroupValue(clean...)
		return a
	}
	if h.denied || telling(a.Key) {
		a.Value = slog.StringValue(secret.Redacted)
		return a
	}
	switch a.Value.Kind() {
	case slog.KindString:
		a.Value = slog.StringValue(Redact(a.Value.String()))
	case slog.KindAny:
		a.Value = cleanAny(a.Value)
	}
	return a
}

// cleanAny cleans a value of any type, as its JSON shows it: a handler that
// prints structs otherwise would show fields that JSON hides.
func cleanAny(v slog.Value) slog.Value {
	switch x := v.Any().(type) {
	case nil:
		return v
	case error:
		if text := x.Error(); suspicious(text) {
			return slog.AnyValue(redactedError{x, Redact(text)})
		}
		return v
	case *slog.Source:
		return v
	case *url.URL:
		return slog.StringValue(Redact(x.String()))
	case []byte:
		return slog.StringValue(Redact(string(x)))
	case fmt.Stringer:
		return slog.StringValue(Redact(x.String()))
	}
	data, err := json.Marshal(v.Any())
	if err != nil {
		return slog.StringValue(Redact(fmt.Sprintf("%+v", v.Any())))
	}
	var tree any
	if json.Unmarshal(data, &tree) != nil {
		return slog.StringValue(Redact(string(data)))
	}
	return slog.AnyValue(cleanTree(tree))
}

// cleanTree cleans what JSON can express.
func cleanTree(v any) any {
	switch v := v.(type) {
	case string:
		return Redact(v)
	case []any:
		for i := range v {
			v[i] = cleanTree(v[i])
		}
	case map[string]any:
		for k := range v {
			if telling(k) {
				v[k] = secret.Redacted
				continue
			}
			v[k] = cleanTree(v[k])
		}
	}
	return v
}

// redactedError is an error with a clean text, and the kind and code of the
// original.
type redactedError struct {
	error
	text string
}

func (e redactedError) Error() string { return e.text }
func (e redactedError) Unwrap() error { return e.error }
