package queue

import (
	"errors"
	"fmt"

	"sluice/internal/platform/fault"
)

// PublishError says which messages of a batch were not stored, or not surely.
type PublishError struct {
	// Errs has an entry for each message in the order given: nil if it is
	// stored, be it by an earlier attempt.
	Errs []error
}

// Error names the first failure and counts them.
func (e *PublishError) Error() string {
	failed := 0
	for _, err := range e.Errs {
		if err != nil {
			failed++
		}
	}
	return fmt.Sprintf("%d of %d messages were not stored: %v", failed, len(e.Errs), e.Unwrap())
}

// Unwrap returns the first failure, whose kind is that of the whole.
func (e *PublishError) Unwrap() error {
	for _, err := range e.Errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Outcome returns what became of the i-th message of a batch for which Publish
// returned err: nil if it is stored.
func Outcome(err error, i int) error {
	if e, ok := errors.AsType[*PublishError](err); ok && i < len(e.Errs) {
		return e.Errs[i]
	}
	return err
}

// Waves publishes a batch such that messages of one subject keep their order:
// each call of send gets at most one of each subject, and what follows a failed
// one is not sent. send returns an outcome for each index. Adapters call it.
func Waves(messages []Message, send func(indices []int) []error) error {
	out := &PublishError{Errs: make([]error, len(messages))}
	var pending []int
	for i, m := range messages {
		if out.Errs[i] = m.Validate(); out.Errs[i] == nil {
			pending = append(pending, i)
		}
	}
	failed := len(pending) < len(messages)
	if failed { // nothing of a wrong batch is sent: the caller has to change it
		for _, i := range pending {
			out.Errs[i] = notSent()
		}
		return out
	}
	halted := map[string]bool{}
	for len(pending) > 0 {
		wave, rest := split(messages, pending)
		for j, err := range send(wave) {
			if err != nil {
				out.Errs[wave[j]], failed = err, true
				halted[messages[wave[j]].Subject] = true
			}
		}
		pending = rest[:0]
		for _, i := range rest {
			if halted[messages[i].Subject] {
				out.Errs[i] = notSent()
				continue
			}
			pending = append(pending, i)
		}
	}
	if failed {
		return out
	}
	return nil
}

// split takes the first of each subject out of the pending ones.
func split(messages []Message, pending []int) (first, rest []int) {
	if len(pending) == 1 {
		return pending, nil
	}
	seen := make(map[string]bool, len(pending))
	for _, i := range pending {
		if s := messages[i].Subject; !seen[s] {
			seen[s] = true
			first = append(first, i)
		} else {
			rest = append(rest, i)
		}
	}
	return first, rest
}

func notSent() error {
	return fault.New(fault.Unavailable, "the message was not sent, because an earlier one of the batch failed; publish it again").WithCode("queue_not_sent")
}
