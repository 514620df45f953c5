//go:build !linux

package spare

const niceness = 0

func nice() int { return 0 }
