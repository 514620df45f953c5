package target

import (
	"strconv"
	"strings"
)

// Metrics is a page of metrics in Prometheus' text format.
type Metrics string

// Sum adds the samples of a metric whose labels contain the given text.
func (m Metrics) Sum(name, labels string) float64 {
	total := 0.0
	for line := range strings.Lines(string(m)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") || !strings.Contains(rest, labels) {
			continue
		}
		value := strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:])
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			total += v
		}
	}
	return total
}
