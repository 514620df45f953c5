package main

import "testing"

// Files have the types that the server takes, whatever the system's own list says.
func TestTypesOfFiles(t *testing.T) {
	for name, want := range map[string]string{
		"rows.csv": "text/csv", "ROWS.JSONL": "application/jsonl", "model.onnx": "application/octet-stream",
		"model.sig": "application/json", "graph.yaml": "text/plain", "config.pbtxt": "text/plain", "classes.txt": "text/plain", "page.html": "application/octet-stream", "no-ending": "application/octet-stream", "what.unheard-of": "application/octet-stream",
	} {
		if got := typeOf(name); got != want {
			t.Errorf("%s is taken for %q, want %q", name, got, want)
		}
	}
}
