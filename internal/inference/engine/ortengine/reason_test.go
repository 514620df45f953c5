package ortengine

import (
	"errors"
	"testing"
)

func TestReasonIsWhatAClientCanUse(t *testing.T) {
	for in, want := range map[string]string{
		"Error running network: Non-zero status code returned while running Gather node. Name:'' Status Message: indices element out of data bounds, idx=99 must be within the inclusive range [-4,3]":                                                                                                                                                "indices element out of data bounds, idx=99 must be within the inclusive range [-4,3]",
		"Error running network: Non-zero status code returned while running Add node. Name:'a' Status Message: /src/core/providers/cpu/math/element_wise_ops.h:583 void onnxruntime::BroadcastIterator::Append(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension other than 1. 64 by 70\n": "axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension other than 1. 64 by 70",
		"plain": "plain",
	} {
		if got := runtimeReason(errors.New(in)); got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
}
