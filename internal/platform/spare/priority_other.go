//go:build !linux

package spare

func lower() error { return nil }

// priorities says whether a thread can have a priority of its own.
func priorities() bool { return false }
