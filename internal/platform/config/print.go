package config

import (
	"fmt"
	"io"
	"reflect"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v4"
)

// redacted stands for a secret that is set.
const redacted = "[redacted]"

// Print writes the settings in effect as a configuration file, with the
// source of each that is not a default, and secrets redacted.
func (c *Config) Print(w io.Writer) error { return printFields(w, c, c.origins) }

func printFields(w io.Writer, src any, origins map[string]string) error {
	leaves, _ := fields(reflect.ValueOf(src).Elem(), "")
	var b strings.Builder
	section := ""
	for _, f := range leaves {
		name, indent := f.key, ""
		if s, leaf, ok := strings.Cut(f.key, "."); ok {
			if s != section {
				section = s
				fmt.Fprintf(&b, "%s:\n", s)
			}
			name, indent = leaf, "  "
		}
		text := f.text()
		if text != "" && f.tag.Get("secret") != "" {
			text = redacted
		}
		fmt.Fprintf(&b, "%s%s: %s", indent, name, quoted(text))
		if origin := origins[f.key]; origin != "" {
			fmt.Fprintf(&b, " # %s", strings.Map(oneLine, origin))
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// quoted writes text as a YAML scalar, in quotes where it needs them.
func quoted(text string) string {
	n := yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Style: yaml.DoubleQuotedStyle}
	if text != "" && strings.IndexFunc(text, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./_", r)
	}) < 0 {
		n.Style = 0
		n.Tag = ""
	}
	out, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func oneLine(r rune) rune {
	if r < ' ' {
		return ' '
	}
	return r
}

// Usage writes every setting with its flag, variable, default and meaning.
func Usage(w io.Writer) error {
	leaves, _ := fields(reflect.ValueOf(&Config{}).Elem(), "")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "  --%s\t%s\ta YAML file of settings\n", configFlag, configEnv)
	for _, f := range leaves {
		fmt.Fprintf(t, "  --%s\t%s\t%s%s\n", f.flag(), f.env(), f.tag.Get("help"), f.limits())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\nFlags override environment variables, which override the file (http.max_body is max_body in the section http), which overrides the defaults.\n")
	return err
}

// limits says what values a setting takes and which is the default.
func (f field) limits() string {
	var parts []string
	if v := f.tag.Get("default"); v != "" {
		parts = append(parts, "default "+v)
	}
	if v, ok := f.tag.Lookup("min"); ok {
		parts = append(parts, v+" to "+f.tag.Get("max"))
	}
	if v := f.tag.Get("oneof"); v != "" {
		parts = append(parts, strings.Join(strings.Fields(v), "|"))
	}
	if v := f.tag.Get("env"); v != "" {
		parts = append(parts, "else "+v)
	}
	if len(parts) == 0 {
		return ""
	}
	return " [" + strings.Join(parts, "; ") + "]"
}
