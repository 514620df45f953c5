package api

import (
	"strings"

	"sluice/internal/platform/web/encode"
)

// acceptable reports whether the lines of an Accept header allow one of the media
// types that are offered (RFC 9110, 12.5.1). No header allows all.
func acceptable(accept, offered []string) bool {
	if len(accept) == 0 {
		return true
	}
	for _, media := range offered {
		kind, _, _ := strings.Cut(media, "/")
		exactness, weight := 0, 0.0
		for _, line := range accept {
			for item := range strings.SplitSeq(line, ",") {
				value, q := encode.Weight(item)
				n := 0
				switch {
				case strings.EqualFold(value, media):
					n = 3
				case strings.EqualFold(value, kind+"/*"):
					n = 2
				case value == "*/*", value == "*": // the latter is a common mistake
					n = 1
				}
				if n > exactness || n == exactness && n > 0 && q > weight {
					exactness, weight = n, q
				}
			}
		}
		if weight > 0 {
			return true
		}
	}
	return false
}

// names reports whether the lines of an Accept header name a media type itself.
func names(accept []string, media string) bool {
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			if value, q := encode.Weight(item); q > 0 && strings.EqualFold(value, media) {
				return true
			}
		}
	}
	return false
}
