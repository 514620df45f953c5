package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"time"

	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/loadtest/load"
)

// jsonCase is an array of floats in the text that clients send.
type jsonCase struct {
	name   string
	values []float32
	text   []byte // what is decoded
	data   []byte // the binary form, what is encoded
}

// jsonCases are two sizes (an image of 28x28 and one of 3x224x224), each with
// short numbers and with the 17 digits that Python prints of a float32.
func jsonCases() []jsonCase {
	var cases []jsonCase
	for _, n := range []int{784, 150_528} {
		for _, short := range []bool{true, false} {
			rng := rand.New(rand.NewPCG(uint64(n), 1)) // #nosec G404 -- reproducible data, no secret
			c := jsonCase{name: fmt.Sprintf("%d floats, 17 digits", n), text: []byte{'['}}
			if short {
				c.name = fmt.Sprintf("%d floats, short", n)
			}
			for i := range n {
				v := float32(rng.NormFloat64())
				if short {
					v = float32(math.Round(float64(v)*1e4) / 1e4)
				}
				if i > 0 {
					c.text = append(c.text, ',')
				}
				if short {
					c.text = strconv.AppendFloat(c.text, float64(v), 'g', -1, 32)
				} else {
					c.text = strconv.AppendFloat(c.text, float64(v), 'g', 17, 64)
				}
				c.values = append(c.values, v)
				c.data = binary.LittleEndian.AppendUint32(c.data, math.Float32bits(v))
			}
			c.text = append(c.text, ']')
			cases = append(cases, c)
		}
	}
	return cases
}

// measureJSON compares the tensor codec with encoding/json in CPU time, both
// with memory to reuse.
func measureJSON(ctx context.Context, b *bench) error {
	worstDecode, worstEncode, allocs := math.Inf(1), math.Inf(1), 0.0
	for _, c := range jsonCases() {
		if err := ctx.Err(); err != nil {
			return err
		}
		ours, theirs, err := c.codecs()
		if err != nil {
			return err
		}
		decode, err := b.compare(theirs.decode, ours.decode)
		if err != nil {
			return err
		}
		encode, err := b.compare(theirs.encode, ours.encode)
		if err != nil {
			return err
		}
		n := float64(len(c.values))
		a := max(allocsPerRun(ours.decode), allocsPerRun(ours.encode)) / n
		b.report.line("%-24s decode %5.1f ns/element, %5.2f x encoding/json; encode %5.1f ns/element, %5.2f x; %.3g allocations per element",
			c.name, decode.ours/n, decode.ratio, encode.ours/n, encode.ratio, a)
		worstDecode, worstEncode, allocs = min(worstDecode, decode.ratio), min(worstEncode, encode.ratio), max(allocs, a)
	}
	b.report.set("json_decode", worstDecode)
	b.report.set("json_encode", worstEncode)
	b.report.set("json_allocs_per_element", allocs)
	return nil
}

// codec decodes and encodes one array over and over.
type codec struct{ decode, encode func() }

// codecs returns ours and encoding/json's, once they were seen to agree.
func (c jsonCase) codecs() (ours, theirs codec, err error) {
	shape := tensor.Shape{int64(len(c.values))}
	var decoded, encoded []byte
	var values []float32
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	var failed error
	note := func(err error) {
		if err != nil {
			failed = err
		}
	}
	ours.decode = func() {
		var err error
		decoded, _, err = tensorjson.Decode(decoded[:0], tensor.FP32, shape, c.text)
		note(err)
	}
	ours.encode = func() {
		var err error
		encoded, err = tensorjson.Encode(encoded[:0], tensor.FP32, c.data)
		note(err)
	}
	theirs.decode = func() { note(json.Unmarshal(c.text, &values)) }
	theirs.encode = func() {
		buffer.Reset()
		note(encoder.Encode(c.values))
	}
	ours.decode()
	ours.encode()
	theirs.decode()
	theirs.encode()
	switch {
	case failed != nil:
		err = failed
	case !bytes.Equal(decoded, c.data):
		err = fmt.Errorf("%s: decoded other values than were written", c.name)
	case !bytes.Equal(withoutFractions(encoded), bytes.TrimSpace(buffer.Bytes())):
		err = fmt.Errorf("%s: encoded other text than encoding/json", c.name)
	}
	return ours, theirs, err
}

// withoutFractions returns the array with 3 for 3.0, which only ours writes.
func withoutFractions(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte(".0,"), []byte{','})
	return bytes.ReplaceAll(text, []byte(".0]"), []byte{']'})
}

// comparison is the CPU time of one call in nanoseconds, and theirs over ours.
type comparison struct{ ours, ratio float64 }

// compare measures both in turns.
func (b *bench) compare(theirs, ours func()) (comparison, error) {
	var times, ratios []float64
	for range b.rounds() {
		t, err := cpuTime(theirs, b.span(400*time.Millisecond))
		if err != nil {
			return comparison{}, err
		}
		o, err := cpuTime(ours, b.span(400*time.Millisecond))
		if err != nil {
			return comparison{}, err
		}
		times, ratios = append(times, o), append(ratios, t/o)
	}
	return comparison{median(times), median(ratios)}, nil
}

// cpuTime returns the process's CPU time for one call in nanoseconds, its
// garbage collections included.
func cpuTime(f func(), d time.Duration) (float64, error) {
	f()
	runtime.GC()
	before, err := load.ProcessCPU(os.Getpid())
	if err != nil {
		return 0, err
	}
	n := 0
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		f()
	}
	after, err := load.ProcessCPU(os.Getpid())
	return float64(after-before) / float64(n), err
}

// allocsPerRun returns the heap allocations of one call.
func allocsPerRun(f func()) float64 {
	const runs = 20
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / runs) // whole ones: the process allocates beside it
}
