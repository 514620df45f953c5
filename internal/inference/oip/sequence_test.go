package oip

import (
	"fmt"
	"strings"
	"testing"

	"sluice/internal/inference/stream"
	"sluice/internal/inference/stream/streamtest"
)

func TestSequencesAndGenerations(t *testing.T) {
	models, err := stream.New(streamtest.New(t), stream.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(models.Close)
	s := testServer(t, models, Config{})
	step := func(id string, x int64, more string) answer {
		return post(t, s, "/v2/models/roll/infer", fmt.Sprintf(
			`{"parameters":{"sequence_id":%s%s},"inputs":[{"name":"x","datatype":"INT64","shape":[1,1],"data":[%d]}],"outputs":[{"name":"y"}]}`, id, more, x))
	}
	is := func(a answer, want int64) {
		t.Helper()
		a.wantBody(t, fmt.Sprintf(`{"model_name":"roll","model_version":"1","outputs":[{"name":"y","datatype":"INT64","shape":[1,1],"data":[%d]}]}`, want))
	}
	one := streamtest.Roll(0, 5)
	is(step("18446744073709551615", 5, `,"sequence_start":true`), one)
	is(step(`"18446744073709551615"`, 6, `,"sequence_start":true`), streamtest.Roll(0, 6))
	step("18446744073709551615", 1000, "").wantError(t, 500, "")
	is(step("18446744073709551615", 7, `,"sequence_end":true`), streamtest.Roll(one, 7))
	step("18446744073709551615", 7, "").wantError(t, 400, "inference request for sequence 18446744073709551615 to model 'roll' must specify the START flag on the first request of the sequence")
	step("0", 7, "").wantError(t, 400, "inference request to model 'roll' must specify a non-zero or non-empty correlation ID")
	step("-1", 7, "").wantError(t, 400, "parameter 'sequence_id'")
	step(`"a"`, 7, `,"sequence_start":1`).wantError(t, 400, "parameter 'sequence_start'")
	post(t, s, "/v2/models/write/generate", `{"x":5}`).wantError(t, 501, "answers step by step")
	post(t, s, "/v2/models/write/generate_stream", `{"x":1000}`).wantError(t, 500, "")
	post(t, s, "/v2/models/write/generate_stream", `{"x":5,"max_steps":-1}`).wantError(t, 400, "parameter 'max_steps'")
	var want strings.Builder
	values, _ := streamtest.Written(5, 3)
	for _, y := range values {
		fmt.Fprintf(&want, "data: {\"id\":\"a\",\"model_name\":\"write\",\"model_version\":\"1\",\"y\":%d,\"next\":%d}\n\n", y, y%1000)
	}
	post(t, s, "/v2/models/write/generate_stream", `{"id":"a","x":5,"parameters":{"max_steps":3}}`).wantBody(t, want.String())
}
