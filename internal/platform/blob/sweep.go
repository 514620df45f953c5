package blob

import (
	"context"
	"errors"
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
