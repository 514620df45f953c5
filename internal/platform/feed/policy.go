package feed

import "slices"

// Policy says what becomes of a consumer that is slower than what happens.
type Policy string

// The policies.
const (
	Spill      Policy = "spill"       // it reads what it missed from the source; the default
	Block      Policy = "block"       // whoever appends waits for it; only for topics made for that
	Conflate   Policy = "conflate"    // of several events of one key that wait, it gets the latest
	DropOldest Policy = "drop_oldest" // it gets a gap event in place of what it missed
	Disconnect Policy = "disconnect"  // its stream ends with an error
)

var policies = []Policy{Spill, Block, Conflate, DropOldest, Disconnect}

// ParsePolicy reads a policy's name; nothing is Spill.
func ParsePolicy(text string) (Policy, error) {
	switch p := Policy(text); {
	case text == "":
		return Spill, nil
	case slices.Contains(policies, p):
		return p, nil
	}
	return "", invalid("slow=%.32q is no policy: choose one of %q", text, policies)
}

// conflate keeps of the events of each key the last, in place, in order, and
// returns how many it took out.
func conflate(events []*Event) ([]*Event, int) {
	last := make(map[string]*Event, len(events))
	for _, e := range events {
		if e.Key != "" {
			last[e.Key] = e
		}
	}
	kept := slices.DeleteFunc(events, func(e *Event) bool { return e.Key != "" && last[e.Key] != e })
	return kept, len(events) - len(kept)
}
