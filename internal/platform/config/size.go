package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, written as 65536, 64KiB or 1.5GB.
type Size int64

// units are tried in this order: "B" ends all the others.
var units = []struct {
	name  string
	bytes int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1},
}

// ParseSize reads a non-negative number of bytes with an optional unit.
func ParseSize(text string) (Size, error) {
	number, factor := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.name); ok {
			number, factor = strings.TrimSpace(n), u.bytes
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && n <= math.MaxInt64/factor {
		return Size(n * factor), nil
	}
	x, err := strconv.ParseFloat(number, 64)
	if x *= float64(factor); err != nil || !(x >= 0 && x < 1<<62) || strings.ContainsAny(number, "xXpPeE_") {
		return 0, fmt.Errorf("%q is not a size such as 65536, 64KiB or 1.5GB", text)
	}
	return Size(x), nil
}

// String writes the size with the largest binary unit that is exact.
func (s Size) String() string {
	for i := 3; i >= 0; i-- {
		if u := units[i]; s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
