package serve

import (
	"bytes"
	"os"
	runtimemetrics "runtime/metrics"
	"strconv"
)

// native returns how many bytes of anonymous memory the process has beside Go's
// own: what the runtime's sessions take, and little else. 0 where that is not told.
func native() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, ok := bytes.Cut(status, []byte("RssAnon:"))
	line, _, _ := bytes.Cut(rest, []byte("kB"))
	resident, err := strconv.ParseInt(string(bytes.TrimSpace(line)), 10, 64)
	if !ok || err != nil {
		return 0
	}
	own := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	runtimemetrics.Read(own)
	return max(resident<<10-int64(own[0].Value.Uint64()-own[1].Value.Uint64()), 0)
}
