package webhook

import "time"

// Class says why an attempt failed, in one word.
type Class string

// The classes.
const (
	None        Class = ""           // it did not fail
	BadStatus   Class = "bad_status" // a status that is no success
	Redirected  Class = "redirected" // 3xx, which is not followed
	GoneForGood Class = "gone"       // 410
	Throttled   Class = "throttled"  // 429, 502, 503, 504
	Timeout     Class = "timeout"    // no answer in time
	Refused     Class = "refused"    // nobody listens
	Broken      Class = "broken"     // the connection ended, or spoke no HTTP
	NoSuchHost  Class = "no_such_host"
	TLS         Class = "tls"         // no handshake, or a certificate that is not trusted
	Forbidden   Class = "forbidden"   // the address or port is not let through
	Unsendable  Class = "unsendable"  // the endpoint's address or secret is no good
	Interrupted Class = "interrupted" // the process ended in the middle of it
)

// Result is what became of an attempt.
type Result struct {
	Status     int // of HTTP; 0 without an answer
	Class      Class
	RetryAfter time.Duration // the receiver's wish; 0 for none
	Duration   time.Duration
}

// schedule are the waits before each attempt, as Standard Webhooks has them: about
// three days in all.
var schedule = [...]time.Duration{
	0, 5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// maxRetryAfter is the longest that a receiver can have itself waited for.
const maxRetryAfter = 24 * time.Hour

// pause is the wait after so many attempts, a fifth longer at most by chance.
func pause(tries int, random float64) time.Duration {
	d := schedule[tries]
	return d + time.Duration(random*float64(d)/5)
}
