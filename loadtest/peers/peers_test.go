package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/internal/inference/tensor"
	"sluice/loadtest/load"
)

func TestChoose(t *testing.T) {
	if all, err := choose(""); err != nil || len(all) != len(peers) {
		t.Errorf("%d peers, %v", len(all), err)
	}
	if two, err := choose("ray, kserve"); err != nil || len(two) != 2 || two[1].name != "kserve" {
		t.Errorf("%v, %v", two, err)
	}
	if _, err := choose("seldon"); err == nil || !strings.Contains(err.Error(), "mlserver") {
		t.Errorf("an unknown peer: %v", err)
	}
}

// Every peer has its folder with pinned requirements, and the runtime that Sluice
// pins, so that the comparison is one.
func TestPeersArePinned(t *testing.T) {
	for _, p := range peers {
		text, err := os.ReadFile(filepath.Join(p.name, "requirements.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nonnxruntime==1.31.1\n") {
			t.Errorf("%s does not pin the runtime's version", p.name)
		}
		words := strings.Fields(strings.TrimSuffix(p.title, ")"))
		if version := words[len(words)-1]; !strings.Contains(string(text), "=="+version+"\n") {
			t.Errorf("%s does not pin version %s, which the tables name", p.name, version)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !strings.Contains(line, "==") {
				t.Errorf("%s: %q is not pinned", p.name, line)
			}
		}
	}
}

// What is sent as nested lists comes back as the same tensor.
func TestArraysGoThereAndBack(t *testing.T) {
	in := tensor.Tensor{Name: "x", Datatype: tensor.FP32, Shape: tensor.Shape{2, 1, 3}}
	for i := range 6 {
		in.Data = binary.LittleEndian.AppendUint32(in.Data, math.Float32bits(float32(i)+.25))
	}
	wire, err := array("127.0.0.1:1", "m", in)
	if err != nil {
		t.Fatal(err)
	}
	var body struct{ Input json.RawMessage }
	if err := json.Unmarshal(load.Body(wire), &body); err != nil || string(body.Input) != "[[[0.25,1.25,2.25]],[[3.25,4.25,5.25]]]" {
		t.Fatalf("%s, %v", body.Input, err)
	}
	out, err := arrayOf(in)(load.Answer{Body: body.Input})
	if err != nil || !bytes.Equal(out[0].Data, in.Data) {
		t.Errorf("%v, %v", out, err)
	}
	for _, bad := range []string{"[[[1,2,3]]]", `{"a":1}`, "[", "[[[1,2,3]],[[4,5,\"6\"]]]"} {
		if _, err := arrayOf(in)(load.Answer{Body: []byte(bad)}); err == nil {
			t.Errorf("%s was taken for the tensor", bad)
		}
	}
}

func TestTablesGoBetweenTheMarkers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "doc.md")
	for text, want := range map[string]string{
		"a\n" + beginMark + "\nold\n" + endMark + "\nb\n": "a\n" + beginMark + "\nnew\n" + endMark + "\nb\n",
		"a\n" + beginMark + "\nold\n":                     "",
		"a\n":                                             "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tables := "new\n"
		if err := replace(path, nil); (err == nil) != (want != "") {
			t.Errorf("%q could be written to: %v", text, err)
		}
		err := replace(path, &tables)
		got, _ := os.ReadFile(path)
		if want == "" && (err == nil || string(got) != text) || want != "" && (err != nil || string(got) != want) {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
}

// What cannot be installed or fails later is left out with all that was measured of it, so that it
// neither stands in the tables with fewer rounds nor is compared with.
func TestWhoFailsIsLeftOutWhole(t *testing.T) {
	var out bytes.Buffer
	one, two := &peer{name: "nix", title: "One 1"}, &peer{name: "nix", title: "Two 2"}
	b := &bed{out: &out, results: map[entry]map[cell]*seen{}, settings: settings{rounds: 1}}
	if err := b.install(t.Context(), []*peer{one, two}); err == nil || len(b.left) != 2 || one.python != "" {
		t.Errorf("%v, left out: %q", err, b.left)
	}
	c := cells()[0]
	for i, e := range []entry{{title: "Sluice", sluice: true}, {title: "One 1", batched: "batched"}, {title: "Two 2", batched: "one by one"}} {
		s := b.at(e, c)
		s.rates, s.p50, s.p99 = []float64{1000 / float64(i+1)}, []float64{float64(i + 1)}, []float64{float64(i + 1)}
	}
	b.leave(one, errors.New("it ended"))
	var text strings.Builder
	b.table(&text, c)
	b.goals(&text)
	if got := text.String(); strings.Contains(got, "One 1") || !strings.Contains(got, "| 3.0 × | 0.33 | 0.33 |") || b.alone() {
		t.Errorf("alone: %t; %s", b.alone(), got)
	}
	b.results[entry{title: "Two 2", batched: "one by one"}][c] = &seen{rates: []float64{0}, p50: []float64{0}, p99: []float64{0}, refused: 9}
	text.Reset()
	if b.goals(&text); strings.Contains(text.String(), "Inf") || strings.Contains(text.String(), "NaN") {
		t.Errorf("beside who answers nothing: %s", &text)
	}
	if b.leave(two, errors.New("it ended")); !b.alone() {
		t.Error("nobody is left, and that is not seen")
	}
}

func TestObjective(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{
		"max_batch_size: 32\nslo: 200ms\ntask: x\n": "max_batch_size: 32\nslo: 1s\ntask: x\n",
		"max_batch_size: 32\n":                      "",
	} {
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		err := objective(dir, "m", time.Second)
		got, _ := os.ReadFile(path)
		if want == "" && err == nil || want != "" && (err != nil || string(got) != want) {
			t.Errorf("%q became %q, %v", config, got, err)
		}
	}
}
