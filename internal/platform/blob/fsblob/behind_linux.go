package fsblob

import (
	"os"

	"golang.org/x/sys/unix"
)

// writeBehind has the system begin to write a range of a file to the disk, and waits for
// nothing. That it may fail changes nothing: see sync_file_range(2), which promises
// nothing either; the file is flushed at its end.
func writeBehind(f *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
