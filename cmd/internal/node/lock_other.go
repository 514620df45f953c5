//go:build !linux && !darwin

package node

import (
	"errors"
	"os"
)

func lockFile(*os.File) error { return errors.New("folders cannot be locked on this system") }
