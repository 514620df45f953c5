//go:build !linux

package probe

import (
	"os/exec"

	"sluice/internal/inference/model"
)

// confine has nothing to add where the platform offers no parent-death signal:
// the child still runs apart, bounded in time.
func confine(*exec.Cmd) {}

// limitSelf relies on the timeout alone on platforms other than Linux.
func limitSelf(model.Execution) error { return nil }
