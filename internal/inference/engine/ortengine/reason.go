package ortengine

import (
	"regexp"
	"strings"
)

// sourcePlace is a position in the runtime's own source, with the function
// that its messages name before or after it.
var sourcePlace = regexp.MustCompile(`\S*/\S+\.(?:cc|h|cpp|hpp):\d+\s+(?:.*?\)\s+)?`)

// runtimeReason extracts what a client can use from the runtime's message: the
// part behind the last "Status Message:", without its place in the source.
func runtimeReason(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "Status Message: "); i >= 0 {
		text = text[i+len("Status Message: "):]
	}
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = text[:i]
	}
	return strings.TrimSpace(sourcePlace.ReplaceAllString(text, ""))
}
