package rollouthttp

import (
	"testing"
	"time"

	"sluice/internal/inference/rollout"
	"sluice/internal/platform/fault"
	"sluice/internal/platform/web/api"
)

func TestExpectation(t *testing.T) {
	for _, c := range []struct {
		match, none string
		want        rollout.Expectation
		code        string
	}{
		{"", "", rollout.Expectation{}, "precondition_required"},
		{`"3"`, "", rollout.Expectation{Version: 3}, ""},
		{"*", "", rollout.Expectation{Any: true}, ""},
		{"", "*", rollout.Expectation{Absent: true}, ""},
		{"", `"3"`, rollout.Expectation{}, "etag_invalid"},
		{"3", "", rollout.Expectation{}, "etag_invalid"},
		{`"3"`, "*", rollout.Expectation{Absent: true}, "etag_invalid"},
	} {
		got, err := Conditions{api.IfMatch{IfMatch: c.match}, c.none}.expectation()
		if got != c.want || c.code == "" && err != nil || c.code != "" && fault.CodeOf(err) != c.code {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}

// Somebody approves what they have read, and may reject whatever is there.
func TestDecided(t *testing.T) {
	for _, c := range []struct {
		match   string
		approve bool
		code    string
	}{{"*", true, "etag_invalid"}, {"*", false, ""}, {`"3"`, true, ""}, {"", true, "precondition_required"}} {
		if _, err := decided(api.IfMatch{IfMatch: c.match}, c.approve); fault.CodeOf(err) != c.code {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What is only proposed is answered with 202, and what is not there with an error.
func TestChanged(t *testing.T) {
	a := &rollout.LoadedAlias{State: rollout.Alias{Model: "m", Name: "champion", Exists: true, Pointing: rollout.Pointing{Version: 3, Digest: "d3"}}}
	a.Root.Version = 7
	if out, err := changed(a, nil); err != nil || out.Status != 200 || out.ETag != `"7"` || out.Body.Version != "3" || out.Body.Proposed != nil {
		t.Errorf("%+v, %v", out, err)
	}
	a.State.Proposed = &rollout.Proposal{Remove: true, By: "key_1", At: time.Unix(1, 0)}
	if out, err := changed(a, nil); err != nil || out.Status != 202 || out.Body.Proposed.Version != "" || !out.Body.Proposed.Remove {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := changed(a, fault.New(fault.Conflict, "no")); !fault.Is(err, fault.Conflict) {
		t.Error(err)
	}
}

// To stop an experiment asks for nothing, or for the version that was read.
func TestStopExpects(t *testing.T) {
	for match, want := range map[string]*rollout.Expectation{"": nil, "*": {Any: true}, `"3"`: {Version: 3}} {
		if got, err := (&stopIn{IfMatch: match}).expectation(); err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%q: %+v, %v; want %+v", match, got, err, want)
		}
	}
	if _, err := (&stopIn{IfMatch: "3"}).expectation(); fault.CodeOf(err) != "etag_invalid" {
		t.Errorf("no entity tag: %v", err)
	}
}
