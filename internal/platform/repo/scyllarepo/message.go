package scyllarepo

import (
	"encoding/json"

	"sluice/internal/platform/fault"
	"sluice/internal/platform/repo"
)

// encodeMessage returns a message as its row has it. Its data stands apart: they
// come back byte by byte.
func encodeMessage(m repo.Message) (head, data []byte, err error) {
	data, m.Data = m.Data, nil
	head, err = json.Marshal(m)
	if err != nil {
		return nil, nil, fault.Wrap(fault.Internal, err, "a message of type %q cannot be encoded", fault.Clip(m.Type, 64))
	}
	return head, data, nil
}

func decodeMessage(head, data []byte, keep bool) (repo.Message, error) {
	var m repo.Message
	if err := json.Unmarshal(head, &m); err != nil {
		return m, fault.Wrap(fault.Internal, err, "a message in the store cannot be decoded")
	}
	m.Data, m.Keep = data, keep
	return m, nil
}
