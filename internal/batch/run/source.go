package run

import (
	"context"
	"io"

	"sluice/internal/batch/ingest"
	"sluice/internal/batch/job"
	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// source is a batch's file. It is one version of it: what it becomes afterwards is
// refused, so that no row is of another file than the one that was validated.
type source struct {
	bucket blob.Reader
	object job.Object
}

// Source returns an object as a file to be read. Where the object has an ETag, reading
// what is under its key meanwhile is Unprocessable with the code input_changed.
func Source(b blob.Reader, o job.Object) ingest.Source { return source{b, o} }

// Open implements ingest.Source.
func (s source) Open(ctx context.Context, offset int64) (io.ReadCloser, error) {
	o, err := s.bucket.Get(ctx, s.object.Key, blob.GetOptions{Range: blob.Range{Offset: offset}, IfMatch: s.object.ETag})
	if fault.CodeOf(err) == blob.CodeRange { // nothing is behind the end
		return io.NopCloser(eof{}), nil
	}
	return o.Body, s.changed(err)
}

// File implements ingest.Random.
func (s source) File(ctx context.Context) (io.ReaderAt, int64, error) {
	f, err := blob.OpenFile(ctx, s.bucket, s.object.Key)
	switch {
	case err != nil:
		return nil, 0, s.changed(err)
	case s.object.ETag != "" && f.Info.ETag != s.object.ETag:
		return nil, 0, changed("it has other content")
	}
	return fixed{f, s}, f.Size(), nil
}

// fixed is a file at any place of which changes are told.
type fixed struct {
	*blob.File
	source source
}

// ReadAt implements io.ReaderAt.
func (f fixed) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	return n, f.source.changed(err)
}

// changed says of an error that it means that the file is another, or gone.
func (s source) changed(err error) error {
	switch {
	case fault.CodeOf(err) == blob.CodePrecondition:
		return changed("it has other content")
	case s.object.ETag != "" && fault.Is(err, fault.NotFound):
		return changed("it is gone")
	}
	return err
}

func changed(how string) error {
	return fault.New(fault.Unprocessable, "the batch's file is not the one that was validated: %s; the rows that are done stay, upload the file again for the others", how).WithCode("input_changed")
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }
