package api

import (
	"strings"

	"sluice/internal/platform/web/encode"
)

// acceptable reports whether the lines of an Accept header allow one of the media
// types that are offered (RFC 9110, 12.5.1). No header allows all.
func acceptable(accept, offered []string) bool {
	return len(accept) == 0 || Preferred(accept, offered) != ""
}

// Preferred returns which of the media types that are offered the lines of an Accept header
// like best, the first of several (RFC 9110, 12.5.1): it is the first where there is no
// header, and empty where none is allowed. What follows the type of one that is offered, such
// as charset, does not matter.
func Preferred(accept, offered []string) (best string) {
	if len(accept) == 0 && len(offered) > 0 {
		return offered[0]
	}
	most := 0.0
	for _, full := range offered {
		media, _, _ := strings.Cut(full, ";")
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
		if weight > most {
			best, most = full, weight
		}
	}
	return best
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
