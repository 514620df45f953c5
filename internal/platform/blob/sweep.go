package blob

import (
	"context"
	"errors"
	"iter"
	"strings"
	"time"
)

// Sweep aborts the uploads below the folder that were begun before the time,
// whose senders have given up. It returns how many; one that cannot be aborted
// does not keep it from the others.
func Sweep(ctx context.Context, b interface {
	Multipart
	UploadLister
}, folder string, before time.Time,
) (int, error) {
	var old []Upload // an adapter need not allow changes while it lists
	for up, err := range b.Uploads(ctx, folder) {
		if err != nil {
			return 0, err
		}
		if up.Started.Before(before) {
			old = append(old, up)
		}
	}
	var errs []error
	for _, up := range old {
		if err := b.Abort(ctx, up); err != nil {
			errs = append(errs, err)
		}
	}
	return len(old) - len(errs), errors.Join(errs...)
}

// SweepOrphans deletes the objects below the folder that were written before the
// time and that nothing owns. Their names must be such as are used once: then
// what is old and not owned never will be. It returns how many; one that cannot
// be looked at or deleted does not keep it from the others.
func SweepOrphans(ctx context.Context, b interface {
	Lister
	Writer
}, folder string, before time.Time, owned func(ctx context.Context, key string) (bool, error),
) (int, error) {
	n := 0
	var errs []error
	for after, more := "", true; more; { // an adapter need not allow changes while it lists
		var old []string
		more = false
		for info, err := range b.List(ctx, folder, after) {
			if err != nil {
				return n, errors.Join(append(errs, err)...)
			}
			if after = info.Key; info.Modified.Before(before) {
				old = append(old, info.Key)
			}
			if more = len(old) == orphanBatch; more {
				break
			}
		}
		for _, key := range old {
			is, err := owned(ctx, key)
			if err == nil && !is {
				if err = b.Delete(ctx, key); err == nil {
					n++
				}
			}
			if errs = appendError(errs, err); ctx.Err() != nil {
				return n, ctx.Err()
			}
		}
	}
	return n, errors.Join(errs...)
}

// How many objects SweepOrphans looks at between two lists, and how many failures
// it tells.
const (
	orphanBatch = 500
	maxErrors   = 5
)

func appendError(errs []error, err error) []error {
	if err == nil || len(errs) == maxErrors {
		return errs
	}
	return append(errs, err)
}

// Roots yields the first parts of the keys that there are, each once and in
// order. It lists one object for each.
func Roots(ctx context.Context, b Lister) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for after, more := "", true; more; {
			more = false
			for info, err := range b.List(ctx, "", after) {
				root, _, _ := strings.Cut(info.Key, "/")
				if !yield(root, err) || err != nil {
					return
				}
				after, more = root+"0", true // the byte after the slash: greater than all below it
				break
			}
		}
	}
}
