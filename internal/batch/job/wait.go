package job

import "time"

// Waiting is what a batch waits for that is there again some day: room on a disk, a server.
type Waiting struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// Wait notes why a step came to nothing that is tried again. The next one that is done, or
// that the batch is in another state, ends it.
func (b *Batch) Wait(code, message string, now time.Time) {
	if b.Waits == nil || b.Waits.Code != code {
		b.Waits = &Waiting{code, message, now}
	}
}
