package tensorjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/internal/inference/tensor"
	"sluice/internal/platform/fault"
)

func decode(t *testing.T, d tensor.Datatype, shape tensor.Shape, text string) []byte {
	t.Helper()
	out, n, err := Decode(nil, d, shape, []byte(text))
	if err != nil {
		t.Fatalf("Decode(%s %s, %s): %v", d, shape, text, err)
	}
	if n != len(text) {
		t.Fatalf("Decode(%s %s, %s) read %d of %d bytes", d, shape, text, n, len(text))
	}
	return out
}

// Each text is read, and written again in its canonical form.
func TestRoundTrip(t *testing.T) {
	for _, c := range []struct {
		d          tensor.Datatype
		shape      tensor.Shape
		text, want string // want "" means text
	}{
		{tensor.FP32, tensor.Shape{2, 2}, `[[1,2.5],[-0,1e-7]]`, `[1.0,2.5,-0.0,1e-7]`},
		{tensor.FP32, tensor.Shape{4}, "[ 1 ,\t2\n, 3\r, 4 ]", `[1.0,2.0,3.0,4.0]`},
		{tensor.FP32, tensor.Shape{3}, `[NaN,Infinity,-Infinity]`, ""},
		{tensor.FP64, tensor.Shape{3}, `[NaN,Infinity,-Infinity]`, ""},
		{tensor.FP64, tensor.Shape{3}, `[0.1,1e+21,1e-7]`, ""},
		{tensor.FP32, tensor.Shape{4}, `[-0.0,0.0,-3.0,100000000000000000000.0]`, ""},
		{tensor.FP64, tensor.Shape{4}, `[-0.0,0.0,-3.0,100000000000000000000.0]`, ""},
		{tensor.FP64, tensor.Shape{4}, `[-0,0,9007199254740993,1e23]`, `[-0.0,0.0,9007199254740992.0,1e+23]`},
		{tensor.FP32, tensor.Shape{}, `[7]`, `[7.0]`},
		{tensor.FP32, tensor.Shape{0}, `[]`, ""},
		{tensor.FP32, tensor.Shape{2, 0, 3}, `[ [],[ ] ]`, `[]`},
		{tensor.FP32, tensor.Shape{2, 0}, `[]`, ""},
		{tensor.FP32, tensor.Shape{0, 2}, `[]`, ""},
		{tensor.Bool, tensor.Shape{4}, `[true,false,1,0]`, `[true,false,true,false]`},
		{tensor.Uint8, tensor.Shape{2}, `[0,255]`, ""},
		{tensor.Uint16, tensor.Shape{2}, `[0,65535]`, ""},
		{tensor.Uint32, tensor.Shape{2}, `[0,4294967295]`, ""},
		{tensor.Uint64, tensor.Shape{2}, `[0,18446744073709551615]`, ""},
		{tensor.Int8, tensor.Shape{2}, `[-128,127]`, ""},
		{tensor.Int16, tensor.Shape{2}, `[-32768,32767]`, ""},
		{tensor.Int32, tensor.Shape{2}, `[-2147483648,2147483647]`, ""},
		{tensor.Int64, tensor.Shape{2}, `[-9223372036854775808,9223372036854775807]`, ""},
		{tensor.Int8, tensor.Shape{1}, `[-0]`, `[0]`},
		{tensor.Bytes, tensor.Shape{1, 3}, `[["a","","é"]]`, `["a","","é"]`},
		{tensor.Bytes, tensor.Shape{2}, `["\u0041\n\"\\\/","\ud83d\ude00"]`, `["A\n\"\\/","😀"]`},
		{tensor.Bytes, tensor.Shape{1}, `["\u0000\u001f"]`, ""},
		{tensor.Bytes, tensor.Shape{3}, `["\ud83d","\ude00x","\ud83d\ud83d\ude00"]`, "[\"\ufffd\",\"\ufffdx\",\"\ufffd😀\"]"},
		{tensor.Bytes, tensor.Shape{0}, `[]`, ""},
	} {
		data := decode(t, c.d, c.shape, c.text)
		got, err := Encode(nil, c.d, data)
		if err != nil {
			t.Fatalf("Encode(%s): %v", c.text, err)
		}
		want := c.want
		if want == "" {
			want = c.text
		}
		if string(got) != want {
			t.Errorf("%s %s: got %s, want %s", c.d, c.text, got, want)
		}
	}
}

