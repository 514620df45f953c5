package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

type numberRow struct {
	X int32 `parquet:"x"`
}

type flagRow struct {
	X bool `parquet:"x"`
}

type textRow struct {
	X string `parquet:"x"`
}

// first is a page of the first version.
func first(values int, encoding format.Encoding, body []byte) rawPage {
	return rawPage{format.PageHeader{Type: format.DataPage, UncompressedPageSize: int32(len(body)), DataPageHeader: thrift.New(format.DataPageHeader{
		NumValues: int32(values), Encoding: encoding, RepetitionLevelEncoding: format.RLE, DefinitionLevelEncoding: format.RLE,
	})}, body}
}

func prefixed(levels []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(levels))), levels...)
}

// packed is a page that is compressed, and says another size than it has where size is not 0.
func packed(t *testing.T, codec format.CompressionCodec, p rawPage, size int32) rawPage {
	t.Helper()
	body, err := parquet.LookupCompressionCodec(codec).Encode(nil, p.body)
	if err != nil {
		t.Fatal(err)
	}
	if p.body = body; size > 0 {
		p.header.UncompressedPageSize = size
	}
	return p
}

// deltas is the head of so many numbers, which has no miniblocks behind it.
func deltas(n uint64) []byte {
	head := binary.AppendUvarint([]byte{0x80, 1, 1}, n)
	return append(head, 0)
}

// Whatever a small page asks for, it takes no more memory than its header says.
func TestPagesTakeWhatTheySay(t *testing.T) {
	const most = 24 << 20
	value := make([]byte, 4)
	indexes := append([]byte{1}, longRuns...)
	coded := plain(1, 1, run(1, 0), run(1, 1), indexes)
	coded.header.DataPageHeaderV2.V.Encoding = format.RLEDictionary
	dictionary := rawPage{format.PageHeader{Type: format.DictionaryPage, UncompressedPageSize: 4, DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: 1, Encoding: format.Plain})}, value}
	inflates := rawPage{dictionary.header, deltas(200_000_000)}
	inflates.header.DictionaryPageHeader.V.Encoding = format.DeltaBinaryPacked
	lists := slices.Concat(prefixed(longRuns), prefixed(run(1, 1)), value)
	nothing := make([]byte, 96<<20)
	files := map[string][]byte{
		"levels of lists":      crafted[listRow](t, format.Uncompressed, 1, first(1, format.Plain, lists)),
		"levels of values":     crafted[listRow](t, format.Uncompressed, 1, first(1, format.Plain, slices.Concat(prefixed(run(1, 0)), prefixed(longRuns), value))),
		"levels of version 2":  crafted[listRow](t, format.Uncompressed, 1, dictionary, plain(1, 1, longRuns, run(1, 1), value)),
		"values of version 2":  crafted[listRow](t, format.Uncompressed, 1, dictionary, plain(1, 1, run(1, 0), longRuns, value)),
		"levels, compressed":   crafted[listRow](t, format.Zstd, 1, packed(t, format.Zstd, first(1, format.Plain, lists), 0)),
		"indexes":              crafted[listRow](t, format.Uncompressed, 1, dictionary, coded),
		"indexes of version 1": crafted[numberRow](t, format.Snappy, 1, packed(t, format.Snappy, dictionary, 0), packed(t, format.Snappy, first(1, format.RLEDictionary, indexes), 0)),
		"dictionary":           crafted[numberRow](t, format.Uncompressed, 1, inflates, first(1, format.RLEDictionary, []byte{1, 2, 0})),
		"numbers":              crafted[numberRow](t, format.Uncompressed, 1, first(1, format.RLE, bytes.Repeat(binary.AppendUvarint(nil, 200_000_000<<1), 3))),
		"flags":                crafted[flagRow](t, format.Uncompressed, 1, first(1, format.RLE, prefixed(bytes.Repeat(longRuns, 3)))),
		"deltas":               crafted[numberRow](t, format.Uncompressed, 1, first(1, format.DeltaBinaryPacked, deltas(200_000_000))),
		"lengths":              crafted[textRow](t, format.Uncompressed, 1, first(1, format.DeltaLengthByteArray, deltas(200_000_000))),
		"prefixes":             crafted[textRow](t, format.Uncompressed, 1, first(1, format.DeltaByteArray, append(deltas(1), deltas(200_000_000)...))),
	}
	for _, codec := range []format.CompressionCodec{format.Snappy, format.Gzip, format.Brotli, format.Zstd, format.Lz4Raw} {
		files[fmt.Sprint("inflates by ", codec)] = crafted[numberRow](t, codec, 1, packed(t, codec, first(1, format.Plain, nothing), 4))
	}
	for name, data := range files {
		good, wrong, taken := measured(t, data, ofLists)
		if good != 0 || wrong == nil || taken > most {
			t.Errorf("%s: a file of %d bytes takes %d: %d rows, %v", name, len(data), taken, good, wrong)
		}
	}
}

