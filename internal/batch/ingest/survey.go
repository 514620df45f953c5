package ingest

import (
	"context"

	"github.com/parquet-go/parquet-go"
)

// Survey opens a file to be cut into chunks: of its rows it reads the names, and what it takes to know
// how much they are and where they begin. Chunks have rows and IDs, and perhaps more. The chunks that a
// reader of the whole spec fills between the same positions have the same rows.
//
// What is wrong with a row, or with a part of a Parquet file that is not read for this, is found by who
// reads that.
func Survey(ctx context.Context, src Source, f File, s *Spec, o Options) (Reader, error) {
	o = o.withDefaults()
	switch f.Format {
	case Parquet:
		return surveyParquet(ctx, src, s, f.First, o)
	case Arrow:
		return Open(ctx, src, f, s, f.First, o)
	}
	r, err := Open(ctx, src, f, &Spec{ID: s.ID}, f.First, o)
	if text, is := r.(*textReader); is && s.ID == "" {
		text.counts = true
	}
	return r, err
}

// surveyParquet reads the columns of texts, which may be of any length; what others take is
// known before.
func surveyParquet(ctx context.Context, src Source, s *Spec, at Position, o Options) (Reader, error) {
	file, raw, err := openFile(ctx, src)
	if err != nil {
		return nil, err
	}
	if err := vet(ctx, file, raw, s, 0); err != nil {
		return nil, err
	}
	const each = 8 // bytes of a value that is kept, see leaf.read
	texts := func(name string) bool {
		l, err := leafOf(file, name)
		return err != nil || l.Node.Type().Kind() == parquet.ByteArray
	}
	read, fixed := Spec{ID: s.ID}, int64(0)
	for _, in := range s.Inputs {
		long := false
		for _, name := range in.Columns {
			long = long || texts(name)
		}
		if long {
			read.Inputs = append(read.Inputs, in)
		} else {
			fixed += int64(in.Type.Size()) * int64(in.Width) // as the chunk has them
		}
	}
	for _, name := range s.Keep {
		if texts(name) {
			read.Keep = append(read.Keep, name)
		} else {
			fixed += each
		}
	}
	r, err := openParquet(ctx, src, &read, at, o)
	if p, is := r.(*parquetReader); is {
		p.fixed = fixed
	}
	return r, err
}