func TestDecodeAppends(t *testing.T) {
	out, n, err := Decode([]byte{9}, tensor.Uint8, tensor.Shape{2}, []byte(`[1,2],"x"`))
	if err != nil || n != 5 || !bytes.Equal(out, []byte{9, 1, 2}) {
		t.Errorf("got %v, %d, %v", out, n, err)
	}
	kept := []byte{9}
	if out, _, err := Decode(kept, tensor.Uint8, tensor.Shape{2}, []byte(`[1,2`)); err == nil || !bytes.Equal(out, kept) {
		t.Errorf("after an error: got %v, %v", out, err)
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		d     tensor.Datatype
		shape tensor.Shape
		text  string
		want  string // in the message
	}{
		{tensor.FP32, tensor.Shape{2}, `[1]`, "got 1 values where shape [2] calls for 2"},
		{tensor.FP32, tensor.Shape{2}, `[]`, "got 0 values"},
		{tensor.FP32, tensor.Shape{2}, `[1,2,3]`, "more than the 2 values"},
		{tensor.FP32, tensor.Shape{0}, `[1]`, "more than the 0 values"},
		{tensor.FP32, tensor.Shape{2}, `[1,]`, "got 1 values"},
		{tensor.FP32, tensor.Shape{2}, `[,1]`, "expected a number"},
		{tensor.FP32, tensor.Shape{2}, `[1 2]`, "expected ',' or ']'"},
		{tensor.FP32, tensor.Shape{2}, `[1,2`, "the JSON text ends"},
		{tensor.FP32, tensor.Shape{2}, `[1,`, "the JSON text ends"},
		{tensor.FP32, tensor.Shape{2}, `[`, "the"},
		{tensor.FP32, tensor.Shape{1}, ``, "the JSON text ends"},
		{tensor.FP32, tensor.Shape{1}, `1`, "expected an array"},
		{tensor.FP32, tensor.Shape{1}, `{}`, "expected an array"},
		{tensor.FP32, tensor.Shape{1}, `[[1]]`, "nested deeper than its shape [1]"},
		{tensor.FP32, tensor.Shape{2, 2}, `[[1,2],3,4]`, "not as its shape [2,2]"},
		{tensor.FP32, tensor.Shape{2, 2}, `[1,2,[3,4]]`, "nested deeper"},
		{tensor.FP32, tensor.Shape{2, 2}, `[[1,2,3],[4]]`, "more than the 2 values"},
		{tensor.FP32, tensor.Shape{2, 2}, `[[1,2]]`, "got 1 values where shape [2,2] calls for 2"},
		{tensor.FP32, tensor.Shape{2, 2}, `[[1,2],[3,4],[5,6]]`, "more than the 2 values"},
		{tensor.FP32, tensor.Shape{1}, `["1"]`, "data[0]"},
		{tensor.FP32, tensor.Shape{2}, `[1,null]`, "data[1]"},
		{tensor.FP32, tensor.Shape{2}, `[1,1e39]`, "data[1]: 1e39 is not a number that fits FP32"},
		{tensor.FP64, tensor.Shape{1}, `[-1e400]`, "data[0]: -1e400 is not a number that fits FP64"},
		{tensor.Uint8, tensor.Shape{3}, `[1,2,300]`, "data[2]: 300 is not an integer from 0 to 255"},
		{tensor.Uint8, tensor.Shape{1}, `[-1]`, "data[0]: -1 is not an integer"},
		{tensor.Int8, tensor.Shape{1}, `[-129]`, "data[0]: -129"},
		{tensor.Int8, tensor.Shape{1}, `[128]`, "data[0]: 128"},
		{tensor.Int32, tensor.Shape{1}, `[1.0]`, "data[0]: 1.0 is not an integer"},
		{tensor.Int32, tensor.Shape{1}, `[1e3]`, "data[0]: 1e3 is not an integer"},
		{tensor.Int64, tensor.Shape{1}, `[9223372036854775808]`, "data[0]: 9223372036854775808"},
		{tensor.Int64, tensor.Shape{1}, `[-9223372036854775809]`, "data[0]: -9223372036854775809"},
		{tensor.Uint64, tensor.Shape{1}, `[18446744073709551616]`, "data[0]: 18446744073709551616"},
		{tensor.Int64, tensor.Shape{1}, `[NaN]`, "data[0]: NaN is not an integer"},
		{tensor.Bool, tensor.Shape{1}, `[2]`, "data[0]: 2 is not true or false"},
		{tensor.Bool, tensor.Shape{1}, `["true"]`, "data[0]"},
		{tensor.Bool, tensor.Shape{1}, `[tru]`, "data[0]"},
		{tensor.Bytes, tensor.Shape{2}, `["a",1]`, "data[1]"},
		{tensor.Bytes, tensor.Shape{1}, `["\x"]`, "bad escape"},
		{tensor.Bytes, tensor.Shape{1}, `["\u12g4"]`, "bad escape"},
		{tensor.Bytes, tensor.Shape{1}, "[\"a\nb\"]", "control character"},
		{tensor.Bytes, tensor.Shape{1}, "[\"\xff\"]", "not valid UTF-8"},
		{tensor.Bytes, tensor.Shape{1}, `["a`, "no closing quote"},
		{tensor.Bytes, tensor.Shape{1}, `["\`, "bad escape"},
		{tensor.FP16, tensor.Shape{1}, `[1]`, "sending FP16 data via JSON is not supported"},
		{tensor.BF16, tensor.Shape{1}, `[1]`, "sending BF16 data via JSON is not supported"},
		{tensor.FP32, tensor.Shape{-1}, `[1]`, "negative dimension"},
		{tensor.FP32, tensor.Shape{1 << 40, 1 << 40}, `[1]`, "63 bits"},
		{tensor.FP32, tensor.Shape{1 << 40}, `[1]`, "the data has fewer"},
		{tensor.FP32, tensor.Shape{1 << 40, 0}, `[1]`, "more than the 0 values"},
	} {
		_, _, err := Decode(nil, c.d, c.shape, []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s %s: got %v, want %q", c.d, c.shape, c.text, err, c.want)
		}
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s %s %s: kind %v", c.d, c.shape, c.text, fault.Of(err).Kind)
		}
	}
}

func TestNumberGrammar(t *testing.T) {
	for _, text := range []string{"01", "-", "+1", ".5", "1.", "1.e3", "1e", "1e+", "-01", "00", "0x1", "1_0", "Inf", "nan", "-NaN", "+Infinity", "Infinit", "--1", "1.5.5", "1e5e5", "١"} {
		for _, d := range []tensor.Datatype{tensor.FP32, tensor.FP64, tensor.Int64, tensor.Uint64, tensor.Bool} {
			if out, _, err := Decode(nil, d, tensor.Shape{1}, []byte("["+text+"]")); err == nil {
				t.Errorf("%s %s: accepted as %v", d, text, out)
			}
		}
	}
}

// Hard cases of rounding: middles between floats, denormals, long digits.
func hardFloats() []string {
	texts := []string{"0", "-0", "0e999999999", "0.0e-5", "1e-400", "1e400", "1e-45", "7.0064923216240853546186479164495e-46", "7.006492321624085e-46",
		"1.17549435e-38", "1.1754942e-38", "3.4028235e38", "3.4028236e38", "3.40282356779733661637539395458142568447e38",
		"340282346638528859811704183484516925440", "1.7976931348623157e308", "1.7976931348623159e308", "5e-324", "2.4703282292062327208e-324",
		"2.2250738585072011e-308", "9007199254740993", "9007199254740992.5", "16777217", "16777217.0000000001", "16777219", "33554434.999",
		"0.00012345678901234567", "12345678901234567890", "123456789012345678901234567890", "0." + strings.Repeat("0", 60) + "1",
		strings.Repeat("9", 400), "1" + strings.Repeat("0", 38), "0." + strings.Repeat("3", 400), "99999999999999999999e-20", "1e23", "8.5e22", "1e-64", "1e64", "1e65"}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		f := math.Float32frombits(r.Uint32())
		next := math.Nextafter32(f, 1)
		texts = append(texts,
			strconv.FormatFloat(float64(f), 'g', -1, 32), strconv.FormatFloat(float64(f), 'g', -1, 64), strconv.FormatFloat(float64(f), 'f', -1, 64),
			strconv.FormatFloat((float64(f)+float64(next))/2, 'e', -1, 64), // a middle
			strconv.FormatFloat(math.Float64frombits(r.Uint64()), 'g', -1, 64),
			strconv.FormatFloat(math.Nextafter((float64(f)+float64(next))/2, 0), 'e', 18, 64),
			strconv.FormatUint(r.Uint64(), 10)+"e"+strconv.Itoa(r.IntN(130)-85),
			strconv.FormatFloat(r.NormFloat64(), 'f', r.IntN(25), 64))
	}
	return texts
}

func TestParseFloatIsStrconv(t *testing.T) {
	for _, text := range hardFloats() {
		if strings.Trim(text, "-+.0123456789eE") != "" {
			continue // NaN, Inf
		}
		checkFloat(t, text)
	}
}

// checkFloat compares both formats with strconv for a JSON number token.
func checkFloat(t *testing.T, text string) {
	t.Helper()
	for _, f := range []*format{&float32Format, &float64Format} {
		got, end, ok, finite := parseFloat([]byte(text), 0, f)
		want, err := strconv.ParseFloat(text, f.bits)
		if !ok || end != len(text) || finite != (err == nil) || finite && got != f.of(want) {
			t.Errorf("%s as %d bits: got %x (end %d, %t, %t), want %x, %v", text, f.bits, got, end, ok, finite, f.of(want), err)
		}
	}
}

// floatText is encoding/json's text of the float but for whole numbers, which
// get a fraction.
func floatText(f float64, size int) string {
	format, abs := byte('f'), math.Abs(f)
	if abs != 0 && (abs < 1e-6 || abs >= 1e21) && (size == 64 || float32(abs) != 1e-6) {
		format = 'e'
	}
	text := strconv.FormatFloat(f, format, -1, size)
	switch {
	case format == 'f' && !strings.Contains(text, "."):
		text += ".0"
	case strings.Contains(text, "e-0"):
		text = strings.Replace(text, "e-0", "e-", 1)
	}
	return text
}

func checkText32(t *testing.T, b uint32) {
	f := math.Float32frombits(b)
	if f != f || math.IsInf(float64(f), 0) {
		return
	}
	if got, want := putText(b), floatText(float64(f), 32); got != want {
		t.Fatalf("%x: got %s, want %s", b, got, want)
	}
}

func TestFloat32Text(t *testing.T) {
	for exp := range uint32(255) { // every power of two, and what is next to it
		for _, mant := range []uint32{0, 1, 2, 3, 1 << 22, 1<<23 - 2, 1<<23 - 1} {
			checkText32(t, exp<<23|mant)
			checkText32(t, exp<<23|mant|1<<31)
		}
	}
	for b := uint32(0); b < math.MaxUint32-2000; b += 2003 {
		checkText32(t, b)
	}
	checkText32(t, math.Float32bits(1e-6)) // which is less than 1e-6
	for i := range 1 << 16 {               // what people write
		checkText32(t, math.Float32bits(float32(i)))
		checkText32(t, math.Float32bits(float32(i)*256+float32(i%16)/16))
		checkText32(t, math.Float32bits(float32(i)/1000))
		checkText32(t, math.Float32bits(float32(i)/256))
	}
}

// putText returns what putFloat32 writes for the bits.
func putText(b uint32) string {
	text := appendFloat32s(nil, binary.LittleEndian.AppendUint32(nil, b))
	return string(text[1:])
}

func checkText64(t interface{ Fatalf(string, ...any) }, b uint64) {
	f := math.Float64frombits(b)
	if f != f || math.IsInf(f, 0) {
		return
	}
	var text [floatRoom]byte
	got := string(text[1:putFloat64(&text, b)])
	if want := floatText(f, 64); got != want {
		t.Fatalf("%x: got %s, want %s", b, got, want)
	}
}

func TestFloat64Text(t *testing.T) {
	for exp := range uint64(2047) {
		for _, mant := range []uint64{0, 1, 2, 3, 1 << 51, 1<<52 - 2, 1<<52 - 1, 0x5555555555555 >> (exp % 50)} {
			checkText64(t, exp<<52|mant)
			checkText64(t, exp<<52|mant|1<<63)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 200_000 {
		checkText64(t, r.Uint64())
		checkText64(t, math.Float64bits(r.NormFloat64()))
		f, _ := strconv.ParseFloat(fmt.Sprintf("%de%d", r.Uint64N(1e17)>>r.IntN(57), r.IntN(40)-30), 64)
		checkText64(t, math.Float64bits(f))
		checkText64(t, math.Float64bits(float64(r.Uint64()>>r.IntN(64))/float64(uint(1)<<r.IntN(12)))) // ties
	}
	rapid.Check(t, func(t *rapid.T) { checkText64(t, rapid.Uint64().Draw(t, "bits")) })
}

// What one writes the other reads, for every datatype, flat and nested.
func TestProperty(t *testing.T) {
	types := []tensor.Datatype{tensor.Bool, tensor.Uint8, tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64, tensor.FP32, tensor.FP64, tensor.Bytes}
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SampledFrom(types).Draw(t, "type")
		shape := tensor.Shape(rapid.SliceOfN(rapid.Int64Range(0, 4), 0, 4).Draw(t, "shape"))
		n, _ := shape.Elements()
		var data []byte
		for range n {
			switch d {
			case tensor.Bytes:
				data = tensor.AppendBytes(data, rapid.String().Draw(t, "text"))
			case tensor.Bool:
				data = append(data, rapid.ByteRange(0, 1).Draw(t, "bool"))
			default:
				data = append(data, rapid.SliceOfN(rapid.Byte(), d.Size(), d.Size()).Draw(t, "bytes")...)
			}
		}
		text, err := Encode(nil, d, data)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := Decode(nil, d, shape, text)
		if err != nil {
			t.Fatal(err)
		}
		nested, _, err := Decode(nil, d, shape, nest(text, shape))
		if err != nil {
			t.Fatalf("%s: %v", nest(text, shape), err)
		}
		if !bytes.Equal(canonicalNaN(d, again), canonicalNaN(d, data)) || !bytes.Equal(nested, again) {
			t.Fatalf("%s: %x became %x", text, data, again)
		}
	})
}

// nest brackets a flat array as the shape says.
func nest(flat []byte, shape tensor.Shape) []byte {
	if len(shape) == 0 {
		return flat
	}
	values := split(flat)
	i := 0
	var build func(tensor.Shape) string
	build = func(s tensor.Shape) string {
		parts := make([]string, s[0])
		for j := range parts {
			if len(s) > 1 {
				parts[j] = build(s[1:])
				continue
			}
			parts[j] = values[i]
			i++
		}
		return "[" + strings.Join(parts, " , ") + "]"
	}
	return []byte(build(shape))
}

// split returns the texts of a flat array's elements.
func split(flat []byte) (values []string) {
	s := NewScanner(flat)
	err := s.Array(func(int) error {
		s.Peek()
		start := s.Offset()
		err := s.Skip()
		values = append(values, string(flat[start:s.Offset()]))
		return err
	})
	if err != nil {
		panic(err)
	}
	return values
}

// canonicalNaN gives every NaN the same bits: JSON has one NaN.
func canonicalNaN(d tensor.Datatype, data []byte) []byte {
	out := bytes.Clone(data)
	for i := 0; d == tensor.FP32 && i < len(out); i += 4 {
		if f := math.Float32frombits(binary.LittleEndian.Uint32(out[i:])); f != f {
			copy(out[i:], "NaN!")
		}
	}
	for i := 0; d == tensor.FP64 && i < len(out); i += 8 {
		if f := math.Float64frombits(binary.LittleEndian.Uint64(out[i:])); f != f {
			copy(out[i:], "NaN!NaN!")
		}
	}
	return out
}

func TestEncodeAppends(t *testing.T) {
	for _, d := range []tensor.Datatype{tensor.FP32, tensor.FP64, tensor.Int32} {
		data := make([]byte, 5*d.Size())
		for i := range data {
			data[i] = byte(37 * i)
		}
		want, _ := Encode([]byte("head"), d, data)
		for room := range 3 * floatRoom {
			got, err := Encode(append(make([]byte, 0, 4+room), "head"...), d, data)
			if err != nil || !bytes.Equal(got, want) || string(got[:5]) != "head[" {
				t.Fatalf("%s into room for %d: got %s, %v, want %s", d, room, got, err, want)
			}
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	if _, err := Encode(nil, tensor.FP16, []byte{0, 0}); err == nil || !strings.Contains(err.Error(), "sending FP16 data via JSON is not supported") {
		t.Errorf("FP16: %v", err)
	}
	data := tensor.AppendBytes(tensor.AppendBytes(nil, "ok"), "\xff")
	if _, err := Encode(nil, tensor.Bytes, data); err == nil || !strings.Contains(err.Error(), "element 1 is not valid UTF-8") || !strings.Contains(err.Error(), "binary_data") {
		t.Errorf("bytes: %v", err)
	}
}

func TestScanner(t *testing.T) {
	s := NewScanner([]byte(` { "a\u0062" : 12 , "u":18446744073709551615, "t" : true,"f":false, "x":[1,{"y":null}], "s":"plain" } `))
	got := map[string]any{}
	err := s.Object(func(name []byte) (err error) {
		key := string(name)
		switch key {
		case "ab":
			got[key], err = s.Int()
		case "u":
			got[key], err = s.Uint()
		case "t", "f":
			got[key], err = s.Bool()
		case "s":
			var text []byte
			text, err = s.Text()
			got[key] = string(text)
		default:
			err = s.Skip()
		}
		return err
	})
	if err == nil {
		err = s.End()
	}
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"ab": int64(12), "u": uint64(math.MaxUint64), "t": true, "f": false, "s": "plain"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDepth(t *testing.T) {
	if _, err := Skip([]byte(strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth))); err != nil {
		t.Errorf("depth %d: %v", MaxDepth, err)
	}
	for _, open := range []string{"[", `{"a":`} {
		if _, err := Skip([]byte(strings.Repeat(open, 1_000_000))); err == nil || !strings.Contains(err.Error(), "deeper than 100") {
			t.Errorf("deep %s: %v", open, err)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	for _, d := range []tensor.Datatype{tensor.FP32, tensor.FP64, tensor.Int64, tensor.Bool, tensor.Bytes} {
		data, size := make([]byte, 8000), d.Size()
		if d == tensor.Bytes {
			size = 4
		}
		shape := tensor.Shape{int64(len(data) / size)}
		text, err := Encode(nil, d, data)
		if err != nil {
			t.Fatal(err)
		}
		dst, buf := make([]byte, 0, 1<<16), make([]byte, 0, 1<<16)
		if n := testing.AllocsPerRun(100, func() {
			_, _, err = Decode(dst, d, shape, text)
			buf, _ = Encode(buf[:0], d, data)
		}); n != 0 || err != nil {
			t.Errorf("%s: %v allocations, %v", d, n, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) { benchmark(b, benchDecode) }
func BenchmarkEncode(b *testing.B) { benchmark(b, benchEncode) }

func benchmark(b *testing.B, run func(b *testing.B, d tensor.Datatype, data, text []byte, n int)) {
	for _, n := range []int{784, 150528} {
		r := rand.New(rand.NewPCG(5, 6))
		short, full := make([]byte, 0, 4*n), make([]byte, 0, 4*n)
		wide, wideText := make([]byte, 0, 8*n), []byte{}
		for range n {
			short = binary.LittleEndian.AppendUint32(short, math.Float32bits(float32(r.IntN(256))/256))
			full = binary.LittleEndian.AppendUint32(full, math.Float32bits(float32(r.NormFloat64())))
			wide = binary.LittleEndian.AppendUint64(wide, math.Float64bits(r.NormFloat64()))
		}
		for i := range n { // as Python writes float32 values: with the digits of a float64
			wideText = strconv.AppendFloat(append(wideText, ','), float64(math.Float32frombits(binary.LittleEndian.Uint32(full[4*i:]))), 'g', 17, 64)
		}
		shortText, _ := Encode(nil, tensor.FP32, short)
		fullText, _ := Encode(nil, tensor.FP32, full)
		doubles, _ := Encode(nil, tensor.FP64, wide)
		for _, c := range []struct {
			name       string
			d          tensor.Datatype
			data, text []byte
		}{{"short", tensor.FP32, short, shortText}, {"full", tensor.FP32, full, fullText}, {"17digits", tensor.FP32, full, append(append([]byte{'['}, wideText[1:]...), ']')}, {"fp64", tensor.FP64, wide, doubles}} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) { run(b, c.d, c.data, c.text, n) })
		}
	}
}

func benchDecode(b *testing.B, d tensor.Datatype, data, text []byte, n int) {
	b.Run("sluice", func(b *testing.B) {
		dst := make([]byte, 0, len(data))
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := Decode(dst, d, tensor.Shape{int64(n)}, text); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
	})
	b.Run("json", func(b *testing.B) {
		f32, f64 := make([]float32, 0, n), make([]float64, 0, n)
		for b.Loop() {
			var err error
			if d == tensor.FP32 {
				err = json.Unmarshal(text, &f32)
			} else {
				err = json.Unmarshal(text, &f64)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
	})
}

func benchEncode(b *testing.B, d tensor.Datatype, data, text []byte, n int) {
	b.Run("sluice", func(b *testing.B) {
		dst := make([]byte, 0, len(text))
		b.ReportAllocs()
		for b.Loop() {
			dst, _ = Encode(dst[:0], d, data)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
	})
	b.Run("json", func(b *testing.B) {
		f32, f64 := make([]float32, n), make([]float64, n)
		for i := range n {
			if d == tensor.FP32 {
				f32[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
			} else {
				f64[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
			}
		}
		for b.Loop() {
			if d == tensor.FP32 {
				json.Marshal(f32)
			} else {
				json.Marshal(f64)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
	})
}
