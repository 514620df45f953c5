package oip

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/platform/fault"
)

func TestPreference(t *testing.T) {
	for text, want := range map[string]string{"": "0s false", "respond-async": "0s true", "wait=5": "5s true", "Respond-Async, wait=60": "1m0s true", "handling=lenient": "0s false", "a=b+respond-async;x=1": "0s true", `wait="7"`: "7s true",
		"wait=5, wait=6": "5s true", "respond-async+wait=6": "6s true", "wait=5, wait=x": "prefer_invalid",
		"wait=0": "prefer_invalid", "wait=61": "prefer_invalid", "wait=x": "prefer_invalid", "wait": "prefer_invalid"} {
		wait, async, err := Preference(strings.Split(text, "+"))
		got := fmt.Sprint(wait, " ", async)
		if err != nil {
			got = fault.CodeOf(err)
		}
		if got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
