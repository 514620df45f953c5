package scyllarepo

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"time"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/spec"
)

const sign = 1 << 63

// encode returns a value as bytes that sort as values of its type do.
func encode(v spec.Value) []byte {
	switch v.Type {
	case spec.TypeText:
		return []byte(v.Text)
	case spec.TypeFloat:
		bits := math.Float64bits(v.Float)
		if bits&sign != 0 {
			bits = ^bits // of negative ones the larger is the smaller
		} else {
			bits |= sign
		}
		return binary.BigEndian.AppendUint64(nil, bits)
	default:
		return binary.BigEndian.AppendUint64(nil, uint64(v.Int)^sign)
	}
}

// decode is the inverse of encode. It says false for what encode never made.
func decode(t spec.Type, b []byte) (spec.Value, bool) {
	if t == spec.TypeText {
		return spec.TextValue(string(b)), true
	}
	if len(b) != 8 {
		return spec.Value{}, false
	}
	bits := binary.BigEndian.Uint64(b)
	if t != spec.TypeFloat {
		return spec.Value{Type: t, Int: int64(bits ^ sign)}, true
	}
	if bits&sign != 0 {
		bits ^= sign
	} else {
		bits = ^bits
	}
	return spec.Value{Type: t, Float: math.Float64frombits(bits)}, true
}

// micros returns a time for a column, nil for never.
func micros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	n := t.UnixMicro()
	return &n
}

func fromMicros(n *int64) time.Time {
	if n == nil {
		return time.Time{}
	}
	return time.UnixMicro(*n).UTC()
}

// Numbers that a store keeps for ever: rows are found by them.
const (
	buckets = 8
	shards  = 8
)

func hash(parts ...string) uint32 {
	h := fnv.New32a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	// The low bits of FNV-1a alone are those of the last bytes.
	n := h.Sum32()
	return n ^ n>>16
}

func bucketOf(id string) int { return int(hash(id) % buckets) }

func shardOf(k repo.Key) int { return int(hash(k.Tenant, k.Kind, k.ID) % shards) }

// outRef places a message among those of its partition: by the stamp of the
// aggregate, which unlike its version grows even where it is erased and made
// again; by time, where the commit leaves the aggregate as it is; and within the
// commit. The id makes it unique.
func outRef(stamp int64, at time.Time, i int, id string) string {
	return fmt.Sprintf("%016x.%016x.%06x.%s", uint64(stamp)^sign, uint64(at.UnixMicro())^sign, i, id)
}

func histRef(sequence int64) string { return fmt.Sprintf("%019d", sequence) }

func encodeTime(t time.Time) []byte { return encode(spec.TimeValue(t)) }

func encodeHour(hour int) []byte { return encode(spec.IntValue(int64(hour))) }

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

func hourOf(t time.Time) int { return int(math.Floor(float64(t.Unix()) / 3600)) }
