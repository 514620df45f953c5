package experiment

import "strings"

// What clients say of themselves in headers, and in the metadata of gRPC.
const (
	HeaderUnit       = "Experiment-Unit"
	HeaderAttributes = "Experiment-Attributes" // plan=pro, region=eu
)

// AttributeOf returns the value that a list of attributes, name=value between
// commas, has first for a name; "" where it has none. It does not allocate.
func AttributeOf(list, name string) string {
	for list != "" {
		var item string
		item, list, _ = strings.Cut(list, ",")
		if key, value, ok := strings.Cut(item, "="); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
