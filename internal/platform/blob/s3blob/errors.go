package s3blob

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"

	"github.com/minio/minio-go/v7"

	"sluice/internal/platform/blob"
	"sluice/internal/platform/fault"
)

// subject is what a request was about, for the errors that name it.
type subject struct {
	key    string
	cond   blob.Condition
	upload blob.Upload
}

// translate classifies what the server or the network says. Errors that are
// classified already, those of a body among them, pass.
func translate(ctx context.Context, err error, about subject) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	if ctx.Err() != nil { // whatever the library made of it
		return ctx.Err()
	}
	res, ok := errors.AsType[minio.ErrorResponse](err)
	if !ok {
		return network(err)
	}
	switch res.Code {
	case minio.NoSuchKey:
		if about.cond.IfMatch != "" {
			return blob.Refused(about.key, about.cond)
		}
		return blob.NoObject(about.key)
	case "NoSuchUpload":
		return blob.NoUpload(about.upload)
	case minio.PreconditionFailed:
		return blob.Refused(about.key, about.cond)
	case "InvalidPart", "InvalidPartOrder", "EntityTooSmall":
		return fault.Wrap(fault.Invalid, err, "the store has not these parts of the upload to %q: send them again", about.key).WithCode(blob.CodePart)
	case "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "BadDigest":
		return fault.Wrap(fault.Invalid, err, "the content of %q did not arrive as it was sent: send it again", about.key).WithCode(blob.CodeChecksum)
	case "XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded":
		return blob.Full(err)
	case "EntityTooLarge":
		return fault.Wrap(fault.TooLarge, err, "the object %q is larger than the store allows", about.key)
	case "KeyTooLongError", "XMinioInvalidObjectName":
		return fault.Wrap(fault.Invalid, err, "%q is no key for this object store", about.key).WithCode("invalid_key")
	case minio.NoSuchBucket:
		return fault.Wrap(fault.Unavailable, err, "the bucket of the object store does not exist: create it").WithCode(blob.CodeUnavailable)
	case minio.AccessDenied, "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed":
		return fault.Wrap(fault.Unavailable, err, "the object store refuses this program's credentials (%s): check them, their policy and the clock", res.Code).
			WithCode(blob.CodeUnavailable)
	}
	switch {
	case res.StatusCode == http.StatusNotFound && about.upload.ID == "" && about.key != "": // a HEAD has no body that says more
		return blob.NoObject(about.key)
	case res.StatusCode == http.StatusPreconditionFailed:
		return blob.Refused(about.key, about.cond)
	case res.StatusCode == http.StatusInsufficientStorage:
		return blob.Full(err)
	}
	return blob.Unavailable(err)
}

// network classifies what did not reach a server, or did not come back.
func network(err error) error {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	if unknown || host {
		return fault.Wrap(fault.Unavailable, err, "the object store's certificate is not trusted: name its authority, and the host as the certificate does").
			WithCode(blob.CodeUnavailable)
	}
	return blob.Unavailable(err)
}

// isCode reports whether the server answered with the code.
func isCode(err error, code string) bool {
	res, ok := errors.AsType[minio.ErrorResponse](err)
	return ok && res.Code == code
}
