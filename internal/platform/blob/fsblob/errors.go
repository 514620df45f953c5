package fsblob

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// translate classifies what the file system says. Errors that are classified
// already, those of the body among them, pass.
func translate(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return blob.Full(err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fault.Wrap(fault.Unavailable, err, "the folder of the object store cannot be used: allow this program to read and write it").
			WithCode(blob.CodeUnavailable)
	}
	return blob.Unavailable(err)
}

// missing is translate where a file that is not there is an object that is not.
func missing(key string, err error) error {
	if absent(err) {
		return blob.NoObject(key)
	}
	return translate(err)
}

// absent reports whether the file system says that there is no such file, or no
// folder that could hold it.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }
