package usage

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"))
}