// What writers write is read as before, however it is compressed and encoded.
func TestVettedFiles(t *testing.T) {
	type row struct {
		Plain  []float32 `parquet:"plain"`
		Few    []float32 `parquet:"few,dict"`
		Delta  int64     `parquet:"delta,delta"`
		Split  float64   `parquet:"split,split"`
		Flag   bool      `parquet:"flag"`
		Maybe  *int32    `parquet:"maybe,optional"`
		Text   string    `parquet:"text,delta"`
		Length []byte    `parquet:"length,delta"`
	}
	const n = 700
	rows := make([]row, n)
	for i := range rows {
		x := int32(i)
		rows[i] = row{[]float32{float32(i), 1}, []float32{float32(i % 5), 2}, int64(i) * int64(i), float64(i), i%3 == 0, &x, fmt.Sprint("1234", i), fmt.Append(nil, i)}
	}
	s := &Spec{}
	for _, name := range []string{"plain", "few", "delta", "split", "flag", "maybe", "text", "length"} {
		in := Input{Name: name, Type: "FP64", Width: 1, Columns: []string{name}}
		switch name {
		case "plain", "few":
			in.Width = 2
		case "flag":
			in.Type = "BOOL"
		case "text", "length":
			in.Type = Bytes
		}
		s.Inputs = append(s.Inputs, in)
	}
	for _, codec := range []format.CompressionCodec{format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd, format.Lz4Raw} {
		for _, version := range []int{1, 2} {
			var b bytes.Buffer
			w := parquet.NewGenericWriter[row](&b, parquet.DataPageVersion(version), parquet.PageBufferSize(500), parquet.Compression(parquet.LookupCompressionCodec(codec)), parquet.MaxRowsPerRowGroup(300))
			_, err := w.Write(rows)
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			seen, err := alike(t, fmt.Sprint(codec, version), b.Bytes(), Parquet, s)
			if err != nil || len(seen) != n {
				t.Errorf("%s, version %d: %d rows, %v", codec, version, len(seen), err)
			}
			if good, wrong, _ := measured(t, b.Bytes(), s); good != n {
				t.Errorf("%s, version %d: %d good rows, %v", codec, version, good, wrong)
			}
		}
	}
}

// A text of which much is that of the one before counts with all of it.
func TestLongPrefixes(t *testing.T) {
	var before []byte
	text := strings.Repeat("x", 1<<20)
	all := make([]byte, 0, 80<<20)
	offsets := []uint32{0}
	for range 70 {
		all = append(all, text...)
		offsets = append(offsets, uint32(len(all)))
	}
	data, err := parquet.DeltaByteArray.EncodeByteArray(before, all, offsets)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPrefixes(data, 70); !errors.Is(err, errPage) {
		t.Errorf("%d bytes: %v", len(data), err)
	}
}
