package record

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"sluice/internal/inference/tensor"
)

// settle redacts what was taken and sets until when it is kept, once. key returns a tenant's
// key; without one, tensors that should be hashed are left out.
func (e *Entry) settle(key func(tenant string) []byte) {
	if e.policy == nil {
		return
	}
	var secret []byte
	if key != nil {
		secret = key(e.Tenant)
	}
	e.Content, e.ContentUntil = e.policy.redacted(e.raw, secret), e.At.Add(e.policy.Keep)
	e.policy = nil
}

// redacted returns content of what was taken, in memory of its own. Times of features are
// kept as they are where their input is.
func (p *ContentPolicy) redacted(raw, key []byte) []byte {
	out := make([]byte, 0, len(raw))
	out = append(out, contentForm)
	var inputs []string // that are kept
	for side, t := range Tensors(raw) {
		before := t.Data
		t.Data = bytes.Clone(before)
		if kept := slices.Contains(inputs, t.Name); side == Feature && !kept || side != Feature && !p.redact(&t, key) {
			continue
		}
		if side == Input {
			inputs = append(inputs, t.Name)
		}
		out = AppendTensor(out, side, &t)
		switch {
		case bytes.Equal(t.Data, before):
		case side == Input:
			out[0] |= alteredInputs
		default:
			out[0] |= alteredOutputs
		}
	}
	return out
}

// redact applies the rules to a tensor, and says whether something is left.
func (p *ContentPolicy) redact(t *tensor.Tensor, key []byte) bool {
	for i := range p.Redact {
		r := &p.Redact[i]
		switch {
		case r.Tensor != t.Name:
		case r.Do == Drop || r.Do == Hash && (len(key) == 0 || t.Datatype != tensor.Bytes):
			return false
		case t.Datatype == tensor.Bytes:
			r.texts(t, key)
		default:
			r.numbers(t)
		}
	}
	return true
}

// numbers makes zeros of the elements that the rule is about.
func (r *Redaction) numbers(t *tensor.Tensor) {
	if len(r.Columns) == 0 {
		clear(t.Data)
		return
	}
	size, width := t.Datatype.Size(), columns(t)
	for at := 0; at+size <= len(t.Data); at += size {
		if slices.Contains(r.Columns, at/size%width) {
			clear(t.Data[at : at+size])
		}
	}
}

// texts hashes or empties the elements that the rule is about.
func (r *Redaction) texts(t *tensor.Tensor, key []byte) {
	var out []byte
	i, width := 0, columns(t)
	for text := range tensor.Elements(t.Data) {
		switch {
		case len(r.Columns) > 0 && !slices.Contains(r.Columns, i%width):
			out = tensor.AppendBytes(out, text)
		case r.Do == Hash:
			mac := hmac.New(sha256.New, key)
			mac.Write(text)
			out = tensor.AppendBytes(out, hex.EncodeToString(mac.Sum(nil)[:16]))
		default:
			out = tensor.AppendBytes(out, "")
		}
		i++
	}
	t.Data = out
}

// columns is the extent of the last dimension.
func columns(t *tensor.Tensor) int {
	if len(t.Shape) < 2 {
		return 1
	}
	return int(max(t.Shape[len(t.Shape)-1], 1))
}
