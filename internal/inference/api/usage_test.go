package api

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"sluice/internal/inference/usage"
)

// The document names every mode that a report can have.
func TestModesOfUsageAreDocumented(t *testing.T) {
	field, _ := reflect.TypeFor[UsageGroup]().FieldByName("Mode")
	named := strings.Split(field.Tag.Get("enum"), ",")
	for _, mode := range []usage.Mode{usage.Online, usage.Durable, usage.Batch, usage.Evaluation} {
		if !slices.Contains(named, string(mode)) {
			t.Errorf("mode %q is not among %v", mode, named)
		}
	}
}
