package sqliterepo

import (
	"time"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/sqlite"
)

type (
	value     = sqlite.Value
	statement = sqlite.Statement
	conn      = sqlite.Conn
)

var newStatement = sqlite.New

// errBusy is what a change fails with that would make the queue too long.
var errBusy = fault.New(fault.Unavailable, "too many changes are waiting for the disk: try again later").WithCode("store_busy").WithRetryAfter(time.Second)
