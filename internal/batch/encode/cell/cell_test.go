package cell

import (
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Written numbers read back as the same bits, and are as short as the standard
// library's, whichever way they went.
func TestFloats(t *testing.T) {
	check := func(t *rapid.T, v float64) {
		got := string(AppendFloat(nil, v))
		want := strconv.FormatFloat(v, 'f', -1, 64)
		if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
			want = strconv.FormatFloat(v, 'e', -1, 64)
		}
		if got != want {
			t.Fatalf("%x is %q, want %q", math.Float64bits(v), got, want)
		}
		if !json.Valid([]byte(got)) {
			t.Fatalf("%q is no JSON number", got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.Float64().Draw(t, "any"))
		check(t, float64(rapid.Int64().Draw(t, "n"))/math.Pow10(rapid.IntRange(0, 20).Draw(t, "decimals")))
		check(t, float64(rapid.Int64Range(-1e10, 1e10).Draw(t, "n"))/math.Pow10(rapid.IntRange(0, 7).Draw(t, "decimals")))
		v := rapid.Float32().Draw(t, "float32")
		if back, err := strconv.ParseFloat(string(AppendFloat32(nil, v)), 32); err != nil || float32(back) != v {
			t.Fatalf("%g reads back as %g, %v", v, back, err)
		}
	})
}

func TestFloatsByName(t *testing.T) {
	for want, v := range map[string]float64{
		"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1), "-0": math.Copysign(0, -1), "0": 0,
		"1000000": 1e6, "0.1": 0.1, "-0.000001": -1e-6, "1e-07": 1e-7, "1e+21": 1e21, "100000000000000000000": 1e20,
		"123456.789": 123456.789, "1.000001": 1.000001,
	} {
		if got := string(AppendFloat(nil, v)); got != want {
			t.Errorf("%g is %q, want %q", v, got, want)
		}
	}
	if got := string(AppendFloat32(nil, 0.1)); got != "0.1" {
		t.Errorf("a 32-bit tenth is %q", got)
	}
	if Finite(math.NaN()) || Finite(math.Inf(-1)) || !Finite(1) {
		t.Error("finite")
	}
}

// Instants are as the standard library writes them, in zones with odd and
// changing offsets, whatever the clock told before.
func TestTimes(t *testing.T) {
	var clocks []*Clock
	for _, name := range []string{"UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		clocks = append(clocks, NewClock(zone))
	}
	rapid.Check(t, func(t *rapid.T) {
		c := clocks[rapid.IntRange(0, len(clocks)-1).Draw(t, "zone")]
		us := rapid.OneOf(
			rapid.Int64Range((firstSecond+day)*second, (lastSecond-day)*second),
			rapid.Int64Range(1.6e15, 1.9e15),
			// Around Berlin's change to summer time in 2026.
			rapid.Int64Range(1774746000e6-5e6, 1774746000e6+5e6),
		).Draw(t, "micros")
		at := time.UnixMicro(us).In(c.zone)
		if name, offset := at.Zone(); offset%60 != 0 { // local mean time
			at = at.In(time.FixedZone(name, offset-offset%60))
		}
		got, ok := c.AppendTime(nil, us)
		if want := at.Format("2006-01-02T15:04:05.000000Z07:00"); !ok || string(got) != want {
			t.Fatalf("%d is %s, want %s", us, got, want)
		}
	})
}

func TestTimesOutsideRFC3339(t *testing.T) {
	c := NewClock(nil)
	for _, us := range []int64{math.MinInt64, math.MaxInt64, firstSecond * second, (lastSecond + 1) * second} {
		if got, ok := c.AppendTime(nil, us); ok || len(got) > 0 {
			t.Errorf("%d is %q", us, got)
		}
	}
}

func BenchmarkAppendTime(b *testing.B) {
	c, dst := NewClock(nil), make([]byte, 0, 64)
	for i := range b.N {
		dst, _ = c.AppendTime(dst[:0], 1.79e15+int64(i))
	}
}

func BenchmarkAppendFloat(b *testing.B) {
	for name, v := range map[string]float64{"decimal": 0.4375, "any": math.Pi} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 64)
			for range b.N {
				dst = AppendFloat(dst[:0], v)
			}
		})
	}
}
