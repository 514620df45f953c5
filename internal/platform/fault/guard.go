package fault

import (
	"fmt"
	"runtime/debug"
)

// Guard calls f and turns a panic into an Internal error, with the stack as its
// cause. Servers use it where one piece of work must not end all others.
func Guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = Wrap(Internal, fmt.Errorf("panic: %v\n%s", p, debug.Stack()), "internal error")
		}
	}()
	return f()
}
