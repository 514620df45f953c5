package main

import (
	"os"
	"runtime"
	"strings"
)

// printMachine names what the figures were measured on.
func (b *bench) printMachine() {
	mode := "full run"
	if b.short {
		mode = "short run: figures are rough"
	}
	b.report.line("%s", mode)
	b.report.line("machine  %s, %d cores, %s memory, %s/%s", cpuModel(), runtime.NumCPU(), memory(), runtime.GOOS, runtime.GOARCH)
	b.report.line("runtime  %s, %s", runtime.Version(), b.engine.Version())
}

func cpuModel() string { return procField("/proc/cpuinfo", "model name", "unknown CPU") }

func memory() string { return procField("/proc/meminfo", "MemTotal", "unknown") }

// procField returns the first value of a "name: value" line.
func procField(path, name, unknown string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return unknown
}
