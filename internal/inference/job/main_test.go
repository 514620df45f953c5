package job

import (
	"context"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"sluice/internal/platform/queue"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}

// jobsOnly drops the messages of streams that these tests have no use for.
type jobsOnly struct{ queue.Publisher }

func publisherOf(q queue.Publisher) queue.Publisher { return jobsOnly{q} }

func (j jobsOnly) Publish(ctx context.Context, messages ...queue.Message) error {
	for _, m := range messages {
		if !strings.HasPrefix(m.Subject, "jobs.") && !strings.HasPrefix(m.Subject, "usage.") {
			continue
		}
		if err := j.Publisher.Publish(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
