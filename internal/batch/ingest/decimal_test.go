package ingest

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// sameNumber compares what decimal makes of a text with what strconv does. It says whether it made anything.
func sameNumber(t interface{ Errorf(string, ...any) }, text string) bool {
	number, n := decimal([]byte(text))
	if n == 0 {
		return false
	}
	x, plain := number.float64()
	if want, err := strconv.ParseFloat(text[:n], 64); plain && (err != nil || math.Float64bits(x) != math.Float64bits(want)) {
		t.Errorf("%q is %v, %v; got %v", text[:n], want, err, x)
	}
	if y, exact := number.float32(); exact {
		want, err := strconv.ParseFloat(text[:n], 32)
		if err != nil || math.Float32bits(y) != math.Float32bits(float32(want)) {
			t.Errorf("%q in 32 bits is %v, %v; got %v", text[:n], want, err, y)
		}
	}
	return plain && n == len(text)
}

func TestDecimal(t *testing.T) {
	for _, text := range []string{"0", "-0", "+7", "1.5", ".5", "5.", "12345678", "123456789.87654321", "0.99609375", "-1e5", "1E-7", "1.25e+10", "9007199254740992", "0.00000000000000000001",
		"16777217", "16777219", "1.00000017881393432617", "8388608.5", "3.4028235e22"} {
		if plain := sameNumber(t, text); !plain && len(text) < 16 {
			t.Errorf("%q is not read", text)
		}
	}
	for _, text := range []string{"", "-", "+", ".", "-.", "e5", "x", "1e", "1e+", "1e12345", "inf", "nan", "0x1p3", "12345678901234567890"} {
		if x, n := decimal([]byte(text)); n > 0 && n == len(text) {
			t.Errorf("%q is read as %v", text, x)
		}
	}
	for text, n := range map[string]int{"0.12345678,0.5": 10, "0.123456789,5": 11, "9.5,1234567": 3, "1.,123456789": 2, "0.25e1,123456": 6, "0.25E,1234567": 0, "0.12345678e2,": 12, "x.5,1234567": 0, "1.5,2": 3, "12345678,1": 8, "1;": 1, "0.5 ": 3, "1_0": 1, "0x10": 1, "1234567890123456789:": 19, "12345678901234567890:": 0, "1.2.3": 3} {
		if _, got := decimal([]byte(text)); got != n {
			t.Errorf("%q: %d bytes, want %d", text, got, n)
		}
	}
}

// Numbers are what strconv says, also where 64 bits are half-way between two of 32.
func TestDecimalLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var text string
		switch rapid.IntRange(0, 6).Draw(rt, "kind") {
		case 0:
			text = strconv.FormatFloat(float64(math.Float32frombits(rapid.Uint32().Draw(rt, "bits"))), rapid.SampledFrom([]byte("gef")).Draw(rt, "form"), rapid.IntRange(-1, 12).Draw(rt, "digits"), 32)
		case 1:
			text = strconv.FormatFloat(math.Float64frombits(rapid.Uint64().Draw(rt, "bits")), 'g', -1, 64)
		case 2:
			text = fmt.Sprintf("%d.%0*d", rapid.Uint32().Draw(rt, "whole"), rapid.IntRange(1, 12).Draw(rt, "width"), rapid.Uint32().Draw(rt, "part"))
		case 5: // as they are in a row
			text = strconv.FormatFloat(float64(rapid.Float32Range(0, 10).Draw(rt, "number")), 'f', rapid.IntRange(-1, 10).Draw(rt, "digits"), 32) + ",0.125,-1.5,1e3"
		case 3: // half-way
			x := float64(math.Float32frombits(rapid.Uint32Range(0x3f000000, 0x4f000000).Draw(rt, "bits")))
			text = strconv.FormatFloat(math.Float64frombits(math.Float64bits(x)|1<<28), 'f', -1, 64)
		default:
			text = rapid.StringMatching(`[-+]?[0-9]{0,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{0,3})?[,x ]?`).Draw(rt, "text")
		}
		sameNumber(rt, text)
	})
}

func FuzzDecimal(f *testing.F) {
	for _, text := range []string{"0.99609375,1", "-12345678.12345678", "1e-22", "16777217", "0000000000000000001", "9:"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { sameNumber(t, text) })
}

func BenchmarkDecimal(b *testing.B) {
	text := []byte("0.99609375,0.5")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, n := decimal(text); n == 0 {
			b.Fatal()
		}
	}
}
