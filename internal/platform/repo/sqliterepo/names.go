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

// newStatement is sqlite.New; as a function that is inlined it leaves the values' slice on the stack.
func newStatement(sql string, values ...value) statement { return sqlite.New(sql, values...) }

// errBusy is what a change fails with that would make the queue too long.
var errBusy = fault.New(fault.Unavailable, "too many changes are waiting for the disk: try again later").WithCode("store_busy").WithRetryAfter(time.Second)
