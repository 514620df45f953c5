package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// field is one setting: a leaf of the struct with its tags.
type field struct {
	key   string // "http.max_body"
	value reflect.Value
	tag   reflect.StructTag
}

// fields lists the settings below v in declaration order, and the names of
// its sections. It panics on a declaration without a key: a programmer error.
func fields(v reflect.Value, prefix string) (leaves []field, sections []string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		key, ok := f.Tag.Lookup("key")
		if !ok {
			panic("config: field " + f.Name + " has no key")
		}
		key = prefix + key
		if f.Type.Kind() != reflect.Struct {
			leaves = append(leaves, field{key, v.Field(i), f.Tag})
			continue
		}
		sections = append(sections, key)
		l, s := fields(v.Field(i), key+".")
		leaves, sections = append(leaves, l...), append(sections, s...)
	}
	return leaves, sections
}

// env is the setting's environment variable.
func (f field) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(f.key, ".", "_"))
}

// flag is the setting's command line flag, without the dashes.
func (f field) flag() string {
	return strings.NewReplacer(".", "-", "_", "-").Replace(f.key)
}

func (f field) isBool() bool { return f.value.Kind() == reflect.Bool }

// set parses text into the setting. Bounds are checked later, by check, so
// that a value that another source overrides does no harm.
func (f field) set(text string) error {
	v, err := parse(f.value.Type(), text)
	if err != nil {
		return err
	}
	f.value.Set(v)
	return nil
}

// text is the setting's value as set would take it.
func (f field) text() string {
	switch v := f.value.Interface().(type) {
	case []string:
		return strings.Join(v, ",")
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// check holds the value against the tags.
func (f field) check() error {
	if allowed := f.tag.Get("oneof"); allowed != "" && !slices.Contains(strings.Fields(allowed), f.text()) {
		return fmt.Errorf("%s is %q, expected one of: %s", f.key, f.text(), strings.Join(strings.Fields(allowed), ", "))
	}
	for _, b := range []struct {
		tag  string
		sign int
		word string
	}{{"min", -1, "at least"}, {"max", 1, "at most"}} {
		limit, ok := f.tag.Lookup(b.tag)
		if !ok {
			continue
		}
		v, err := parse(f.value.Type(), limit)
		if err != nil {
			panic("config: " + f.key + " has a bad bound: " + err.Error())
		}
		if compare(f.value, v) == b.sign {
			return fmt.Errorf("%s is %s, expected %s %s", f.key, f.text(), b.word, limit)
		}
	}
	return nil
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

func parse(t reflect.Type, text string) (reflect.Value, error) {
	out := reflect.New(t).Elem()
	var err error
	switch {
	case t == durationType:
		var d time.Duration
		if d, err = time.ParseDuration(text); err != nil {
			err = fmt.Errorf("%q is not a duration such as 500ms, 30s or 2m", text)
		}
		out.SetInt(int64(d))
	case t == sizeType:
		var s Size
		s, err = ParseSize(text)
		out.SetInt(int64(s))
	case t.Kind() == reflect.String:
		out.SetString(text)
	case t.Kind() == reflect.Bool:
		var b bool
		if b, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("%q is not true or false", text)
		}
		out.SetBool(b)
	case t.Kind() == reflect.Int:
		var n int64
		if n, err = strconv.ParseInt(text, 10, 64); err != nil {
			err = fmt.Errorf("%q is not a whole number", text)
		}
		out.SetInt(n)
	case t.Kind() == reflect.Float64:
		var x float64
		if x, err = strconv.ParseFloat(text, 64); err != nil || x != x {
			err = fmt.Errorf("%q is not a number", text)
		}
		out.SetFloat(x)
	case t == reflect.TypeFor[[]string]():
		out.Set(reflect.ValueOf(splitList(text)))
	default:
		panic("config: no parser for " + t.String())
	}
	return out, err
}

// splitList splits at commas, trims, and drops empty items.
func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func compare(a, b reflect.Value) int {
	if a.CanFloat() {
		return cmp.Compare(a.Float(), b.Float())
	}
	return cmp.Compare(a.Int(), b.Int())
}
