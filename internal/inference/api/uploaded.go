package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	"sluice/internal/platform/fault"
)

// Uploads opens the content of an upload of the caller's tenant, and says how many bytes
// it has.
type Uploads func(ctx context.Context, id string) (content io.ReadCloser, size int64, err error)

// maxUploaded is how many times a request's largest body the content of an upload
// may have: it is decoded in memory, within the budget of all requests.
const maxUploaded = 4

// uploaded is what the content of an upload may say: a part of a NewPrediction.
type uploaded struct {
	Inputs     json.RawMessage `json:"inputs"`
	Outputs    json.RawMessage `json:"outputs"`
	Parameters json.RawMessage `json:"parameters"`
	Rows       []Row           `json:"rows"`
}

// fetch replaces the upload that a prediction names, if any, by its content, and returns
// what gives its memory back. The upload may expire then.
func (a *API) fetch(ctx context.Context, in *NewPrediction) (release func(), err error) {
	id := in.Upload
	switch {
	case id == "":
		return func() {}, nil
	case a.cfg.Uploads == nil:
		return nil, errNoUploads
	case len(in.Inputs) > 0 || len(in.Rows) > 0:
		return nil, fault.New(fault.Unprocessable, "a prediction takes its inputs from an upload or from the request, not from both").WithCode("inputs_ambiguous")
	}
	content, size, err := a.cfg.Uploads(ctx, id)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	if most := maxUploaded * a.cfg.MaxBody; size > most {
		return nil, fault.New(fault.TooLarge, "the upload %s has %d bytes, and the inputs of one prediction at most %d: split it", id, size, most).WithCode("upload_too_large")
	}
	account := a.memory.Account()
	if err := account.Acquire(3 * size); err != nil { // as it came, decoded, and as a question
		return nil, err
	}
	if err := in.take(id, content); err != nil {
		account.Release()
		return nil, err
	}
	return account.Release, nil
}

var errNoUploads error = fault.New(fault.Unsupported, "inputs cannot be taken from an upload here: send inputs or rows").WithCode("upload_unsupported")

// take reads the content to its end, where its digest is checked.
func (in *NewPrediction) take(id string, content io.Reader) error {
	text, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	var u uploaded
	if err := decodeStrictly(text, &u); err != nil {
		return fault.Wrap(fault.Unprocessable, err, "the content of the upload %s is no JSON object with inputs or rows, and outputs and parameters at most: %s", id, fault.Clip(err.Error(), 200)).WithCode("upload_invalid")
	}
	if len(u.Outputs) > 0 && len(in.Outputs) > 0 || len(u.Parameters) > 0 && len(in.Parameters) > 0 {
		return fault.New(fault.Unprocessable, "the upload %s and the request both have outputs or parameters: leave them out of one", id).WithCode("inputs_ambiguous")
	}
	in.Inputs, in.Rows, in.Upload = u.Inputs, u.Rows, ""
	if len(u.Outputs) > 0 {
		in.Outputs = u.Outputs
	}
	if len(u.Parameters) > 0 {
		in.Parameters = u.Parameters
	}
	return nil
}
