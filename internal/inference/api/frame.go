package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"sluice/internal/inference/oip"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/stream"
	"sluice/internal/platform/fault"
)

// inFrame is a message of a client over a WebSocket: an input, more credit, or the end of
// its inputs.
type inFrame struct {
	Type string `json:"type"` // "input", "credit" or "end"
	ID   string `json:"id"`   // of an input, given back with its answers
	NewPrediction
	Messages int64 `json:"messages"` // of credit: how many more messages the client takes
}

const codeFrame = "frame_invalid"

func badFrame(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode(codeFrame)
}

// The limits of a frame.
const (
	maxCredit  = 1_000_000
	maxFrameID = 255
)

func parseFrame(b []byte) (*inFrame, error) {
	f := new(inFrame)
	if err := decodeStrictly(b, f); err != nil {
		return nil, badFrame("a message must be one JSON object of the known members: %s", fault.Clip(err.Error(), 80))
	}
	isInput := len(f.Inputs) > 0 || len(f.Rows) > 0
	switch {
	case len(f.ID) > maxFrameID:
		return nil, badFrame("an id has at most %d bytes", maxFrameID)
	case f.Deadline != nil || f.ClientRef != "":
		return nil, badFrame("an input of a stream has no deadline_at and no client_ref")
	case f.Type == "input" && f.Messages == 0:
	case f.Type == "credit" && !isInput && f.ID == "" && f.Messages > 0 && f.Messages <= maxCredit:
	case f.Type == "end" && !isInput && f.Messages == 0:
	default:
		return nil, badFrame("expected type input, with inputs or rows; credit, with messages of 1 to %d; or end", maxCredit)
	}
	return f, nil
}

// decodeStrictly reads one JSON value without unknown members.
func decodeStrictly(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

// order returns what an input has to wait for, and whether its sequence is the stream's own.
func order(v *serve.Version, parameters json.RawMessage) (o stream.Order, own bool) {
	if !v.Stateful() || v.Generative() {
		return o, false
	}
	var p struct {
		ID     json.RawMessage `json:"sequence_id"`
		Start  bool            `json:"sequence_start"`
		Resume bool            `json:"sequence_resume"`
	}
	if len(parameters) > 0 && json.Unmarshal(parameters, &p) != nil {
		return o, false // decoding the request tells
	}
	id := string(p.ID)
	own = id == "" || id == "0" || id == `""`
	if own {
		id = ""
	}
	return stream.Order{Sequence: v.Name + "/" + id, Anew: p.Start || p.Resume}, own
}

// outFrame is an answer to an input: an output, of which a generation has
// several, or an error.
type outFrame struct {
	Type    string          `json:"type"`
	ID      string          `json:"id,omitempty"`
	Seq     int64           `json:"seq"` // of the input, from 1
	Step    int             `json:"step,omitempty"`
	More    bool            `json:"more,omitempty"` // steps will follow
	Ended   string          `json:"ended,omitempty"`
	Version string          `json:"version,omitempty"`
	Instead string          `json:"fallback,omitempty"` // the version that refused it for load, where another has answered
	Outputs json.RawMessage `json:"outputs,omitempty"`
	Error   *Failure        `json:"error,omitempty"`
}

// output fills the frame with an answer, which it copies.
func (f *outFrame) output(a oip.Answered) (err error) {
	f.Type, f.Version, f.Step, f.More, f.Ended = "output", a.Version, a.Step.Number, a.Step.More, a.Step.Ended
	f.Instead = a.Fallback
	f.Outputs, err = bare(a.Body)
	return err
}

func (f *outFrame) failed(err error) {
	*f = outFrame{Type: "error", ID: f.ID, Seq: f.Seq, Error: failure(err)}
}

// bare returns the list of outputs of an answer of the Open Inference Protocol.
func bare(answer []byte) (json.RawMessage, error) {
	var o struct {
		Outputs json.RawMessage `json:"outputs"`
	}
	if err := json.Unmarshal(answer, &o); err != nil {
		return nil, fault.Wrap(fault.Internal, err, "an answer cannot be read")
	}
	return o.Outputs, nil
}
