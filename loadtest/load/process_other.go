//go:build !linux

package load

import (
	"errors"
	"time"
)

var errNotLinux = errors.New("measuring another process needs Linux: its CPU clocks and /proc")

// ProcessCPU needs Linux.
func ProcessCPU(int) (time.Duration, error) { return 0, errNotLinux }

// ProcessRSS needs Linux.
func ProcessRSS(int) (int64, error) { return 0, errNotLinux }
