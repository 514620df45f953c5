//go:build !linux

package sqlitefeature

import "os"

// There are no locks of open files that can be asked for: who reads does not wait for
// another process.

func lock(*os.File) (bool, error)   { return true, nil }
func unlock(*os.File) error         { return nil }
func locked(*os.File) (bool, error) { return false, nil }
