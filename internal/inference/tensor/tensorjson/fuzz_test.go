package tensorjson

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/internal/inference/tensor"
)

// FuzzSkip: what encoding/json takes, Skip takes, and the reverse but for the
// words that JSON does not know, the depth, and text that is not UTF-8.
func FuzzSkip(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e-3,"x\u00e9",null,true,false,{}]}`, `[NaN,-Infinity]`, `"\ud83d"`, `01`, `[1,]`, `{"a" 1}`, `-0.0E+1`, "\x00", "[\"\xff\"]", `"` + "\x1f" + `"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := Skip(text)
		ours := err == nil && skipSpace(text, n) == len(text)
		theirs := json.Valid(text)
		special := bytes.Contains(text, []byte("NaN")) || bytes.Contains(text, []byte("Infinity"))
		deep := bytes.Count(text, []byte("["))+bytes.Count(text, []byte("{")) > MaxDepth
		if ours != theirs && !(ours && special) && !(theirs && (deep || !utf8.Valid(text))) {
			t.Errorf("%q: accepted %t (%v), encoding/json %t", text, ours, err, theirs)
		}
	})
}

// FuzzText: a string means what encoding/json says, and comes back when written.
func FuzzText(f *testing.F) {
	for _, s := range []string{`"a"`, `"\u0041\ud83d\ude00\ud83dx"`, `"\/\b\f\n\r\t\\\""`, `"é😀"`, `"\udc00\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := NewScanner(text)
		got, err := s.Text()
		if err == nil {
			err = s.End()
		}
		var want string
		theirs := json.Unmarshal(text, &want)
		if text := bytes.TrimSpace(text); len(text) == 0 || text[0] != '"' || !utf8.Valid(text) {
			return
		}
		if (err == nil) != (theirs == nil) || err == nil && string(got) != want {
			t.Errorf("%q: got %q, %v; encoding/json %q, %v", text, got, err, want, theirs)
		}
		if err != nil {
			return
		}
		var again string
		if err := json.Unmarshal(AppendText(nil, got), &again); err != nil || again != want {
			t.Errorf("%q was written as %s: %v", want, AppendText(nil, got), err)
		}
	})
}

// FuzzNumber: a number token is strconv's number, in every type.
func FuzzNumber(f *testing.F) {
	for _, s := range hardFloats()[:60] {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if json.Valid([]byte(text)) && strings.Trim(text, "-+.0123456789eE") == "" {
			checkFloat(t, text)
		}
		src := []byte("[" + text + "]")
		out, n, err := Decode(nil, tensor.Int64, tensor.Shape{1}, src)
		if err == nil && n == len(src) {
			want, bad := strconv.ParseInt(string(bytes.TrimSpace([]byte(text))), 10, 64)
			if bad != nil || int64(binary.LittleEndian.Uint64(out)) != want {
				t.Errorf("%q as INT64: got %x, want %d, %v", text, out, want, bad)
			}
		}
	})
}

// FuzzFloat32: writing is encoding/json's writing, whole numbers with a
// fraction, and reading turns it back.
func FuzzFloat32(f *testing.F) {
	for _, b := range []uint32{0, 1, 0x7fffff, 0x800000, 0x7f7fffff, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x39800000, 0x4a000001} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b uint32) {
		data := binary.LittleEndian.AppendUint32(nil, b)
		text, err := Encode(nil, tensor.FP32, data)
		if err != nil {
			t.Fatal(err)
		}
		back, n, err := Decode(nil, tensor.FP32, tensor.Shape{1}, text)
		v := math.Float32frombits(b)
		if err != nil || n != len(text) || !bytes.Equal(back, data) && v == v {
			t.Errorf("%x: %s became %x, %v", b, text, back, err)
		}
		if want, err := json.Marshal(v); err == nil {
			if float64(v) == math.Trunc(float64(v)) && !bytes.Contains(want, []byte("e")) {
				want = append(want, ".0"...)
			}
			if string(text) != "["+string(want)+"]" {
				t.Errorf("%x: got %s, want [%s]", b, text, want)
			}
		}
	})
}

// FuzzFloat64: the same for twice the bits.
func FuzzFloat64(f *testing.F) {
	for _, v := range []float64{0, 1, 1e23, 5e-324, 9007199254740993, 2251799813685248.25, 0.1, math.MaxFloat64} {
		f.Add(math.Float64bits(v))
	}
	f.Fuzz(func(t *testing.T, b uint64) {
		checkText64(t, b)
		data := binary.LittleEndian.AppendUint64(nil, b)
		text, err := Encode(nil, tensor.FP64, data)
		if err != nil {
			t.Fatal(err)
		}
		back, n, err := Decode(nil, tensor.FP64, tensor.Shape{1}, text)
		v := math.Float64frombits(b)
		if err != nil || n != len(text) || !bytes.Equal(back, data) && v == v {
			t.Errorf("%x: %s became %x, %v", b, text, back, err)
		}
	})
}

// FuzzDecode: no input makes it panic, read past its end or return data that
// does not fit the shape, and what it takes encoding/json takes.
func FuzzDecode(f *testing.F) {
	f.Add(byte(tensor.FP32), int64(2), int64(2), []byte(`[[1,2],[3,4]]`))
	f.Add(byte(tensor.Bytes), int64(1), int64(2), []byte(`["a","\n"]`))
	f.Add(byte(tensor.Bool), int64(3), int64(1), []byte(`[true,false,1]`))
	f.Add(byte(tensor.Int8), int64(1<<40), int64(1<<40), []byte(`[1]`))
	f.Add(byte('Z'), int64(3), int64(1), []byte(`[10`))
	f.Fuzz(func(t *testing.T, d byte, rows, columns int64, src []byte) {
		shape := tensor.Shape{rows, columns}
		out, n, err := Decode([]byte("kept"), tensor.Datatype(d), shape, src)
		if err != nil {
			if string(out) != "kept" {
				t.Errorf("dst became %q on %v", out, err)
			}
			return
		}
		got := tensor.Tensor{Datatype: tensor.Datatype(d), Shape: shape, Data: out[4:]}
		if err := got.Validate(); err != nil {
			t.Errorf("%q: %v", src[:n], err)
		}
		special := bytes.Contains(src, []byte("NaN")) || bytes.Contains(src, []byte("Infinity"))
		if !json.Valid(src[:n]) && !special {
			t.Errorf("accepted %q", src[:n])
		}
	})
}
