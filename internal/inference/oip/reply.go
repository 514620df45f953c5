package oip

import (
	"context"
	"strconv"
	"time"
	"unsafe"

	"github.com/labstack/echo/v4"

	"sluice/internal/inference/record"
	"sluice/internal/inference/serve"
	"sluice/internal/inference/tensor"
	"sluice/internal/inference/tensor/tensorjson"
	"sluice/internal/platform/budget"
)

// PredictionID is the header with the id of the prediction that an answer is.
const PredictionID = "Prediction-Id"

// reply is an encoded answer.
type reply struct {
	body     *tensor.Slab
	textSize int  // bytes of the JSON part
	binary   bool // there are binary outputs behind it, maybe of no bytes
	timing   serve.Timing
	use      serve.Use
	// prediction names it in the log; zero where there is none.
	prediction record.ID
	arm        string // of an experiment; "" for none
	fallback   string // see serve.Response
}

func (r *reply) reset() {
	r.body.Release()
	*r = reply{}
}

// Encode implements serve.Codec.
func (c *inferCall) Encode(_ context.Context, v *serve.Version, resp *serve.Response) error {
	start := time.Now()
	room := replyRoom(resp)
	var err error
	if c.reply.body, err = getSlab(&c.account, room); err != nil {
		return err
	}
	if err := c.encode(v, resp); err != nil {
		return err
	}
	if more := int64(cap(c.reply.body.B)) - room; more > room { // the guess was wrong by more than a slab's rounding
		if err := c.account.Acquire(more); err != nil {
			return err
		}
	}
	c.reply.timing, c.reply.use, c.reply.prediction, c.reply.arm = resp.Timing, resp.Use, resp.Prediction, resp.Choice.Arm
	c.reply.fallback = resp.Fallback
	c.reply.timing.Encode = time.Since(start)
	return nil
}

// replyRoom guesses the bytes of an answer; a wrong guess costs a copy.
func replyRoom(resp *serve.Response) int64 {
	room := int64(256)
	for i := range resp.Outputs {
		room += 128 + 2*int64(len(resp.Outputs[i].Data))
	}
	return room
}

func (c *inferCall) encode(v *serve.Version, resp *serve.Response) error {
	b := appendHead(c.reply.body.B, c.envelope.id, v)
	b = append(b, `,"outputs":[`...)
	var err error
	for i := range resp.Outputs {
		t := &resp.Outputs[i]
		if k := c.plan[i].classes; k > 0 {
			classes, slab, err := Classify(&c.account, t, resp.Ports[i], k, v.Batches)
			if err != nil {
				return err
			}
			defer slab.Release()
			*t = classes
		}
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendOutput(b, t, c.plan[i].binary); err != nil {
			return within("output '"+t.Name+"'", err)
		}
	}
	b = append(b, `]}`...)
	c.reply.textSize = len(b)
	for i := range resp.Outputs {
		if c.plan[i].binary {
			c.reply.binary = true
			b = append(b, resp.Outputs[i].Data...)
		}
	}
	c.reply.body.B = b
	return nil
}

// appendHead appends the opening of an answer: what it answers and who did.
func appendHead(b []byte, id string, v *serve.Version) []byte {
	b = append(b, '{')
	if id != "" {
		b = append(b, `"id":`...)
		b = append(tensorjson.AppendText(b, id), ',')
	}
	b = append(b, `"model_name":`...)
	b = tensorjson.AppendText(b, v.Name)
	b = append(b, `,"model_version":`...)
	return tensorjson.AppendText(b, v.Text)
}

// appendOutput appends one output. Only binary ones have parameters: clients
// take these for the mark of binary data.
func appendOutput(b []byte, t *tensor.Tensor, binary bool) ([]byte, error) {
	b = append(b, `{"name":`...)
	b = tensorjson.AppendText(b, t.Name)
	b = append(b, `,"datatype":"`...)
	b = append(b, t.Datatype.String()...)
	b = append(b, `","shape":`...)
	b = t.Shape.Append(b)
	if binary {
		b = append(b, `,"parameters":{"binary_data_size":`...)
		b = strconv.AppendInt(b, int64(len(t.Data)), 10)
		return append(b, `}}`...), nil
	}
	b = append(b, `,"data":`...)
	b, err := tensorjson.Encode(b, t.Datatype, t.Data)
	return append(b, '}'), err
}

// write sends the answer in one piece.
func (r *reply) write(c echo.Context, account *budget.Account, start time.Time) error {
	h := c.Response().Header()
	values := new(headerValues)
	h["Content-Type"] = jsonContent
	if r.binary {
		h["Content-Type"] = binaryContent
		h[HeaderLength] = values.number(r.textSize)
	}
	h["Server-Timing"] = values.timing(&r.timing, time.Since(start))
	if !r.prediction.IsZero() {
		h[PredictionID] = values.add(r.prediction.Append(values.text[:values.n]))
	}
	if r.arm != "" {
		h[HeaderArm] = []string{r.arm}
	}
	if r.fallback != "" {
		h[HeaderFallback] = []string{r.fallback}
	}
	body := r.body.B
	if accept := c.Request().Header["Accept-Encoding"]; len(accept) > 0 {
		if packed, encoding := compress(account, body, accept); packed != nil {
			defer packed.Release()
			h["Content-Encoding"] = encoding
			body = packed.B
		}
	}
	h["Content-Length"] = values.number(len(body))
	c.Response().WriteHeader(200)
	_, err := c.Response().Write(body)
	return err
}

// headerValues holds the texts of an answer's headers in one allocation. It is
// not pooled: net/http may read them after the handler has returned.
type headerValues struct {
	text   [256]byte
	n      int
	values [4]string
	used   int
}

// add keeps the text that was appended to values.text[:values.n].
func (v *headerValues) add(b []byte) []string {
	added := b[v.n:]
	v.n = len(b)
	v.values[v.used] = unsafe.String(unsafe.SliceData(added), len(added))
	v.used++
	return v.values[v.used-1 : v.used : v.used]
}

func (v *headerValues) number(n int) []string {
	return v.add(strconv.AppendInt(v.text[:v.n], int64(n), 10))
}

// timing returns the Server-Timing header (W3C), in milliseconds.
func (v *headerValues) timing(t *serve.Timing, total time.Duration) []string {
	b := v.text[:v.n]
	b = appendMillis(b, "decode;dur=", t.Decode)
	b = appendMillis(b, ", queue;dur=", t.Queue)
	b = appendMillis(b, ", infer;dur=", t.Infer)
	b = appendMillis(b, ", encode;dur=", t.Encode)
	b = appendMillis(b, ", total;dur=", total)
	return v.add(b)
}

// appendMillis appends a duration in milliseconds with three decimals.
func appendMillis(b []byte, label string, d time.Duration) []byte {
	us := max(d.Microseconds(), 0)
	b = append(b, label...)
	b = strconv.AppendInt(b, us/1000, 10)
	return append(b, '.', byte('0'+us/100%10), byte('0'+us/10%10), byte('0'+us%10))
}
