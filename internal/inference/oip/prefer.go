package oip

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"sluice/internal/platform/fault"
)

// MaxWait is how long an answer may wait for the end of a durable prediction.
const MaxWait = time.Minute

// Preference reads the lines of Prefer (RFC 7240): whether a prediction is to be
// durable, by respond-async or wait, and how long to wait for its end.
// Preferences that are not known are none, and of one that comes twice the first counts.
func Preference(lines []string) (wait time.Duration, durable bool, err error) {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, ",") {
			part, _, _ = strings.Cut(part, ";")
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				durable = true
			case "wait":
				n, err := strconv.Atoi(strings.Trim(value, ` "`))
				if err != nil || n < 1 || n > int(MaxWait.Seconds()) {
					return 0, false, fault.New(fault.Invalid, "Prefer: wait takes 1 to %d seconds", int(MaxWait.Seconds())).WithCode("prefer_invalid")
				}
				wait, durable = cmp.Or(wait, time.Duration(n)*time.Second), true
			}
		}
	}
	return wait, durable, nil
}

// Applied is what Preference-Applied says of a durable prediction.
func Applied(wait time.Duration) string {
	if wait > 0 {
		return "wait=" + strconv.Itoa(int(wait.Seconds()))
	}
	return "respond-async"
}
